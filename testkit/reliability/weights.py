"""Weights of the smallest network: seeded random numbers. Its boxes mean nothing, its interfaces are the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_tiny_weights(path: Path) -> Path:
    """Write the file and return its path."""
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    model = build_model("sdstrack_tiny_test", seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal", "event"], "seeded random numbers"))
    return path
