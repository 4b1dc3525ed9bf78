"""A whole frame of the default tracker by engine, from two raw images to the box, beside OpenCV's NanoTrack on one.

NanoTrack v2's two files are read from the folder that the environment variable `TEACHER` names, as for `make weights`;
without it the row says so.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Row, interleaved, rows_against
from ckd_core import DEFAULT_MODEL
from ckd_core.data.synthetic import clip
from ckd_core.evaluation.running.trackers import NanoTrackSpec
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking import build_tracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.tracking.tracker import FrameTracker

TITLE = "Whole frames: 640 x 480 colour and thermal to box, by engine, and NanoTrack v2 on colour alone"
ENGINES = ("openvino/fp32", "onnx/fp32", "torch/fp32")
SIZE, FRAMES, FPS = (640, 480), 60, 30.0
NANOTRACK = "TEACHER"


def run(quick: bool) -> list[Row]:
    """One row per engine, ratios against the first; then NanoTrack."""
    film = clip(77, Modality.THERMAL, FRAMES, SIZE)
    box = BoundingBox(*map(float, film.boxes[0]))
    variants: dict[str, Callable[[], object]] = {
        f"{DEFAULT_MODEL} by {engine}": _player(
            build_tracker(DEFAULT_MODEL, modality=Modality.THERMAL, engine=engine, strict_device=True),
            film.frames,
            box,
        )
        for engine in ENGINES
    }
    folder = os.environ.get(NANOTRACK)
    if folder:
        nano = NanoTrackSpec(Path(folder)).build(Modality.THERMAL, "cpu", 0)
        variants["NanoTrack on colour"] = _player(nano, film.frames, box)
    rows = rows_against(interleaved(variants, rounds=20 if quick else 200, warmup=5), next(iter(variants)))
    if not folder:
        rows.append({"name": "NanoTrack on colour", "median_ms": f"not measured: {NANOTRACK} names no folder"})
    return rows


def _player(tracker: FrameTracker, frames: list[MultiModalFrame], box: BoundingBox) -> Callable[[], object]:
    """A call that tracks through the next frame, to and fro through the film so that the target never jumps."""
    tracker.start(frames[0], box)
    later = itertools.cycle([*frames[1:], *frames[-2::-1]])
    stamps = itertools.count(1)
    return lambda: tracker.update(replace(next(later), stamp=frames[0].stamp + next(stamps) / FPS))
