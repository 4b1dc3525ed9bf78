"""Synchronization that composes with message_filters: sources in, `registerCallback` out.

`tolerant` is our own synchronizer. `approximate` and `exact` are the stock classes, guarded against two things that
would stop them for good: an exception in a callback (their lock stays held), and stamps that jump back (their queues
never pair again).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sdstrack_ros.messages.stamps import stamp_of
from sdstrack_ros.sync import message_filters_compat
from sdstrack_ros.sync.frame_builder import make_synchronizer
from sdstrack_ros.sync.message_filters_compat import SimpleFilter
from sdstrack_ros.sync.types import Sample, SyncConfig, SyncCounters, SyncedSet, SyncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sdstrack_ros.sync.synchronizer import Synchronizer

POLICIES = ("tolerant", "approximate", "exact")
STOCK_QUEUE = 10


class TolerantFilter(SimpleFilter):  # type: ignore[misc]  # message_filters carries no types
    """Our own synchronizer as a filter: callbacks receive a SyncedSet. Call `poll` by `next_deadline_ns`."""

    def __init__(
        self,
        color: Any,
        aux: Any,
        synchronizer: Synchronizer,
        on_reject: Callable[[Exception], object] | None = None,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Connect to the sources.

        Args:
            color: source of colour messages.
            aux: source of auxiliary messages.
            synchronizer: pairs them.
            on_reject: receives the error of an event packet that cannot be decoded; None lets it pass to the source.
            steady_ns: nanoseconds of a steady clock.

        """
        SimpleFilter.__init__(self)
        self.synchronizer = synchronizer
        self._on_reject = on_reject
        self._steady_ns = steady_ns
        color.registerCallback(self._on_color)
        aux.registerCallback(self._on_aux)

    @property
    def counters(self) -> SyncCounters:
        """What became of everything that came in."""
        return self.synchronizer.counters

    @property
    def next_deadline_ns(self) -> int | None:
        """The latest time for the next `poll`, on the steady clock; None when nothing waits."""
        return self.synchronizer.next_deadline_ns

    @property
    def nbytes(self) -> int:
        """Bytes of everything that waits."""
        return self.synchronizer.nbytes

    def configure(self, config: SyncConfig) -> None:
        """Change the settings while running."""
        self.synchronizer.configure(config)

    def poll(self) -> None:
        """Release what has waited long enough."""
        self._signal(self.synchronizer.poll(self._steady_ns()))

    def _on_color(self, message: Any) -> None:
        self._signal(self.synchronizer.add_color(stamp_of(message), self._steady_ns(), message))

    def _on_aux(self, message: Any) -> None:
        from sdstrack_ros.messages.event_window import EventDecodeError

        try:
            released = self.synchronizer.add_aux(stamp_of(message), self._steady_ns(), message)
        except EventDecodeError as error:
            if self._on_reject is None:
                raise
            self._on_reject(error)
            return
        self._signal(released)

    def _signal(self, released: list[SyncedSet]) -> None:
        for synced in released:
            self.signalMessage(synced)


class StockFilter(SimpleFilter):  # type: ignore[misc]  # message_filters carries no types
    """message_filters' own pairing behind the same interface: only whole pairs, and nothing while a sensor is dead.

    Pairs are passed on after the stock class has released its lock.
    """

    def __init__(
        self, color: Any, aux: Any, exact: bool, config: SyncConfig, steady_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Connect to the sources.

        Args:
            color: source of colour messages.
            aux: source of auxiliary messages.
            exact: whether the stamps of a pair have to be equal.
            config: of which max_skew_s and jump_back_s apply.
            steady_ns: nanoseconds of a steady clock.

        Raises:
            SyncError: message_filters is not installed.

        """
        if not message_filters_compat.HAVE_MESSAGE_FILTERS:
            raise SyncError(
                f"sync policy '{'exact' if exact else 'approximate'}' needs the package message_filters, which is not "
                "installed here (apt: ros-$ROS_DISTRO-message-filters); use 'tolerant'"
            )
        import message_filters

        SimpleFilter.__init__(self)
        self.config = config
        self.counters = SyncCounters()
        self.epoch = 0
        self._steady_ns = steady_ns
        self._ready: list[SyncedSet] = []
        self._newest_ns: dict[str, int] = {}
        self._jumped_back_ns = 0
        color.registerCallback(self._watch, "color")
        aux.registerCallback(self._watch, "aux")
        if exact:
            self._stock = message_filters.TimeSynchronizer([color, aux], STOCK_QUEUE)
        else:
            self._stock = message_filters.ApproximateTimeSynchronizer([color, aux], STOCK_QUEUE, config.max_skew_s)
        self._stock.registerCallback(self._pair)
        color.registerCallback(self._release)
        aux.registerCallback(self._release)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that waits: up to `STOCK_QUEUE` messages of either stream, whatever their size."""
        return sum(len(getattr(message, "data", ())) for queue in self._stock.queues for message in queue.values())

    @property
    def next_deadline_ns(self) -> None:
        """None: here nothing waits for time."""
        return

    def configure(self, config: SyncConfig) -> None:
        """Change the settings while running, the queue's slop with them."""
        self.config = config
        if hasattr(self._stock, "slop"):
            self._stock.slop = type(self._stock.slop)(nanoseconds=config.ns("max_skew_s"))

    def poll(self) -> None:
        """Nothing waits for time here."""

    def _watch(self, message: Any, stream: str) -> None:
        """Count the arrival; after a jump back empty the stock queues, or they would never pair again."""
        if stream == "color":
            self.counters.color_in += 1
        else:
            self.counters.aux_in += 1
        stamp_ns = stamp_of(message)
        back_ns = self._newest_ns.get(stream, stamp_ns) - stamp_ns
        if back_ns > self.config.ns("jump_back_s"):
            for queue in self._stock.queues:
                queue.clear()
            self._newest_ns.clear()
            self._jumped_back_ns = back_ns
            self.epoch += 1
        self._newest_ns[stream] = max(stamp_ns, self._newest_ns.get(stream, stamp_ns))

    def _pair(self, color: Any, aux: Any) -> None:
        now_ns = self._steady_ns()
        stamp_ns = stamp_of(color)
        back_ns, self._jumped_back_ns = self._jumped_back_ns, 0
        samples = Sample(stamp_ns, now_ns, color), Sample(stamp_of(aux), now_ns, aux)
        self._ready.append(SyncedSet(stamp_ns, *samples, False, self.epoch, back_ns, now_ns))
        self.counters.paired += 1

    def _release(self, message: Any) -> None:
        del message
        ready, self._ready = self._ready, []
        for synced in ready:
            self.signalMessage(synced)


def synchronize(
    color: Any,
    aux: Any,
    policy: str,
    config: SyncConfig,
    packets: bool = False,
    on_reject: Callable[[Exception], object] | None = None,
    steady_ns: Callable[[], int] = time.monotonic_ns,
) -> TolerantFilter | StockFilter:
    """Pair two Subscriber-like sources.

    Args:
        color: source of colour messages.
        aux: source of auxiliary messages.
        policy: one of `POLICIES`.
        config: how streams are paired.
        packets: whether the auxiliary messages are event packets.
        on_reject: receives the error of an event packet that cannot be decoded.
        steady_ns: nanoseconds of a steady clock.

    Returns:
        A filter whose callbacks receive a SyncedSet.

    Raises:
        SyncError: an unknown policy, a stock one without message_filters, or a stock one for event packets.

    """
    if policy not in POLICIES:
        raise SyncError(f"unknown sync policy '{policy}'; expected one of: {', '.join(POLICIES)}")
    if policy == "tolerant":
        return TolerantFilter(color, aux, make_synchronizer(config, packets), on_reject, steady_ns)
    if packets:
        raise SyncError(f"sync policy '{policy}' pairs single messages; event packets need 'tolerant'")
    return StockFilter(color, aux, policy == "exact", config, steady_ns)
