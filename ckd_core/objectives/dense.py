"""Tracking loss that teaches boxes around the true centre instead of at the predicted peak.

The published loss reads the box at the score map's maximum (docs/trackers.md "SDSTrack: losses"). A network that starts
from scratch has its maximum anywhere for thousands of steps, and learns sizes at places that show something else. Here
every cell near the true centre learns the box. A pair without a target in its search region (box outside the crop)
teaches the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ckd_core.boxes import cxcywh_to_xyxy, xywh_to_xyxy
from ckd_core.models.layers.head import decode_boxes
from ckd_core.objectives.base import StepContext, StepResult, track_terms
from ckd_core.objectives.losses import (
    FOCAL_WEIGHT,
    GIOU_WEIGHT,
    L1_WEIGHT,
    TrackLoss,
    cell_boxes,
    cell_weights,
    focal_loss,
    generalized_iou,
    heatmap,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ckd_core.data.pairs import TrainingBatch
    from ckd_core.models.layers.head import HeadOutput


@dataclass(frozen=True, slots=True)
class DenseSettings:
    """`DenseObjective`: the plain forward alone, boxes taught around the true centre."""

    kind: Literal["dense"] = "dense"


def dense_loss(output: HeadOutput, box: Tensor, positives: Tensor | None = None) -> TrackLoss:
    """Score, GIoU and L1 terms; a box outside the crop means no target.

    Args:
        output: Maps of the head.
        box: [B, 4] normalised `xywh`.
        positives: See `focal_loss`.

    Returns:
        The terms, with iou and box at the predicted peak; iou is nan without a target.
    """
    output = type(output)(*(maps.float() for maps in output))
    grid = output.score_map.shape[-1]
    heat = heatmap(box, grid)  # [B, 1, g, g]
    focal = focal_loss(output.score_map, heat, positives)
    corners = cxcywh_to_xyxy(cell_boxes(output))  # [B * g * g, 4]
    target = xywh_to_xyxy(box.float()).clamp(0.0, 1.0)
    wanted = target[:, None].expand(-1, grid * grid, -1).reshape(-1, 4)
    weight = cell_weights(heat)
    total = weight.sum().clamp(min=1e-6)
    overlap, _ = generalized_iou(corners, wanted)
    giou = ((1 - overlap) * weight).sum() / total
    l1 = ((corners - wanted).abs().mean(dim=1) * weight).sum() / total
    peak = decode_boxes(output).box_cxcywh.detach()
    _, iou = generalized_iou(cxcywh_to_xyxy(peak), target)
    present = (target[:, 2:] > target[:, :2]).all(dim=1)
    loss = GIOU_WEIGHT * giou + L1_WEIGHT * l1 + FOCAL_WEIGHT * focal
    return TrackLoss(giou, l1, focal, loss, torch.where(present, iou.detach(), torch.nan), peak)


class DenseObjective:
    """`dense_loss` of `network(template, search)`."""

    def __call__(self, network: nn.Module, batch: TrainingBatch, context: StepContext) -> StepResult:
        """See `Objective`."""
        loss = dense_loss(network(batch.template, batch.search), batch.search_box, context.positives)
        return StepResult(loss.total, track_terms("track", loss), loss.box_cxcywh, loss.iou)
