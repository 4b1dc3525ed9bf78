"""Size, shape and motion of boxes, and what of them a target may change from one frame to the next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.confidence.config import ConfidenceConfig


def sides_of(size: float, shape: float) -> tuple[float, float]:
    """Width and height of a box with sqrt(w h) = `size` and w / h = `shape`."""
    return size * math.sqrt(shape), size / math.sqrt(shape)


def size_of(box: BoundingBox) -> float:
    """Side in pixels of a square of the same area, more than 0."""
    return max(math.sqrt(box.w * box.h), 1e-6)


def shape_of(box: BoundingBox) -> float:
    """Width by height, more than 0."""
    return max(box.w, 1e-6) / max(box.h, 1e-6)


def off_by(size: float, usual: float) -> float:
    """Factor, at least 1, by which a size is off the usual one."""
    return max(size / usual, usual / size)


def jump_between(before: BoundingBox, after: BoundingBox) -> float:
    """Displacement of the centre as a multiple of sqrt(w h)."""
    return math.dist(before.center, after.center) / max(size_of(before), 1.0)


def is_plausible(before: BoundingBox, after: BoundingBox, size: float, shape: float, config: ConfidenceConfig) -> bool:
    """Whether a target of the usual `size` sqrt(w h) and `shape` w / h may have moved so in one frame."""
    scale, stretch = size_of(after) / size, shape_of(after) / shape
    fits = 1 / config.max_scale <= scale <= config.max_scale and 1 / config.max_shape <= stretch <= config.max_shape
    return jump_between(before, after) <= config.max_jump and fits


def clip(value: float, usual: float, factor: float) -> float:
    """The value, or where it is off the usual one by more than a factor, the bound."""
    return min(max(value, usual / factor), usual * factor)


def nearest(center: float, start: float, length: float, wanted: float) -> float:
    """Start of the interval of the `wanted` length, inside or around the given one, that is nearest to `center`."""
    low, high = sorted((start, start + length - wanted))
    return min(max(center - wanted / 2, low), high)
