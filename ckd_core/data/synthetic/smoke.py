"""Smoke: billows of several sizes out of one fixed sky, fast enough for training pairs and deterministic by seed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.data.synthetic.textures import smooth_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SKY_SIDE, _SKY_CELLS = 384, 6
_MAX_DENSITY = 0.985  # share of a pixel that the densest smoke hides
_DRIFT = 0.9  # sky pixels per frame


@cache
def _sky() -> NDArray[np.float32]:
    """[side, side, 2]: density and brightness, each -0.5..0.5."""
    rng = np.random.default_rng(6)
    return np.dstack([_billows(rng) for _ in range(2)])


def _billows(rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of several scales, spread so that all but its extremes fill -0.5..0.5."""
    total = np.zeros((_SKY_SIDE, _SKY_SIDE), dtype=np.float32)
    for octave in range(5):
        total += (smooth_noise(rng, total.shape, _SKY_CELLS * 2**octave) - 0.5) * np.float32(0.6**octave)
    low, high = np.percentile(total, (2, 98))
    spread: NDArray[np.float32] = np.clip((total - low) / (high - low) - 0.5, -0.5, 0.5).astype(np.float32)
    return spread


def still_clouds(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Draw density and brightness of smoke [h, w, 2] float32, each -0.5..0.5, with about `cells` clouds across."""
    side = _SKY_SIDE * min(cells, _SKY_CELLS) // _SKY_CELLS
    y, x = (int(v) for v in rng.integers(0, _SKY_SIDE - side + 1, 2))
    flips = rng.integers(0, 2, 2)
    part = _sky()[y : y + side, x : x + side][:: 1 - 2 * int(flips[0]), :: 1 - 2 * int(flips[1])]
    resized = cv2.resize(np.ascontiguousarray(part), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.float32, copy=False)


def drifting_clouds(rng: np.random.Generator, shape: tuple[int, int], frame: int) -> NDArray[np.float32]:
    """Like `still_clouds`, but `frame` frames after the start; the same `rng` state gives the same smoke, drifted."""
    place, angle = rng.uniform(0, _SKY_SIDE, 2), rng.uniform(0, 2 * np.pi)
    x, y = place + frame * _DRIFT * np.array((np.cos(angle), np.sin(angle)))
    step = _SKY_SIDE / max(shape)
    columns, rows = np.meshgrid(x + step * np.arange(shape[1]), y + step * np.arange(shape[0]))
    # Beyond its edge the sky continues as its own mirror image, so that the smoke can drift without a seam.
    clouds = cv2.remap(
        _sky(), columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return clouds.astype(np.float32, copy=False)


def veil(
    image: NDArray[np.uint8], clouds: NDArray[np.float32], hidden: float, contrast: float, tone: float, shade: float
) -> NDArray[np.uint8]:
    """Show an image [h, w, 3] uint8 through smoke.

    Args:
        image: Without smoke.
        clouds: From one of the functions above.
        hidden: Share of the image's light that is lost on average (0..1).
        contrast: How far that share varies between cloud and gap.
        tone: Mean level of the smoke, 0..255.
        shade: How far that level varies.
    """
    density, light = cv2.split(clouds)
    weight = np.clip(density * contrast + hidden, 0, _MAX_DENSITY)[..., None]
    level = np.clip(light * shade + tone, 0, 255)[..., None]
    veiled: NDArray[np.uint8] = (image * (1 - weight) + level * weight).astype(np.uint8)
    return veiled
