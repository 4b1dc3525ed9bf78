"""One thread that always works on the newest frame."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

FrameT = TypeVar("FrameT")
RequestT = TypeVar("RequestT")
# More waiting requests than this mean that nobody reads the outcomes; the oldest are handed back.
MAX_REQUESTS = 32
IDLE_S = 0.5


class LatestFrameWorker(Generic[FrameT, RequestT]):
    """A thread with a one-slot mailbox for frames and a short queue for requests.

    A frame that still waits when a newer one comes is dropped; one that is too old may wait for that. Requests are
    served in order, before the next frame.
    """

    def __init__(
        self,
        handle_frame: Callable[[FrameT], object],
        handle_request: Callable[[RequestT], object],
        on_error: Callable[[BaseException], object],
        handle_idle: Callable[[], object] = lambda: None,
        patience: Callable[[FrameT], float] = lambda _: 0.0,
    ) -> None:
        """Prepare the thread; `start` starts it.

        Args:
            handle_frame: serves a frame.
            handle_request: serves a request.
            on_error: receives what a handler raises, which does not end the thread.
            handle_idle: called about twice a second while there is neither.
            patience: seconds that a frame is to wait for a newer one before it is served; asked when its turn comes.

        """
        self._handle_frame = handle_frame
        self._handle_request = handle_request
        self._on_error = on_error
        self._handle_idle = handle_idle
        self._patience = patience
        self._wake = threading.Condition()
        self._frame: FrameT | None = None
        self._requests: deque[tuple[RequestT, bool]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    def start(self) -> None:
        """Start the thread; only once."""
        self._thread.start()

    def offer(self, frame: FrameT) -> FrameT | None:
        """Put a frame into the mailbox; return the older one that it replaced, if any."""
        with self._wake:
            replaced, self._frame = self._frame, frame
            self._wake.notify()
        return replaced

    def submit(self, request: RequestT, newest_only: bool = False) -> RequestT | None:
        """Queue a request; after `stop` nothing is queued.

        Args:
            request: what to serve.
            newest_only: it belongs to a stream of which only the newest counts, and replaces those that still wait.

        Returns:
            The oldest request, when it had to give way.

        """
        with self._wake:
            if self._stopping:
                return None
            if newest_only:
                self._requests = deque(waiting for waiting in self._requests if not waiting[1])
            self._requests.append((request, newest_only))
            evicted = self._requests.popleft()[0] if len(self._requests) > MAX_REQUESTS else None
            self._wake.notify()
        return evicted

    def stop(self, timeout_s: float) -> bool:
        """Let the thread end after what it is doing now; return whether it has ended within `timeout_s`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def unserved(self) -> list[RequestT]:
        """Take out the requests that `stop` left unserved, except those of streams; the caller must conclude them."""
        with self._wake:
            unserved = [request for request, newest_only in self._requests if not newest_only]
            self._requests.clear()
        return unserved

    def unserved_frame(self) -> FrameT | None:
        """Take out the frame that `stop` left in the mailbox, if any; the caller must count it."""
        with self._wake:
            frame, self._frame = self._frame, None
        return frame

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called: later results are to be discarded."""
        with self._wake:
            return self._stopping

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._requests or self._frame is not None, IDLE_S)
                if self._stopping:
                    return
                request = self._requests.popleft()[0] if self._requests else None
                frame = None
                if request is None:
                    if self._frame is not None and self._gave_way(self._frame):
                        continue
                    frame, self._frame = self._frame, None
            try:
                if request is not None:
                    self._handle_request(request)
                elif frame is not None:
                    self._handle_frame(frame)
                else:
                    self._handle_idle()
            except Exception as error:  # noqa: BLE001  # one bad frame must not end the thread
                self._on_error(error)

    def _gave_way(self, frame: FrameT) -> bool:
        """Wait for a newer frame as long as this one is to; True when one, a request or the end came meanwhile."""
        seconds = self._patience(frame)
        if seconds <= 0:
            return False
        return self._wake.wait_for(lambda: bool(self._stopping or self._requests or self._frame is not frame), seconds)
