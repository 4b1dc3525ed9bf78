"""The smallest network, of seeded random numbers: its boxes mean nothing, its interfaces are the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write_tiny_weights(path: Path) -> Path:
    """Write the file and return its path."""
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    model = build_model("sdstrack_tiny_test", seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal", "event"], "seeded random numbers"))
    return path


def tiny_node(folder: Path, **changes: Any) -> dict[str, Any]:
    """Parameters of a node with the smallest network, whose weights are written into `folder`."""
    return {
        "model": "sdstrack_tiny_test",
        "weights": write_tiny_weights(folder / "weights.safetensors"),
        "device": "cpu",
        "engine": "torch/fp32",  # nothing to compile: configuring takes a second
        "autostart": True,
        **changes,
    }
