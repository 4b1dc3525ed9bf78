"""One process or many: what torchrun's environment says, and the few exchanges that training needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from torch import Tensor


class ProcessError(TrackingError):
    """A process group or a device that is not available."""


@dataclass(frozen=True, slots=True)
class Processes:
    """One process among all: rank 0..count-1 and the device it computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over all processes."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.count

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process."""
        return bool(self.mean(torch.tensor([float(flag)], device=self.device)) > 0)

    def agree_on(self, number: int) -> bool:
        """Whether all processes have the same number."""
        return bool(self.mean(torch.tensor(float(number), dtype=torch.float64, device=self.device)) == number)

    def fail_together(self, failure: TrackingError | None) -> None:
        """Raise in all processes when one of them failed: its own error there, elsewhere that another one failed."""
        if self.any(failure is not None):
            raise failure or ProcessError("another process failed; its own message says why")


def choose_device(wanted: str) -> torch.device:
    """Resolve `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is the local rank's CUDA device if there is one.

    Raises:
        ProcessError: not a device, or one that this machine lacks.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if wanted == "auto":
        wanted = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    elif wanted == "cuda":
        wanted = f"cuda:{local}"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ProcessError(f"'{wanted}' is not a device; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ProcessError(f"device {wanted} is not there; expected one of {torch.cuda.device_count()} CUDA devices")
    return device


def join(wanted_device: str) -> Processes:
    """Join the process group that torchrun's environment describes; without one, this process is alone."""
    device = choose_device(wanted_device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1, device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), device)


def leave() -> None:
    """Leave the process group, if there is one.

    Let go of every DistributedDataParallel before. One that outlives the group is the last to hold it, and the garbage
    collector then ends gloo's threads with the GIL in its hand, while they wait for the GIL to drop their last tensors:
    a process that never exits. torch gives the GIL away where the last reference is Python's own.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
