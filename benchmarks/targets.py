"""Cost of 1, 2, 4 and 8 targets in one stream: one batched network call per frame."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Row, interleaved, network_of
from ckd_core.data.synthetic import clip
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.build import engine_for
from ckd_core.tracking.multi import MultiTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.tracking.engines import Engine

TITLE = "Targets: a frame with N targets against N = 1 (ratio: times the cost of one; N if nothing were shared)"
COUNTS = (1, 2, 4, 8)
SIZE = (640, 480)


def run(quick: bool) -> list[Row]:
    """Rows by network and number of targets; CUDA engines where there is a CUDA device."""
    import torch

    cases = [("sdstrack_s128", "torch/fp32", "cpu")]
    if not quick:
        cases += [("sdstrack_s128", "openvino/fp32", "cpu"), ("sdstrack_b256", "torch/bf16", "cpu")]
    if torch.cuda.is_available():
        cases.append(("sdstrack_b256", "cudagraph/fp16", "cuda"))
    rows: list[Row] = []
    for name, engine, device in cases:
        rounds = 5 if quick or (name.endswith("b256") and device == "cpu") else 25
        rows += _case(name, engine, device, rounds)
    return rows


def _case(name: str, engine: str, device: str, rounds: int) -> list[Row]:
    threads = len(os.sched_getaffinity(0))
    built = engine_for(network_of(name), engine=engine, device=device, threads=threads)
    frames = clip(78, Modality.THERMAL, 2, SIZE).frames
    calls = {f"{count} targets": _tracking(built, frames[0], count) for count in COUNTS}
    timings = interleaved(calls, rounds)
    alone = timings["1 targets"].median_ms
    return [
        {
            "name": label,
            "model": name,
            "engine": f"{built.name} on {built.device}",
            "median_ms": round(timing.median_ms, 3),
            "spread_ms": round(timing.spread_ms, 3),
            "ratio": round(timing.median_ms / alone, 3),
            "ms_per_target": round(timing.median_ms / int(label.split()[0]), 3),
        }
        for label, timing in timings.items()
    ]


def _tracking(engine: Engine, frame: MultiModalFrame, count: int) -> Callable[[], object]:
    """A call that tracks `count` targets through the same frame again."""
    generator = np.random.default_rng(count)
    boxes = {
        index: BoundingBox(*(float(value) for value in generator.uniform((60, 60, 40, 40), (480, 340, 90, 90))))
        for index in range(count)
    }
    # states off: a lost target would look elsewhere and at another number of windows
    tracker = MultiTracker(engine, Modality.THERMAL, TrackerConfig().as_published())
    tracker.start(frame, boxes)
    return lambda: tracker.update(frame)
