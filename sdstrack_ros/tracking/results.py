"""What the tracking thread hands to the node: results of frames and outcomes of requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.result import TrackResult
    from sdstrack_ros.tracking.source_frame import SourceFrame
    from sdstrack_ros.tracking.target_requests import RequestOutcome


@dataclass(frozen=True, slots=True)
class TargetResult:
    """One target in one frame.

    Attributes:
        target_id: its name; that of the target that was requested without an id is a number.
        label: its class.
        track: where it is.
        number: rises with every start and is never used twice, even if an id comes again: the smaller, the older.
        named: whether it was requested with an id.

    """

    target_id: str
    label: str
    track: TrackResult
    number: int
    named: bool = False

    @property
    def box(self) -> BoundingBox:
        """Pixels of the reference image; while LOST an old one."""
        return self.track.box

    @property
    def state(self) -> TrackState:
        """TRACKING, UNCERTAIN or LOST."""
        return self.track.state

    @property
    def score(self) -> float:
        """0..1."""
        return self.track.score

    @property
    def name(self) -> str:
        """For people: the label, after the id if it was requested with one."""
        return f"{self.target_id} {self.label}" if self.named else self.label

    @property
    def visible(self) -> bool:
        """Whether its box may be shown."""
        return self.state is not TrackState.LOST and self.box.is_finite()


def main_target(targets: Sequence[TargetResult]) -> TargetResult | None:
    """Return the target that was requested without an id, else the oldest; None when there is none."""
    return next((target for target in targets if not target.named), targets[0] if targets else None)


def changed_states(before: Sequence[TargetResult], after: Sequence[TargetResult]) -> str:
    """Say which targets changed their state, or came or went; '' when none did."""
    old, new = ({target.target_id: target.state.value for target in targets} for targets in (before, after))
    states = {name: (old.get(name, "NONE"), new.get(name, "NONE")) for name in {**old, **new}}
    return "; ".join(f"target {name}: {was} -> {now}" for name, (was, now) in states.items() if was != now)


@dataclass(frozen=True, slots=True)
class Ending:
    """A target that was given up, and why."""

    target_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame led to.

    Attributes:
        source: the frame as it left the synchronizer.
        images: the same, decoded.
        targets: all of them, also those that are LOST, the oldest first.
        decode_s: seconds spent on decoding.
        tracker_s: seconds spent in the tracker.
        endings: the targets that were given up at this frame.

    """

    source: SourceFrame
    images: MultiModalFrame
    targets: tuple[TargetResult, ...] = ()
    decode_s: float = 0.0
    tracker_s: float = 0.0
    endings: tuple[Ending, ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """The outcome of a request, and the result of the frame up to which a target that it started has caught up."""

    outcome: RequestOutcome
    frame_result: FrameResult | None = None
