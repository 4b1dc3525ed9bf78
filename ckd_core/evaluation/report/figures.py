"""Tables of what a run's boxes and states did: one row per sequence and tracker, and a mean per tracker."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from ckd_core.evaluation.report.table_files import markdown_table
from ckd_core.evaluation.report.tables import MEAN, frames_of, mean_of
from ckd_core.evaluation.running.better_camera import run_nanotrack, run_tracker
from ckd_core.evaluation.running.jobs import worker_pool
from ckd_core.evaluation.scoring.track_figures import (
    MAX_SEARCH_FRAMES,
    BoxFigures,
    StateFigures,
    TrackFrames,
    box_figures,
    state_figures,
    sum_states,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.runner import Progress, RunResult

# What states must keep to be believed (docs/evaluation.md, "Boxes and states").
MAX_FALSE_TRACKING, MAX_SHYNESS, MIN_FOUND = 0.02, 0.05, 0.8


@dataclass(frozen=True, slots=True)
class BoxRow:
    """`BoxFigures` of one tracker on one sequence, or their mean over sequences with the target (frames: sum)."""

    sequence: str
    tracker: str
    frames: int
    auc: float
    auc_true_size: float
    auc_true_center: float
    width_ratio: float
    height_ratio: float


@dataclass(frozen=True, slots=True)
class StateRow:
    """`StateFigures` of one tracker on one sequence, or over all of them together.

    Attributes:
        sequence: Its name, or that of the mean.
        tracker: The tracker's name.
        frames: Frames with the target in view.
        absent_frames: Frames without it.
        tracking_frames: Annotated frames in the state TRACKING.
        false_tracking: Share of them that show something else.
        absent_tracking: Share of the frames without the target that are TRACKING.
        shyness: Share of the frames in view that are not TRACKING with a good box.
        searches: Searches for a target in view that ended, or took more than 30 frames.
        found_in_30: Share of them that took at most 30 frames.
        search_frames: Their median length; inf: most never ended.
        undecided: Searches cut short before 30 frames.
        failed: Sequences in which the box was off in any frame.
        frames_to_failure: Frames before the first of those, or all of them; in the mean, their mean.
    """

    sequence: str
    tracker: str
    frames: int
    absent_frames: int
    tracking_frames: int
    false_tracking: float
    absent_tracking: float
    shyness: float
    searches: int
    found_in_30: float
    search_frames: float
    undecided: int
    failed: int
    frames_to_failure: float


def tracks_of(result: RunResult) -> dict[str, TrackFrames]:
    """The tracks of a run by the names of their sequences."""
    opened = result.plan.inputs.sequences
    return {name: frames_of(record, opened[name]) for name, record in result.records.items()}


def box_rows(tracker: str, tracks: Mapping[str, TrackFrames]) -> list[BoxRow]:
    """One row per sequence, then the mean."""
    rows = [BoxRow(name, tracker, **asdict(box_figures(track))) for name, track in tracks.items()]
    means = {
        field.name: mean_of([getattr(row, field.name) for row in rows])
        for field in fields(BoxFigures)
        if field.name != "frames"
    }
    return [*rows, BoxRow(MEAN, tracker, sum(row.frames for row in rows), **means)]


def state_rows(tracker: str, tracks: Mapping[str, TrackFrames]) -> list[StateRow]:
    """One row per sequence, then one over all of them together."""
    found = {name: state_figures(track) for name, track in tracks.items()}
    return [_state_row(name, tracker, item) for name, item in (*found.items(), (MEAN, sum_states(found.values())))]


def _state_row(sequence: str, tracker: str, figures: StateFigures) -> StateRow:
    return StateRow(
        sequence=sequence,
        tracker=tracker,
        frames=figures.frames,
        absent_frames=figures.absent,
        tracking_frames=figures.tracking,
        false_tracking=figures.false_tracking_share,
        absent_tracking=figures.absent_tracking_share,
        shyness=figures.shyness,
        searches=len(figures.waits),
        found_in_30=figures.found_share,
        search_frames=figures.median_wait,
        undecided=figures.undecided,
        failed=figures.failed,
        frames_to_failure=figures.mean_before_failure,
    )


def compared_tracks(plan: RunPlan, nanotrack: Path | None, progress: Progress) -> dict[str, dict[str, TrackFrames]]:
    """Tracks by tracker and sequence: of the plan, and of NanoTrack on each camera and on the better one.

    Args:
        plan: Its run is in `out` itself, those of NanoTrack in a folder each below it.
        nanotrack: Folder with the two ONNX files, None = without NanoTrack.
        progress: See `run_benchmark`.
    """
    with worker_pool(plan) as pool:
        runs = [run_tracker(plan, progress, pool)]
        if nanotrack is not None:
            runs += run_nanotrack(plan, nanotrack, progress, pool).values()
    return {run.plan.tracker.label: tracks_of(run) for run in runs}


def honesty_table(rows: Sequence[StateRow]) -> str:
    """Markdown: the three figures of honest states for every mean, with their limits."""
    lines = [
        [
            row.tracker,
            _kept(row.false_tracking, row.false_tracking < MAX_FALSE_TRACKING, f"of {row.tracking_frames}"),
            _kept(row.shyness, row.shyness < MAX_SHYNESS, f"of {row.frames}"),
            _kept(row.found_in_30, row.found_in_30 >= MIN_FOUND, f"of {row.searches}"),
        ]
        for row in rows
        if row.sequence == MEAN
    ]
    header = [
        "tracker",
        f"false TRACKING (below {MAX_FALSE_TRACKING:.0%})",
        f"shyness (below {MAX_SHYNESS:.0%})",
        f"found within {MAX_SEARCH_FRAMES} frames (at least {MIN_FOUND:.0%})",
    ]
    return markdown_table(header, lines)


def _kept(share: float, kept: bool, count: str) -> str:
    if math.isnan(share):
        return f"nothing to count ({count})"
    return f"{share:.1%} {count}: {'yes' if kept else 'no'}"
