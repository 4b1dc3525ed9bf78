"""One engine alone, beside other libraries' threads in its process, and in the node; and what `threads` does there.

Every engine has a process of its own. `loaded`: the others (and OpenCV) have run and rest. `neighbour`: and another
process keeps one core busy. `in_turns`: each frame comes after one of every other engine. `node`: the network's time in
a live node at 30 Hz, the camera in another process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks._threads_case import ENGINES
from ckd_core import DEFAULT_MODEL
from ckd_core.tracking.engines.threads import thread_budget, usable_cores

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "Threads: one frame's network by engine and company [ms], and the node by its parameter `threads`"
RATE_HZ = 30.0
LIBGOMP_SPINS = "300000"  # how long PyTorch's OpenMP waits busily by its own rule; this package sets another one


def run(quick: bool) -> list[Row]:
    """One row per engine, then one per value of the node's parameter."""
    rounds, frames = (40, 90) if quick else (200, 200)
    rows = [_engine(name, rounds, frames) for name in ENGINES]
    rows.insert(1, _engine("torch/fp32", rounds, frames, GOMP_SPINCOUNT=LIBGOMP_SPINS))
    meant = thread_budget(0, other_processes=True)
    values = sorted({1, max(usable_cores() - 1, 1), usable_cores()})
    nodes: list[Row] = []
    for value in values:
        name = f"node, {DEFAULT_MODEL}, threads {value}{' (what 0 means)' if value == meant else ''}"
        nodes.append({"name": name, **_node("auto", frames, value)})
    return [*rows, *nodes]


def _engine(name: str, rounds: int, frames: int, **environment: str) -> Row:
    command = [sys.executable, "-m", "benchmarks._threads_case", name, DEFAULT_MODEL, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    if done.returncode != 0:
        return {"name": name, "note": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    setting = "".join(f", {key}={value}" for key, value in environment.items())
    row: Row = {"name": name + setting, "model": DEFAULT_MODEL}
    for situation, values in json.loads(done.stdout.splitlines()[-1]).items():
        row[situation] = values["median_ms"]
        row[f"{situation}_spread"] = values["spread_ms"]
    with patch.dict(os.environ, environment):
        node = _node(name, frames, 0)
    return {**row, "node_p50": node["network_p50_ms"], "node_p95": node["network_p95_ms"]}


def _node(engine: str, frames: int, threads: int) -> dict[str, Any]:
    """Film for a while and read what the node says of itself."""
    from benchmarks.node import INIT_BOX
    from ckd_core.models.checkpoint import default_weights
    from testkit.ros.rig import running_node

    options = {"autostart": True, "init_box": INIT_BOX, "confidence": False, "model": DEFAULT_MODEL}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_node(default_weights(DEFAULT_MODEL), Path(folder), engine=engine, threads=threads, **options) as rig,
    ):
        rig.active()
        rig.film_until(lambda: rig.ros.value("state") != "NONE", "a target")
        before = {name: rig.ros.count(name) for name in ("answered", "dropped")}
        rig.cameras.film(frames, RATE_HZ)
        rig.ros.spin(2.0)
        row: dict[str, Any] = {"engine": rig.ros.value("engine")}
        for stage in ("network", "total"):
            row |= {f"{stage}_{p}_ms": rig.ros.value(f"latency_ms.{stage}.{p}") for p in ("p50", "p95")}
        return {**row, **{name: rig.ros.count(name) - count for name, count in before.items()}}
