"""Objective of networks that learn sizes as factors of the believed box (`SDSTrackMedium`).

As in the dense objective every cell near the true centre learns the box. The error of a size is that of its logarithm,
so that half and double count alike, and a long side no more than a short one. Each stream also learns a score of its
own, by which the fusion weighs the streams. SDSTrack's distillation runs on a part of every batch: a path with blanked
cells learns the boxes too, and to match the clean path's features after the cross-modal stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch

from ckd_core.boxes import cxcywh_to_xyxy, xywh_to_xyxy
from ckd_core.data.pairs import PairError
from ckd_core.models.layers.head import decode_boxes
from ckd_core.objectives.base import StepContext, StepResult, mix_seed
from ckd_core.objectives.losses import cell_boxes, cell_weights, focal_loss, generalized_iou, heatmap, mean_present
from ckd_core.settings import limits

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ckd_core.data.pairs import TrainingBatch
    from ckd_core.models.layers.head import HeadOutput
    from ckd_core.models.sdstrack_medium import MediumOutput, SDSTrackMedium

MASK_STREAM = 29
SHARPNESS = 10.0  # of the distributions over search cells that an imitation compares


@dataclass(frozen=True, slots=True)
class FactorSettings:
    """Weights of the terms beside the score's focal loss.

    Attributes:
        giou: Weight of the overlap.
        size: Weight of centre (in believed sides) and size (logarithms) together.
        alone: Weight of each stream's own score.
        masked_share: Part of a batch that also takes the masked path.
        masked: Weight of that path's tracking loss.
        mse: Weight of the distillation.
        imitate: Weight of comparing crops as the pairs' teacher does; above 0 every pair needs the teacher's features.
    """

    giou: float = field(default=2.0, metadata=limits(0.0))
    size: float = field(default=1.0, metadata=limits(0.0))
    alone: float = field(default=0.25, metadata=limits(0.0))
    masked_share: float = field(default=0.25, metadata=limits(0.0, 1.0))
    masked: float = field(default=0.2, metadata=limits(0.0))
    mse: float = field(default=0.1, metadata=limits(0.0))
    imitate: float = field(default=0.0, metadata=limits(0.0))
    kind: Literal["factor"] = "factor"


class FactorLoss(NamedTuple):
    """Scalars; iou [B] (nan without a target) and box_cxcywh [B, 4] at the peak, detached."""

    focal: Tensor
    giou: Tensor
    size: Tensor
    iou: Tensor
    box_cxcywh: Tensor


def factor_loss(output: HeadOutput, box: Tensor, believed_side: float, positives: Tensor | None = None) -> FactorLoss:
    """Terms of the loss. A box whose centre is outside the crop means no target: only the score learns from it.

    Args:
        output: Maps of the head.
        box: [B, 4] normalised `xywh`.
        believed_side: Side of the believed box as a share of the crop's.
        positives: See `focal_loss`.
    """
    grid = output.score_map.shape[-1]
    heat = heatmap(box, grid)  # [B, 1, g, g]
    focal = focal_loss(output.score_map, heat, positives)
    wanted = torch.cat((box[:, :2] + box[:, 2:] / 2, box[:, 2:]), dim=1).float()  # cxcywh
    weight = cell_weights(heat)
    near = weight.nonzero().flatten()
    peak = decode_boxes(output).box_cxcywh.detach()
    _, iou = generalized_iou(cxcywh_to_xyxy(peak), xywh_to_xyxy(box.float()))
    present = ((wanted[:, :2] > 0) & (wanted[:, :2] < 1)).all(dim=1)
    iou = torch.where(present, iou, torch.nan)
    if not len(near):
        zero = output.size_map.sum() * 0
        return FactorLoss(focal, zero, zero, iou, peak)
    predicted, target, weight = cell_boxes(output)[near], wanted[near // grid**2], weight[near]
    weight = weight / weight.sum()
    overlap, _ = generalized_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
    place = (predicted[:, :2] - target[:, :2]).abs().sum(dim=1) / believed_side
    size = (predicted[:, 2:].log() - target[:, 2:].log()).abs().sum(dim=1)
    return FactorLoss(focal, ((1 - overlap) * weight).sum(), ((place + size) * weight).sum(), iou, peak)


def imitation_loss(similar: Tensor, batch: TrainingBatch) -> Tensor:
    """How differently the network and the pairs' teacher compare template and search cells.

    A teacher that has seen far more than these pairs knows what stays alike between two views of one thing. Only its
    comparisons are imitated: the features have another width, and so no head is needed that training alone uses.

    Args:
        similar: [2 * B, n, g * g] cosines of the network.
        batch: Pairs with the teacher's features on the same cells.

    Raises:
        PairError: A pair has no features of a teacher.
    """
    if batch.teacher is None:
        raise PairError("a pair has no features of a teacher; expected sources with taught: true, or imitate: 0")
    template, search = (
        torch.nn.functional.normalize(torch.cat(part.float().chunk(2, dim=1)).flatten(2), dim=1)
        for part in batch.teacher
    )
    wanted = template.transpose(1, 2) @ search  # [2 * B, n, g * g]
    own, other = (torch.log_softmax(maps.float() * SHARPNESS, dim=2) for maps in (similar, wanted))
    return torch.nn.functional.kl_div(own, other, reduction="none", log_target=True).sum(dim=2).mean()


class FactorObjective:
    """Focal + giou + size of the clean path, each stream's own score, and SDSTrack's masked path on a part."""

    def __init__(self, settings: FactorSettings) -> None:
        self.settings = settings

    def __call__(self, network: nn.Module, batch: TrainingBatch, context: StepContext) -> StepResult:
        """See `Objective`. The network must be an `SDSTrackMedium`."""
        tracker, settings = cast("SDSTrackMedium", network), self.settings
        output = tracker.see(batch.template, batch.search)
        loss, total = self._tracking(tracker, output, batch.search_box, context.positives)
        own = output.confidence.float().sigmoid().clamp(1e-4, 1 - 1e-4)
        heat = heatmap(batch.search_box, own.shape[-1])
        alone = focal_loss(own, torch.cat((heat, heat)))
        total = total + settings.alone * alone
        terms = {"track/focal": loss.focal, "track/giou": loss.giou, "track/size": loss.size, "alone/focal": alone}
        if settings.imitate > 0:
            imitation = imitation_loss(output.similar, batch)
            total = total + settings.imitate * imitation
            terms["imitation"] = imitation
        count = int(len(batch) * settings.masked_share)
        if count > 0:
            masked, mse = self._masked_path(tracker, batch, output, count, context)
            total = total + settings.masked * masked + settings.mse * mse
            terms |= {"masked/total": masked, "mse": mse}
        terms["track/iou"] = mean_present(loss.iou)
        return StepResult(total, {name: value.detach() for name, value in terms.items()}, loss.box_cxcywh, loss.iou)

    def _tracking(
        self, tracker: SDSTrackMedium, output: MediumOutput, box: Tensor, positives: Tensor | None
    ) -> tuple[FactorLoss, Tensor]:
        loss = factor_loss(output.head, box, tracker.box_head.believed_side, positives)
        return loss, loss.focal + self.settings.giou * loss.giou + self.settings.size * loss.size

    def _masked_path(
        self, tracker: SDSTrackMedium, batch: TrainingBatch, clean: MediumOutput, count: int, context: StepContext
    ) -> tuple[Tensor, Tensor]:
        """Tracking loss and distillation of the first `count` pairs with blanked cells."""
        seed = mix_seed(context.seed, MASK_STREAM, int(batch.index[0]))
        masks = tracker.draw_masks(count, batch.index.device, torch.Generator().manual_seed(seed))
        output = tracker.see(batch.template[:count], batch.search[:count], masks)
        _, total = self._tracking(tracker, output, batch.search_box[:count], None)
        terms = []
        for masked, target in zip(output.stages, clean.stages, strict=True):
            rgb, aux = target.detach().float().chunk(2)
            terms.append(torch.nn.functional.mse_loss(masked.float(), torch.cat((rgb[:count], aux[:count]))))
        return total, torch.stack(terms).mean()
