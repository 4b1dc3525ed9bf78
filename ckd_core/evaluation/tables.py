"""Tables over several runs: cameras alone and together, and what a missing or spoilt camera costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.evaluation.conditions import AUX_ALONE, FULL, PROTOCOL, RGB_ALONE, parse_condition
from ckd_core.evaluation.contestants import NanoTrackContestant
from ckd_core.evaluation.files import write_json, write_text
from ckd_core.evaluation.metrics import TrackSummary, summarize_track
from ckd_core.evaluation.runner import RunPlan, RunResult, run_benchmark
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ckd_core.data import sequences
    from ckd_core.evaluation.conditions import Condition
    from ckd_core.evaluation.contestants import Contestant
    from ckd_core.evaluation.records import TrackRecord


@dataclass(frozen=True, slots=True)
class TableRow:
    """One tracker on one sequence (or on all: sequence "all") under one condition."""

    sequence: str
    tracker: str
    input: str
    frames: int
    auc: float
    precision_20px: float
    lost_frames: int
    absent_frames: int
    false_tracking: int


def summarize_record(record: TrackRecord, sequence: sequences.Sequence) -> TrackSummary:
    """How a run went on a sequence; frames up to the one that the tracker was given do not count."""
    first = record.start
    return summarize_track(
        record.boxes[first:],
        sequence.boxes[first:],
        record.in_state(TrackState.TRACKING)[first:],
        record.in_state(TrackState.LOST)[first:],
        sequence.labelled[first:],
    )


def _row(sequence: str, tracker: str, shown: str, summary: TrackSummary) -> TableRow:
    return TableRow(
        sequence, tracker, shown, summary.frames, round(summary.auc, 4), round(summary.precision, 4), summary.lost,
        summary.absent, summary.false_tracking,
    )  # fmt: skip


def rows_of(result: RunResult, shown: str) -> list[TableRow]:
    """One row a sequence, and their mean (of AUC and precision; the frames are summed) as sequence "all"."""
    summaries = {
        name: summarize_record(record, result.plan.dataset.open(name)) for name, record in result.records.items()
    }
    label = result.plan.contestant.label
    rows = [_row(name, label, shown, summary) for name, summary in summaries.items()]
    if summaries:
        values = list(summaries.values())
        total = TrackSummary(
            frames=sum(item.frames for item in values),
            auc=float(np.mean([item.auc for item in values])),
            precision=float(np.mean([item.precision for item in values])),
            lost=sum(item.lost for item in values),
            absent=sum(item.absent for item in values),
            false_tracking=sum(item.false_tracking for item in values),
        )
        rows.append(_row("all", label, shown, total))
    return rows


def modality_table(
    plan: RunPlan, nanotrack: Path | None = None, progress: Callable[[str, int, int], object] = lambda *_: None
) -> list[TableRow]:
    """Colour alone, auxiliary alone, both; beside NanoTrack on each single camera.

    plan: its `out` gets one folder a run. nanotrack: folder with the two ONNX files, None = without NanoTrack.
    Sequences without an auxiliary camera appear with colour alone. "both" is averaged over the sequences with two
    cameras, as is "aux"; "rgb" over the same sequences is the row "two cameras".
    """
    double = [name for name in plan.dataset.names if _has_two(plan.dataset.open(name))]
    pairs = plan.dataset.select(double) if double else None
    rows: list[TableRow] = []

    def add(contestant: Contestant, shown: str, condition: Condition) -> None:
        dataset = plan.dataset if shown == "rgb" else pairs
        if dataset is None:
            return
        folder = plan.out / _folder_name(contestant.label, shown)
        run = _with(plan, dataset=dataset, contestant=contestant, condition=condition, out=folder)
        result = run_benchmark(run, progress)
        rows.extend(rows_of(result, shown))
        if shown == "rgb" and pairs is not None and len(pairs) < len(dataset):
            part = RunResult(run, {name: result.records[name] for name in double}, result.score)
            rows.append(_renamed(rows_of(part, shown)[-1], "two cameras"))

    for shown, condition in (("both", FULL), ("rgb", RGB_ALONE), ("aux", AUX_ALONE)):
        add(plan.contestant, shown, condition)
    if nanotrack is not None:
        for stream, condition in (("rgb", RGB_ALONE), ("aux", AUX_ALONE)):
            add(NanoTrackContestant(nanotrack, stream), stream, condition)
    return rows


def _has_two(sequence: sequences.Sequence) -> bool:
    return bool(sequence.rgb_paths and sequence.aux_paths)


def _renamed(row: TableRow, name: str) -> TableRow:
    return TableRow(**{**asdict(row), "sequence": name})


def _folder_name(*words: str) -> str:
    return "_".join("".join(c if c.isalnum() or c in "-." else "-" for c in word).strip("-") for word in words)


def _with(plan: RunPlan, **changes: object) -> RunPlan:
    from dataclasses import replace

    return replace(plan, **changes)  # type: ignore[arg-type]  # checked by the dataclass' own fields


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """One condition against the full input, over all sequences with two cameras."""

    condition: str
    tracker: str
    frames_with_both: float
    auc: float
    auc_change: float
    precision_20px: float
    precision_change: float
    lost_frames: int


def robustness_table(
    plan: RunPlan,
    conditions: Sequence[str] = PROTOCOL,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> list[RobustnessRow]:
    """Full input -> missing or spoilt input, one row a condition; "full" is always the first row.

    conditions: texts as `parse_condition` reads them; their random parts use the seed of the plan's condition.
    """
    seed = plan.condition.seed
    wanted = [parse_condition(text, seed) for text in dict.fromkeys(("full", *conditions))]
    double = [name for name in plan.dataset.names if _has_two(plan.dataset.open(name))]
    dataset = plan.dataset.select(double)
    rows: list[RobustnessRow] = []
    for condition in wanted:
        run = _with(plan, dataset=dataset, condition=condition, out=plan.out / _folder_name(str(condition)))
        result = run_benchmark(run, progress)
        total = rows_of(result, "both")[-1]
        both = np.concatenate([record.presence[record.start + 1 :].all(axis=1) for record in result.records.values()])
        base = rows[0] if rows else None
        rows.append(
            RobustnessRow(
                condition=str(condition),
                tracker=plan.contestant.label,
                frames_with_both=round(float(both.mean()), 4),
                auc=total.auc,
                auc_change=round(total.auc - base.auc, 4) if base else 0.0,
                precision_20px=total.precision_20px,
                precision_change=round(total.precision_20px - base.precision_20px, 4) if base else 0.0,
                lost_frames=total.lost_frames,
            )
        )
    return rows


def to_markdown(rows: Iterable[TableRow] | Iterable[RobustnessRow]) -> str:
    """Rows as a markdown table."""
    values = [asdict(row) for row in rows]
    if not values:
        return ""
    columns = list(values[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in columns) + " |" for row in values]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def write_table(rows: Sequence[TableRow] | Sequence[RobustnessRow], out: Path, name: str) -> tuple[Path, Path]:
    """Write `NAME.json` and `NAME.md` into a folder; returns both paths."""
    data, text = out / f"{name}.json", out / f"{name}.md"
    write_json(data, {name: [asdict(row) for row in rows]})
    write_text(text, to_markdown(rows))
    return data, text
