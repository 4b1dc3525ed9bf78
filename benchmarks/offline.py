"""Frames per second of recorded files, without and with reading ahead, and how `benchmark --workers` scales.

The forecast for many cores is Amdahl's, from what one process must do alone: digests, result files and the score by the
first process, and a worker's start. `forecast` says how far it misses what was measured with two workers.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.harness import interleaved
from ckd_core import DEFAULT_MODEL, background
from ckd_core.data.datasets import open_dataset
from ckd_core.data.sequences import write_sequence
from ckd_core.data.synthetic import clip
from ckd_core.evaluation.running.inputs import open_inputs
from ckd_core.evaluation.running.jobs import open_jobs, work
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.records import write_record
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.frame import BoundingBox, Modality
from ckd_core.replay.recording import open_recording
from ckd_core.replay.run import track_recording
from ckd_core.tracking import build_tracker
from ckd_core.tracking.engines.build import resolve_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Row
    from ckd_core.data.synthetic import SyntheticClip
    from ckd_core.evaluation.running.runner import RunResult
    from ckd_core.replay.recording import Recording
    from ckd_core.tracking.tracker import Tracker

TITLE = "Offline: recorded files, 640 x 480 (ratio: frames per second with reading ahead / without)"
SIZE = (640, 480)
SEQUENCES = 4
# LasHeR's test split, as in `score.py`.
WHOLE_SEQUENCES, WHOLE_FRAMES, CORES = 245, 900, 64


def run(quick: bool) -> list[Row]:
    """Rows of the sources, then of the workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = there_and_back(clip(77, Modality.THERMAL, 20 if quick else 90, SIZE))
        return [*_sources(folder, film, 2 if quick else 4), *_workers(folder, film, 1 if quick else 2)]


def there_and_back(film: SyntheticClip) -> SyntheticClip:
    """The clip, then the clip backwards: twice as many frames for the price of one, without a jump."""
    step = film.frames[1].stamp - film.frames[0].stamp
    frames = [replace(frame, stamp=index * step) for index, frame in enumerate([*film.frames, *reversed(film.frames)])]
    return replace(film, frames=frames, boxes=np.concatenate((film.boxes, film.boxes[::-1])))


@contextmanager
def _waiting(items: int) -> Iterator[None]:
    before, background.WAITING = background.WAITING, items
    try:
        yield
    finally:
        background.WAITING = before


def _sources(folder: Path, film: SyntheticClip, rounds: int) -> list[Row]:
    """Each source one after the other (before) and overlapped (after), in turn."""
    from sdstrack_ros.bags.frames import BagTopics
    from sdstrack_ros.bags.scoring import bag_input, evaluate_offline
    from sdstrack_ros.bags.writer import write_bag
    from sdstrack_ros.sync.types import SyncConfig

    box = BoundingBox(*map(float, film.boxes[0]))
    tracker = build_tracker(modality=Modality.THERMAL)
    sequence = write_sequence(folder / "sequence", film.frames, film.boxes)
    bag = write_bag(folder / "bag", film.frames, [box])
    source = bag_input(bag, Modality.THERMAL, BagTopics(), SyncConfig())
    recordings = {
        "folder of images": open_recording([str(sequence)]),
        "video pair": open_recording(_videos(folder, film), Modality.THERMAL),
    }
    calls: dict[str, Callable[[], object]] = {
        f"run, {name}{'' if video else ', no overlay'}": _run_call(recording, box, tracker, folder / "out", video)
        for name, recording in recordings.items()
        for video in (True, False)
    }
    calls["evaluate, bag"] = lambda: evaluate_offline(source, tracker, init_box=box)
    rows: list[Row] = []
    for name, call in calls.items():
        timings = interleaved({"before": _with(0, call), "after": _with(background.WAITING, call)}, rounds, warmup=1)
        before, after = (timings[when].samples_ms for when in ("before", "after"))
        ratios = [one / other for one, other in zip(before, after, strict=True)]
        quarters = statistics.quantiles(ratios, n=4)
        rows.append(
            {
                "name": name,
                "engine": tracker.engine.name,
                "before_fps": round(1e3 * len(film.frames) / timings["before"].median_ms, 1),
                "after_fps": round(1e3 * len(film.frames) / timings["after"].median_ms, 1),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_quarters": f"{quarters[0]:.3f} to {quarters[2]:.3f}",
            }
        )
    return rows


def _run_call(recording: Recording, box: BoundingBox, tracker: Tracker, out: Path, video: bool) -> Callable[[], object]:
    return lambda: track_recording(recording, box, tracker, out, video=video)


def _with(items: int, call: Callable[[], object]) -> Callable[[], object]:
    def timed() -> None:
        with _waiting(items):
            call()

    return timed


def _videos(folder: Path, film: SyntheticClip) -> list[str]:
    paths = [str(folder / name) for name in ("visible.mp4", "infrared.mp4")]
    for path, name in zip(paths, ("rgb", "aux"), strict=True):
        video = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 30.0, SIZE)
        for frame in film.frames:
            image = getattr(frame, name)
            video.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.ndim == 3 else cv2.COLOR_GRAY2BGR))
        video.release()
    return paths


def _workers(folder: Path, film: SyntheticClip, rounds: int) -> list[Row]:
    """`benchmark` with one and two workers of one thread each, and the forecast."""
    root = folder / "dataset"
    for index in range(SEQUENCES):
        write_sequence(root / f"s{index}", film.frames, film.boxes)
    frames = SEQUENCES * len(film.frames)
    engine = resolve_engine(DEFAULT_MODEL, None, "auto", "cpu").engine
    inputs = open_inputs(open_dataset("folder", root))
    runs = 0

    def plan(workers: int) -> RunPlan:
        nonlocal runs
        runs += 1
        out = folder / f"run{runs}"
        return RunPlan(inputs, ModelSpec(DEFAULT_MODEL, None, engine), out, device="cpu", workers=workers, threads=1)

    start_s = _start_seconds(plan(1))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    shares: list[float] = []
    for _ in range(rounds):
        for workers, values in seconds.items():
            this = plan(workers)
            begin = time.perf_counter()
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                result = run_benchmark(this, pool=pool)
            values.append(time.perf_counter() - begin)
            if workers == 1:
                shares.append(_alone_seconds(this, result) / values[-1])
    one, two = (statistics.median(values) for values in seconds.values())
    alone = statistics.median(shares) * one
    work_s = one - alone - start_s
    rows: list[Row] = [
        {"name": f"benchmark, {n} worker{'s' * (n > 1)}", "fps": round(frames / s, 1), "speed_up": round(one / s, 2)}
        for n, s in ((1, one), (2, two))
    ]
    guess = one / (start_s + alone + work_s / 2)
    spread = f"{min(shares):.4f} to {max(shares):.4f}"
    for row, forecast in zip(rows, (1.0, guess), strict=True):
        row |= {"forecast": round(forecast, 2), "serial_share": round(alone / one, 4), "serial_spread": spread}
    whole = WHOLE_SEQUENCES * WHOLE_FRAMES / frames
    # Whole sequences go to workers, so the last ones may leave most of them idle.
    rounds_of_workers = -(-WHOLE_SEQUENCES // CORES)
    first = start_s + (alone + work_s) * whole
    many = start_s + alone * whole + work_s * whole * rounds_of_workers / WHOLE_SEQUENCES
    rows.append(
        {
            "name": f"benchmark, {CORES} workers, {WHOLE_SEQUENCES} x {WHOLE_FRAMES} frames",
            "fps": round(WHOLE_SEQUENCES * WHOLE_FRAMES / many, 1),
            "speed_up": "not measured",
            "forecast": round(first / many, 1),
            "serial_share": round(alone / (alone + work_s), 4),
            "serial_spread": spread,
        }
    )
    cores = len(os.sched_getaffinity(0))
    return [row | {"start_s": round(start_s, 2), "engine": engine, "cores": cores} for row in rows]


def _start_seconds(plan: RunPlan) -> float:
    """What a worker needs before its first frame: the process, the imports, the engine; its short job subtracted."""
    job = open_jobs(plan, ())[0]
    begin = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(work, job).result()
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        pool.submit(work, job).result()
        return max(first - (time.perf_counter() - begin), 0.0)


def _alone_seconds(plan: RunPlan, result: RunResult) -> float:
    """What the first process does beside its workers' tracking: digests, result files, reading them, the score."""
    records = result.records.values()
    begin = time.perf_counter()
    for record in records:
        write_record(record, plan.out, plan.inputs.rule)
    run_benchmark(plan)  # finds everything tracked
    return time.perf_counter() - begin
