"""State between frames: crops, confidence, engines, and the trackers that own them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core import DEFAULT_MODEL
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.tracker import Tracker


def build_tracker(
    model: str = DEFAULT_MODEL,
    weights: Path | None = None,
    modality: Modality = Modality.THERMAL,
    config: TrackerConfig | None = None,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
) -> Tracker:
    """Load weights, start an engine on them, and return a tracker that is ready to start on a box.

    Args:
        model: A name of `ckd_core.models.registry`.
        weights: A safetensors file or a folder written by `sdstrack export`; None = the package's own weights.
        modality: Kind of the auxiliary stream.
        config: Options; None = the defaults.
        engine: `kind/precision`, `auto` or `measure`, see docs/engines.md.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        threads: CPU threads of the engine, 0 = its own choice.
        strict_device: Refuse an engine or device that is not available, instead of falling back with a warning.

    Raises:
        WeightsFileError: The weights cannot be used.
        ExportError: The export folder cannot be used.
        EngineError: The engine does not exist, or it is not available and nothing may replace it.
    """
    from ckd_core.tracking.engines.build import build_engine
    from ckd_core.tracking.tracker import Tracker

    built = build_engine(model, weights, engine=engine, device=device, threads=threads, strict_device=strict_device)
    return Tracker(built.engine, modality, built.config_for(config), built.thresholds)
