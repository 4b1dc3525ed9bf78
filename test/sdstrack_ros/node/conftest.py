from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testkit.ros.rig import Rig, running_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the smallest network, seeded; its boxes mean nothing, its speed and interfaces are real."""
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model("sdstrack_tiny_test", seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal", "event"], "seeded random numbers"))
    return path


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    """Parameters of the module's node, for modules to override."""
    return {"autostart": True}


@pytest.fixture(scope="module")
def rig(tiny_weights: Path, node_parameters: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One node for all tests of a module, with the smallest network unless its parameters name other weights."""
    parameters = {"weights": tiny_weights, **node_parameters}
    with running_node(folder=tmp_path_factory.mktemp("node"), **parameters) as running:
        yield running
