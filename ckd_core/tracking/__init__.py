"""State between frames: crops, confidence, engines, and the trackers that own them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core.frame import Modality

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.tracker import Tracker


def build_tracker(
    model: str = "sdstrack_s128",
    weights: Path | None = None,
    modality: Modality = Modality.THERMAL,
    config: TrackerConfig | None = None,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
) -> Tracker:
    """A ready tracker.

    model: a name of `ckd_core.models.registry`. weights: a safetensors file or a folder written by `sdstrack export`;
    None = the weights that come with the package. engine: `kind/precision`, `auto` or `measure`, see
    `ckd_core.tracking.engines`. device: `cpu`, `cuda`, `cuda:N` or `auto`. threads: CPU threads of the engine, 0 = its
    own choice. strict_device: an engine or device that is not available is an error, not a fallback with a warning.
    """
    from ckd_core.tracking.engines.build import build_engine
    from ckd_core.tracking.tracker import Tracker

    built = build_engine(model, weights, engine=engine, device=device, threads=threads, strict_device=strict_device)
    return Tracker(built.engine, modality, built.config_for(config), built.thresholds)
