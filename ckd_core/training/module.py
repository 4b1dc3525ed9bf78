"""Network and objective as one module, so that DistributedDataParallel sees the whole training forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from ckd_core.data.pairs import TrainingBatch
    from ckd_core.objectives.base import Objective, StepContext, StepResult


class TrainingModule(nn.Module):
    """`module(batch, context) -> StepResult` under autocast; holds the network as its only child."""

    def __init__(self, network: nn.Module, objective: Objective, precision: str = "fp32") -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def forward(self, batch: TrainingBatch, context: StepContext) -> StepResult:
        """Loss of one batch."""
        with torch.autocast(batch.template.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return self.objective(self.network, batch, context)
