"""Event packets as the auxiliary stream: the partner of a colour frame is the event window that ends with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdstrack_ros.messages.event_window import EVENT_BYTES, MAX_EVENTS, EventWindow
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.types import Arrival, Sample

if TYPE_CHECKING:
    from sdstrack_ros.sync.types import SyncConfig, SyncCounters

FRAME_PERIOD_S = 1 / 30  # length of the first event window, and of those while colour is dead
MAX_WINDOW_S = 0.2  # of a longer gap between frames only the last part is shown; more would only blur
MAX_BEHIND = 8  # event windows without colour that can wait; older ones are skipped


class EventBuffer:
    """Pairs a colour frame with the events after the previous colour frame, up to and including this one.

    The EventSlice may be empty, because a still scene is not a dead sensor; where no packet reaches into the event
    window, the frame has no partner.
    """

    def __init__(self, config: SyncConfig, counters: SyncCounters, window: EventWindow | None = None) -> None:
        self.config = config
        self.counters = counters
        self.window = window or EventWindow(min(MAX_EVENTS, max(1, config.max_bytes // 2 // EVENT_BYTES)))
        self._newest_stamp_ns: int | None = None
        self._arrival_ns = 0

    def add(self, sample: Sample) -> None:
        """Decode a packet.

        Raises:
            EventDecodeError: the packet cannot be decoded; the events that are here stay.

        """
        self.window.add(sample.payload)
        self.counters.event_words_skipped = self.window.skipped
        newest_ns = self._newest_stamp_ns
        self._newest_stamp_ns = sample.stamp_ns if newest_ns is None else max(sample.stamp_ns, newest_ns)
        self._arrival_ns = sample.arrival_ns

    @property
    def nbytes(self) -> int:
        """Bytes of the events that wait."""
        return len(self.window) * EVENT_BYTES

    def went_back_ns(self, stamp_ns: int) -> int:
        """Return by how much `stamp_ns` lies before the newest packet's stamp; 0 when it does not."""
        return 0 if self._newest_stamp_ns is None else max(0, self._newest_stamp_ns - stamp_ns)

    def settled(self, stamp_ns: int) -> bool:
        """Return whether all events up to the frame are here."""
        return self.window.newest_ns is not None and self.window.newest_ns >= stamp_ns

    def take(self, stamp_ns: int, previous_ns: int | None) -> tuple[Sample | None, bool]:
        """Take out the frame's events; they are never held."""
        if previous_ns is None:
            previous_ns = stamp_ns - round(FRAME_PERIOD_S * NS_PER_S)
        start_ns = max(previous_ns, stamp_ns - round(MAX_WINDOW_S * NS_PER_S))
        newest_ns = self.window.newest_ns
        if newest_ns is None or newest_ns <= start_ns:
            self.counters.nearest_miss_ns = None if newest_ns is None else stamp_ns - newest_ns
            return None, False
        window = self.window.between(start_ns, stamp_ns)
        self.window.forget(stamp_ns)
        return Sample(stamp_ns, self._arrival_ns, window), False

    def first_alone(self, after_ns: int | None) -> Arrival | None:
        """Return the end of the next whole frame period after `after_ns`; `remove` gives its events.

        A whole period has nothing to wait for, so it counts as having arrived `max_wait_s` ago.
        """
        newest_ns = self.window.newest_ns
        if newest_ns is None:
            return None
        period_ns = round(FRAME_PERIOD_S * NS_PER_S)
        end_ns = newest_ns if after_ns is None else max(after_ns + period_ns, newest_ns - MAX_BEHIND * period_ns)
        if end_ns > newest_ns:
            return None
        return Arrival(end_ns, self._arrival_ns - self.config.ns("max_wait_s"))

    def remove(self, stamp_ns: int) -> Sample:
        """Take out the events of the frame period that ends at `stamp_ns`."""
        window = self.window.between(stamp_ns - round(FRAME_PERIOD_S * NS_PER_S), stamp_ns)
        self.window.forget(stamp_ns)
        return Sample(stamp_ns, self._arrival_ns, window)

    def forget_after(self, stamp_ns: int) -> None:
        """Forget everything if any of it has a later stamp, and so belongs to the time before a jump back."""
        if self._newest_stamp_ns is not None and self._newest_stamp_ns > stamp_ns:
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.window.clear()
        self._newest_stamp_ns = None
