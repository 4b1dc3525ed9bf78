"""The weights laid over a response map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def hann_weights(grid: int) -> NDArray[np.float32]:
    """Published Hann window [grid, grid]: outer product of 0.5 (1 - cos(2 pi k / (grid + 1))), k = 1..grid."""
    row = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, grid + 1) / (grid + 1)))
    return np.outer(row, row).astype(np.float32)
