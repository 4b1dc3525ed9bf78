"""Checks of what networks take: shapes and dtypes without touching the device, finiteness where that is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ckd_core.models.config import NetworkConfig

CHANNELS = 6


class NetworkInputError(TrackingError):
    """A tensor that the network cannot take."""


def require_image(image: Tensor, name: str, size: int, dtype: torch.dtype) -> None:
    """Refuse anything but [B, 6, size, size] of `dtype`.

    Raises:
        NetworkInputError: wrong rank, channel count, side or dtype.
    """
    if image.ndim != 4 or image.shape[1] != CHANNELS:
        expected = f"[B, {CHANNELS}, {size}, {size}], colour channels first"
        raise NetworkInputError(f"{name} has shape {list(image.shape)}; it must be {expected}")
    if image.shape[2] != size or image.shape[3] != size:
        raise NetworkInputError(
            f"{name} is {image.shape[3]} x {image.shape[2]} px; this network takes {size} x {size} px"
        )
    if image.dtype != dtype:
        raise NetworkInputError(f"{name} is {image.dtype}; the network computes in {dtype} (normalised, not 0..255)")


def require_template(tokens: Tensor, search: Tensor, config: NetworkConfig) -> None:
    """Refuse template tokens of another network or of another batch size than `search`.

    Raises:
        NetworkInputError: wrong shape.
    """
    expected = (search.shape[0], 2, config.template_tokens, config.width)
    if tuple(tokens.shape) != expected:
        hint = "tokens come from embed_template of the same network and batch size"
        raise NetworkInputError(
            f"template tokens have shape {list(tokens.shape)}; this network takes {list(expected)} ({hint})"
        )


def require_finite(tensor: Tensor, name: str) -> None:
    """Refuse NaN and infinity. Waits for the device.

    Raises:
        NetworkInputError: a value is not finite.
    """
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise NetworkInputError(f"{name} has {bad} values that are NaN or infinite; all must be finite")


def is_eager(tensor: Tensor) -> bool:
    """Whether values may be looked at: not while a program is compiled, exported or captured as a CUDA graph."""
    if torch.compiler.is_compiling():
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def compute_dtype(model: nn.Module) -> torch.dtype:
    """Dtype of the images that a network takes: that of its first weights."""
    return next(model.parameters()).dtype
