"""What a tracker returns for one frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.witnesses.box_depth import Expected


class TrackState(str, Enum):
    """How far a box can be trusted."""

    TRACKING = "TRACKING"
    UNCERTAIN = "UNCERTAIN"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Seconds spent on one frame, by stage."""

    crop: float = 0.0
    network: float = 0.0
    post: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the stages in seconds."""
        return self.crop + self.network + self.post


@dataclass(frozen=True, slots=True)
class TrackResult:
    """Where the target is in one frame.

    Attributes:
        stamp: The frame's stamp in seconds.
        box: Pixels of the reference image. While LOST it is the last trusted one and must not be published as a
            detection.
        score: The published trackers' confidence: the maximum of the weighted response, 0..1.
        state: TRACKING, UNCERTAIN or LOST.
        rgb_present: Whether the frame had a colour image.
        aux_present: Whether the frame had an auxiliary image.
        timing: Seconds by stage.
        reference_size: (height, width) of the reference image, as known since the start even while its camera is
            silent. None from a tracker that does not know it.
        distance: Where depth says that the target should be; None where it does not.
    """

    stamp: float
    box: BoundingBox
    score: float
    state: TrackState
    rgb_present: bool = True
    aux_present: bool = True
    timing: StageTiming = field(default_factory=StageTiming)
    reference_size: tuple[int, int] | None = None
    distance: Expected | None = None
