"""CKD's objective: style is coupled between the students, content comes from teachers.

Source: docs/trackers.md "CKD: masks" and docs/trackers.md "CKD: losses".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F

from ckd_core.objectives.base import StepContext, StepResult, sample_generator, track_terms
from ckd_core.objectives.losses import TrackLoss, track_loss
from ckd_core.settings import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from ckd_core.data.pairs import TrainingBatch
    from ckd_core.models.ckd import CKD, CKDTraining

    DrawKeep = Callable[[CKD, Tensor, int], Tensor | None]

NORM_EPS = 1e-5
Normalisation = Literal["channel", "token", "none"]


@dataclass(frozen=True, slots=True)
class CKDSettings:
    """Weights and options. How much is masked is the network's `mask_probability` and `mask_ratio`.

    Attributes:
        kind: Names the objective in a recipe.
        content_weight: Weight of the content term.
        style_weight: Weight of the style term.
        content_normalisation: `channel` = every channel over all tokens (instance norm; the published configurations);
            `token` = every token over its channels; `none` = raw features. The published default, spelt
            "channel-level", matches no branch: content is then not normalised and style fails (docs/trackers.md
            "Content normalisation without a match").
        stop_content_gradient: The content term does not reach the teachers (published: True).
        train_teachers: Teachers learn by their own tracking losses, as published (docs/trackers.md "Teachers are
            trained"); False leaves their tracking losses out of the sum.
    """

    kind: Literal["ckd"] = "ckd"
    content_weight: float = field(default=0.1, metadata=limits(0.0))
    style_weight: float = field(default=0.01, metadata=limits(0.0))
    content_normalisation: Normalisation = "channel"
    stop_content_gradient: bool = True
    train_teachers: bool = True


def draw_sample_keep(network: CKD, index: Tensor, seed: int) -> Tensor | None:
    """Search tokens that the students see, each row drawn from (seed, sample index) alone; None = all."""
    rows = [network.draw_masks(1, index.device, sample_generator(seed, "ckd mask", i)) for i in index.tolist()]
    masks = [row for row in rows if row is not None]
    return torch.cat(masks) if masks else None


class CKDLosses(NamedTuple):
    """Tracking losses of the three heads; content of both modalities and style per block, [blocks] each."""

    fused: TrackLoss
    teacher_rgb: TrackLoss
    teacher_aux: TrackLoss
    content_rgb: Tensor
    content_aux: Tensor
    style: Tensor


class CKDObjective:
    """Fused tracking loss + style_weight * style + content_weight * content + both teachers' tracking losses.

    draw_keep: (network, sample indices, seed) -> keep mask; by default each sample's own.
    """

    def __init__(self, settings: CKDSettings, draw_keep: DrawKeep = draw_sample_keep) -> None:
        self.settings = settings
        self.draw_keep = draw_keep

    def __call__(self, network: nn.Module, batch: TrainingBatch, context: StepContext) -> StepResult:
        """See `Objective`. The network must be a `CKD` built with teachers."""
        settings, losses = self.settings, self.losses(network, batch, context)
        style, content = losses.style.sum(), losses.content_rgb.sum() + losses.content_aux.sum()
        loss = losses.fused.total + settings.style_weight * style + settings.content_weight * content
        if settings.train_teachers:
            loss = loss + losses.teacher_rgb.total + losses.teacher_aux.total
        terms = track_terms("fused", losses.fused) | track_terms("teacher_rgb", losses.teacher_rgb)
        terms |= track_terms("teacher_aux", losses.teacher_aux)
        terms |= {"style": style.detach(), "content": content.detach()}
        return StepResult(loss, terms, losses.fused.box_cxcywh, losses.fused.iou)

    def losses(self, network: nn.Module, batch: TrainingBatch, context: StepContext) -> CKDLosses:
        """All terms, unweighted and with gradients."""
        tracker = cast("CKD", network)
        keep = self.draw_keep(tracker, batch.index, context.seed)
        output: CKDTraining = tracker.forward_train(
            batch.template, batch.search, keep_rate=context.keep_rate, masks=keep
        )
        fused, teacher_rgb, teacher_aux = (
            track_loss(head, batch.search_box, context.positives)
            for head in (output.fused, output.teacher_rgb, output.teacher_aux)
        )
        return CKDLosses(
            fused,
            teacher_rgb,
            teacher_aux,
            content_rgb=content_per_block(output.student_rgb, output.teacher_rgb_blocks, self.settings),
            content_aux=content_per_block(output.student_aux, output.teacher_aux_blocks, self.settings),
            style=style_per_block(output.student_rgb, output.student_aux),
        )


def style_per_block(rgb: tuple[Tensor, ...], aux: tuple[Tensor, ...]) -> Tensor:
    """Style gap [blocks]: squared difference of token mean and (unbiased) token deviation, averaged over channels.

    Args:
        rgb: Per block, tokens [B, N, C] of the colour student; gradients reach it.
        aux: The same of the auxiliary student.
    """
    gaps = []
    for pair in zip(rgb, aux, strict=True):
        r, a = (tokens.float() for tokens in pair)
        mean_gap = (r.mean(dim=1) - a.mean(dim=1)).square()  # [B, C]
        std_gap = (r.std(dim=1) - a.std(dim=1)).square()
        gaps.append((mean_gap + std_gap).mean())
    return torch.stack(gaps)


def content_per_block(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], settings: CKDSettings) -> Tensor:
    """Content gap [blocks]: mean squared difference of normalised tokens [B, N, C] of a student and its teacher."""
    gaps = []
    for s, t in zip(student, teacher, strict=True):
        target = t.detach() if settings.stop_content_gradient else t
        kind = settings.content_normalisation
        gaps.append(F.mse_loss(_normalise(s.float(), kind), _normalise(target.float(), kind)))
    return torch.stack(gaps)


def _normalise(tokens: Tensor, kind: Normalisation) -> Tensor:
    if kind == "none":
        return tokens
    dim = 1 if kind == "channel" else 2
    variance, mean = torch.var_mean(tokens, dim=dim, correction=0, keepdim=True)
    return (tokens - mean) * torch.rsqrt(variance + NORM_EPS)
