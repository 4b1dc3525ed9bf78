"""Trackers of the small scenes in test/ckd_core/tracking: where their target goes, and what is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.boxes import iou_xywh
from ckd_core.frame import Modality
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.engines import Engine
    from ckd_core.tracking.result import TrackResult

LIMITS = Thresholds(doubt=0.6, unseen=0.5, confirm=0.6, rival=0.85, history=0.5)
STATES = ConfidenceConfig(lost_after=4, confirm_frames=3)


def tracker_of(engine: Engine, config: TrackerConfig | None = None) -> Tracker:
    """A tracker of one target, by default with the states of `STATES`."""
    return Tracker(engine, Modality.THERMAL, config or TrackerConfig(confidence=STATES), LIMITS)


def overlap(a: BoundingBox, b: BoundingBox) -> float:
    """IoU of two boxes."""
    return float(iou_xywh(np.array(a), np.array(b)))


def path(step: int) -> tuple[int, int]:
    """Top-left corner of a target that moves a tenth of its side per frame."""
    return 100 + 4 * step, 90 + 2 * step


def without_timing(result: TrackResult) -> tuple[object, ...]:
    """What equal frames make equal."""
    return result.stamp, result.box, result.score, result.state, result.rgb_present, result.aux_present
