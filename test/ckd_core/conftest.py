from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ckd_core.commands
from ckd_core.cli import build_app
from ckd_core.errors import TrackingError
from ckd_core.models.checkpoint import metadata_of, save_model
from ckd_core.models.registry import build_model
from testkit import golden_weights
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """Module that regenerates the weights, inputs, images and videos of the golden numbers."""
    return golden_weights


@pytest.fixture(scope="session")
def golden_state(recipe: ModuleType) -> Callable[[Mapping[str, Sequence[int]]], dict[str, torch.Tensor]]:
    """Golden weights by key and shape. All tests of a session share them (they take 1.5 GB): never write to one."""

    @functools.cache
    def draw(key: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(recipe.tensor(key, shape)))

    return lambda shapes: {key: draw(key, tuple(shape)) for key, shape in shapes.items()}


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random but fixed weights of the smallest network."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model(TINY)
    save_model(path, model, metadata_of(model, ["thermal", "depth"], "random"))
    return path


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short sequences with two frames each in which the target is absent."""
    root = tmp_path_factory.mktemp("scenes")
    for seed, (name, aux) in enumerate([("a", "infrared"), ("b", "depth")]):
        write_scene(root / name, aux=aux, seed=seed)
    return root


@pytest.fixture(scope="session")
def call() -> Callable[..., str]:
    """Runs a verb as the command line does; what it said, on standard error too."""

    def invoke(*words: object) -> str:
        answer = CliRunner().invoke(build_app(ckd_core.commands), [str(word) for word in words])
        if isinstance(answer.exception, TrackingError):
            return f"error: {answer.exception}"
        if answer.exception is not None and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        return answer.output

    return invoke
