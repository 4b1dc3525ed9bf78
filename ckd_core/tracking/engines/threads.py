"""One budget of CPU threads for every library that works on a frame: PyTorch, OpenVINO, ONNX Runtime, OpenCV.

They work one after the other, so each may have the whole budget, as long as none keeps its cores busy while it waits.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from ckd_core.tracking.engines.base import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

CPUS = Path("/sys/devices/system/cpu")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Count the cores that this process may use.

    Those of its affinity, each once, however many threads it runs at a time; no more than a container's quota pays for,
    nor than `OMP_NUM_THREADS`, if it is set.
    """
    cores = _cores(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wished = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list is one number per nested level
    limit = int(wished) if wished.isdecimal() and int(wished) > 0 else cores
    return max(1, math.ceil(min(cores, limit, _quota())))


def thread_budget(threads: int, other_processes: bool = False) -> int:
    """Say how many CPU threads a frame's work may use.

    Args:
        threads: As the user says; 0 = all usable cores.
        other_processes: Whether others live on this machine that must not wait for the network, such as camera drivers:
            0 then leaves them one core. Of two cores it leaves none, because half of the network's speed is worth more.

    Raises:
        EngineError: `threads` is negative.
    """
    if threads < 0:
        raise EngineError(f"threads is {threads}; expected 1 or more, or 0 for all usable cores")
    cores = usable_cores()
    return threads or (cores - 1 if other_processes and cores > 2 else cores)


def use_threads(threads: int) -> None:
    """Give the libraries whose threads belong to the process (PyTorch if it is loaded, OpenCV) `threads` each.

    OpenVINO and ONNX Runtime have theirs per program.
    """
    cv2.setNumThreads(threads)
    torch = sys.modules.get("torch")  # an exported program needs none
    if torch is not None:
        torch.set_num_threads(threads)


def _cores(cpus: Iterable[int]) -> int:
    """Count the cores behind the kernel's CPUs, of which those that share a core compute no more than one."""
    cores = set()
    for cpu in cpus:
        folder = CPUS / f"cpu{cpu}" / "topology"
        try:
            cores.add((folder / "thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def _quota() -> float:
    """Cores that the control groups (version 2) of this process pay for; infinity where they set no limit."""
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return math.inf
    own = next((line[3:] for line in lines if line.startswith("0::")), "")
    folder = CGROUPS / own.lstrip("/")
    quotas = [_quota_of(each / "cpu.max") for each in (folder, *folder.parents) if each.is_relative_to(CGROUPS)]
    return min(quotas, default=math.inf)


def _quota_of(limit: Path) -> float:
    """Read a `cpu.max`: microseconds of CPU per period, or `max`."""
    try:
        quota, period = limit.read_text().split()
        return math.inf if quota == "max" else max(float(quota) / float(period), 1.0)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
