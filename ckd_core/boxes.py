"""Axis-aligned boxes in their three notations, as numpy arrays and torch tensors alike.

`xywh`: left, top, width, height. `cxcywh`: centre, width, height. `xyxy`: left, top, right, bottom. Functions of arrays
expect `[..., 4]` and keep dtype, device and gradients; `iou` and `giou` broadcast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Boxes = TypeVar("Boxes", NDArray[Any], Tensor)
else:
    Boxes = TypeVar("Boxes")


class BoxError(TrackingError):
    """An array or a text that is not a box, or a frame without area."""


def _stack(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], (np.ndarray, np.generic)):
        return np.stack(parts, axis=-1)
    import torch

    return torch.stack(tuple(parts), dim=-1)


def _columns(boxes: Any) -> tuple[Any, Any, Any, Any]:
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        message = f"boxes must have shape [..., 4], got {list(boxes.shape)}"
        raise BoxError(message)
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _maximum(a: Any, b: Any) -> Any:
    return np.maximum(a, b) if isinstance(a, (np.ndarray, np.generic)) else a.maximum(b)


def _minimum(a: Any, b: Any) -> Any:
    return np.minimum(a, b) if isinstance(a, (np.ndarray, np.generic)) else a.minimum(b)


def _positive(a: Any) -> Any:
    return np.maximum(a, 0) if isinstance(a, (np.ndarray, np.generic)) else a.clamp(min=0)


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Quotient that is 0 where the denominator is 0: two empty boxes do not overlap."""
    empty = denominator <= 0
    return numerator / (denominator + empty) * ~empty


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """[..., 4] left, top, width, height -> left, top, right, bottom."""
    x, y, w, h = _columns(boxes)
    return _stack((x, y, x + w, y + h))  # type: ignore[no-any-return]  # the stack keeps the kind of its parts


def cxcywh_to_xyxy(boxes: Boxes) -> Boxes:
    """[..., 4] centre, width, height -> left, top, right, bottom."""
    cx, cy, w, h = _columns(boxes)
    parts = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    return _stack(parts)  # type: ignore[no-any-return]  # the stack keeps the kind of its parts


def giou(a: Boxes, b: Boxes) -> tuple[Boxes, Boxes]:
    """Compute generalised IoU and IoU of `xyxy` boxes, element by element: two arrays [...].

    Rezatofighi et al., CVPR 2019. Continuous coordinates: a box covers exactly its width times its height.
    """
    ax1, ay1, ax2, ay2 = _columns(a)
    bx1, by1, bx2, by2 = _columns(b)
    overlap = _positive(_minimum(ax2, bx2) - _maximum(ax1, bx1)) * _positive(_minimum(ay2, by2) - _maximum(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    hull = (_maximum(ax2, bx2) - _minimum(ax1, bx1)) * (_maximum(ay2, by2) - _minimum(ay1, by1))
    overlap_ratio = _ratio(overlap, union)
    return overlap_ratio - _ratio(hull - union, hull), overlap_ratio


def iou(a: Boxes, b: Boxes) -> Boxes:
    """Intersection over union of `xyxy` boxes, element by element: [...] in 0..1."""
    return giou(a, b)[1]


def iou_xywh(a: Boxes, b: Boxes) -> Boxes:
    """Intersection over union of `xywh` boxes, element by element: [...] in 0..1."""
    return iou(xywh_to_xyxy(a), xywh_to_xyxy(b))


def is_present(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return [N] bool: which rows of annotated `xywh` boxes [N, 4] are a visible object (finite, with an area)."""
    return np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))


def parse_box(text: str) -> BoundingBox:
    """Parse "x,y,w,h" in pixels, as on a command line.

    Raises:
        BoxError: The text is not four finite numbers, or width or height is not positive.
    """
    parts = text.replace(" ", "").split(",")
    try:
        box = BoundingBox(*map(float, parts))
    except (TypeError, ValueError) as error:
        raise BoxError(f"box is '{shown(text)}'; expected four numbers x,y,w,h") from error
    if not box.is_finite() or min(box.w, box.h) <= 0:
        raise BoxError(f"box is '{shown(text)}'; expected finite numbers with a positive width and height")
    return box


def clip_box(box: BoundingBox, frame_size: tuple[int, int], margin: float = 10.0) -> BoundingBox:
    """Pull a box into a frame (height, width) so that it is at least `margin` px wide and high.

    The published trackers' rule (margin 10): the left edge stays in [0, W - margin], the right edge in [margin, W].
    In a frame smaller than the margin, the frame's side is the margin, so the result always lies in the frame.

    Raises:
        BoxError: The frame has no area.
    """
    height, width = frame_size
    if height < 1 or width < 1:
        message = f"the frame must be at least 1 x 1, got {height} x {width} (height x width)"
        raise BoxError(message)
    left, w = _clip_span(box.x, box.w, width, margin)
    top, h = _clip_span(box.y, box.h, height, margin)
    return BoundingBox(left, top, w, h)


def _clip_span(start: float, length: float, limit: float, margin: float) -> tuple[float, float]:
    margin = min(margin, limit)
    low = min(max(0.0, start), limit - margin)
    high = min(max(margin, start + length), limit)
    return low, min(max(margin, high - low), limit - low)
