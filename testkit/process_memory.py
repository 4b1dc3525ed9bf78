"""Resident memory of a process."""

from __future__ import annotations

import re
from pathlib import Path


def memory_mb(pid: int, name: str) -> float:
    """VmRSS (now) or VmHWM (highest so far) of a process, in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None, f"no {name} of process {pid}"
    return int(found[1]) / 1024
