"""Score the tracker on a recording as live: while it computes, time passes.

After Li, Wang and Ramanan, "Towards Streaming Perception" (ECCV 2020): a frame is scored against the newest box that
was ready when the frame came, and while the tracker computes, a newer frame replaces the one that waits.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.background import read_ahead
from ckd_core.tracking.prediction import BoxPredictor
from ckd_core.tracking.result import TrackState
from sdstrack_ros.bags.scoring import INIT, BagTarget, FrameRow, summarize_rows, untracked_row
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.bags.truth import EvaluationError, load_truth
from sdstrack_ros.messages.stamps import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ckd_core.evaluation.scoring.metrics import TrackSummary
    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.tracker import FrameTracker
    from sdstrack_ros.bags.frames import BagFrame
    from sdstrack_ros.bags.scoring import BagInput
    from sdstrack_ros.bags.truth import FrameTruth


@dataclass(frozen=True, slots=True)
class StreamingReport:
    """The result as live.

    Attributes:
        rows: every frame with the box that was ready when it came.
        truth: what is known about each frame.
        summary: of these boxes. The offline AUC minus `summary.auc` is the price of being late.
        predicted: of these boxes moved on along their course to the frame's own time.
        frames: number of frames in the recording.
        tracked: number of frames that the tracker processed.
        dropped: number of frames replaced by newer ones while the tracker computed.
        latency_s: seconds per tracked frame.
        measured: whether the latency was measured here, or stated by the caller.
    """

    rows: tuple[FrameRow, ...]
    truth: tuple[FrameTruth, ...]
    summary: TrackSummary
    predicted: TrackSummary
    frames: int
    tracked: int
    dropped: int
    latency_s: tuple[float, ...]
    measured: bool


@dataclass(frozen=True, slots=True)
class _TimedRow:
    """A tracked frame: when its box was ready, on the recording's clock, and what it cost."""

    ready_ns: int
    cost_s: float
    row: FrameRow


def evaluate_streaming(
    source: BagInput,
    tracker: FrameTracker,
    truth_file: Path | None = None,
    init_box: BoundingBox | None = None,
    latency_s: float | None = None,
) -> StreamingReport:
    """Score the boxes that would have been known when each frame came; the newest frame wins.

    Args:
        source: what to read.
        tracker: it is reset first.
        truth_file: true boxes, one line per colour frame; None takes the truth topic.
        init_box: box to start on in the first frame; None starts on the first true box.
        latency_s: seconds that one frame costs; None measures them on this machine.

    Raises:
        BagError: the recording cannot be read.
        EvaluationError: the latency is negative or not finite, there are no true boxes, or they do not fit.
    """
    if latency_s is not None and not (np.isfinite(latency_s) and latency_s >= 0):
        raise EvaluationError(f"latency {latency_s} s; expected a finite number from 0")
    with open_bag(source.path) as bag:
        truth = load_truth(bag, source.topics.truth, truth_file)
    if not truth:
        raise EvaluationError(f"{source.path} has no true boxes; streaming evaluation needs them")
    arrivals: list[FrameRow] = []

    def arriving(frames: Iterable[BagFrame]) -> Iterator[BagFrame]:
        for frame in frames:
            arrivals.append(untracked_row(frame))
            yield frame

    target = BagTarget(tracker, truth, init_box)
    recorded = source.opened_frames()
    # A latency is measured with nothing running beside the tracker.
    with closing(recorded) if latency_s is None else read_ahead(recorded) as frames:
        tracked, dropped = _track_live(arriving(frames), target, latency_s)
    known = truth.of_frames([row.stamp_ns for row in arrivals], [row.rgb for row in arrivals])
    rows = tuple(_with_ready_box(row, tracked) for row in arrivals)
    return StreamingReport(
        rows,
        known,
        summarize_rows(rows, known),
        summarize_rows(_moved_on(arrivals, tracked), known),
        len(arrivals),
        len(tracked),
        dropped,
        tuple(timed.cost_s for timed in tracked),
        latency_s is None,
    )


def _track_live(frames: Iterable[BagFrame], target: BagTarget, latency_s: float | None) -> tuple[list[_TimedRow], int]:
    """Track with one worker and room for one waiting frame, in which the newest replaces an older one.

    Returns:
        The tracked frames in order, and the number of dropped ones.
    """
    tracked: list[_TimedRow] = []
    dropped = 0
    free_ns: int | None = None  # when the worker is free again; None before its first frame
    waiting: BagFrame | None = None

    def track(frame: BagFrame, start_ns: int) -> int:
        began = time.perf_counter()
        row = target.track(frame)
        cost_s = time.perf_counter() - began if latency_s is None else latency_s
        done_ns = start_ns + round(cost_s * NS_PER_S)
        # The box to start on is known, not computed: it is ready at once, so streaming and offline score equal frames.
        tracked.append(_TimedRow(start_ns if row.state == INIT else done_ns, cost_s, row))
        return done_ns

    for frame in frames:
        if waiting is not None and free_ns is not None and free_ns < frame.released_ns:
            free_ns = track(waiting, free_ns)
            waiting = None
        dropped += waiting is not None
        waiting = frame
        if free_ns is None or free_ns <= frame.released_ns:
            free_ns = track(frame, frame.released_ns)
            waiting = None
    if waiting is not None and free_ns is not None:
        track(waiting, free_ns)
    return tracked, dropped


def _with_ready_box(row: FrameRow, tracked: Sequence[_TimedRow]) -> FrameRow:
    """Return the row of a frame with the newest box that was ready when it came."""
    ready = tracked[: bisect_right(tracked, row.released_ns, key=lambda timed: timed.ready_ns)]
    newest = next((timed.row for timed in reversed(ready) if timed.row.box is not None), None)
    return row if newest is None else replace(row, state=newest.state, box=newest.box, score=newest.score)


def _moved_on(arrivals: Sequence[FrameRow], tracked: Sequence[_TimedRow]) -> list[FrameRow]:
    """Return every frame with the newest ready box, moved on along its course; as it is where the course is unknown."""
    predictor = BoxPredictor()
    rows = []
    done = 0
    for row in arrivals:
        while done < len(tracked) and tracked[done].ready_ns <= row.released_ns:
            ready = tracked[done].row
            seen = ready.box if ready.state in (INIT, TrackState.TRACKING.value) else None
            predictor.observe(ready.stamp_ns / NS_PER_S, seen)
            done += 1
        late = _with_ready_box(row, tracked[:done])
        predicted = predictor.at(row.stamp_ns / NS_PER_S)
        rows.append(late if predicted is None or late.box is None else replace(late, box=predicted))
    return rows
