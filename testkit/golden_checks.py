"""Comparisons with the golden numbers of the published implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ckd_core.models.layers.head import decode_boxes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.models.layers.head import HeadOutput

TOLERANCE = 2e-5


def ckd_image(golden_input: Callable[..., torch.Tensor], role: str, suffix: str, batch: int, side: int) -> torch.Tensor:
    """CKD's golden input, [batch, 6, side, side]: colour and thermal planes, one after the other."""
    parts = [golden_input(f"ckd/{role}_{kind}{suffix}", batch, 3, side, side) for kind in ("rgb", "tir")]
    return torch.cat(parts, dim=1)


def assert_maps(output: HeadOutput, expected: dict[str, np.ndarray], prefix: str = "", atol: float = TOLERANCE) -> None:
    """Compare a head's maps, and the box and score decoded from them, with the golden ones."""
    for field in output._fields:
        np.testing.assert_allclose(getattr(output, field).numpy(), expected[f"{prefix}{field}"], rtol=0, atol=atol)
    boxes, score, _ = decode_boxes(output)
    np.testing.assert_allclose(boxes.numpy(), expected[f"{prefix}pred_boxes"][:, 0], rtol=0, atol=atol)
    np.testing.assert_allclose(
        score.numpy(), expected[f"{prefix}score_map"].reshape(len(boxes), -1).max(1), rtol=0, atol=atol
    )


def assert_block(tensor: torch.Tensor, name: str, expected: dict[str, np.ndarray]) -> None:
    """Compare a block's tokens with the golden shape, mean, deviation and first 16 values."""
    row = list(expected["block_names"]).index(name)
    assert list(tensor.shape) == list(expected["block_shape"][row]), name
    statistics = np.array([tensor.mean().item(), tensor.std().item()])
    np.testing.assert_allclose(statistics, expected["block_meanstd"][row], rtol=1e-4, atol=TOLERANCE, err_msg=name)
    first = tensor.flatten()[:16].numpy()
    np.testing.assert_allclose(first, expected["block_first16"][row], rtol=1e-4, atol=1e-4, err_msg=name)


def assert_slice(tensor: torch.Tensor, prefix: str, expected: dict[str, np.ndarray]) -> None:
    """Compare 64 values spread over a tensor, its mean and its deviation with the golden ones."""
    flat = tensor.flatten()
    places = torch.arange(64) * flat.numel() // 64
    np.testing.assert_allclose(
        flat[places].numpy(), expected[f"{prefix}_slice64"], rtol=1e-4, atol=1e-4, err_msg=prefix
    )
    statistics = np.array([tensor.mean().item(), tensor.std().item()])
    np.testing.assert_allclose(statistics, expected[f"{prefix}_meanstd"], rtol=1e-4, atol=TOLERANCE, err_msg=prefix)
