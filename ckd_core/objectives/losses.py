"""Losses of a tracked box: focal score, GIoU, L1, and the heatmap that is the score's target.

Formulas, constants and rounding as published with both trackers (they share them); checked against golden numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from ckd_core.boxes import cxcywh_to_xyxy, giou, xywh_to_xyxy
from ckd_core.errors import TrackingError
from ckd_core.models.layers.head import decode_boxes

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.models.layers.head import HeadOutput

MIN_OVERLAP = 0.7
MIN_WEIGHT = 0.2  # cells with a lower score target do not learn the box, where every cell learns one
GIOU_WEIGHT, L1_WEIGHT, FOCAL_WEIGHT = 2.0, 5.0, 1.0


class LossError(TrackingError):
    """Boxes or maps for which no loss is defined."""


class TrackLoss(NamedTuple):
    """Terms of one head's tracking loss.

    Attributes:
        giou: Scalar, unweighted.
        l1: Scalar, unweighted.
        focal: Scalar, unweighted.
        total: 2 giou + 5 l1 + focal.
        iou: [B], detached; nan without a target.
        box_cxcywh: [B, 4], detached.
    """

    giou: Tensor
    l1: Tensor
    focal: Tensor
    total: Tensor
    iou: Tensor
    box_cxcywh: Tensor


def generalized_iou(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(GIoU [B], IoU [B]) of corner boxes [B, 4]; a box that is inside out or NaN is an error, not a zero loss.

    Raises:
        LossError: such a box.
    """
    for name, box in (("predicted", pred), ("target", target)):
        is_box = (box[:, 2:] >= box[:, :2]).all(dim=1)
        if not bool(is_box.all()):
            bad = box[~is_box][0].tolist()
            raise LossError(f"{name} box xyxy {bad} is not a box; expected finite corners with x2 >= x1 and y2 >= y1")
    return giou(pred, target)


def _radius(w: Tensor, h: Tensor) -> Tensor:
    """Radius in whole cells of the score target (CornerNet's three cases, with its published quadratic slip)."""
    m, s, area = MIN_OVERLAP, w + h, w * h
    r1 = (s + (s * s - 4 * area * (1 - m) / (1 + m)).sqrt()) / 2
    r2 = (2 * s + (4 * s * s - 16 * (1 - m) * area).sqrt()) / 2
    r3 = (-2 * m * s + (4 * m * m * s * s - 16 * m * (m - 1) * area).sqrt()) / 2
    return torch.minimum(torch.minimum(r1, r2), r3).clamp(min=0).floor()


def heatmap(box: Tensor, grid: int) -> Tensor:
    """Score target [B, 1, grid, grid] of normalised `xywh` boxes [B, 4]: a Gaussian with exactly 1 at the centre cell.

    A centre outside the grid leaves at most the tail of its Gaussian, so its map holds no 1.
    """
    cells = box.detach().float() * grid  # [B, 4]
    center = torch.round(cells[:, :2] + cells[:, 2:] / 2).double()  # half to even, in float32 as published
    w, h = cells[:, 2:].double().unbind(dim=1)
    radius = _radius(w, h)[:, None]  # [B, 1]
    axis = torch.arange(grid, device=box.device, dtype=torch.float64)
    dx, dy = axis - center[:, :1], axis - center[:, 1:]  # [B, g]
    sigma = (2 * radius + 1) / 6
    bell = torch.exp(-(dx[:, None, :] ** 2 + dy[:, :, None] ** 2) / (2 * sigma * sigma)[..., None])  # [B, g, g]
    inside = (dx.abs() <= radius)[:, None, :] & (dy.abs() <= radius)[:, :, None]
    bell = torch.where(inside & (bell >= torch.finfo(torch.float64).eps), bell, 0.0)
    return bell.float()[:, None]


def count_positives(target: Tensor) -> Tensor:
    """Count the cells of a score target that are exactly 1 (float scalar)."""
    return (target == 1).sum().to(torch.float32)


def focal_loss(score: Tensor, target: Tensor, positives: Tensor | None = None) -> Tensor:
    """CenterNet's focal loss (alpha 2, beta 4). Without any positive the negative sum alone is the loss.

    Args:
        score: [B, 1, g, g] maps.
        target: The same shape.
        positives: The divisor, where the batch is a part of a larger one; None counts the ones in `target`.
    """
    p = score.clamp(min=1e-12)
    is_positive = target == 1
    pull = torch.where(is_positive, torch.log(p) * (1 - p) ** 2, 0).sum()
    push = torch.where(is_positive, 0, torch.log((1 - p).clamp(min=1e-12)) * p**2 * (1 - target) ** 4).sum()
    count = count_positives(target) if positives is None else positives
    return -(pull + push) / torch.where(count > 0, count, torch.ones_like(count))


def cell_boxes(output: HeadOutput) -> Tensor:
    """Box that every cell of the maps predicts: [B * g * g, 4] normalised cxcywh, row by row; gradients flow."""
    grid = output.score_map.shape[-1]
    axis = torch.arange(grid, device=output.score_map.device, dtype=torch.float32)
    x = (axis[None, None, :] + output.offset_map[:, 0]) / grid
    y = (axis[None, :, None] + output.offset_map[:, 1]) / grid
    return torch.stack((x, y, output.size_map[:, 0], output.size_map[:, 1]), dim=-1).flatten(0, 2)


def cell_weights(target: Tensor) -> Tensor:
    """How much every cell learns the box: [B * g * g], the score target, 0 where it is below `MIN_WEIGHT`."""
    return torch.where(target >= MIN_WEIGHT, target, 0.0).flatten()


def track_loss(output: HeadOutput, box: Tensor, positives: Tensor | None = None) -> TrackLoss:
    """Tracking loss of one head; computed in float32.

    A box wholly outside its crop says that the target is absent: that sample trains the score (towards nothing) but no
    box, and its IoU is nan.

    Args:
        output: Maps of the head.
        box: [B, 4] normalised `xywh`.
        positives: See `focal_loss`.

    Raises:
        LossError: boxes that are NaN or inside out.
    """
    output = type(output)(*(maps.float() for maps in output))
    pred = decode_boxes(output).box_cxcywh
    target = xywh_to_xyxy(box.float()).clamp(0.0, 1.0)
    pred_xyxy = cxcywh_to_xyxy(pred)
    overlap, iou = generalized_iou(pred_xyxy, target)
    present = (target[:, 2:] > target[:, :2]).all(dim=1)
    giou_term = torch.where(present, 1 - overlap, 0.0).mean()
    l1_term = torch.where(present, (pred_xyxy - target).abs().mean(dim=1), 0.0).mean()
    focal_term = focal_loss(output.score_map, heatmap(box, output.score_map.shape[-1]), positives)
    total = GIOU_WEIGHT * giou_term + L1_WEIGHT * l1_term + FOCAL_WEIGHT * focal_term
    iou = torch.where(present, iou.detach(), torch.nan)
    return TrackLoss(giou_term, l1_term, focal_term, total, iou, pred.detach())


def mean_present(iou: Tensor) -> Tensor:
    """Mean IoU of the samples that have a target; 0 where none has."""
    return torch.nan_to_num(iou.nanmean(), nan=0.0)
