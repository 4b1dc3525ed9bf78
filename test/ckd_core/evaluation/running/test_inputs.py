"""Every problem of a dataset is known before anything is tracked, and surplus rows are cut everywhere alike."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data import datasets
from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.report.runs import report_run
from ckd_core.evaluation.report.tables import rows_of
from ckd_core.evaluation.running.inputs import RunError, open_inputs
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.records import benchmark_track, read_record, write_record
from ckd_core.evaluation.running.runner import RunResult, run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.evaluation.scoring.annotations import read_sequence_truth
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import score_benchmark
from ckd_core.evaluation.scoring.score_files import score_files
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.evaluation.running.inputs import RunInputs


def run(inputs: RunInputs, out: Path, weights: Path) -> RunResult:
    return run_benchmark(RunPlan(inputs, ModelSpec(TINY, weights), out, device="cpu", threads=1))


def as_rgbt(scene: Path, place: Path, truth: tuple[str, ...]) -> Path:
    """A scene in the layout of RGBT234 and RGBT210; frames without the object get the box 0,0,0,0."""
    for folder in ("visible", "infrared"):
        shutil.copytree(scene / folder, place / folder)
    for file in truth:
        text = (scene / "groundtruth.txt").read_text().replace("nan,nan,nan,nan", "0,0,0,0")
        (place / file).write_text(text)
    return place


def as_visevent(scene: Path, place: Path, flags: int) -> Path:
    """A scene in the layout of VisEvent, with `flags` absence flags."""
    shutil.copytree(scene / "visible", place / "vis_imgs")
    shutil.copytree(scene / "event", place / "event_imgs")
    shutil.copy(scene / "groundtruth.txt", place / "groundtruth.txt")
    (place / "absent_label.txt").write_text("".join(f"{int(index not in (7, 8))}\n" for index in range(flags)))
    return place


def as_depthtrack(scene: Path, place: Path) -> Path:
    """A scene in the layout of DepthTrack."""
    shutil.copytree(scene / "visible", place / "color")
    shutil.copytree(scene / "depth", place / "depth")
    shutil.copy(scene / "groundtruth.txt", place / "groundtruth.txt")
    return place


def append(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line + "\n")


def test_surplus_rows_are_cut_for_the_tracker_and_for_the_score(
    scenes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    append(scenes / "a" / "groundtruth.txt", "1,2,3,4")
    (scenes / "a" / "timestamps.txt").write_text("".join(f"{index}\n" for index in range(13)))
    (scenes / "b" / "depth" / "0011.png").unlink()
    with pytest.raises(RunError, match=r"(?s)2 of 4 sequences cannot be used.*13 lines for 12 images"):
        open_inputs(open_dataset("folder", scenes))
    whole = open_inputs(open_dataset("folder", scenes, cut=True))
    result = run(whole, tmp_path / "folder", tiny_weights)
    assert [len(record) for record in result.records.values()] == [12, 11, 12, 12]
    assert [item.frames for item in result.score.sequences] == [10, 9, 10, 10]

    place = as_rgbt(scenes / "a", tmp_path / "rgbt210" / "a", ("init.txt",))
    assert len((place / "init.txt").read_text().splitlines()) == 13
    result = run(open_inputs(open_dataset("rgbt210", place.parent, cut=True)), tmp_path / "o", tiny_weights)
    assert result.score.sequences[0].frames == 12


def test_surplus_absence_flags_are_ignored_by_reader_and_score(
    scenes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    place = as_visevent(scenes / "c", tmp_path / "test", 14)
    inputs = open_inputs(open_dataset("visevent", place))
    sequence = run(inputs, tmp_path / "out", tiny_weights).score.sequences[0]
    assert (sequence.frames, int(np.isnan(sequence.errors).sum())) == (12, 2)


def test_raw_files_of_a_run_have_the_score_of_the_run(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    """DepthTrack counts confidences, and cuts boxes at the image's border."""
    dataset = open_dataset("depthtrack", as_depthtrack(scenes / "b", tmp_path / "data" / "test" / "b").parents[1])
    result, out = run(open_inputs(dataset), tmp_path / "out", tiny_weights), tmp_path / "out"
    record, rule = result.records["b"], get_rule("depthtrack")
    # A tracker that reports the half of the object beyond the border, with confidences that differ in the fifth digit.
    boxes, scores = record.boxes.copy(), np.linspace(0.12341, 0.12345, len(record))
    truth = read_sequence_truth(dataset.folders[0][1], "b", rule)
    boxes[1:] = np.nan_to_num(truth.boxes[1:], nan=1.0) + np.array([-40, 0, 40, 0])
    record = replace(record, boxes=boxes, scores=scores)
    write_record(record, out, rule)
    track = benchmark_track(read_record(out, "b"), rule)
    own = score_benchmark(rule, [replace(truth, size=(128, 96))], {"b": track}).metrics
    without = score_benchmark(rule, [truth], {"b": track}).metrics
    assert own["F"] > without["F"] + 0.05
    (score,) = score_files([out], "depthtrack", dataset.root)
    assert score.metrics == own
    assert score.notes == ()
    (tmp_path / "flat").mkdir()
    shutil.copy(scenes / "b" / "groundtruth.txt", tmp_path / "flat" / "b.txt")
    lines: list[str] = []
    (score,) = score_files([out], "depthtrack", tmp_path / "flat", echo=lines.append)
    assert score.metrics == without
    assert "note: boxes that leave the image are not cut at its border in 1 of 1 sequences" in "".join(lines)


def test_a_missing_auxiliary_annotation_is_reported_before_tracking(scenes: Path, tmp_path: Path) -> None:
    as_rgbt(scenes / "a", tmp_path / "rgbt234" / "fine", ("visible.txt", "infrared.txt"))
    as_rgbt(scenes / "a", tmp_path / "rgbt234" / "half", ("visible.txt",))
    dataset = open_dataset("rgbt234", tmp_path / "rgbt234")
    with pytest.raises(RunError, match="half: half has one annotation; RGBT234 compares with both modalities'"):
        open_inputs(dataset)
    assert open_inputs(dataset, skip_broken=True, echo=lambda _: None).names == ("fine",)


def test_a_sequence_is_opened_once_for_checks_digest_tracking_and_score(
    scenes: Path, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[str] = Counter()
    read = datasets.read_sequence

    def counted(folder: Path, *rest: object) -> object:
        opened[folder.name] += 1
        return read(folder, *rest)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(datasets, "read_sequence", counted)
    plan = RunPlan(
        open_inputs(open_dataset("folder", scenes)), ModelSpec(TINY, tiny_weights), tmp_path, device="cpu", threads=1
    )
    for name in "abcd":
        (scenes / name / "groundtruth.txt").unlink()  # a second reading would fail
    result = run_benchmark(plan)
    assert opened == dict.fromkeys("abcd", 1)
    assert len(rows_of(result, "both")) == len(report_run(result).timelines) == 4
