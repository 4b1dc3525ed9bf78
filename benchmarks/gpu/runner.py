"""Sends cases to workers, ends those that crash or hang, and keeps what is done in a file."""

from __future__ import annotations

import contextlib
import json
import platform
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.cases import NETWORKS, PUBLISHED, Case, cases
from ckd_core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.harness import Row

COLUMNS = (
    "golden_px", "iou_median", "iou_min", "p50_ms", "p99_ms", "faster", "gpu_ms", "kernels", "launches", "memory_mb",
    "gflop", "roofline", "note",
)  # fmt: skip
ROW_S = 45.0
LONG_ROW_S = 120.0  # what compiles, and a worker's first row, which also waits for weights and reference on the CPU
LONG = ("compile", "tensorrt")
MEASURED_S, QUICK_S = 2.0, 0.3
TO_COME = "not measured yet; the next run goes on here"


class Worker:
    """A process that measures rows of one network."""

    def __init__(self, network: str, device: str, seconds: float) -> None:
        self.network = network
        self.fresh = True
        command = [sys.executable, "-m", "benchmarks.gpu.worker", network, device, str(seconds)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")  # it has ended

    def measure(self, case: Case, limit_s: float) -> dict[str, Any]:
        """Return the row's columns, or its reason in `note`; afterwards `alive` says whether it can go on."""
        assert self._process.stdin is not None
        self.fresh = False
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asdict(case)) + "\n")
            self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=limit_s)
        except queue.Empty:
            self.end()
            return {"note": f"ended after {limit_s:.0f} s"}
        if not line:
            return {"note": f"the process ended with status {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def alive(self) -> bool:
        """Whether it can measure another row."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


def measure_all(
    device: str,
    quick: bool,
    minutes: float,
    out: Path,
    networks: Sequence[str] = NETWORKS,
    show: Callable[[Row], object] = lambda _: None,
    keep: Callable[[list[Row]], object] = lambda _: None,
) -> list[Row]:
    """Measure every case that the file does not hold yet, as far as the time goes.

    Args:
        device: cuda, cuda:N or cpu.
        quick: Few rounds, few rows.
        minutes: After these no row begins.
        out: The file; rows of another machine or another PyTorch in it are measured again.
        networks: Names.
        show: Called with each row.
        keep: Called with all rows, those to come among them, whenever one was measured, and at the end.

    Returns:
        All rows in order, those without a time with their reason.
    """
    end = time.monotonic() + 60 * minutes
    machine = identity(device, quick)
    done = _read(out, machine)
    every = cases(device.partition(":")[0], tuple(networks), quick)

    def row(case: Case) -> Row:
        published = done.get(Case(case.network, PUBLISHED).key, {})
        return _row(case, done.get(case.key, {"note": TO_COME}), published.get("p50_ms"))

    worker: Worker | None = None
    try:
        for case in every:
            left = end - time.monotonic()
            if case.key not in done and left > 0:
                if worker is None or worker.network != case.network or not worker.alive:
                    if worker is not None:
                        worker.end()
                    worker = Worker(case.network, device, QUICK_S if quick else MEASURED_S)
                long = worker.fresh or case.engine.startswith(LONG)
                limit = min(LONG_ROW_S if long else ROW_S, max(left, 10.0))
                done[case.key] = worker.measure(case, limit)
                write_json(out, {"machine": machine, "rows": done})
                keep([row(case) for case in every])
            show(row(case))
    finally:
        if worker is not None:
            worker.end()
    rows = [row(case) for case in every]
    keep(rows)
    return rows


def identity(device: str, quick: bool) -> dict[str, str]:
    """What rows of one table have in common."""
    cuda = torch.cuda.is_available() and device != "cpu"
    name = torch.cuda.get_device_name(torch.device(device)) if cuda else platform.processor() or platform.machine()
    return {"device": f"{device}: {name}", "torch": torch.__version__, "rounds": "few" if quick else "all"}


def _read(out: Path, machine: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Rows that are done; those that failed are tried again."""
    try:
        kept = json.loads(out.read_text())
    except (OSError, ValueError):
        return {}
    of = kept.get("machine") if isinstance(kept, dict) else None
    if of != machine:
        sys.stderr.write(f"{out} is of {of}, this is {machine}: everything is measured again\n")
        return {}
    return {key: row for key, row in kept["rows"].items() if "p50_ms" in row}


def _row(case: Case, values: dict[str, Any], published_ms: float | None = None) -> Row:
    if published_ms is not None and "p50_ms" in values:
        values = {**values, "faster": round(published_ms * case.targets * case.streams / values["p50_ms"], 2)}
    return {**asdict(case), **{column: values.get(column, "") for column in COLUMNS}}
