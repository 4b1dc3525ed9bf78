"""From settings to a warm tracker. No ROS import; torch only inside."""

from __future__ import annotations

import functools
import gc
import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.tracking.weights_path import weights_path

if TYPE_CHECKING:
    from ckd_core.tracking.confidence import Thresholds
    from ckd_core.tracking.tracker import FrameTracker, Tracker
    from sdstrack_ros.parameters.table import Settings

WARM_UP_FRAMES = 2
_WIDTH, _HEIGHT = 320, 240


@dataclass(frozen=True, slots=True)
class WarmTracker:
    """A tracker that has run once, the thresholds that came with its weights, and what it runs on."""

    tracker: Tracker
    own_thresholds: Thresholds
    model: str
    device: str
    engine: str
    weights: str


def build_warm_tracker(settings: Settings) -> WarmTracker:
    """Load the network of the settings and run it on two synthetic frames, so that the first real one is fast.

    Raises:
        TrackingError: unknown model, missing or wrong weights, absent device with strict_device.

    """
    from ckd_core.tracking import build_tracker
    from ckd_core.tracking.confidence import ConfidenceConfig
    from ckd_core.tracking.config import MissingPolicy, TemplateRefresh, TrackerConfig

    _freeze_libraries()
    modality = Modality(settings.modality)
    weights = weights_path(settings.weights)
    config = TrackerConfig(
        missing=MissingPolicy(settings.missing),
        confidence=ConfidenceConfig(enabled=settings.confidence, reacquire=settings.reacquire),
        template_refresh=TemplateRefresh(settings.template_refresh),
    )
    tracker = build_tracker(
        model=settings.model,
        weights=weights,
        modality=modality,
        config=config,
        engine=settings.engine,
        device=settings.device,
        threads=settings.threads,
        strict_device=settings.strict_device,
    )
    warm_up(tracker, modality)
    own = tracker.thresholds
    tracker.thresholds = tuned(own, settings)
    return WarmTracker(
        tracker, own, settings.model, tracker.engine.device, tracker.engine.name, str(weights or "the package's own")
    )


@functools.cache
def _freeze_libraries() -> None:
    """Take what the libraries keep for ever out of garbage collection.

    A collection then takes half a second less, a pause that would fall into the middle of tracking.
    """
    importlib.import_module("ckd_core.tracking.engines.pytorch")
    gc.collect()
    gc.freeze()


def tuned(own: Thresholds, settings: Settings) -> Thresholds:
    """Thresholds of the weights, with those that the settings give in their place.

    Raises:
        ConfidenceError: they contradict each other.

    """
    given = {"doubt": settings.doubt_score, "unseen": settings.unseen_score, "confirm": settings.confirm_score}
    return replace(own, **{name: value for name, value in given.items() if value >= 0})


def warm_up(tracker: FrameTracker, modality: Modality) -> None:
    """Track through noise once and forget it."""
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
    shape = (_HEIGHT, _WIDTH, 3) if modality is Modality.EVENT else (_HEIGHT, _WIDTH)
    aux = random.integers(0, 256, shape).astype(np.uint16 if modality is Modality.DEPTH else np.uint8)
    frames = [MultiModalFrame(float(i), rgb, aux, modality) for i in range(WARM_UP_FRAMES + 1)]
    tracker.start(frames[0], BoundingBox(140.0, 100.0, 40.0, 40.0))
    for frame in frames[1:]:
        tracker.update(frame)
    tracker.reset()
