"""The network's time in a live node at 30 Hz, by engine and by the parameter `threads`; cameras are another process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._threads_case import ENGINES
from benchmarks.live.node import INIT_BOX, RATE_HZ
from ckd_core import DEFAULT_MODEL
from ckd_core.tracking.engines.threads import thread_budget, usable_cores

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "Threads in the node: 640x480 rgb8 + 16UC1 at 30 Hz"


def run(quick: bool) -> list[Row]:
    """One row per engine with the default, then one per number of threads of the engine that `auto` takes."""
    frames = 90 if quick else 200
    rows = [_node(name, frames, 0) for name in ENGINES]
    return [*rows, *(_node("auto", frames, count) for count in sorted({1, max(usable_cores() - 1, 1), usable_cores()}))]


def _node(engine: str, frames: int, threads: int) -> Row:
    """Film for a while and read what the node says of itself."""
    from ckd_core.models.checkpoint import default_weights
    from testkit.ros.rig import running_node

    options = {"autostart": True, "init_box": INIT_BOX, "confidence": False, "model": DEFAULT_MODEL}
    weights = default_weights(DEFAULT_MODEL)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_node(weights, Path(folder), engine=engine, threads=threads, **options) as rig,
    ):
        rig.active()
        rig.film_until(lambda: rig.ros.value("state") != "NONE", "a target")
        before = {name: rig.ros.count(name) for name in ("answered", "dropped")}
        rig.cameras.film(frames, RATE_HZ)
        rig.ros.spin(2.0)
        value = rig.ros.value
        used = threads or thread_budget(0, other_processes=True)
        row: Row = {"name": f"{value('model')} by {value('engine')}", "asked": threads, "threads": used}
        for stage in ("network", "total"):
            row.update({f"{stage}_{p}_ms": value(f"latency_ms.{stage}.{p}") for p in ("p50", "p95")})
        row.update({name: rig.ros.count(name) - count for name, count in before.items()})
        return row
