"""Auxiliary frames that wait for their colour frame; all times are integer nanoseconds."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sdstrack_ros.sync.types import Arrival, Sample, SyncConfig, SyncCounters

# The next frame is expected no sooner after the newest one than this share of the shortest recent period.
PERIOD_SHARE = 0.8
MAX_PERIODS = 8
MIN_PERIODS = 4


class AuxBuffer(Protocol):
    """What the synchronizer needs of the auxiliary stream."""

    def add(self, sample: Sample) -> None:
        """Add a message."""

    def went_back_ns(self, stamp_ns: int) -> int:
        """Return by how much `stamp_ns` lies before the newest stamp; 0 when it does not."""

    @property
    def nbytes(self) -> int:
        """Bytes of everything that waits."""

    def settled(self, stamp_ns: int) -> bool:
        """Return whether no message that is still to come could be a better partner of this colour frame."""

    def take(self, stamp_ns: int, previous_ns: int | None) -> tuple[Sample | None, bool]:
        """Take out the partner of the colour frame at `stamp_ns`.

        Args:
            stamp_ns: stamp of the colour frame.
            previous_ns: stamp of the colour frame before it; None for the first.

        Returns:
            The partner, None where there is none, and whether it has served before (is held).

        """

    def first_alone(self, after_ns: int | None) -> Arrival | None:
        """Return the times of the earliest message after `after_ns` that could leave without colour; it stays."""

    def remove(self, stamp_ns: int) -> Sample:
        """Take out the message of this stamp, one that `first_alone` named."""

    def forget_after(self, stamp_ns: int) -> None:
        """Forget everything with a later stamp, which belongs to the time before a jump back."""

    def clear(self) -> None:
        """Forget everything."""


class FrameBuffer:
    """Images of the auxiliary camera, ordered by stamp, as many as `config` allows to wait."""

    def __init__(self, config: SyncConfig, counters: SyncCounters) -> None:
        self.config = config
        self.counters = counters
        self._waiting: list[Sample] = []
        self._last: Sample | None = None  # the newest that was used or passed over; serves again while it is held
        self._newest_ns: int | None = None
        self._periods_ns: deque[int] = deque(maxlen=MAX_PERIODS)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, sample: Sample) -> None:
        """Add a frame; one with a known stamp is dropped, and so is the oldest when there are too many."""
        at = bisect_left(self._waiting, sample.stamp_ns, key=_stamp)
        known = at < len(self._waiting) and self._waiting[at].stamp_ns == sample.stamp_ns
        if known or (self._last is not None and self._last.stamp_ns == sample.stamp_ns):
            self.counters.aux_duplicate += 1
            return
        insort(self._waiting, sample, key=_stamp)
        if self._newest_ns is None or sample.stamp_ns > self._newest_ns:
            if self._newest_ns is not None:
                self._periods_ns.append(sample.stamp_ns - self._newest_ns)
            self._newest_ns = sample.stamp_ns
        while len(self._waiting) > 1 and self._are_too_many():
            self._keep_for_hold(self._waiting.pop(0))
            self.counters.aux_overflow += 1

    @property
    def nbytes(self) -> int:
        """Bytes of all images, with the one that may be held."""
        return sum(sample.nbytes for sample in self._waiting) + (self._last.nbytes if self._last is not None else 0)

    def went_back_ns(self, stamp_ns: int) -> int:
        """Return by how much `stamp_ns` lies before the newest stamp; 0 when it does not."""
        return 0 if self._newest_ns is None else max(0, self._newest_ns - stamp_ns)

    def settled(self, stamp_ns: int) -> bool:
        """Return whether no later frame of a steady stream could be nearer than the nearest of those here."""
        if self._newest_ns is None:
            return False
        if self._newest_ns >= stamp_ns:
            return True
        if len(self._periods_ns) < MIN_PERIODS:
            return False
        next_ns = self._newest_ns + int(PERIOD_SHARE * min(self._periods_ns))
        best = self._nearest(stamp_ns)
        reach = self.config.ns("max_skew_s") if best is None else abs(best.stamp_ns - stamp_ns) - 1
        return next_ns - stamp_ns > reach

    def take(self, stamp_ns: int, previous_ns: int | None) -> tuple[Sample | None, bool]:
        """Take out the nearest unused frame within the skew, else return the last one while it may be held."""
        del previous_ns
        best = self._nearest(stamp_ns)
        if best is not None:
            return self.remove(best.stamp_ns), False
        self._note_miss(stamp_ns)
        self._pass_over(stamp_ns - self.config.ns("max_skew_s"))
        hold_ns = self.config.ns("aux_hold_s")
        if hold_ns and self._last is not None and 0 <= stamp_ns - self._last.stamp_ns <= hold_ns:
            return self._last, True
        return None, False

    def first_alone(self, after_ns: int | None) -> Sample | None:
        """Return the earliest unused frame after `after_ns`; it stays."""
        at = 0 if after_ns is None else bisect_left(self._waiting, after_ns + 1, key=_stamp)
        return self._waiting[at] if at < len(self._waiting) else None

    def remove(self, stamp_ns: int) -> Sample:
        """Take out a frame that leaves; unused older ones go with it, so that partners never go back in time."""
        self._pass_over(stamp_ns)
        sample = self._waiting.pop(0)
        self._keep_for_hold(sample)
        return sample

    def forget_after(self, stamp_ns: int) -> None:
        """Forget frames with a later stamp."""
        at = bisect_left(self._waiting, stamp_ns + 1, key=_stamp)
        self.counters.aux_unused += len(self._waiting) - at
        del self._waiting[at:]
        if self._last is not None and self._last.stamp_ns > stamp_ns:
            self._last = None
        self._newest_ns = self._waiting[-1].stamp_ns if self._waiting else None
        self._periods_ns.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.counters.aux_unused += len(self._waiting)
        self._waiting.clear()
        self._periods_ns.clear()
        self._last = None
        self._newest_ns = None

    def _are_too_many(self) -> bool:
        waiting = sum(sample.nbytes for sample in self._waiting)
        return len(self._waiting) > self.config.max_pending or waiting > self.config.max_bytes // 2

    def _nearest(self, stamp_ns: int) -> Sample | None:
        at = bisect_left(self._waiting, stamp_ns, key=_stamp)
        near = self._waiting[max(0, at - 1) : at + 1]
        best = min(near, key=lambda sample: abs(sample.stamp_ns - stamp_ns), default=None)
        if best is None or abs(best.stamp_ns - stamp_ns) > self.config.ns("max_skew_s"):
            return None
        return best

    def _note_miss(self, stamp_ns: int) -> None:
        stamps = [sample.stamp_ns for sample in self._waiting]
        stamps += [self._last.stamp_ns] if self._last is not None else []
        self.counters.nearest_miss_ns = min((abs(stamp - stamp_ns) for stamp in stamps), default=None)

    def _pass_over(self, before_ns: int) -> None:
        """Drop unused frames with a stamp before `before_ns`: no later colour frame can be their partner."""
        at = bisect_left(self._waiting, before_ns, key=_stamp)
        for sample in self._waiting[:at]:
            self._keep_for_hold(sample)
        self.counters.aux_unused += at
        del self._waiting[:at]

    def _keep_for_hold(self, sample: Sample) -> None:
        if self._last is None or sample.stamp_ns > self._last.stamp_ns:
            self._last = sample


def _stamp(sample: Sample) -> int:
    return sample.stamp_ns
