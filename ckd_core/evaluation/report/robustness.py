"""What a missing or degraded camera, a lower rate or a bad start box costs: the table over conditions."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.evaluation.report.tables import (
    TableError,
    TableRow,
    folder_name,
    mean_of,
    mean_row,
    rows_of,
    split_groups,
)
from ckd_core.evaluation.running.better_camera import run_tracker
from ckd_core.evaluation.running.conditions import EVERYDAY, parse_condition
from ckd_core.evaluation.running.jobs import worker_pool
from ckd_core.files import regular
from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.runner import Progress
    from ckd_core.evaluation.scoring.score import BenchmarkScore

FULL_INPUT = "full"
MAX_MORE_THAN_BASELINE = 0.02  # AUC; smaller differences between runs mean nothing


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """One condition against the full input, over all sequences with two cameras.

    Attributes:
        condition: As `parse_condition` reads it.
        tracker: The tracker's name.
        frames_with_both: Share of the tracked frames that had both cameras.
        auc: Mean success AUC.
        auc_change: Difference from "full"; a loss is negative.
        baseline_change: The same of the baseline on the same sequences; nan without a baseline.
        within: Whether the loss is at most the baseline's and `MAX_MORE_THAN_BASELINE`: "yes", "no", or "".
        precision_20px: Mean precision.
        precision_change: Difference from "full".
        lost_frames: Sum over the sequences.
    """

    condition: str
    tracker: str
    frames_with_both: float
    auc: float
    auc_change: float
    baseline_change: float
    within: str
    precision_20px: float
    precision_change: float
    lost_frames: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """AUC of another tracker by sequence and condition, from a `robustness_sequences.csv`."""

    path: Path
    auc: Mapping[tuple[str, str], float]

    def change(self, condition: str, sequences: Sequence[str]) -> float:
        """Difference of the mean AUC over these sequences from "full".

        Raises:
            TableError: The baseline was not run on one of them, or not under the condition.
        """
        return self._mean(condition, sequences) - self._mean(FULL_INPUT, sequences)

    def _mean(self, condition: str, sequences: Sequence[str]) -> float:
        absent = [name for name in sequences if (name, condition) not in self.auc]
        if absent:
            raise TableError(
                f"the baseline {self.path} has no row for {condition} on {', '.join(absent)}; run the baseline on the "
                "same sequences under the same conditions, or leave these out"
            )
        return mean_of([self.auc[name, condition] for name in sequences])


def read_baseline(path: Path) -> Baseline:
    """Read the `robustness_sequences.csv` of a run of `sdstrack robustness`.

    Raises:
        TableError: The file is missing, or not such a file.
    """
    try:
        with regular(path).open(newline="", encoding="utf-8") as stream:
            auc = {(row["sequence"], row["input"]): float(row["auc"]) for row in csv.DictReader(stream)}
    except OSError as error:
        raise TableError(f"cannot read the baseline {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"{path} is no baseline: {shown(str(error))}; expected robustness_sequences.csv of `sdstrack robustness`, "
            "with the columns sequence, input and auc"
        ) from error
    return Baseline(path, auc)


@dataclass(frozen=True, slots=True, eq=False)
class RobustnessTable:
    """The table, and what it is made of.

    Attributes:
        rows: One per condition, "full" first.
        sequences: One row per condition and sequence; `input` is the condition.
        scores: The benchmark's numbers by condition, each under the condition's name.
    """

    rows: list[RobustnessRow]
    sequences: list[TableRow]
    scores: list[BenchmarkScore]


def run_condition(
    plan: RunPlan, condition: Condition, pool: ProcessPoolExecutor | None, progress: Progress
) -> tuple[list[TableRow], float, BenchmarkScore]:
    """Rows of all sequences of a plan under one condition, the share of frames with both cameras, and the score."""
    run = replace(plan, condition=condition, out=plan.out / folder_name(str(condition)))
    result = run_tracker(run, progress, pool)
    both = np.concatenate([record.presence[record.start + 1 :].all(axis=1) for record in result.records.values()])
    return (
        rows_of(result, str(condition), split_groups()),
        float(both.mean()),
        replace(result.score, tracker=str(condition)),
    )


def robustness_table(
    plan: RunPlan,
    conditions: Sequence[str] = EVERYDAY,
    progress: Progress = lambda *_: None,
    baseline: Baseline | None = None,
) -> RobustnessTable:
    """Full input -> missing or degraded input, one row per condition; "full" is always the first row.

    Args:
        plan: Its `out` gets one folder per condition.
        conditions: As `parse_condition` reads them; random parts use the seed of the plan's condition.
        progress: See `run_benchmark`.
        baseline: What another tracker loses.

    Raises:
        TableError: No sequence has two cameras, or the baseline lacks one of them or a condition.
        MaskError: Masks that do not fit a sequence.
    """
    wanted = [parse_condition(text, plan.condition.seed) for text in dict.fromkeys((FULL_INPUT, *conditions))]
    names = two_cameras(plan)
    others = {str(condition): baseline.change(str(condition), names) for condition in wanted} if baseline else {}
    plan = replace(plan, inputs=plan.inputs.select(names))
    for condition in wanted:
        for name in plan.inputs.names:
            condition.presence(plan.inputs.sequences[name])  # what does not fit shows before anything is tracked
    table = RobustnessTable([], [], [])
    with worker_pool(plan) as pool:
        for condition in wanted:
            sequences, both, score = run_condition(plan, condition, pool, progress)
            table.sequences.extend(sequences)
            table.scores.append(score)
            total, other = mean_row(sequences), others.get(str(condition), math.nan)
            full = table.rows[0] if table.rows else None
            change = total.auc - full.auc if full else 0.0
            table.rows.append(
                RobustnessRow(
                    condition=str(condition),
                    tracker=plan.tracker.label,
                    frames_with_both=both,
                    auc=total.auc,
                    auc_change=change,
                    baseline_change=other,
                    within=_within(change, other),
                    precision_20px=total.precision_20px,
                    precision_change=total.precision_20px - full.precision_20px if full else 0.0,
                    lost_frames=total.lost_frames,
                )
            )
    return table


def _within(change: float, other: float) -> str:
    if math.isnan(other):
        return ""
    return "yes" if change >= other - MAX_MORE_THAN_BASELINE else "no"


def two_cameras(plan: RunPlan) -> list[str]:
    """Names of the sequences with two cameras.

    Raises:
        TableError: There is none.

    """
    names = plan.inputs.two_cameras
    if not names:
        raise TableError("no sequence has two cameras; expected at least one, so that a camera can be missing")
    return names
