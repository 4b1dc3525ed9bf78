"""Every network by name. A family's module has `ROWS`: name -> (builder, configuration); a variant is one more row."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from ckd_core.models import ckd, ckd_small, sdstrack, sdstrack_medium, sdstrack_small
from ckd_core.models.config import ConfigError, NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.models.network import TrackingNetwork

Row = tuple["Callable[[str, Any], TrackingNetwork]", NetworkConfig]
_TABLE: dict[str, Row] = {**sdstrack.ROWS, **ckd.ROWS, **sdstrack_small.ROWS, **sdstrack_medium.ROWS, **ckd_small.ROWS}


def list_models() -> list[str]:
    """Names that `build_model` knows, sorted."""
    return sorted(_TABLE)


def model_config(name: str, **overrides: Any) -> NetworkConfig:
    """Configuration of a name, with single fields replaced.

    Raises:
        ConfigError: an unknown name or field, or a value that cannot be built.
    """
    if name not in _TABLE:
        raise ConfigError(f"unknown network {name!r}; expected one of {', '.join(list_models())}")
    config = _TABLE[name][1]
    known = [field.name for field in dataclasses.fields(config)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ConfigError(f"{name} has no field {', '.join(unknown)}; expected one of {', '.join(known)}")
    return dataclasses.replace(config, **overrides)


def build_model(name: str, *, seed: int = 0, **overrides: Any) -> TrackingNetwork:
    """Network of a name with freshly initialised weights, in training mode, float32.

    Args:
        name: one of `list_models()`.
        seed: of the initial weights; PyTorch's own generator stays as it was.
        overrides: fields of the name's configuration, for example `ce_blocks=()` or `teachers=True`.

    Raises:
        ConfigError: an unknown name or field, or a value that cannot be built.
    """
    config = model_config(name, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _TABLE[name][0](name, config)
