"""What a tracker answers for a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox


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
    """One frame's answer.

    stamp: the frame's stamp in seconds.
    box: the box in pixels of the reference image. While LOST it is the last one believed and must not be published
        as a detection.
    score: the published trackers' confidence: the maximum of the windowed response, 0..1.
    state: TRACKING, UNCERTAIN or LOST.
    rgb_present, aux_present: which modalities the frame had.
    timing: seconds by stage.
    """

    stamp: float
    box: BoundingBox
    score: float
    state: TrackState
    rgb_present: bool = True
    aux_present: bool = True
    timing: StageTiming = field(default_factory=StageTiming)
