"""State between frames: crops, confidence, engines, and the trackers that own them."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ckd_core.frame import Modality

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.tracker import Tracker

# PyTorch's OpenMP reads this once, when it is loaded. By its own rule each of its threads keeps a core busy while it
# waits for the others: where those do not get a core at once, a frame of 0.05 s takes 2 s (docs/engines.md "Threads").
# Training, which has the machine to itself, does not come by here before it loads PyTorch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

logger = logging.getLogger(__name__)


def build_tracker(
    model: str | None = None,
    weights: Path | None = None,
    modality: Modality = Modality.THERMAL,
    config: TrackerConfig | None = None,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
    any_modality: bool = False,
    other_processes: bool = False,
) -> Tracker:
    """Load weights, start an engine on them, and return a tracker that is ready to start on a box.

    Args:
        model: A name of `ckd_core.models.registry`; None = what the weights say, without weights the default.
        weights: A safetensors file or a folder written by `sdstrack export`; None = the package's own weights.
        modality: Kind of the auxiliary stream.
        config: Options; None = the defaults.
        engine: `kind/precision`, `auto` or `measure`, see docs/engines.md.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        threads: CPU threads of all libraries that work on a frame; 0 = all usable cores.
        strict_device: Refuse an engine or device that is not available, instead of falling back with a warning.
        any_modality: Do not warn of weights that were trained with another kind of auxiliary camera.
        other_processes: Whether `threads` = 0 leaves a core to others on this machine, such as a camera's driver.

    Raises:
        WeightsFileError: The weights cannot be used.
        ExportError: The export folder cannot be used.
        EngineError: The engine does not exist, or it is not available and nothing may replace it.
    """
    from ckd_core.tracking.engines.build import build_engine
    from ckd_core.tracking.engines.origin import model_of, weights_origin
    from ckd_core.tracking.tracker import Tracker

    model = model_of(model, weights)
    unfit = "" if any_modality else weights_origin(model, weights).unfit([modality])
    if unfit:
        logger.warning("%s", unfit)
    built = build_engine(
        model, weights, engine=engine, device=device, threads=threads, strict_device=strict_device,
        other_processes=other_processes,
    )  # fmt: skip
    return Tracker(built.engine, modality, built.config_for(config), built.thresholds)
