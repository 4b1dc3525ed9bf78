"""What is believed of one target, and what follows from it for the next search."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.tracking.confidence.sizes import off_by, shape_of, size_of
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.witnesses.colours import Portrait
    from ckd_core.tracking.witnesses.distance import Course
    from ckd_core.tracking.witnesses.features import Gallery


@dataclass(frozen=True, slots=True)
class Trial:
    """A claim of another size that counts, and may still be a lookalike's.

    Attributes:
        size: The usual sqrt(w h) before it.
        frames: For which it is still on trial.
    """

    size: float
    frames: int


@dataclass(frozen=True, slots=True)
class Bystander:
    """Something like the target that is known not to be it.

    Attributes:
        box: Where it was last.
        frames: For which it is still known by its place alone.
        unseen: Frames in a row without it.
    """

    box: BoundingBox
    frames: int
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class Confidence:
    """State of the machine for one target.

    Attributes:
        trusted_box: The last box that was trusted.
        last_box: The last box in which something was seen, trusted or not.
        state: TRACKING, UNCERTAIN or LOST.
        history: Scores of the last good frames.
        sizes, shapes: sqrt(w h) and w / h of the last good frames.
        doubt_weight: Weight of the doubtful frames in a row.
        blur_weight: Of those whose score or place is doubtful, which widen the search region.
        good_frames: Good frames in a row.
        stayed: Good frames since the last jump, doubtful ones between them.
        candidate: A re-acquired box that waits for confirmation.
        confirmed_frames: Frames in a row that show the candidate.
        scan: Index of the next tile.
        jumped: Whether the target jumped (`ConfidenceConfig.claim_jump`) or was LOST since it was last TRACKING.
        rival: Where it may be instead, which the next frame looks at, too.
        bystander: What is known to be something else.
        trial: Of the claim that made it TRACKING, where that was of another size.
        velocity: Pixels per frame along x and y, smoothed over good frames.
        course: The target's distance, where depth tells.
        portrait: Its colours, where there are any.
        gallery: Its features, where they are watched.
    """

    trusted_box: BoundingBox
    last_box: BoundingBox
    state: TrackState = TrackState.TRACKING
    history: tuple[float, ...] = ()
    sizes: tuple[float, ...] = ()
    shapes: tuple[float, ...] = ()
    doubt_weight: float = 0.0
    blur_weight: int = 0
    good_frames: int = 0
    stayed: int = 0
    candidate: BoundingBox | None = None
    confirmed_frames: int = 0
    scan: int = 0
    jumped: bool = False
    rival: BoundingBox | None = None
    bystander: Bystander | None = None
    trial: Trial | None = None
    velocity: tuple[float, float] = (0.0, 0.0)
    course: Course | None = None
    portrait: Portrait | None = None
    gallery: Gallery | None = None

    @classmethod
    def begin(cls, box: BoundingBox) -> Confidence:
        """Return the state at the start, with the start box."""
        return cls(trusted_box=box, last_box=box, sizes=(size_of(box),), shapes=(shape_of(box),))

    @property
    def usual_size(self) -> float:
        """Median sqrt(w h) of the last good frames: unlike the last box, a runaway cannot drag it along."""
        return statistics.median(self.sizes)

    @property
    def expected_size(self) -> float:
        """What two looks are compared by: the usual size, or that from before a claim of another one on trial."""
        return self.usual_size if self.trial is None else self.trial.size

    @property
    def usual_shape(self) -> float:
        """Median w / h of the last good frames."""
        return statistics.median(self.shapes)


def predicted_box(state: Confidence, share: float) -> BoundingBox:
    """The trusted box, moved by a share of what the target's velocity predicts for the next frame."""
    dx, dy = (share * rate for rate in state.velocity)
    return state.trusted_box._replace(x=state.trusted_box.x + dx, y=state.trusted_box.y + dy)


def growth_of(state: Confidence, config: ConfidenceConfig) -> float:
    """Return the factor on the search region for the next frame."""
    if not config.enabled or state.blur_weight == 0 or config.growth == 1:
        return 1.0
    # Without re-acquisition the weight grows without bound, and a power of it would overflow.
    if state.blur_weight >= math.log(config.max_growth) / math.log(config.growth):
        return float(config.max_growth)
    return float(config.growth**state.blur_weight)


def is_settled(before: Confidence, evidence: Evidence, config: ConfidenceConfig) -> bool:
    """Whether a target that is seen again may be TRACKING at once, and not only after it has stayed for long.

    After a jump to something of another size that is mostly a lookalike.
    """
    if before.state is TrackState.TRACKING or not before.jumped or evidence.recollected:
        return True
    return has_usual_size(before, evidence.box, config)


def has_usual_size(before: Confidence, box: BoundingBox, config: ConfidenceConfig) -> bool:
    """Whether a claim is of the size that the target had before."""
    return off_by(size_of(box), before.expected_size) <= config.claim_scale
