"""Held-out pairs: how well a network finds the box in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ckd_core.boxes import cxcywh_to_xyxy, iou, xywh_to_xyxy
from ckd_core.errors import TrackingError
from ckd_core.models.layers.head import decode_boxes
from ckd_core.training.batches import BatchError, StepIndices, load_batches

if TYPE_CHECKING:
    from torch import nn

    from ckd_core.data.pairs import PairDataset
    from ckd_core.training.config import RunSettings
    from ckd_core.training.processes import Processes

METRICS = ("val/iou", "val/success50")


@torch.no_grad()
def mean_iou(
    network: nn.Module, pairs: PairDataset, run: RunSettings, processes: Processes, dtype: torch.dtype | None = None
) -> dict[str, float]:
    """`val/iou` (mean) and `val/success50` (share of IoU > 0.5) of the plain forward over the first `val_samples`."""
    batch_size = max(processes.count, min(run.batch_size, run.val_samples) // processes.count * processes.count)
    steps = max(1, run.val_samples // batch_size)
    indices = StepIndices(0, steps, batch_size, processes.rank, processes.count)
    parts = []
    failure: TrackingError | None = None
    try:
        for batch in load_batches(pairs, indices, run.workers, processes.device.type == "cuda"):
            here = batch.to(processes.device)
            with torch.autocast(processes.device.type, dtype=dtype, enabled=dtype is not None):
                output = network(here.template, here.search)
            boxes = decode_boxes(type(output)(*(m.float() for m in output))).box_cxcywh
            target = xywh_to_xyxy(here.search_box).clamp(0, 1)
            present = (target[:, 2:] > target[:, :2]).all(dim=1)
            parts.append(iou(cxcywh_to_xyxy(boxes), target)[present])
        overlaps = torch.cat(parts)
        if not len(overlaps):
            raise BatchError(f"none of {run.val_samples} validation pairs shows its target; expected most of them to")
    except TrackingError as error:
        failure = error
    processes.fail_together(failure)
    summary = processes.mean(torch.stack([overlaps.mean(), (overlaps > 0.5).float().mean()])).tolist()
    return dict(zip(METRICS, summary, strict=True))
