"""SDSTrack's objective: the network teaches itself to see through masked patches.

Source: docs/trackers.md "SDSTrack: masked path" and docs/trackers.md "SDSTrack: losses".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import torch

from ckd_core.models.layers.elimination import refill
from ckd_core.models.sdstrack import SDSTrack, TokenMasks
from ckd_core.objectives.base import StepContext, StepResult, sample_generator, track_terms
from ckd_core.objectives.losses import track_loss
from ckd_core.settings import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from ckd_core.data.pairs import TrainingBatch
    from ckd_core.models.sdstrack import PathOutput, SDSTrackTraining

    DrawMasks = Callable[[SDSTrack, Tensor, int], TokenMasks]


@dataclass(frozen=True, slots=True)
class SDSTrackSettings:
    """Weights and options. How much is masked is the network's `mask_ratio`.

    Attributes:
        kind: Names the objective in a recipe.
        fine_weight: Weight of the clean path's tracking loss.
        masked_weight: Weight of the masked path's tracking loss.
        mse_weight: Weight of the distillation term.
        stop_gradient: The clean path is a target and gets no gradient from the distillation term. Published: False;
            there the clean path is also pulled towards the masked one (docs/trackers.md "Distillation compares
            unaligned tokens"), which its teacher role in the paper's text rules out.
        align_tokens: Compare tokens of one image position, those that both paths still have. Published: False; once
            elimination orders and keeps tokens differently in both paths, token k of one is compared with token k of
            the other whatever they show (same section). Without elimination both are the same.
    """

    kind: Literal["sdstrack"] = "sdstrack"
    fine_weight: float = field(default=0.6, metadata=limits(0.0))
    masked_weight: float = field(default=0.2, metadata=limits(0.0))
    mse_weight: float = field(default=0.1, metadata=limits(0.0))
    stop_gradient: bool = True
    align_tokens: bool = True


def draw_sample_masks(network: SDSTrack, index: Tensor, seed: int) -> TokenMasks:
    """Masks of a batch, each row drawn from seed and sample alone.

    Args:
        network: Whose grid and ratio the masks have.
        index: [B] int64, the samples' numbers.
        seed: Of the run.
    """
    rows = [network.draw_masks(1, index.device, sample_generator(seed, "sdstrack masks", i)) for i in index.tolist()]
    return TokenMasks(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


class SDSTrackObjective:
    """fine_weight * clean path + masked_weight * masked path + mse_weight * distillation.

    draw_masks: (network, sample indices, seed) -> masks; by default each sample's own.
    """

    def __init__(self, settings: SDSTrackSettings, draw_masks: DrawMasks = draw_sample_masks) -> None:
        self.settings = settings
        self.draw_masks = draw_masks

    def __call__(self, network: nn.Module, batch: TrainingBatch, context: StepContext) -> StepResult:
        """See `Objective`. The network must be an `SDSTrack`."""
        tracker, settings = cast("SDSTrack", network), self.settings
        masks = self.draw_masks(tracker, batch.index, context.seed)
        output: SDSTrackTraining = tracker.forward_train(
            batch.template, batch.search, keep_rate=context.keep_rate, masks=masks
        )
        fine = track_loss(output.fine.head, batch.search_box, context.positives)
        masked = track_loss(output.masked.head, batch.search_box, context.positives)
        per_stage = distillation_per_stage(output.fine, output.masked, tracker, settings)
        mse = per_stage.mean() if len(per_stage) else fine.total.new_zeros(())  # a network without cross-modal stages
        loss = settings.fine_weight * fine.total + settings.masked_weight * masked.total + settings.mse_weight * mse
        terms = track_terms("fine", fine) | track_terms("masked", masked) | {"mse": mse.detach()}
        terms |= {f"mse_stage_{i}": value for i, value in enumerate(per_stage.detach())}
        return StepResult(loss, terms, fine.box_cxcywh, fine.iou)


def distillation_per_stage(
    fine: PathOutput, masked: PathOutput, network: SDSTrack, settings: SDSTrackSettings
) -> Tensor:
    """Mean squared difference of both paths' tokens after each cross-modal stage: [stages], which may be none."""
    losses = []
    for stage, (clean, blanked) in enumerate(zip(fine.stages, masked.stages, strict=True)):
        target = (clean.detach() if settings.stop_gradient else clean).float()
        student = blanked.float()
        if not settings.align_tokens or fine.rgb_position[stage] is None:
            losses.append(torch.nn.functional.mse_loss(student, target))
            continue
        sides = zip(target.chunk(2, dim=1), student.chunk(2, dim=1), strict=True)  # colour, auxiliary: [B, nz + n, C]
        places = (
            (fine.rgb_position[stage], masked.rgb_position[stage]),
            (fine.aux_position[stage], masked.aux_position[stage]),
        )
        losses.append(_aligned_mse(list(sides), places, network))
    return torch.stack(losses) if losses else torch.zeros(0)


def _aligned_mse(
    sides: list[tuple[Tensor, Tensor]], places: tuple[tuple[Tensor | None, Tensor | None], ...], network: SDSTrack
) -> Tensor:
    """Mean squared difference over the template tokens and the search positions that both paths kept."""
    n_template, n_search = network.config.template_tokens, network.config.search_tokens
    total, count = torch.zeros((), device=sides[0][0].device), torch.zeros((), device=sides[0][0].device)
    for (target, student), (target_place, student_place) in zip(sides, places, strict=True):
        width = target.shape[2]
        total = total + (student[:, :n_template] - target[:, :n_template]).square().sum()
        count = count + target[:, :n_template].numel()
        grids = [
            refill(
                torch.cat((tokens[:, n_template:], torch.ones_like(tokens[:, n_template:, :1])), dim=2), place, n_search
            )
            for tokens, place in ((target, target_place), (student, student_place))
        ]  # [B, search tokens, C + 1], the last channel says which positions are there
        common = grids[0][..., -1:] * grids[1][..., -1:]
        total = total + ((grids[1] - grids[0])[..., :-1].square() * common).sum()
        count = count + common.sum() * width
    return total / count
