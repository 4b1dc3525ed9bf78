"""The work of `sdstrack run`: track a recording with a progress bar, write the results."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.background import read_ahead, write_behind
from ckd_core.boxes import parse_box
from ckd_core.files import discard, write_text
from ckd_core.locks import folder_lock
from ckd_core.replay.outputs import OverlayVideo, boxes_csv, boxes_text, draw, write_timeline
from ckd_core.replay.recording import ReplayError
from ckd_core.tracking.config import MissingPolicy, TrackerConfig
from ckd_core.tracking.result import TrackResult, TrackState

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from ckd_core.replay.recording import Recording
    from ckd_core.tracking.tracker import Tracker


def start_box(recording: Recording, text: str | None) -> BoundingBox:
    """Read the target's box in the first frame from `text` (x,y,w,h); None: the recording's own annotation.

    Raises:
        BoxError: The text is not a box.
        ReplayError: There is no text and no annotation.
    """
    box = parse_box(text) if text is not None else recording.first_box
    if box is None:
        raise ReplayError(f"{recording.name} has no box in its first frame; give --init x,y,w,h")
    return box


def tracker_config(published: bool, missing: str | None) -> TrackerConfig:
    """Build a tracker's options.

    Args:
        published: Turn everything off that the published trackers do not have.
        missing: Name of a `MissingPolicy`; None = the default.

    Raises:
        ReplayError: There is no such policy.
    """
    config = TrackerConfig()
    if missing is not None:
        try:
            config = replace(config, missing=MissingPolicy(missing))
        except ValueError as error:
            names = ", ".join(policy.value for policy in MissingPolicy)
            raise ReplayError(f"unknown policy {missing!r} for missing images; expected one of: {names}") from error
    return config.as_published() if published else config


def track_recording(recording: Recording, box: BoundingBox, tracker: Tracker, out: Path | None, *, video: bool) -> str:
    """Follow one target through a recording and write boxes.csv, NAME.txt, timeline.png and, with `video`, overlay.mp4.

    Args:
        recording: What to play.
        box: The target in the first frame.
        tracker: Starts on the first frame.
        out: Folder for the results; None = out/run/NAME.
        video: Whether to write the overlay.

    Returns:
        The summary for the user.

    Raises:
        ReplayError: The recording has no frames.
        TrackingError: A frame cannot be read or tracked; there is no overlay then.
    """
    out = out or Path("out") / "run" / recording.name
    with folder_lock(out, "sdstrack run"):
        results = _track(recording, box, tracker, out, video=video)
        write_text(out / "boxes.csv", boxes_csv(results))
        write_text(out / f"{recording.name}.txt", boxes_text(results))
        title = f"{recording.name}: {tracker.engine.spec.model}, {tracker.engine.name} on {tracker.engine.device}"
        write_timeline(out / "timeline.png", results, title)
    return _summary(results, tracker, out)


def _track(recording: Recording, box: BoundingBox, tracker: Tracker, out: Path, *, video: bool) -> list[TrackResult]:
    from rich.progress import Progress

    results: list[TrackResult] = []
    with ExitStack() as stack:
        show = None
        if video:
            overlay = stack.enter_context(OverlayVideo(out / "overlay.mp4", recording.fps))
            show = stack.enter_context(write_behind(lambda frame, result: overlay.add(draw(frame, result))))
        frames = stack.enter_context(read_ahead(recording.frames()))
        progress = stack.enter_context(Progress(transient=True))
        task = progress.add_task(recording.name, total=recording.count)
        for frame in frames:
            if not results:
                started = tracker.start(frame, box)
                rgb, aux = frame.presence
                result = TrackResult(frame.stamp, started, 1.0, TrackState.TRACKING, rgb, aux)
            else:
                result = tracker.update(frame)
            results.append(result)
            if show is not None:
                show(frame, result)
            progress.advance(task)
        if not results:
            raise ReplayError(f"{recording.name} has no frames; expected at least one")
        discard(out / name for name in ("overlay.mp4", "boxes.csv", f"{recording.name}.txt", "timeline.png"))
    return results


def _summary(results: list[TrackResult], tracker: Tracker, out: Path) -> str:
    states = Counter(result.state for result in results)
    counts = ", ".join(f"{states[state]} {state.value}" for state in TrackState)
    milliseconds = np.array([result.timing.total for result in results[1:]] or [0.0]) * 1e3
    median, slowest = np.percentile(milliseconds, (50, 95))
    where = f"{tracker.engine.name} on {tracker.engine.device} ({tracker.engine.chosen_by})"
    times = f"{median:.1f} ms per frame, p95 {slowest:.1f} ms"
    return f"{len(results)} frames ({counts}); {times}, {where}; results in {out}"
