"""Which parameters learn, how fast, and the average of their past values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckd_core.training.config import GroupSettings, OptimSettings, ScheduleSettings

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class OptimError(TrackingError):
    """Parameter groups that do not fit the network, or a state that does not fit the groups."""


def select_parameters(network: nn.Module, groups: Iterable[GroupSettings]) -> list[list[str]]:
    """Freeze what no group names; return the parameter names of every group, in the network's order.

    A parameter joins the first group that fits.

    Raises:
        OptimError: a group without parameters, which is a typing mistake.
    """
    groups = list(groups)
    names: list[list[str]] = [[] for _ in groups]
    for name, parameter in network.named_parameters():
        fits = [i for i, group in enumerate(groups) if any(part in name for part in group.contains)]
        parameter.requires_grad_(bool(fits))
        if fits:
            names[fits[0]].append(name)
    for group, members in zip(groups, names, strict=True):
        if not members:
            raise OptimError(
                f"no parameter that earlier groups left contains {' or '.join(group.contains)}; the network has "
                f"names like {', '.join(name for name, _ in list(network.named_parameters())[:3])}"
            )
    return names


def build_optimizer(network: nn.Module, settings: OptimSettings) -> tuple[torch.optim.AdamW, list[list[str]]]:
    """AdamW over the selected groups, and the parameter names of every group."""
    names = select_parameters(network, settings.groups)
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameters[n] for n in group_names], "lr": group.lr, "base_lr": group.lr}
            for group, group_names in zip(settings.groups, names, strict=True)
        ],
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=settings.weight_decay,
    )
    return optimizer, names


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[list[str]]) -> dict[str, Tensor]:
    """Moments and step counts as tensors named `exp_avg/PARAMETER` and so on."""
    tensors = {}
    for group, group_names in zip(optimizer.param_groups, names, strict=True):
        for name, parameter in zip(group_names, group["params"], strict=True):
            tensors.update({f"{kind}/{name}": value for kind, value in optimizer.state.get(parameter, {}).items()})
    return tensors


@torch.no_grad()
def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[list[str]], tensors: dict[str, Tensor]) -> None:
    """Load what `optimizer_tensors` returned.

    Raises:
        OptimError: it belongs to other groups.
    """
    expected = {name for group in names for name in group}
    strange = sorted({key.partition("/")[2] for key in tensors} - expected)
    if strange:
        raise OptimError(
            f"the stored optimiser state has {len(strange)} parameters that are not trained here: "
            f"{strange[0]}; expected the state of a run with the same groups"
        )
    for group, group_names in zip(optimizer.param_groups, names, strict=True):
        for name, parameter in zip(group_names, group["params"], strict=True):
            state = {kind: tensors[f"{kind}/{name}"] for kind in MOMENTS if f"{kind}/{name}" in tensors}
            if not state:
                continue
            if state["exp_avg"].shape != parameter.shape:
                raise OptimError(
                    f"stored state of {name} is {list(state['exp_avg'].shape)}; expected {list(parameter.shape)}"
                )
            optimizer.state[parameter] = {
                kind: value.clone() if kind == "step" else torch.empty_like(parameter).copy_(value)
                for kind, value in state.items()
            }


def learning_rate_factor(settings: ScheduleSettings, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Factor on the learning rate for optimiser step `step` (0-based); a pure function, so it needs no state."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    if settings.kind == "step":
        return float(warm * settings.gamma ** (step // steps_per_epoch // settings.drop_epoch))
    if settings.kind == "cosine":
        span = max(1, total_steps - settings.warmup_steps)
        share = min(1.0, max(0.0, (step - settings.warmup_steps) / span))
        return warm * (settings.final + (1 - settings.final) * (1 + math.cos(math.pi * share)) / 2)
    return warm


def freeze_batch_norm(network: nn.Module) -> None:
    """Let every BatchNorm use, and not change, its running statistics; call after `train()`."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # torch's base of all of them
            module.eval()


class MovingAverage:
    """Exponential moving average of a network's trained parameters and of its BatchNorm statistics.

    Over the first 1 / (1 - decay) steps it is their plain mean, so that the average of a short run does not
    consist mostly of its first weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in self._followed(network).items()}

    @staticmethod
    def _followed(network: nn.Module) -> dict[str, Tensor]:
        followed = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
        return followed | {n: b for n, b in network.named_buffers() if b.is_floating_point()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network after step `step` (0-based)."""
        now = self._followed(network)
        decay = min(self.decay, step / (1 + step))
        torch._foreach_lerp_(list(self.values.values()), [now[n] for n in self.values], 1 - decay)

    @torch.no_grad()
    def swap(self, network: nn.Module) -> None:
        """Exchange average and network; calling it twice changes nothing."""
        for name, value in self._followed(network).items():
            average = self.values[name].clone()
            self.values[name].copy_(value)
            value.copy_(average)


def describe_groups(optimizer: torch.optim.Optimizer, names: list[list[str]]) -> list[dict[str, Any]]:
    """Per group: lr, number of tensors, number of parameters."""
    return [
        {"lr": g["base_lr"], "tensors": len(n), "parameters": sum(p.numel() for p in g["params"])}
        for g, n in zip(optimizer.param_groups, names, strict=True)
    ]
