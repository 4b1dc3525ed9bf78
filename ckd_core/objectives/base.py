"""Input and result of one training step, and the objective without distillation."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch

from ckd_core.objectives.losses import TrackLoss, mean_present, track_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ckd_core.data.pairs import TrainingBatch


@dataclass(frozen=True, slots=True)
class StepContext:
    """Where training stands.

    Attributes:
        seed: Of the run.
        epoch: Counted from 1.
        keep_rate: Share of search tokens that elimination keeps; 1 = off.
        positives: Scalar tensor, the focal loss' divisor for this part of the global batch; None: the part's own count.
    """

    seed: int
    epoch: int
    keep_rate: float
    positives: Tensor | None = None


class StepResult(NamedTuple):
    """What a training step returns.

    Attributes:
        loss: Scalar with gradient.
        terms: Detached scalars for the log.
        box_cxcywh: [B, 4] predicted boxes, detached.
        iou: [B] their overlap with the true ones, detached.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    box_cxcywh: Tensor
    iou: Tensor


class Objective(Protocol):
    """Turns a network and a batch into a loss. It has no parameters and keeps nothing between steps."""

    def __call__(self, network: nn.Module, batch: TrainingBatch, context: StepContext) -> StepResult:
        """Run the network's training forward and its losses."""
        ...


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Tracking loss of the plain forward alone: pre-training, and the baseline that distillation is compared with."""

    kind: Literal["tracking"] = "tracking"


class TrackingObjective:
    """2 GIoU + 5 L1 + focal of `network(template, search)`."""

    def __call__(self, network: nn.Module, batch: TrainingBatch, context: StepContext) -> StepResult:
        """See `Objective`."""
        loss = track_loss(network(batch.template, batch.search), batch.search_box, context.positives)
        return StepResult(loss.total, track_terms("track", loss), loss.box_cxcywh, loss.iou)


def track_terms(prefix: str, loss: TrackLoss) -> dict[str, Tensor]:
    """Name the terms of one head for the log."""
    parts = {"giou": loss.giou, "l1": loss.l1, "focal": loss.focal, "total": loss.total, "iou": mean_present(loss.iou)}
    return {f"{prefix}/{name}": value.detach() for name, value in parts.items()}


def sample_generator(seed: int, purpose: str, index: int) -> torch.Generator:
    """CPU generator that depends on (seed, purpose, sample's global index) alone.

    So masks are the same however a batch is spread over processes and steps, and after a resume.
    """
    return torch.Generator().manual_seed(mix_seed(seed, zlib.crc32(purpose.encode()), index))


def mix_seed(*parts: int) -> int:
    """One well-mixed 63-bit seed from several integers (splitmix64 finaliser over each)."""
    state, wrap = 0, (1 << 64) - 1
    for part in parts:
        state = (state + (part & wrap) + 0x9E3779B97F4A7C15) & wrap
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & wrap
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & wrap
        state ^= state >> 31
    return state >> 1
