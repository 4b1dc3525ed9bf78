"""The work of `sdstrack run`: open, track with a progress bar, write."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.boxes import parse_box
from ckd_core.files import write_text
from ckd_core.frame import Modality
from ckd_core.replay.outputs import OverlayVideo, boxes_csv, boxes_text, draw, write_timeline
from ckd_core.replay.recording import ReplayError, open_recording
from ckd_core.tracking import build_tracker
from ckd_core.tracking.config import MissingPolicy, TrackerConfig
from ckd_core.tracking.result import TrackResult, TrackState

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from ckd_core.replay.recording import Recording
    from ckd_core.tracking.tracker import Tracker


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of `sdstrack run`; their meaning stands there."""

    init: str | None = None
    out: Path | None = None
    modality: str | None = None
    model: str = "sdstrack_s128"
    weights: Path | None = None
    engine: str = "auto"
    device: str = "auto"
    threads: int = 0
    strict_device: bool = False
    published: bool = False
    missing: str | None = None
    fps: float = 30.0
    video: bool = True


def run_recording(sources: list[str], options: RunOptions) -> str:
    """Track and write; returns the summary for the user. Errors: ReplayError and what the parts raise."""
    recording = open_recording(sources, parse_modality(options.modality), options.fps)
    box = parse_box(options.init) if options.init is not None else recording.first_box
    if box is None:
        raise ReplayError(f"{recording.name} has no box in its first frame; give --init x,y,w,h")
    tracker = build_tracker(
        options.model,
        options.weights,
        recording.modality,
        _tracker_config(options),
        options.engine,
        options.device,
        options.threads,
        options.strict_device,
    )
    out = options.out or Path("out") / "run" / recording.name
    out.mkdir(parents=True, exist_ok=True)
    results = _track(recording, box, tracker, out / "overlay.mp4" if options.video else None)
    write_text(out / "boxes.csv", boxes_csv(results))
    write_text(out / f"{recording.name}.txt", boxes_text(results))
    title = f"{recording.name}: {tracker.engine.spec.model}, {tracker.engine.name} on {tracker.engine.device}"
    write_timeline(out / "timeline.png", results, title)
    return _summary(results, tracker, out)


def parse_modality(text: str | None) -> Modality | None:
    """Modality by name, None for None. Errors: ReplayError."""
    if text is None:
        return None
    try:
        return Modality(text)
    except ValueError as error:
        known = ", ".join(modality.value for modality in Modality)
        raise ReplayError(f"no modality {text!r}; there are {known}") from error


def _tracker_config(options: RunOptions) -> TrackerConfig:
    config = TrackerConfig()
    if options.missing is not None:
        try:
            config = replace(config, missing=MissingPolicy(options.missing))
        except ValueError as error:
            known = ", ".join(policy.value for policy in MissingPolicy)
            raise ReplayError(f"no policy {options.missing!r} for missing images; there are {known}") from error
    return config.as_published() if options.published else config


def _track(recording: Recording, box: BoundingBox, tracker: Tracker, video: Path | None) -> list[TrackResult]:
    from rich.progress import Progress

    results: list[TrackResult] = []
    with ExitStack() as stack:
        overlay = stack.enter_context(OverlayVideo(video, recording.fps)) if video is not None else None
        progress = stack.enter_context(Progress(transient=True))
        task = progress.add_task(recording.name, total=recording.count)
        for frame in recording.frames():
            if not results:
                tracker.start(frame, box)
                rgb, aux = frame.presence
                result = TrackResult(frame.stamp, box, 1.0, TrackState.TRACKING, rgb, aux)
            else:
                result = tracker.update(frame)
            results.append(result)
            if overlay is not None:
                overlay.add(draw(frame, result))
            progress.advance(task)
    if not results:
        raise ReplayError(f"{recording.name} has no frames")
    return results


def _summary(results: list[TrackResult], tracker: Tracker, out: Path) -> str:
    states = Counter(result.state for result in results)
    counts = ", ".join(f"{states[state]} {state.value}" for state in TrackState)
    milliseconds = np.array([result.timing.total for result in results[1:]] or [0.0]) * 1e3
    middle, slow = np.percentile(milliseconds, (50, 95))
    where = f"{tracker.engine.name} on {tracker.engine.device}"
    return f"{len(results)} frames ({counts}); {middle:.1f} ms a frame, p95 {slow:.1f} ms, {where}; results in {out}"
