"""What the synchronizer receives, counts and releases; all times are integer nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckd_core.errors import TrackingError
from sdstrack_ros.messages.stamps import NS_PER_S

if TYPE_CHECKING:
    from sdstrack_ros.messages.stamps import Stamped

# Ratios of the defaults: 0.3 s and 0.5 s for a wait of 0.05 s.
COLOR_TIMEOUT_WAITS = 6
AUX_TIMEOUT_WAITS = 10


class SyncError(TrackingError):
    """A synchronizer that cannot be set up as asked."""


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """How streams are paired; times are in seconds.

    Attributes:
        max_skew_s: largest distance between the stamps of a pair; half a frame period is right.
        max_wait_s: longest time from the arrival of a frame to its release.
        aux_hold_s: the last auxiliary frame serves again while it is no older than this; 0 for never.
        color_timeout_s: silence after which colour counts as dead, and the auxiliary stream drives; see `color_dead_s`.
        aux_timeout_s: silence after which the auxiliary sensor counts as dead, and colour frames no longer wait for it;
            see `aux_dead_s`.
        jump_back_s: a colour stamp this far before the newest one is a jump of the clock; less is a late frame.
        max_pending: largest number of frames of either stream that wait.
        max_bytes: largest size of all that wait; half of it for either stream, but always one frame of each.

    Raises:
        SyncError: a time that is negative or not finite, or a max_pending or max_bytes below 1.

    """

    max_skew_s: float = 0.015
    max_wait_s: float = 0.05
    aux_hold_s: float = 0.0
    color_timeout_s: float = 0.3
    aux_timeout_s: float = 0.5
    jump_back_s: float = 0.2
    max_pending: int = 32
    max_bytes: int = 128_000_000

    def __post_init__(self) -> None:
        for name in ("max_skew_s", "max_wait_s", "aux_hold_s", "color_timeout_s", "aux_timeout_s", "jump_back_s"):
            value = getattr(self, name)
            if not 0 <= value < 1e9:
                raise SyncError(f"{name} = {value}; expected a finite number of seconds that is not negative")
        for name in ("max_pending", "max_bytes"):
            if getattr(self, name) < 1:
                raise SyncError(f"{name} = {getattr(self, name)}; expected at least 1")

    @property
    def color_dead_s(self) -> float:
        """Silence after which colour counts as dead: the timeout, but at least 6 times max_wait_s.

        A long wait means that the streams are slow (a recording played slowly), not dead.
        """
        return max(self.color_timeout_s, COLOR_TIMEOUT_WAITS * self.max_wait_s)

    @property
    def aux_dead_s(self) -> float:
        """Silence after which the auxiliary sensor counts as dead: at least 10 times max_wait_s; see `color_dead_s`."""
        return max(self.aux_timeout_s, AUX_TIMEOUT_WAITS * self.max_wait_s)

    def ns(self, name: str) -> int:
        """Return one of the times, by its name, in nanoseconds."""
        seconds: float = getattr(self, name)
        return round(seconds * NS_PER_S)


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """When a message was stamped by its sender, and when it arrived on a steady clock."""

    stamp_ns: int
    arrival_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Sample(Arrival):
    """One message, untouched, with its times."""

    payload: Stamped

    @property
    def nbytes(self) -> int:
        """Bytes of the message."""
        return message_bytes(self.payload)


def message_bytes(message: Any) -> int:
    """Bytes that a message keeps in memory: all of it where it says so itself, otherwise those of its pixels."""
    return int(getattr(message, "nbytes", 0)) or len(getattr(message, "data", ()))


@dataclass(frozen=True, slots=True, eq=False)
class SyncedSet:
    """What the synchronizer releases together.

    Attributes:
        stamp_ns: stamp of the leading message (colour, or the auxiliary one while colour is dead).
        color: the colour message; None while colour is dead.
        aux: the auxiliary message; None when colour is alone. At least one of the two is there.
        aux_held: whether the auxiliary message has served before.
        epoch: rises by one with every jump back in time.
        jumped_back_ns: by how much time went back just before this set; 0 if it did not.
        released_ns: when it was released, on the clock of the arrivals.

    """

    stamp_ns: int
    color: Sample | None
    aux: Sample | None
    aux_held: bool
    epoch: int
    jumped_back_ns: int
    released_ns: int

    @property
    def leader(self) -> Sample:
        """The message whose stamp the set has: colour, or the auxiliary one while colour is dead."""
        leader = self.aux if self.color is None else self.color
        assert leader is not None  # noqa: S101  # the synchronizer releases no empty set
        return leader

    @property
    def skew_ns(self) -> int | None:
        """Auxiliary stamp minus colour stamp; None unless both are there."""
        return None if self.color is None or self.aux is None else self.aux.stamp_ns - self.color.stamp_ns


@dataclass(slots=True)
class SyncCounters:
    """What became of everything that came in since the start.

    color_in = paired + held + color_alone + color_late + color_duplicate + still waiting.
    aux_in = paired + aux_alone + aux_unused + aux_overflow + aux_duplicate + still waiting; not with event packets, of
    which aux_in counts every one: a packet never leaves as such, its events do.

    Attributes:
        event_words_skipped: words of event packets whose types the format does not define.
        nearest_miss_ns: distance from the last colour frame that was released alone to the nearest auxiliary stamp;
            None where there was no auxiliary frame to compare.

    """

    color_in: int = 0
    aux_in: int = 0
    paired: int = 0
    held: int = 0
    color_alone: int = 0
    aux_alone: int = 0
    color_late: int = 0
    color_duplicate: int = 0
    aux_unused: int = 0
    aux_overflow: int = 0
    aux_duplicate: int = 0
    color_jumps: int = 0
    aux_jumps: int = 0
    event_words_skipped: int = 0
    nearest_miss_ns: int | None = None

    @property
    def dropped(self) -> int:
        """Messages of either stream that are never released."""
        late = self.color_late + self.color_duplicate
        return late + self.aux_unused + self.aux_overflow + self.aux_duplicate
