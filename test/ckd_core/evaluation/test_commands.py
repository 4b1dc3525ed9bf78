from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

import ckd_core.commands
from ckd_core.cli import build_app
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from pathlib import Path


def call(*words: object) -> str:
    outcome = CliRunner().invoke(build_app(ckd_core.commands), [str(word) for word in words])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        return f"error: {outcome.exception}"
    return outcome.output


def test_benchmark_and_robustness_write_runs_and_tables(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    common = ["--dataset", "folder", "--root", scenes, "--model", TINY, "--weights", tiny_weights]
    common += ["--device", "cpu", "--threads", 1]
    output = call("benchmark", *common, "--out", tmp_path / "run", "--sequences", "a,d")
    assert "folder: 2 sequences, one worker, 1 threads each, cpu" in output
    score = json.loads((tmp_path / "run" / "score.json").read_text())["trackers"][TINY]
    assert set(score["sequences"]) == {"a", "d"}
    assert (tmp_path / "run" / "report.html").is_file()
    call("robustness", *common, "--out", tmp_path / "rob", "--sequences", "a,d", "--conditions", "bursts,offset=100")
    rows = json.loads((tmp_path / "rob" / "robustness.json").read_text())["robustness"]
    assert [row["condition"] for row in rows] == ["full", "bursts=0.3", "offset=100@aux"]
    assert [row["within"] for row in rows] == ["", "", ""]
    again = [*common, "--out", tmp_path / "rob", "--sequences", "a,d", "--conditions", "bursts"]
    output = call("robustness", *again, "--baseline", tmp_path / "rob" / "robustness_sequences.csv")
    assert "| yes |" in output, "a tracker loses what it loses"
    assert "<th>baseline change</th>" in (tmp_path / "rob" / "report.html").read_text()
    call("benchmark", *common, "--out", tmp_path / "mod", "--sequences", "a", "--table", "modalities")
    rows = json.loads((tmp_path / "mod" / "modalities.json").read_text())["modalities"]
    assert [row["input"] for row in rows] == ["both", "rgb", "aux"] * 2
    runs = [tmp_path / "mod" / f"{TINY}_{shown}" for shown in ("both", "aux")]
    truth = ["--truth", scenes, "--missing", "skip", "--report", tmp_path / "compared"]
    output = call("score", *runs, "--benchmark", "folder", *truth)
    assert f"{TINY}_aux: 1 files comma delimited, xywh, decimals" in output
    compared = json.loads((tmp_path / "compared" / "report.json").read_text())["trackers"]
    own = json.loads((runs[0] / "manifest.json").read_text())
    assert set(compared) == {run.name for run in runs}
    assert own["run"]["tracker"]["model"] == TINY
    assert "unknown table 'x'; expected one of boxes, states, modalities, one-step" in call(
        "benchmark", *common, "--out", tmp_path / "mod", "--table", "x"
    )
    assert "no sequence e" in call("benchmark", *common, "--out", tmp_path / "mod", "--sequences", "e")
    (scenes / "b" / "groundtruth.txt").unlink()
    (scenes / "c" / "groundtruth.txt").write_text("1,2,3\n")
    assert "1 of 3 sequences cannot be used" in call("benchmark", *common, "--out", tmp_path / "mod")


def test_benchmark_takes_tracks_apart(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    """The same figures in a run's files, on its page and in tables of the finished run, which track nothing again."""
    common = ["--dataset", "folder", "--root", scenes, "--model", TINY, "--weights", tiny_weights]
    common += ["--device", "cpu", "--threads", 1, "--out", tmp_path / "run", "--sequences", "a,d"]
    output = call("benchmark", *common)
    assert f"| {TINY} | " in output
    assert "found within 30 frames (at least 80%)" in output
    boxes = json.loads((tmp_path / "run" / "boxes.json").read_text())["boxes"]
    states = json.loads((tmp_path / "run" / "states.json").read_text())["states"]
    assert [row["sequence"] for row in boxes] == [row["sequence"] for row in states] == ["a", "d", "mean"]
    assert boxes[2]["auc"] == pytest.approx((boxes[0]["auc"] + boxes[1]["auc"]) / 2)
    assert states[2]["frames"] == boxes[2]["frames"] == states[0]["frames"] + states[1]["frames"]
    assert states[0]["absent_frames"] == 2
    page = json.loads((tmp_path / "run" / "report.json").read_text())["runs"][TINY]
    assert (page["boxes"], page["states"]) == (boxes, states)
    html = (tmp_path / "run" / "report.html").read_text()
    assert all(f"<th>{name}</th>" in html for name in ("auc true size", "false tracking", "found in 30"))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "tracks").iterdir()}
    for table, rows in (("boxes", boxes), ("states", states)):
        assert "| a | " in call("benchmark", *common, "--table", table)
        assert json.loads((tmp_path / "run" / f"{table}.json").read_text())[table] == rows
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "tracks").iterdir()}


def test_integer_boxes_are_those_of_the_run_without_decimals(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    common = ["benchmark", "-d", "folder", "--root", scenes, "--weights", tiny_weights, "--device", "cpu"]
    common += ["--threads", 1, "--sequences", "a", "--no-report"]
    call(*common, "--out", tmp_path / "decimals", "--published")
    call(*common, "--out", tmp_path / "integers", "--published", "--integer-boxes")
    read = [np.loadtxt(tmp_path / run / "results" / "a.txt", delimiter=",") for run in ("decimals", "integers")]
    assert (read[0] % 1 > 0.5).any(), "rounding would differ from cutting"
    np.testing.assert_array_equal(read[1], np.trunc(read[0]))
    assert "." not in (tmp_path / "integers" / "results" / "a.txt").read_text()
    scores = [json.loads((tmp_path / run / "score.json").read_text()) for run in ("decimals", "integers")]
    assert scores[0] != scores[1]
    assert json.loads((tmp_path / "integers" / "manifest.json").read_text())["run"]["integer_boxes"] is True
    output = call(*common, "--out", tmp_path / "x", "--integer-boxes")
    assert "--integer-boxes belongs to the published harness; expected --published beside it" in output


def test_ego_motion_is_an_option_of_the_run_and_none_of_the_published_tracker(
    scenes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    common = ["benchmark", "-d", "folder", "--root", scenes, "--weights", tiny_weights, "--device", "cpu"]
    common += ["--threads", 1, "--sequences", "a", "--no-report"]
    call(*common, "--out", tmp_path / "run", "--ego-motion")
    described = json.loads((tmp_path / "run" / "manifest.json").read_text())["run"]["tracker"]
    assert described["ego_motion"] is True
    assert "holds another run (differs in tracker)" in call(*common, "--out", tmp_path / "run")
    output = call(*common, "--out", tmp_path / "x", "--ego-motion", "--published")
    assert "--ego-motion is no part of the published tracker; leave it or --published out" in output
    words = [*common, "--out", tmp_path / "x", "--tracker", "nanotrack", "--ego-motion"]
    assert "nanotrack has no --ego-motion; leave them out" in call(*words)


def test_nanotrack_needs_its_files_and_takes_no_network(scenes: Path, tmp_path: Path) -> None:
    common = ["--dataset", "folder", "--root", scenes, "--out", tmp_path / "run", "--tracker"]
    assert "nanotrack has no weights in this package" in call("benchmark", *common, "nanotrack")
    asked = call("benchmark", *common, "nanotrack", "--weights", tmp_path, "--model", TINY, "--published")
    assert "nanotrack has no --model, --published; leave them out" in asked
    assert "no NanoTrack weights" in call("robustness", *common, "nanotrack", "--weights", tmp_path)
    assert "unknown tracker 'siamfc'; expected network or nanotrack" in call("benchmark", *common, "siamfc")
    table = call("benchmark", *common, "nanotrack", "--weights", tmp_path, "--table", "modalities")
    assert "table modalities is about a network" in table


def test_verbs_share_options_and_offer_only_their_own() -> None:
    benchmark, robustness = (call(verb, "--help") for verb in ("benchmark", "robustness"))
    shared = ("--root", "--dataset", "-d", "--weights", "--workers", "--seed", "--skip-broken", "--restart")
    assert all(name in text for name in shared for text in (benchmark, robustness))
    for name in ("--published", "--condition ", "--pool", "--ray-address", "--cut"):
        assert name in benchmark
        assert name not in robustness
    assert "--missing" in robustness
    assert "--missing" not in benchmark
    assert "@both;" in robustness, "brackets would be taken for markup"


def test_score_reports_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "groundtruth").mkdir()
    for name in ("a", "b"):
        (tmp_path / "groundtruth" / f"{name}.txt").write_text("5,5,9,9\n5,5,9,9\n")
    (tmp_path / "t" / "a.txt").write_text("5 5 9 9\n5 5 9 9\n")
    output = call("score", tmp_path / "t", "--benchmark", "lasher")
    assert "no results for 1 of 2 sequences of LasHeR: b" in output
    output = call("score", tmp_path / "t", "--benchmark", "lasher", "--missing", "skip")
    assert "t: 1 files space delimited, xywh, integers" in output
    assert "1 sequences without results, left out: b" in output
    for place in ("x", "y"):
        shutil.copytree(tmp_path / "t", tmp_path / place / "t")
    output = call(
        "score", tmp_path / "x" / "t", tmp_path / "y" / "t", "-b", "lasher", "--missing", "skip", "--out",
        tmp_path / "two.json", "--truth", tmp_path / "groundtruth",
    )  # fmt: skip
    assert "x/t: 1 files space delimited" in output
    assert set(json.loads((tmp_path / "two.json").read_text())["trackers"]) == {"x/t", "y/t"}
    output = call("score", tmp_path / "t", tmp_path / "t", "-b", "lasher")
    assert f"would both be called {tmp_path.name}/t; give each tracker a name of its own" in output
    assert "unknown layout 'ltrb'" in call("score", tmp_path / "t", "--benchmark", "lasher", "--layout", "ltrb")
    assert "unknown benchmark 'x'" in call("score", tmp_path / "t", "--benchmark", "x")
