"""What a missing or degraded camera costs: the table over conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.evaluation.report.tables import TableError, TableRow, folder_name, mean_row, rows_of
from ckd_core.evaluation.running.conditions import PROTOCOL, parse_condition
from ckd_core.evaluation.running.runner import run_benchmark, worker_pool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import ProcessPoolExecutor

    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.runner import Progress


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """One condition against the full input, over all sequences with two cameras.

    Attributes:
        condition: As `parse_condition` reads it.
        tracker: The tracker's name.
        frames_with_both: Share of the tracked frames that had both cameras.
        auc: Mean success AUC.
        auc_change: Difference from "full".
        precision_20px: Mean precision.
        precision_change: Difference from "full".
        lost_frames: Sum over the sequences.
    """

    condition: str
    tracker: str
    frames_with_both: float
    auc: float
    auc_change: float
    precision_20px: float
    precision_change: float
    lost_frames: int


def run_condition(
    plan: RunPlan, condition: Condition, pool: ProcessPoolExecutor | None, progress: Progress
) -> tuple[list[TableRow], float]:
    """Rows of all sequences of a plan under one condition, and the share of frames with both cameras."""
    run = replace(plan, condition=condition, out=plan.out / folder_name(str(condition)))
    result = run_benchmark(run, progress, pool)
    both = np.concatenate([record.presence[record.start + 1 :].all(axis=1) for record in result.records.values()])
    return rows_of(result, str(condition)), float(both.mean())


def robustness_table(
    plan: RunPlan, conditions: Sequence[str] = PROTOCOL, progress: Progress = lambda *_: None
) -> list[RobustnessRow]:
    """Full input -> missing or degraded input, one row per condition; "full" is always the first row.

    Args:
        plan: Its `out` gets one folder per condition.
        conditions: As `parse_condition` reads them; random parts use the seed of the plan's condition.
        progress: See `run_benchmark`.

    Raises:
        TableError: No sequence has two cameras.
        MaskError: Masks that do not fit a sequence.
    """
    wanted = [parse_condition(text, plan.condition.seed) for text in dict.fromkeys(("full", *conditions))]
    plan = replace(plan, inputs=plan.inputs.select(two_cameras(plan)))
    for condition in wanted:
        for name in plan.inputs.names:
            condition.presence(plan.inputs.sequences[name])  # what does not fit shows before anything is tracked
    rows: list[RobustnessRow] = []
    with worker_pool(plan) as pool:
        for condition in wanted:
            table_rows, both = run_condition(plan, condition, pool, progress)
            total = mean_row(table_rows)
            base = rows[0] if rows else None
            rows.append(
                RobustnessRow(
                    condition=str(condition),
                    tracker=plan.tracker.label,
                    frames_with_both=both,
                    auc=total.auc,
                    auc_change=total.auc - base.auc if base else 0.0,
                    precision_20px=total.precision_20px,
                    precision_change=total.precision_20px - base.precision_20px if base else 0.0,
                    lost_frames=total.lost_frames,
                )
            )
    return rows


def two_cameras(plan: RunPlan) -> list[str]:
    """Names of the sequences with two cameras.

    Raises:
        TableError: There is none.

    """
    names = plan.inputs.two_cameras
    if not names:
        raise TableError("no sequence has two cameras; expected at least one, so that a camera can be missing")
    return names
