"""From a model's name to a running engine: weights, thresholds, device, engine, and what to do when one is missing."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ckd_core.models.checkpoint import default_weights, load_model
from ckd_core.tracking.confidence import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines import Engine, EngineError
from ckd_core.tracking.engines_torch import TorchEngine

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.models.network import TrackingNetwork

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine with what its weights say about tracking with them."""

    engine: Engine
    thresholds: Thresholds
    published_geometry: bool

    def config_for(self, config: TrackerConfig | None) -> TrackerConfig:
        """The user's options, completed by what the weights were made for."""
        config = config or TrackerConfig()
        if config.published_geometry is not None:
            return config
        return replace(config, published_geometry=self.published_geometry)


def build_engine(
    model: str,
    weights: Path | None = None,
    *,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
) -> BuiltEngine:
    """Load weights and start an engine on them; parameters as `ckd_core.tracking.build_tracker`."""
    path = weights or default_weights(model)
    network, _ = load_model(path)
    if network.name != model:
        raise EngineError(f"{path} holds weights of {network.name}, asked for was {model}")
    return BuiltEngine(
        engine=engine_for(network, engine=engine, device=device, threads=threads, strict_device=strict_device),
        thresholds=Thresholds(),
        published_geometry=True,
    )


def engine_for(
    network: TrackingNetwork,
    *,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
) -> Engine:
    """Start an engine on a network, which it takes over."""
    if threads > 0:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        message = f"device {device!r} is not available here, the CPU takes its place"
        if strict_device:
            raise EngineError(message)
        logger.warning(message)
        device = "cpu"
    if engine not in ("auto", "torch", "torch/fp32"):
        raise EngineError(f"no engine {engine!r}; there is torch/fp32")
    return TorchEngine(network, "fp32", device)
