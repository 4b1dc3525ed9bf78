"""Tables over several runs: rows and their means, and the table of cameras alone and together."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.open_sequences import TEST, VALIDATION, open_sequences
from ckd_core.errors import TrackingError
from ckd_core.evaluation.report.table_files import markdown_table
from ckd_core.evaluation.running.better_camera import nanotrack_plans
from ckd_core.evaluation.running.conditions import AUX_ALONE, FULL, RGB_ALONE
from ckd_core.evaluation.running.jobs import worker_pool
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.scoring.metrics import TrackSummary, summarize_track
from ckd_core.evaluation.scoring.track_figures import TrackFrames
from ckd_core.settings import read_settings
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ckd_core.data import sequences
    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.records import TrackRecord
    from ckd_core.evaluation.running.runner import Progress, RunResult
    from ckd_core.evaluation.running.trackers import TrackerSpec

MEAN, MEAN_OF_TWO = "mean", "mean, two cameras"
INPUTS = ("both", "rgb", "aux")
EVERYTHING, OTHER = "all", "other"
# How far fusion may fall behind one camera alone (run-to-run noise), and a sequence behind NanoTrack's better camera.
MAX_FUSION_LOSS, MAX_BELOW_NANOTRACK = 0.02, 0.05


class TableError(TrackingError):
    """A table that is not possible with these trackers, sequences or conditions."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences that are averaged together."""

    name: str
    sequences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Groups:
    """Which sequences belong together; those in no group form the group "other"."""

    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        counts = Counter(name for group in self.groups for name in group.sequences)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise TableError(
                f"sequences in more than one group: {', '.join(twice)}; expected at most one group per sequence"
            )

    @property
    def names(self) -> list[str]:
        """All groups in order."""
        return [*(group.name for group in self.groups), OTHER]

    def of(self, sequence: str) -> str:
        """Group of a sequence."""
        return next((group.name for group in self.groups if sequence in group.sequences), OTHER)


NO_GROUPS = Groups()


def read_groups(path: Path) -> Groups:
    """Read groups from a YAML file: `groups`, a list of `name` and `sequences`.

    Raises:
        SettingsError: The file does not hold groups.
        TableError: A sequence is in two of them.
    """
    return read_settings(path, Groups)


def split_groups() -> Groups:
    """The open sequences for tests, and those for validation."""
    return Groups(tuple(Group(split, open_sequences().names(split)) for split in (TEST, VALIDATION)))


@dataclass(frozen=True, slots=True)
class TableRow:
    """One tracker on one sequence, or the mean over those of a group; in a mean, counts are sums.

    Attributes:
        sequence: Its name, or that of the mean.
        group: The sequence's group.
        tracker: The tracker's name.
        input: What the tracker was shown: both, rgb, aux, or a condition.
        frames: Frames with the object, over which AUC, precision and lost_frames are computed.
        auc: Success AUC, 0..1.
        precision_20px: Share of the frames with a centre error of at most 20 px.
        lost_frames: Frames without overlap, or with the state LOST.
        absent_frames: Frames without the object.
        false_tracking: How many of them had the state TRACKING.
    """

    sequence: str
    group: str
    tracker: str
    input: str
    frames: int
    auc: float
    precision_20px: float
    lost_frames: int
    absent_frames: int
    false_tracking: int


def frames_of(record: TrackRecord, sequence: sequences.Sequence) -> TrackFrames:
    """A run's track beside its annotation, from the frame on in which the tracker started."""
    first = record.start
    return TrackFrames(
        record.boxes[first:],
        sequence.boxes[first:],
        record.in_state(TrackState.TRACKING)[first:],
        record.in_state(TrackState.LOST)[first:],
        sequence.labelled[first:],
    )


def summarize_record(record: TrackRecord, sequence: sequences.Sequence) -> TrackSummary:
    """How a run went on a sequence; frames up to the one in which the tracker started do not count."""
    frames = frames_of(record, sequence)
    return summarize_track(frames.boxes, frames.truth, frames.tracking, frames.lost, frames.labelled)


def rows_of(result: RunResult, shown: str, groups: Groups = NO_GROUPS) -> list[TableRow]:
    """One row per sequence."""
    label, rows = result.plan.tracker.label, []
    for name, record in result.records.items():
        summary = summarize_record(record, result.plan.inputs.sequences[name])
        counts = summary.lost, summary.absent, summary.false_tracking
        measures = summary.frames, summary.auc, summary.precision
        rows.append(TableRow(name, groups.of(name), label, shown, *measures, *counts))
    return rows


def mean_of(values: Sequence[float]) -> float:
    """Mean of the values that are not nan; nan where there are none, as for sequences whose object never returns."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def mean_row(rows: Sequence[TableRow], name: str = MEAN, group: str = EVERYTHING) -> TableRow:
    """Mean AUC and precision over sequences with the object, sums of frames.

    Raises:
        TableError: There are no rows.
    """
    if not rows:
        raise TableError("0 sequences to average over; expected at least one")
    return TableRow(
        name, group, rows[0].tracker, rows[0].input,
        sum(row.frames for row in rows),
        mean_of([row.auc for row in rows]),
        mean_of([row.precision_20px for row in rows]),
        sum(row.lost_frames for row in rows),
        sum(row.absent_frames for row in rows),
        sum(row.false_tracking for row in rows),
    )  # fmt: skip


def mean_rows(rows: Sequence[TableRow], double: Sequence[str]) -> list[TableRow]:
    """Means of one run by group and over all; those with two cameras also apart, where some have only one."""
    means = []
    groups = list(dict.fromkeys(row.group for row in rows))
    for group in [*groups, EVERYTHING] if len(groups) > 1 else [EVERYTHING]:
        part = [row for row in rows if group in (row.group, EVERYTHING)]
        two = [row for row in part if row.sequence in double]
        means.append(mean_row(part, MEAN, group))
        if two and len(two) < len(part):
            means.append(mean_row(two, MEAN_OF_TWO, group))
        elif two:
            means[-1] = replace(means[-1], sequence=MEAN_OF_TWO)
    return means


def modality_table(
    plan: RunPlan,
    nanotrack: Path | None = None,
    progress: Progress = lambda *_: None,
    groups: Groups = NO_GROUPS,
) -> list[TableRow]:
    """Both cameras, colour alone, auxiliary alone; beside NanoTrack on each single camera.

    Sequences without an auxiliary camera appear with colour alone: the tracker never gets an auxiliary image, and its
    policy for a missing one decides what the network is shown.

    Args:
        plan: Its `out` gets one folder per run.
        nanotrack: Folder with the two ONNX files, None = without NanoTrack.
        progress: See `run_benchmark`.
        groups: Groups of sequences to average.

    Returns:
        Rows by group and sequence, then the means.
    """
    double = plan.inputs.two_cameras
    pairs = plan.inputs.select(double) if double else None
    runs: list[tuple[str, RunPlan]] = []
    for shown, condition in (("both", FULL), ("rgb", RGB_ALONE), ("aux", AUX_ALONE)):
        inputs = plan.inputs if shown == "rgb" else pairs
        if inputs is not None:
            folder = plan.out / folder_name(plan.tracker.label, shown)
            runs.append((shown, replace(plan, inputs=inputs, condition=condition, out=folder)))
    if nanotrack is not None:
        runs += nanotrack_plans(plan, nanotrack).items()
    rows: list[TableRow] = []
    means: list[TableRow] = []
    with worker_pool(plan) as pool:
        for shown, run in runs:
            run_rows = rows_of(run_benchmark(run, progress, pool), shown, groups)
            rows += run_rows
            means += mean_rows(run_rows, double)
    order = {name: index for index, name in enumerate(plan.inputs.names)}
    places = [*groups.names, EVERYTHING]
    rows.sort(key=lambda row: (places.index(row.group), order[row.sequence]))
    means.sort(key=lambda row: places.index(row.group))
    return rows + means


def origin_of(tracker: TrackerSpec) -> str:
    """Which weights and engine a table is from, as one line."""
    about = tracker.describe()
    return f"{tracker.label}: {about['weights']} (SHA-256 {str(about['weights_sha256'])[:12]}), {about['engine']}."


def modality_markdown(rows: Sequence[TableRow], origin: str = "") -> str:
    """Two Markdown tables, one line per sequence and one column per tracker: accuracy, and honesty of the states."""
    trackers = list(dict.fromkeys(row.tracker for row in rows))
    columns = sorted(
        {(row.tracker, row.input) for row in rows},
        key=lambda column: (
            not any(row.input == "both" for row in rows if row.tracker == column[0]),
            INPUTS.index(column[1]),
            trackers.index(column[0]),
        ),
    )
    lines = list(dict.fromkeys((row.sequence, row.group) for row in rows))
    cells = {(row.sequence, row.group, row.tracker, row.input): row for row in rows}
    header = [
        "sequence",
        "group",
        *(tracker if shown in tracker else f"{tracker} ({shown})" for tracker, shown in columns),
    ]

    def table(cell: Callable[[TableRow], str]) -> str:
        body = [
            [*line, *(cell(cells[(*line, *column)]) if (*line, *column) in cells else "" for column in columns)]
            for line in lines
        ]
        return markdown_table(header, body)

    accuracy = table(lambda row: f"{row.auc:.3f} / {row.precision_20px:.3f}")
    honesty = table(lambda row: f"{row.lost_frames} of {row.frames} / {row.false_tracking} of {row.absent_frames}")
    return (
        f"{origin} Sequences of one camera are run on it alone, as those of two in the columns (rgb) and (aux).\n\n"
        f"AUC / precision at 20 px:\n\n{accuracy}\n"
        f"Frames lost (no overlap, or LOST) of those with the object / TRACKING of those without it:\n\n{honesty}"
        f"\nAll cameras against the better one alone, AUC:\n\n{fusion_markdown(fusion_rows(rows))}"
    )


@dataclass(frozen=True, slots=True)
class FusionRow:
    """All cameras of a sequence against each alone; in the mean, the better camera is chosen per sequence.

    Attributes:
        sequence: Its name, or that of the mean.
        auc: With all of its cameras.
        rgb: AUC with colour alone.
        aux: AUC with the auxiliary camera alone; nan where there is none.
        gain: `auc` minus the larger of the two; nan where there is one camera.
        nanotrack: AUC of NanoTrack on its better camera; nan without it.
        lead: `auc` minus `nanotrack`.
    """

    sequence: str
    auc: float
    rgb: float
    aux: float
    gain: float
    nanotrack: float
    lead: float


def fusion_rows(rows: Sequence[TableRow]) -> list[FusionRow]:
    """One row per sequence of a table of modalities, then their mean."""
    tracker = rows[0].tracker
    known: dict[str, dict[tuple[bool, str], float]] = {}
    for row in rows:
        if row.sequence not in (MEAN, MEAN_OF_TWO):
            known.setdefault(row.sequence, {})[row.tracker == tracker, row.input] = row.auc
    found = []
    for sequence, auc in known.items():
        rgb, aux = auc[True, "rgb"], auc.get((True, "aux"), math.nan)
        both = auc.get((True, "both"), rgb)
        nanotrack = max((value for (own, _), value in auc.items() if not own), default=math.nan)
        gain = both - max(rgb, aux) if (True, "aux") in auc else math.nan
        found.append(FusionRow(sequence, both, rgb, aux, gain, nanotrack, both - nanotrack))
    names = [field.name for field in fields(FusionRow)][1:]
    return [*found, FusionRow(MEAN, *(mean_of([getattr(row, name) for row in found]) for name in names))]


def fusion_markdown(rows: Sequence[FusionRow]) -> str:
    """The rows, and whether they keep the limits."""
    header = [
        "sequence",
        "all cameras",
        "rgb",
        "aux",
        "gain over the better one",
        f"at least -{MAX_FUSION_LOSS:g}",
        "NanoTrack's better one",
        "lead over it",
        f"at least -{MAX_BELOW_NANOTRACK:g}",
    ]
    body = [
        [
            row.sequence,
            *(_three_digits(value) for value in (row.auc, row.rgb, row.aux)),
            *_verdict(row.gain, MAX_FUSION_LOSS),
            _three_digits(row.nanotrack),
            *_verdict(row.lead, MAX_BELOW_NANOTRACK),
        ]
        for row in rows
    ]
    return markdown_table(header, body)


def _three_digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _verdict(difference: float, limit: float) -> tuple[str, str]:
    if math.isnan(difference):
        return "", ""
    return f"{difference:+.3f}", "yes" if difference >= -limit else "no"


def folder_name(*words: str) -> str:
    """Name of a run's folder below the table's, without characters that a file system may refuse."""
    return "_".join("".join(c if c.isalnum() or c in "-_." else "-" for c in word).strip("-") for word in words)
