from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.running.inputs import open_inputs
from ckd_core.evaluation.running.jobs import longest_first, open_jobs
from ckd_core.evaluation.running.manifest import ManifestError, claim_folder, read_manifest, sequence_digest
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.tracking.engines import EngineError
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from pathlib import Path

RUN = {"dataset": "folder"}
NOW = {"started": "today", "versions": {"torch": "2"}, "git_revision": "b"}


def plan_of(scenes: Path, out: Path, weights: Path, engine: str = "torch/fp32") -> RunPlan:
    tracker = ModelSpec(TINY, weights, engine)
    return RunPlan(open_inputs(open_dataset("folder", scenes)), tracker, out, device="cpu", threads=1)


def finish(out: Path, name: str) -> None:
    """Write the files of a tracked sequence."""
    for folder, suffix in (("results", "txt"), ("timing", "csv"), ("tracks", "csv")):
        (out / folder).mkdir(parents=True, exist_ok=True)
        (out / folder / f"{name}.{suffix}").write_text("1\n")


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def test_another_sequence_of_the_same_name_is_tracked_again(
    scenes: Path, tmp_path: Path, tiny_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_benchmark(plan_of(scenes, tmp_path / "out", tiny_weights))
    other = shutil.copytree(scenes, tmp_path / "elsewhere")
    assert run_benchmark(plan_of(other, tmp_path / "out", tiny_weights)).resumed == ("a", "b", "c", "d")
    truth = other / "b" / "groundtruth.txt"
    truth.write_text(truth.read_text().replace("10,20,24,20", "12,22,20,16", 1))
    (other / "c" / "visible" / "0004.png").write_bytes((other / "d" / "visible" / "0000.png").read_bytes())
    result = run_benchmark(plan_of(other, tmp_path / "out", tiny_weights))
    assert result.resumed == ("a", "d")
    np.testing.assert_array_equal(result.records["b"].boxes[0], [12, 22, 20, 16])
    assert "tracked again: b, c" in caplog.text


def test_digests_depend_on_boxes_stamps_and_images(scenes: Path) -> None:
    dataset = open_dataset("folder", scenes)
    digests = {sequence_digest(dataset.open(name)) for name in dataset.names}
    assert len(digests) == 4
    (scenes / "a" / "timestamps.txt").write_text("".join(f"{index}\n" for index in range(12)))
    digests.add(sequence_digest(dataset.open("a")))
    (scenes / "a" / "infrared" / "0011.png").rename(scenes / "a" / "infrared" / "0012.png")
    digests.add(sequence_digest(dataset.open("a")))
    assert len(digests) == 6


def test_tracks_without_a_digest_are_tracked_again(tmp_path: Path) -> None:
    claim_folder(tmp_path, RUN, NOW, {}, restart=False)
    finish(tmp_path, "a")
    finish(tmp_path, "b")
    assert claim_folder(tmp_path, RUN, NOW, {"a": "1"}, restart=False)
    assert files(tmp_path) == ["manifest.json", "results/b.txt", "timing/b.csv", "tracks/b.csv"]


def test_running_some_sequences_keeps_the_others(tmp_path: Path) -> None:
    claim_folder(tmp_path, RUN, NOW, {"a": "1", "b": "2"}, restart=False)
    finish(tmp_path, "a")
    assert claim_folder(tmp_path, RUN, NOW, {"b": "2"}, restart=False)
    assert claim_folder(tmp_path, RUN, NOW, {"a": "1", "b": "2"}, restart=False)
    assert "tracks/a.csv" in files(tmp_path)
    assert read_manifest(tmp_path)["inputs"] == {"a": "1", "b": "2"}


def test_a_run_that_continues_with_other_versions_logs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {"started": "yesterday", "versions": {"torch": "1"}, "git_revision": "a"}
    claim_folder(tmp_path, RUN, before, {"a": "1"}, restart=False)
    finish(tmp_path, "a")
    for _ in range(2):
        claim_folder(tmp_path, RUN, NOW, {"a": "1"}, restart=False)
    manifest = read_manifest(tmp_path)
    assert manifest["earlier"] == [before]
    assert manifest["git_revision"] == "b"
    assert caplog.text.count("continues under other versions: torch 1 -> 2, git revision a -> b") == 1
    claim_folder(tmp_path, RUN, NOW, {"a": "2"}, restart=False)
    assert read_manifest(tmp_path)["earlier"] == [], "no track of yesterday is left"


def test_a_run_without_results_is_replaced(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    with pytest.raises(EngineError, match="unknown engine 'opnvino/fp32'"):
        run_benchmark(plan_of(scenes, tmp_path / "typo", tiny_weights, "opnvino/fp32"))
    assert not (tmp_path / "typo").exists()
    assert not claim_folder(tmp_path / "x", {"dataset": "gtot"}, NOW, {}, restart=False)
    assert not claim_folder(tmp_path / "x", RUN, NOW, {}, restart=False)
    assert read_manifest(tmp_path / "x")["run"] == RUN


def test_results_without_a_manifest_are_kept(tmp_path: Path) -> None:
    finish(tmp_path, "a")
    with pytest.raises(ManifestError, match=r"holds another run \(without manifest\.json\)"):
        claim_folder(tmp_path, RUN, NOW, {"a": "1"}, restart=False)
    assert len(files(tmp_path)) == 3


def test_a_restart_removes_all_files_of_the_other_run(tmp_path: Path) -> None:
    claim_folder(tmp_path, RUN, NOW, {"a": "1", "b": "2"}, restart=False)
    finish(tmp_path, "a")
    finish(tmp_path, "b")
    (tmp_path / "results" / "gone.txt").write_text("1\n")
    for name in ("score.json", "report.html", "report.json", "curves.csv", "run.rrd", "my notes.txt"):
        (tmp_path / name).write_text("{}")
    assert not claim_folder(tmp_path, RUN, NOW, {"a": "1"}, restart=True)
    assert files(tmp_path) == ["manifest.json", "my notes.txt"]
    assert read_manifest(tmp_path)["inputs"] == {"a": "1"}


def test_a_sequence_keeps_its_device_when_a_run_resumes(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    plan = replace(plan_of(scenes, tmp_path / "out", tiny_weights), device="cuda:0,cuda:1")
    devices = {job.name: job.device for job in open_jobs(plan, ())}
    assert devices == {"a": "cuda:0", "b": "cuda:1", "c": "cuda:0", "d": "cuda:1"}
    assert {job.name: job.device for job in open_jobs(plan, ("a",))} == {name: devices[name] for name in "bcd"}


def test_several_workers_begin_with_the_longest_sequence(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    write_scene(scenes / "e", frames=20)
    jobs = open_jobs(plan_of(scenes, tmp_path / "out", tiny_weights), ())
    assert [job.name for job in longest_first(jobs)] == ["e", "a", "b", "c", "d"]


def test_a_file_cannot_be_the_folder_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for place in (tmp_path / "out", tmp_path / "out" / "full"):
        with pytest.raises(ManifestError, match="out is a file; a run needs a folder of its own"):
            claim_folder(place, RUN, NOW, {}, restart=False)
