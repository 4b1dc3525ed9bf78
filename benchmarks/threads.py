"""One engine alone, and beside other libraries' threads in its process.

Every engine has a process of its own. `loaded`: the others (and OpenCV) have run and rest. `neighbour`: and another
process keeps one core busy. `in_turns`: each frame comes after one of every other engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks._threads_case import ENGINES
from ckd_core import DEFAULT_MODEL

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "Threads: one frame's network by engine and company [ms]"
LIBGOMP_SPINS = "300000"  # how long PyTorch's OpenMP waits busily by its own rule; this package sets another one


def run(quick: bool) -> list[Row]:
    """One row per engine, and one with PyTorch's threads waiting as they would by themselves."""
    rounds = 40 if quick else 100
    rows = [_engine(name, rounds) for name in ENGINES]
    return [*rows, _engine("torch/fp32", rounds, GOMP_SPINCOUNT=LIBGOMP_SPINS)]


def _engine(name: str, rounds: int, **environment: str) -> Row:
    command = [sys.executable, "-m", "benchmarks._threads_case", name, DEFAULT_MODEL, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    setting = "".join(f", {key}={value}" for key, value in environment.items())
    if done.returncode != 0:
        return {"name": name + setting, "note": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    row: Row = {"name": name + setting, "model": DEFAULT_MODEL}
    for situation, values in json.loads(done.stdout.splitlines()[-1]).items():
        row[situation] = values["median_ms"]
        row[f"{situation}_spread"] = values["spread_ms"]
    return row
