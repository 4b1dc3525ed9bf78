"""CPU of the node's process by executor: idle, per frame, per event packet. On idle cores only.

Tracking is paused, so that a frame's cost is that of receiving, pairing and counting it; the network's is elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.live._node_cpu import node_cpu
from testkit.ros.processes import ROOT

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "Executor: CPU of the node's process, 640x480 rgb8 + 16UC1 at 30 Hz, event packets at 250 Hz"
EXECUTORS = ("single", "events")


def run(quick: bool) -> list[Row]:
    """One row per executor."""
    seconds = 3.0 if quick else 20.0
    return [{"name": executor, **node_cpu(ROOT, seconds, executor=executor)} for executor in EXECUTORS]
