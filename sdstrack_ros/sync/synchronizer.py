"""Pairs colour frames with those of the auxiliary sensor by stamp, and survives the death of either.

Time is passed in: `now_ns` comes from a steady clock (arrivals, waiting); stamps are the messages' own. Call `poll` by
`next_deadline_ns`. Not thread-safe: use one lock or one thread.

Every colour frame is released exactly once, in the order of stamps and at most `max_wait_s` after its arrival: with the
nearest unused auxiliary frame within `max_skew_s`, or alone. The exceptions are a frame that comes after a later one
was released and a repeated stamp: they cannot be in order, so they are dropped and counted. A frame is released at once
when nothing better can come: an auxiliary frame with its stamp or a later one is there, the auxiliary sensor's rhythm
puts the next one too far away, or the auxiliary sensor is dead. While colour is dead, auxiliary frames are released
alone, unless another clock stamps them than colour. When colour stamps jump back, everything that waits is released at
once, and a new epoch begins.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.frame_buffer import FrameBuffer
from sdstrack_ros.sync.types import Sample, SyncConfig, SyncCounters, SyncedSet, SyncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sdstrack_ros.messages.stamps import Stamped
    from sdstrack_ros.sync.frame_buffer import AuxBuffer

# Stamps that are further apart while both cameras send come from two clocks; no driver is that late.
OTHER_CLOCK_NS = NS_PER_S
__all__ = ["Sample", "SyncConfig", "SyncCounters", "SyncError", "SyncedSet", "Synchronizer"]


class Synchronizer:
    """The `tolerant` policy."""

    def __init__(
        self,
        config: SyncConfig | None = None,
        make_aux: Callable[[SyncConfig, SyncCounters], AuxBuffer] = FrameBuffer,
    ) -> None:
        """Begin without any message.

        Args:
            config: how streams are paired; None for the defaults.
            make_aux: builds the buffer of the auxiliary stream: `FrameBuffer`, or `EventBuffer` for event packets.

        """
        self.config = config or SyncConfig()
        self.counters = SyncCounters()
        self._aux = make_aux(self.config, self.counters)
        self._pending: list[Sample] = []
        self._last_released_ns: int | None = None
        self._last_color_ns: int | None = None  # stamp of the last colour frame released, for the event window
        self._newest_color_ns: int | None = None
        self._color_alive_ns: int | None = None  # arrival of the last colour message, or of anything before the first
        self._aux_alive_ns: int | None = None
        self._now_ns: int | None = None
        self._jumped_back_ns = 0
        self._newest_aux_ns: int | None = None
        self._apart_ns = 0  # distance of the newest stamps of both streams while both were alive
        self.epoch = 0

    def configure(self, config: SyncConfig) -> None:
        """Change the settings; they also apply to waiting frames."""
        self.config = config
        if hasattr(self._aux, "config"):
            self._aux.config = config

    def add_color(self, stamp_ns: int, now_ns: int, payload: Stamped) -> list[SyncedSet]:
        """Add a colour message.

        Args:
            stamp_ns: its header's stamp.
            now_ns: when it arrived.
            payload: the message.

        Returns:
            What is released because of it, in order.

        """
        now_ns = self._advance(now_ns)
        self.counters.color_in += 1
        self._color_alive_ns = now_ns
        if self._newest_aux_ns is not None and not self._aux_is_dead(now_ns):
            self._apart_ns = abs(self._newest_aux_ns - stamp_ns)
        released: list[SyncedSet] = []
        newest_ns = self._newest_color_ns if self._newest_color_ns is not None else self._last_released_ns
        if newest_ns is not None and newest_ns - stamp_ns > self.config.ns("jump_back_s"):
            released = self._flush(now_ns)
            self._begin_epoch(newest_ns - stamp_ns)
            newest_ns = None
            self._aux.forget_after(stamp_ns + self.config.ns("jump_back_s"))
            self.counters.color_jumps += 1
        if self._is_duplicate(stamp_ns):
            self.counters.color_duplicate += 1
        elif self._last_released_ns is not None and stamp_ns <= self._last_released_ns:
            self.counters.color_late += 1
        else:
            insort(self._pending, Sample(stamp_ns, now_ns, payload), key=lambda sample: sample.stamp_ns)
            self._newest_color_ns = self._pending[-1].stamp_ns if newest_ns is None else max(stamp_ns, newest_ns)
        return released + self._due(now_ns)

    def add_aux(self, stamp_ns: int, now_ns: int, payload: Stamped) -> list[SyncedSet]:
        """Add a message of the auxiliary sensor; arguments and result as of `add_color`.

        Raises:
            EventDecodeError: events that cannot be decoded; the synchronizer stays as it was.

        """
        now_ns = self._advance(now_ns)
        self.counters.aux_in += 1
        released: list[SyncedSet] = []
        back_ns = self._aux.went_back_ns(stamp_ns)
        if back_ns > self.config.ns("jump_back_s"):
            released = self._flush(now_ns)
            self._aux.clear()
            self.counters.aux_jumps += 1
            if self._color_is_dead(now_ns) and self._last_released_ns is not None and stamp_ns < self._last_released_ns:
                self._begin_epoch(back_ns)
        self._aux.add(Sample(stamp_ns, now_ns, payload))
        self._aux_alive_ns = now_ns
        if back_ns > self.config.ns("jump_back_s"):
            self._apart_ns = 0
        self._newest_aux_ns = stamp_ns
        return released + self._due(now_ns)

    def poll(self, now_ns: int) -> list[SyncedSet]:
        """Release what has waited long enough, in order."""
        return self._due(self._advance(now_ns))

    @property
    def next_deadline_ns(self) -> int | None:
        """The latest time for the next `poll` if nothing arrives before; None when nothing waits."""
        if self._pending:
            return min(sample.arrival_ns for sample in self._pending) + self.config.ns("max_wait_s")
        if self._apart_ns > OTHER_CLOCK_NS:
            return None
        waiting = self._aux.first_alone(self._last_released_ns) if self._color_alive_ns is not None else None
        if waiting is None or self._color_alive_ns is None:
            return None
        dead_ns = self._color_alive_ns + self.config.ns("color_dead_s") + 1
        return max(dead_ns, waiting.arrival_ns + self.config.ns("max_wait_s"))

    @property
    def nbytes(self) -> int:
        """Bytes of everything that waits."""
        return self._color_nbytes + self._aux.nbytes

    @property
    def _color_nbytes(self) -> int:
        return sum(sample.nbytes for sample in self._pending)

    def _advance(self, now_ns: int) -> int:
        """Note the time; when the steady clock goes back, everything that waits begins to wait anew."""
        if self._now_ns is not None and now_ns < self._now_ns:
            self._pending = [Sample(s.stamp_ns, min(s.arrival_ns, now_ns), s.payload) for s in self._pending]
            self._color_alive_ns = None if self._color_alive_ns is None else min(self._color_alive_ns, now_ns)
            self._aux_alive_ns = None if self._aux_alive_ns is None else min(self._aux_alive_ns, now_ns)
        self._now_ns = now_ns
        if self._color_alive_ns is None:
            self._color_alive_ns = now_ns
        if self._aux_alive_ns is None:
            self._aux_alive_ns = now_ns
        return now_ns

    def _is_duplicate(self, stamp_ns: int) -> bool:
        at = bisect_left(self._pending, stamp_ns, key=lambda sample: sample.stamp_ns)
        waiting = at < len(self._pending) and self._pending[at].stamp_ns == stamp_ns
        return waiting or stamp_ns == self._last_color_ns

    def _color_is_dead(self, now_ns: int) -> bool:
        return self._color_alive_ns is not None and now_ns - self._color_alive_ns > self.config.ns("color_dead_s")

    def _aux_is_dead(self, now_ns: int) -> bool:
        return self._aux_alive_ns is not None and now_ns - self._aux_alive_ns > self.config.ns("aux_dead_s")

    def _begin_epoch(self, back_ns: int) -> None:
        self.epoch += 1
        self._jumped_back_ns = back_ns
        self._last_released_ns = self._last_color_ns = self._newest_color_ns = None

    def _flush(self, now_ns: int) -> list[SyncedSet]:
        return [self._release_color(now_ns) for _ in range(len(self._pending))]

    def _due(self, now_ns: int) -> list[SyncedSet]:
        released: list[SyncedSet] = []
        while self._pending and self._must_release(now_ns):
            released.append(self._release_color(now_ns))
        if self._pending or not self._color_is_dead(now_ns):
            return released
        if self._apart_ns > OTHER_CLOCK_NS:  # it cannot lead: results would have stamps of another clock
            return released
        while (waiting := self._aux.first_alone(self._last_released_ns)) is not None:
            if now_ns - waiting.arrival_ns < self.config.ns("max_wait_s"):
                break
            sample = self._aux.remove(waiting.stamp_ns)
            self.counters.aux_alone += 1
            released.append(self._release(sample.stamp_ns, None, sample, False, now_ns))
        return released

    def _must_release(self, now_ns: int) -> bool:
        """Whether to release the first waiting colour frame: it is settled, or one of them has waited long enough."""
        if len(self._pending) > self.config.max_pending or self._aux_is_dead(now_ns):
            return True
        if len(self._pending) > 1 and self._color_nbytes > self.config.max_bytes // 2:
            return True
        oldest_ns = min(sample.arrival_ns for sample in self._pending)
        return now_ns - oldest_ns >= self.config.ns("max_wait_s") or self._aux.settled(self._pending[0].stamp_ns)

    def _release_color(self, now_ns: int) -> SyncedSet:
        color = self._pending.pop(0)
        aux, held = self._aux.take(color.stamp_ns, self._last_color_ns)
        if aux is None:
            self.counters.color_alone += 1
        elif held:
            self.counters.held += 1
        else:
            self.counters.paired += 1
        self._last_color_ns = color.stamp_ns
        return self._release(color.stamp_ns, color, aux, held, now_ns)

    def _release(self, stamp_ns: int, color: Sample | None, aux: Sample | None, held: bool, now_ns: int) -> SyncedSet:
        self._last_released_ns = stamp_ns
        back_ns, self._jumped_back_ns = self._jumped_back_ns, 0
        return SyncedSet(stamp_ns, color, aux, held, self.epoch, back_ns, now_ns)
