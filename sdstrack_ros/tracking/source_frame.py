"""A synchronized frame on its way to the tracker, and the short history of past ones."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from ckd_core.frame import FrameError
from sdstrack_ros.messages.stamps import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.frame import MultiModalFrame
    from sdstrack_ros.sync.frame_builder import FrameBuilder, Rejection
    from sdstrack_ros.sync.types import SyncedSet


class SourceFrame:
    """One moment as the synchronizer released it; its images are decoded once, when they are first asked for.

    Attributes:
        sequence: counts the frames of an activation, from 0.
        stamp_ns: stamp of the leading message (colour, or the auxiliary one while colour is dead).
        frame_id: that message's frame.
        arrived: when the first of its messages came, in seconds of a steady clock.
        released: when the synchronizer released it, on the same clock.
        arrival_age: how old it was when it arrived, in seconds; 0 where another clock stamps it.
        nbytes: of its messages, or of the images once they are decoded.

    """

    def __init__(
        self,
        sequence: int,
        synced: SyncedSet,
        builder: FrameBuilder,
        on_rejection: Callable[[Rejection], object] = lambda _: None,
    ) -> None:
        """Keep the messages until `images` is called.

        Args:
            sequence: number of the frame.
            synced: its messages.
            builder: decodes them.
            on_rejection: receives every image that cannot be used, on the thread that decodes.

        """
        arrived_ns = min(sample.arrival_ns for sample in (synced.color, synced.aux) if sample is not None)
        self.sequence = sequence
        self.stamp_ns = synced.stamp_ns
        self.frame_id = str(synced.leader.payload.header.frame_id)
        self.arrived = min(arrived_ns, synced.released_ns) / NS_PER_S
        self.released = synced.released_ns / NS_PER_S
        self.arrival_age = 0.0
        self._on_rejection = on_rejection
        self._builder = builder
        self._synced: SyncedSet | None = synced
        self._decoded: MultiModalFrame | None = None
        self._gone = False
        self._lost = "had to make room for newer ones (memory_mb)"
        self.nbytes = sum(sample.nbytes for sample in (synced.color, synced.aux) if sample is not None)

    def images(self) -> MultiModalFrame:
        """Return the decoded frame; only for the tracking thread.

        Raises:
            FrameError: none of its images can be used, or they had to make room for newer ones.

        """
        decoded, synced = self._decoded, self._synced
        if decoded is not None:
            return decoded
        if synced is None:
            raise FrameError(f"the frame of stamp {self.stamp_ns / NS_PER_S:.3f} {self._lost}")
        frame, rejections = self._builder.build(synced)
        for rejection in rejections:
            self._on_rejection(rejection)
        if frame is None:
            self.let_go()
            self._lost = "has no usable image"
            raise FrameError(f"the frame of stamp {self.stamp_ns / NS_PER_S:.3f} {self._lost}")
        if not self._gone:
            self._decoded = frame
            self.nbytes = sum(image.nbytes for image in (frame.rgb, frame.aux) if image is not None)
        self._synced = None  # it holds the messages; those of an event storm are twenty times the size of the image
        return frame

    @property
    def bytes_to_decode(self) -> int:
        """Memory that `images` takes at most while it decodes; 0 once that is done."""
        synced = self._synced
        return 0 if synced is None else self._builder.bytes_to_decode(synced)

    def let_go(self) -> None:
        """Give up messages and images, even where the frame itself is still referred to."""
        self._gone = True
        self._synced = self._decoded = None
        self.nbytes = 0


class History:
    """The last frames, oldest first; the executor's thread writes, the tracking thread reads.

    The memory of messages and images is bounded: the oldest frames give way, never the newest.

    Attributes:
        max_bytes: of everything that waits.
        elsewhere_bytes: what of that waits before the history, in the middleware and the synchronizer, and what the
            tracker keeps.
        evicted: number of frames that gave way.

    """

    def __init__(self, length: int, max_bytes: int = 512_000_000) -> None:
        self.max_bytes = max_bytes
        self.elsewhere_bytes = 0
        self.evicted = 0
        self._frames: deque[SourceFrame] = deque(maxlen=length)
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all messages and images."""
        with self._lock:
            return sum(frame.nbytes for frame in self._frames)

    def append(self, frame: SourceFrame) -> None:
        """Add the newest frame; when the history is full, the oldest ones go."""
        with self._lock:
            self._frames.append(frame)
            self._evict(0, frame)

    def make_room(self, needed_bytes: int, keep: SourceFrame) -> None:
        """Let the oldest frames give way to what is about to be decoded.

        Args:
            needed_bytes: for that.
            keep: the frame that it belongs to.

        """
        with self._lock:
            self._evict(needed_bytes, keep)

    def discard(self, frame: SourceFrame) -> None:
        """Forget a frame that cannot be used, its images with it."""
        with self._lock:
            if frame in self._frames:
                self._frames.remove(frame)

    def _evict(self, needed_bytes: int, keep: SourceFrame) -> None:
        excess = sum(frame.nbytes for frame in self._frames) + needed_bytes + self.elsewhere_bytes - self.max_bytes
        for frame in tuple(self._frames):
            if excess <= 0:
                return
            if frame is not keep and frame is not self._frames[-1]:
                excess -= frame.nbytes
                self._frames.remove(frame)
                frame.let_go()
                self.evicted += 1

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._frames.clear()

    def newest(self) -> SourceFrame | None:
        """Return the newest frame, or None."""
        with self._lock:
            return self._frames[-1] if self._frames else None

    def since(self, stamp_ns: int, tolerance_ns: int) -> tuple[SourceFrame, ...]:
        """Return the frame nearest to `stamp_ns` and all after it; none when it is not within `tolerance_ns`."""
        with self._lock:
            frames = tuple(self._frames)
        if not frames:
            return ()
        nearest = min(range(len(frames)), key=lambda i: abs(frames[i].stamp_ns - stamp_ns))
        if abs(frames[nearest].stamp_ns - stamp_ns) > tolerance_ns:
            return ()
        return frames[nearest:]

    def span_ns(self) -> tuple[int, int] | None:
        """Return the stamps of the oldest and the newest frame, or None."""
        with self._lock:
            return (self._frames[0].stamp_ns, self._frames[-1].stamp_ns) if self._frames else None


def spread(frames: tuple[SourceFrame, ...], limit: int) -> tuple[SourceFrame, ...]:
    """Return at most `limit` of the frames, evenly spread and always with the last."""
    if len(frames) <= limit:
        return frames
    return tuple(frames[round((i + 1) * len(frames) / limit) - 1] for i in range(limit))
