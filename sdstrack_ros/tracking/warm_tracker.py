"""Builds the tracker that the settings describe and warms it up. torch is imported only when that is done."""

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
    from ckd_core.tracking.confidence.thresholds import Thresholds
    from ckd_core.tracking.tracker import Tracker
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.tracking.targets import FramesTracker

WARM_UP_FRAMES = 2
KEPT_SHARE = 4  # of memory_mb: what the tracker may fill with frames in which it was not sure of a target
_WIDTH, _HEIGHT = 320, 240


@dataclass(frozen=True, slots=True)
class WarmTracker:
    """A tracker that has already run.

    Attributes:
        tracker: the tracker itself.
        own_thresholds: those that came with its weights.
        model: name of the network.
        weights: path of the weights, or that they are the package's own.
        unfit: that the weights were trained with another auxiliary camera, in words; '' where they were not.

    """

    tracker: Tracker
    own_thresholds: Thresholds
    model: str
    weights: str
    unfit: str = ""

    @property
    def device(self) -> str:
        """What it runs on now."""
        return self.tracker.engine.device

    @property
    def engine(self) -> str:
        """What runs it now: another engine takes over from one that fails."""
        return self.tracker.engine.name

    @property
    def engine_choice(self) -> str:
        """How it came to be this engine, in words."""
        return self.tracker.engine.chosen_by

    @property
    def trouble(self) -> str:
        """What is wrong with the engine, in words; '' while nothing is."""
        return self.tracker.engine.trouble


def build_warm_tracker(settings: Settings) -> WarmTracker:
    """Load the network of the settings and run it on synthetic frames, so that the first real one is fast.

    Raises:
        TrackingError: unknown model, missing or wrong weights, or, with strict_device, an absent device.

    """
    from ckd_core.models.registry import model_config
    from ckd_core.tracking import build_tracker
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.config import MissingPolicy, TemplateRefresh, TrackerConfig
    from ckd_core.tracking.engines.origin import weights_origin
    from ckd_core.tracking.witnesses.colours import ColoursConfig
    from ckd_core.tracking.witnesses.distance import MIN_READING_M, DistanceConfig
    from ckd_core.tracking.witnesses.features import FeaturesConfig

    _freeze_libraries()
    model_config(settings.model)  # names the networks there are, where a missing weights file would be all that is said
    modality = Modality(settings.modality)
    weights = weights_path(settings.weights)
    config = TrackerConfig(
        missing=MissingPolicy(settings.missing),
        confidence=ConfidenceConfig(enabled=settings.confidence, reacquire=settings.reacquire),
        template_refresh=None if settings.template_refresh == "auto" else TemplateRefresh(settings.template_refresh),
        fit_start=None if settings.fit_start else False,
        colours=None if settings.watch_appearance else ColoursConfig(enabled=False),
        features=None if settings.watch_appearance else FeaturesConfig(enabled=False),
        distance=DistanceConfig(
            enabled=settings.watch_distance,
            min_m=max(settings.min_depth_m, MIN_READING_M),
            max_m=max(settings.max_depth_m, 2 * MIN_READING_M),
        ),
        kept_mb=settings.memory_mb / KEPT_SHARE,
    )
    tracker = build_tracker(
        model=settings.model,
        weights=weights,
        modality=modality,
        config=config,
        engine=settings.engine,
        device=settings.device,
        threads=settings.threads,
        other_processes=True,
        strict_device=settings.strict_device,
        any_modality=True,  # the caller reports it
    )
    warm_up(tracker.multi, modality, settings.max_targets)
    own = tracker.thresholds
    tracker.thresholds = tuned(own, settings)
    return WarmTracker(
        tracker,
        own,
        settings.model,
        str(weights or "the package's own"),
        weights_origin(settings.model, weights).unfit([modality]),
    )


@functools.cache
def _freeze_libraries() -> None:
    """Exempt from garbage collection what the libraries keep for ever.

    A collection would otherwise pause tracking for half a second.
    """
    importlib.import_module("ckd_core.tracking.engines.pytorch")
    gc.collect()
    gc.freeze()


def tuned(own: Thresholds, settings: Settings) -> Thresholds:
    """Return the thresholds of the weights, replaced by those that the settings name.

    Raises:
        ConfidenceError: the result contradicts itself.

    """
    chosen = {"doubt": settings.doubt_score, "unseen": settings.unseen_score, "confirm": settings.confirm_score}
    return replace(own, **{name: value for name, value in chosen.items() if value >= 0})


def warm_up(tracker: FramesTracker, modality: Modality, max_targets: int = 1) -> None:
    """Track through noise once with every number of targets, for which engines compile or capture; then forget them."""
    random = np.random.default_rng(0)
    rgb = random.integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
    shape = (_HEIGHT, _WIDTH, 3) if modality is Modality.EVENT else (_HEIGHT, _WIDTH)
    aux = random.integers(0, 256, shape).astype(np.uint16 if modality is Modality.DEPTH else np.uint8)
    frames = (MultiModalFrame(float(i), rgb, aux, modality) for i in range(WARM_UP_FRAMES + max_targets + 1))
    tracker.start(next(frames), dict.fromkeys(range(max_targets), BoundingBox(140.0, 100.0, 40.0, 40.0)))
    for target in reversed(range(1, max_targets)):
        tracker.update(next(frames))
        tracker.remove(target)
    for _ in range(WARM_UP_FRAMES):
        tracker.update(next(frames))
    tracker.reset()
