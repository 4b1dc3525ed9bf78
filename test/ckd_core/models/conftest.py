from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckd_core.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckd_core.models.network import TrackingNetwork


@pytest.fixture(scope="session")
def golden_input(recipe: Any) -> Callable[..., torch.Tensor]:
    return lambda name, *shape: torch.from_numpy(recipe.tensor(f"input/{name}", shape))


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> Callable[[str], dict[str, np.ndarray]]:
    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(golden_dir / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays}

    return load


@pytest.fixture(scope="session")
def manifest(golden_dir: Path) -> Callable[[str], dict[str, Any]]:
    return lambda name: json.loads((golden_dir / f"manifest_{name}.json").read_text())


@pytest.fixture(scope="session")
def golden_model(golden_state: Any) -> Callable[..., TrackingNetwork]:
    """`golden_model(name, **overrides)`: a network in evaluation mode over golden weights, built once per session."""

    @functools.cache
    def build(name: str, **overrides: Any) -> TrackingNetwork:
        with torch.device("meta"):
            model = build_model(name, **overrides)
        state = golden_state({key: value.shape for key, value in model.state_dict().items()})
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval()

    return build
