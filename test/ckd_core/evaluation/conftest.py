from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random but fixed weights of the smallest network: fast, and bad at tracking."""
    import torch

    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model(TINY)
    save_model(path, model, metadata_of(model, ["thermal", "depth", "event"], "random"))
    return path


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Four short sequences, one of them with colour alone."""
    root = tmp_path / "scenes"
    for seed, (name, aux) in enumerate([("a", "infrared"), ("b", "depth"), ("c", "event"), ("d", None)]):
        write_scene(root / name, aux=aux, seed=seed)
    return root
