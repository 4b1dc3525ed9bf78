"""A frame with what its answer needs to name it, and the short history of past ones. No ROS import."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.frame import MultiModalFrame


class SourceFrame:
    """One moment as it left the synchronizer; its images are decoded when first asked for, and once.

    sequence: counts frames since activation, from 0.
    stamp_ns, frame_id: header of the message that leads (colour, or the second camera while colour is dead).
    arrived: when its first message came, in seconds of a steady clock; released: when the synchronizer let it go.
    """

    def __init__(
        self,
        sequence: int,
        stamp_ns: int,
        frame_id: str,
        arrived: float,
        released: float,
        decode: Callable[[], MultiModalFrame],
    ) -> None:
        self.sequence = sequence
        self.stamp_ns = stamp_ns
        self.frame_id = frame_id
        self.arrived = arrived
        self.released = released
        self._decode: Callable[[], MultiModalFrame] | None = decode
        self._decoded: MultiModalFrame | None = None

    def images(self) -> MultiModalFrame:
        """The decoded frame. Only the tracking thread calls this."""
        if self._decoded is None:
            assert self._decode is not None  # noqa: S101 - given up only for what it made
            self._decoded = self._decode()
            self._decode = None  # it holds the messages; a storm's window of events is twenty times its image
        return self._decoded


class History:
    """The last frames, oldest first; written by the executor's thread, read by the tracking thread."""

    def __init__(self, length: int) -> None:
        self._frames: deque[SourceFrame] = deque(maxlen=length)
        self._lock = threading.Lock()

    def append(self, frame: SourceFrame) -> None:
        """Add the newest frame; the oldest goes when the history is full."""
        with self._lock:
            self._frames.append(frame)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._frames.clear()

    def newest(self) -> SourceFrame | None:
        """The newest frame, or None."""
        with self._lock:
            return self._frames[-1] if self._frames else None

    def since(self, stamp_ns: int, tolerance_ns: int) -> tuple[SourceFrame, ...]:
        """The frame whose stamp is nearest to `stamp_ns`, and all that came after it.

        Empty when none is within `tolerance_ns`.
        """
        with self._lock:
            frames = tuple(self._frames)
        if not frames:
            return ()
        nearest = min(range(len(frames)), key=lambda i: abs(frames[i].stamp_ns - stamp_ns))
        if abs(frames[nearest].stamp_ns - stamp_ns) > tolerance_ns:
            return ()
        return frames[nearest:]

    def span_ns(self) -> tuple[int, int] | None:
        """Stamps of the oldest and the newest frame, or None."""
        with self._lock:
            return (self._frames[0].stamp_ns, self._frames[-1].stamp_ns) if self._frames else None


def spread(frames: tuple[SourceFrame, ...], limit: int) -> tuple[SourceFrame, ...]:
    """At most `limit` of the frames, evenly spread, the last always among them."""
    if len(frames) <= limit:
        return frames
    return tuple(frames[round((i + 1) * len(frames) / limit) - 1] for i in range(limit))
