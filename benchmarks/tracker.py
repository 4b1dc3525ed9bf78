"""The whole tracker: milliseconds by stage, memory, and its crops against the published preprocessing."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks import _published_order as published
from benchmarks.harness import Row, interleaved, rows_against
from ckd_core import DEFAULT_MODEL
from ckd_core.data.sequences import read_auxiliary, read_color
from ckd_core.data.synthetic import clip
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.modality import to_network_image
from ckd_core.models.normalisation import IMAGE_MEAN, IMAGE_STD
from ckd_core.tracking import build_tracker
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.crop import window_around
from ckd_core.tracking.view import FrameView

TITLE = "Tracker: stages of a frame, 640 x 480 (decode: two image files), and crops against the published steps"
SIZE = (640, 480)
SEARCH_SIZE, SEARCH_FACTOR = 256, 4.0


def run(quick: bool) -> list[Row]:
    """Rows of the stages by modality, then of the crops by modality."""
    frames = 15 if quick else 60
    rows: list[Row] = []
    for modality in Modality:
        film = clip(77, modality, frames, SIZE)
        rows += _stages(modality, film.frames, BoundingBox(*map(float, film.boxes[0])))
        rows += _crops(modality, film.frames[0], rounds=40 if quick else 300)
    return rows


def _stages(modality: Modality, frames: list[MultiModalFrame], box: BoundingBox) -> list[Row]:
    """Medians of a run from files by stage, and memory.

    resident_mb: of the whole process. grown_mb: over this run. python_kept_mb: Python and NumPy allocations that the
    frames after the second one left behind.
    """
    tracker = build_tracker(DEFAULT_MODEL, modality=modality)
    timings, decoded = [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = [_write(Path(folder), index, frame) for index, frame in enumerate(frames)]
        before_mb = _resident_mb()
        tracker.start(frames[0], box)
        tracker.update(frames[1])
        tracemalloc.start()
        for index, (color, aux) in enumerate(paths[2:], start=2):
            begin = time.perf_counter()
            frame = MultiModalFrame(frames[index].stamp, read_color(color), read_auxiliary(aux, modality), modality)
            decoded.append(time.perf_counter() - begin)
            timings.append(tracker.update(frame).timing)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    engine = f"{DEFAULT_MODEL} by {tracker.engine.name}"
    rows: list[Row] = [{"name": "decode", "modality": modality.value, "median_ms": _ms(decoded)}]
    for stage in ("crop", "network", "post"):
        name = f"network, {engine}" if stage == "network" else stage
        rows.append({"name": name, "modality": modality.value, "median_ms": _ms([getattr(t, stage) for t in timings])})
    memory = {"resident_mb": round(_resident_mb()), "grown_mb": round(_resident_mb() - before_mb, 1)}
    name = f"memory, {len(frames)} frames"
    return [*rows, {"name": name, "modality": modality.value, **memory, "python_kept_mb": round(kept / 2**20, 2)}]


def _write(folder: Path, index: int, frame: MultiModalFrame) -> tuple[Path, Path]:
    color, aux = folder / f"{index:04d}.jpg", folder / f"{index:04d}_aux.png"
    assert frame.rgb is not None
    assert frame.aux is not None
    cv2.imwrite(str(color), cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(aux), frame.aux)
    return color, aux


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 3)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _crops(modality: Modality, frame: MultiModalFrame, rounds: int) -> list[Row]:
    """Raw frame to normalised network input, 256 px, for a middle-sized box."""
    assert frame.aux is not None
    box = BoundingBox(300.0, 200.0, 60.0, 80.0)
    view = FrameView(modality, TrackerConfig())
    memory = view.check(frame, None)
    out = np.empty((1, 2, SEARCH_SIZE, SEARCH_SIZE, 3), dtype=np.uint8)
    scale = torch.tensor([1 / (255 * s) for s in IMAGE_STD]).repeat(2).view(1, 6, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(IMAGE_MEAN, IMAGE_STD, strict=True)]).repeat(2).view(1, 6, 1, 1)

    @torch.inference_mode()
    def ours() -> object:
        view.begin(frame, memory)
        view.cut(window_around(box, SEARCH_FACTOR), out[0])
        planes = torch.from_numpy(out).permute(0, 1, 4, 2, 3).flatten(1, 2)
        return torch.addcmul(shift, planes.float(), scale)

    # depth arrives raw; thermal and event files already hold three channels
    ready = None if modality is Modality.DEPTH else to_network_image(frame.aux, modality)

    @torch.inference_mode()
    def theirs() -> object:
        return published.crop(frame, box, SEARCH_FACTOR, SEARCH_SIZE, ready)

    difference = float((ours() - theirs()).abs().max())  # type: ignore[operator]  # both are tensors
    rows = rows_against(interleaved({"published steps": theirs, "ours": ours}, rounds, warmup=5), "published steps")
    for row in rows:
        row["name"] = f"crop + normalise, {row['name']}"
        row["modality"] = modality.value
        row["largest_difference"] = round(difference, 4)
    return rows
