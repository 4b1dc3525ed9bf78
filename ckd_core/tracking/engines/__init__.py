"""How a network runs: one interface, several engines, export, and the choice between them."""

from ckd_core.tracking.engines.base import (
    CHOICES,
    KINDS,
    Engine,
    EngineError,
    EngineFailedError,
    EngineSpec,
    EngineUnavailableError,
    Prediction,
    Templates,
    cpu_flags,
    device_family,
    parse_engine,
)

__all__ = [
    "CHOICES",
    "KINDS",
    "Engine",
    "EngineError",
    "EngineFailedError",
    "EngineSpec",
    "EngineUnavailableError",
    "Prediction",
    "Templates",
    "cpu_flags",
    "device_family",
    "parse_engine",
]
