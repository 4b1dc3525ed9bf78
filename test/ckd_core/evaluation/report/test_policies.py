from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

import ckd_core.commands
from ckd_core.cli import build_app
from ckd_core.data.datasets import open_dataset
from ckd_core.data.sequences import open_sequence
from ckd_core.evaluation.report import policies
from ckd_core.evaluation.report.policies import PolicyRow, best_policy, policy_markdown, policy_table
from ckd_core.evaluation.report.tables import TableError
from ckd_core.evaluation.running.inputs import open_inputs
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.trackers import ModelSpec, NanoTrackSpec
from ckd_core.frame import Modality
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from pathlib import Path


def rows(**auc: float) -> list[PolicyRow]:
    rows = [PolicyRow("any", "full", kind, kind, 10, 0.9, 1.0, 0) for kind in ("recorded", "synthetic")]
    for policy, value in auc.items():
        rows += [
            PolicyRow(policy, condition, f"s{i}", kind, 10, value + 0.1 * i, 1.0, 0)
            for condition in ("bursts", "rgb_only")
            for i, kind in enumerate(("recorded", "recorded", "synthetic"))
        ]
    return rows


def test_the_best_policy_weights_both_kinds_equally() -> None:
    table = rows(zeros=0.3, duplicate=0.4)
    assert best_policy(table) == "duplicate"
    text = policy_markdown(table)
    assert "| zeros | 0.350 | 0.350 | 0.350 |" in text
    assert "Best over both kinds: duplicate (mean AUC 0.525)" in text
    gone = [replace(row, sequence="gone", auc=float("nan")) for row in table if row.sequence == "s0"]
    assert best_policy([*gone, *table]) == "duplicate"
    assert "| zeros | 0.350 | 0.350 | 0.350 |" in policy_markdown([*table, *gone])
    synthetic_only = [*table, PolicyRow("zeros", "bursts", "s9", "synthetic", 10, 1.4, 1.0, 0)]
    assert best_policy(synthetic_only) == "zeros"


def test_synthetic_clips_are_written_once_and_repeat_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "CLIPS", policies.CLIPS[:1])
    monkeypatch.setattr(policies, "CLIP_FRAMES", 3)
    (name, folder), *_ = policies.synthetic_sequences(tmp_path / "a").folders
    first = open_sequence(folder)
    assert (name, len(first), first.modality) == ("synthetic_thermal_910001", 3, Modality.THERMAL)
    (_, other), *_ = policies.synthetic_sequences(tmp_path / "b").folders
    np.testing.assert_array_equal(first.rgb(2), open_sequence(other).rgb(2))
    stamp = (folder / "groundtruth.txt").stat().st_mtime_ns
    policies.synthetic_sequences(tmp_path / "a")
    assert (folder / "groundtruth.txt").stat().st_mtime_ns == stamp
    assert not policies.synthetic_sequences(tmp_path / "a", [Modality.DEPTH]).folders


def test_the_command_compares_policies(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    words = ["robustness", "-d", "folder", "--root", scenes, "--out", tmp_path / "p", "--model", TINY, "--threads", 1]
    words += ["--weights", tiny_weights, "--device", "cpu", "--policies", "zeros,alone", "--no-synthetic"]
    outcome = CliRunner().invoke(build_app(ckd_core.commands), [*map(str, words), "--conditions", "rgb_only,bursts"])
    assert outcome.exit_code == 0, outcome.output
    rows = [PolicyRow(**row) for row in json.loads((tmp_path / "p" / "policies.json").read_text())["policies"]]
    assert {row.sequence for row in rows} == {"a", "b", "c"}, "d has one camera"
    assert len([row for row in rows if row.policy == "any"]) == 3
    assert {(row.policy, row.condition) for row in rows if row.policy != "any"} == {
        (policy, condition) for policy in ("zeros", "alone") for condition in ("rgb_only", "bursts=0.3")
    }
    zeros, alone = ([row.auc for row in rows if row.policy == policy] for policy in ("zeros", "alone"))
    assert zeros != alone
    assert "Best over" in outcome.output


def test_policies_that_cannot_be_compared_are_refused(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    dataset = open_dataset("folder", scenes)
    plan = RunPlan(open_inputs(dataset), ModelSpec(TINY, tiny_weights), tmp_path / "x", device="cpu", threads=1)
    with pytest.raises(TableError, match="unknown policy guess; expected one or more of zeros, last, duplicate, alone"):
        policy_table(plan, ["guess"])
    with pytest.raises(
        TableError, match="full is the only condition, so no image is missing; give others, such as rgb_only"
    ):
        policy_table(plan, ["zeros"], ["full"], synthetic=False)
    nano = RunPlan(open_inputs(dataset), NanoTrackSpec(tmp_path), tmp_path / "x", device="cpu", threads=1)
    with pytest.raises(TableError, match=r"with NanoTrack .* expected a network of this package"):
        policy_table(nano, ["zeros"])
