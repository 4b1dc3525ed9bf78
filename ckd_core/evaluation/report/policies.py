"""Which policy for a missing image is best: all of them under every pattern of the missing-modality protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.data.datasets import Dataset
from ckd_core.data.layouts import get_layout
from ckd_core.data.sequences import write_sequence
from ckd_core.evaluation.report.robustness import run_condition
from ckd_core.evaluation.report.table_files import markdown_table
from ckd_core.evaluation.report.tables import TableError, TableRow, mean_of
from ckd_core.evaluation.running.conditions import PROTOCOL, parse_condition
from ckd_core.evaluation.running.inputs import open_inputs
from ckd_core.evaluation.running.jobs import worker_pool
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.frame import Modality
from ckd_core.tracking.config import MissingPolicy, TrackerConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.runner import Progress

RECORDED, SYNTHETIC = "recorded", "synthetic"
CLIP_FRAMES = 60
# One clip per row. The seeds are far from those of training, demo and tests.
CLIPS: tuple[tuple[int, Modality, dict[str, object]], ...] = (
    (910_001, Modality.THERMAL, {"target": "person", "trouble": "smoke"}),
    (910_002, Modality.THERMAL, {"target": "person", "trouble": "dark"}),
    (910_003, Modality.DEPTH, {"target": "rigid"}),
    (910_004, Modality.DEPTH, {"target": "person", "absent": (0.4, 0.6)}),
    (910_005, Modality.EVENT, {"target": "deforming"}),
    (910_006, Modality.EVENT, {"target": "rigid", "trouble": "dark"}),
)


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy under one pattern on one sequence; `kind` is recorded or synthetic, numbers are as in `TableRow`."""

    policy: str
    condition: str
    sequence: str
    kind: str
    frames: int
    auc: float
    precision_20px: float
    lost_frames: int


def synthetic_sequences(root: Path, modalities: Collection[Modality] = tuple(Modality)) -> Dataset:
    """The clips of `CLIPS` with these cameras as sequences in the plain layout below `root`; existing ones are kept."""
    from ckd_core.data.synthetic import clip

    folders = []
    for seed, modality, options in CLIPS:
        if modality not in modalities:
            continue
        folder = root / f"synthetic_{modality.value}_{seed}"
        if not (folder / "groundtruth.txt").is_file():
            recording = clip(seed, modality, CLIP_FRAMES, **options)  # type: ignore[arg-type]  # options of `clip`
            write_sequence(folder, recording.frames, recording.boxes)
        folders.append((folder.name, folder))
    return Dataset(get_layout("folder"), root, None, tuple(folders), cut=False)


def policy_table(
    plan: RunPlan,
    policies: Sequence[str],
    conditions: Sequence[str] = PROTOCOL,
    progress: Progress = lambda *_: None,
    synthetic: bool = True,
) -> list[PolicyRow]:
    """Every policy under every condition, on the plan's sequences with two cameras and the synthetic clips.

    "full" needs no policy and is run with the first one.

    Args:
        plan: Of a `ModelSpec`, on sequences in the plain layout.
        policies: Names of `MissingPolicy`.
        conditions: As `parse_condition` reads them.
        progress: See `run_benchmark`.
        synthetic: Also run on the synthetic clips.

    Raises:
        TableError: An unknown policy, another tracker or layout, or no condition but "full".
    """
    known = [policy.value for policy in MissingPolicy]
    unknown = [name for name in policies if name not in known]
    if unknown or not policies:
        raise TableError(f"unknown policy {', '.join(unknown) or '(none)'}; expected one or more of {', '.join(known)}")
    tracker = plan.tracker
    if not isinstance(tracker, ModelSpec) or plan.inputs.dataset.layout.name != "folder":
        raise TableError(
            f"policies cannot be compared with {tracker.label} on {plan.inputs.dataset.layout.name}; expected a "
            "network of this package on sequences in the plain layout (folder)"
        )
    inputs = plan.inputs.select(plan.inputs.two_cameras)
    if synthetic:
        clips = open_inputs(synthetic_sequences(plan.out / "clips", tracker.modalities()))
        inputs = inputs.joined(clips)
    wanted = [parse_condition(text, plan.condition.seed) for text in dict.fromkeys(("full", *conditions))]
    if len(wanted) < 2:
        raise TableError(
            f"full is the only condition, so no image is missing; give others, such as {', '.join(PROTOCOL[1:])}"
        )
    kinds = dict.fromkeys(clips.names, SYNTHETIC) if synthetic else {}
    config, rows = tracker.config or TrackerConfig(), []
    with worker_pool(plan) as pool:
        for policy in policies:
            run = replace(
                plan,
                inputs=inputs,
                tracker=replace(tracker, config=replace(config, missing=MissingPolicy(policy))),
                out=plan.out / policy,
            )
            for condition in wanted if policy == policies[0] else wanted[1:]:
                table_rows, *_ = run_condition(run, condition, pool, progress)
                rows += [_row(row, policy, kinds.get(row.sequence, RECORDED)) for row in table_rows]
    return rows


def _row(row: TableRow, policy: str, kind: str) -> PolicyRow:
    shown = "any" if row.input == "full" else policy
    return PolicyRow(shown, row.input, row.sequence, kind, row.frames, row.auc, row.precision_20px, row.lost_frames)


def best_policy(rows: Sequence[PolicyRow]) -> str:
    """The policy with the highest mean AUC over all patterns; recorded and synthetic sequences have equal weight."""
    policies = [name for name in dict.fromkeys(row.policy for row in rows) if name != "any"]
    return max(policies, key=lambda policy: _overall(rows, policy))


def _overall(rows: Sequence[PolicyRow], policy: str) -> float:
    kinds = list(dict.fromkeys(row.kind for row in rows))
    return mean_of([_mean(rows, policy, None, kind) for kind in kinds])


def _mean(rows: Sequence[PolicyRow], policy: str, condition: str | None, kind: str) -> float:
    """Mean AUC; sequences without the object after the start do not count."""
    part = [row.auc for row in rows if row.policy == policy and condition in (None, row.condition) and kind == row.kind]
    return mean_of(part)


def policy_markdown(rows: Sequence[PolicyRow]) -> str:
    """Mean AUC of every policy under every pattern, one table for the recorded and one for the synthetic sequences."""
    conditions = list(dict.fromkeys(row.condition for row in rows if row.policy != "any"))
    policies = [name for name in dict.fromkeys(row.policy for row in rows) if name != "any"]
    parts = []
    for kind in dict.fromkeys(row.kind for row in rows):
        names = list(dict.fromkeys(row.sequence for row in rows if row.kind == kind))
        full = _mean(rows, "any", None, kind)
        lines = [
            [policy, *(f"{_mean(rows, policy, name, kind):.3f}" for name in conditions),
             f"{_mean(rows, policy, None, kind):.3f}"]
            for policy in policies
        ]  # fmt: skip
        table = markdown_table(["missing image", *conditions, "mean"], lines)
        parts.append(
            f"{len(names)} {kind} sequences ({', '.join(names)}); AUC with both cameras {full:.3f}:\n\n{table}"
        )
    best = best_policy(rows)
    parts.append(f"Best over both kinds: {best} (mean AUC {_overall(rows, best):.3f}).\n")
    return "\n".join(parts)
