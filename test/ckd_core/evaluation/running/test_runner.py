from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ckd_core import background
from ckd_core.data.datasets import open_dataset
from ckd_core.data.open_sequences import open_sequences
from ckd_core.evaluation.report.robustness import read_baseline, robustness_table
from ckd_core.evaluation.report.table_files import rows_to_markdown, write_table
from ckd_core.evaluation.report.tables import (
    Group,
    Groups,
    TableError,
    TableRow,
    fusion_markdown,
    fusion_rows,
    mean_row,
    modality_markdown,
    modality_table,
    origin_of,
)
from ckd_core.evaluation.running.better_camera import run_tracker
from ckd_core.evaluation.running.conditions import EVERYDAY, parse_condition
from ckd_core.evaluation.running.inputs import RunError, open_inputs
from ckd_core.evaluation.running.manifest import ManifestError, read_manifest
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.records import RecordError, read_record
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.running.trackers import BETTER, ModelSpec, NanoTrackSpec, TrackerSetupError
from ckd_core.frame import Modality
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.result import TrackState
from testkit.small_scenes import TINY, write_scene


def plan_of(scenes: Path, out: Path, weights: Path, **changes: object) -> RunPlan:
    dataset = open_dataset("folder", scenes)
    options: dict[str, object] = {"threads": 1, "device": "cpu"} | changes
    return RunPlan(open_inputs(dataset), ModelSpec(TINY, weights), out, **options)  # type: ignore[arg-type]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        f"{kind}/{file.name}": file.read_bytes()
        for kind in ("tracks", "results")
        for file in sorted((folder / kind).iterdir())
    }


def test_a_run_writes_everything_and_repeats_exactly(
    scenes: Path, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time without reading ahead."""
    result = run_benchmark(plan_of(scenes, tmp_path / "one", tiny_weights))
    assert list(result.records) == ["a", "b", "c", "d"]
    assert set(result.score.metrics) == {"PR", "NPR", "AUC"}
    monkeypatch.setattr(background, "WAITING", 0)
    again = run_benchmark(plan_of(scenes, tmp_path / "two", tiny_weights))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert again.score.metrics == result.score.metrics
    record = read_record(tmp_path / "one", "a")
    np.testing.assert_array_equal(record.boxes[0], [10, 20, 24, 20])
    assert record.presence.all()
    assert not read_record(tmp_path / "one", "d").presence[:, 1].any()
    assert (record.latency_ms() > 0).all()
    with (tmp_path / "one" / "results" / "a.txt").open() as stream:
        rows = [[float(value) for value in row] for row in csv.reader(stream)]
    np.testing.assert_allclose(rows, record.boxes, atol=1e-4)
    manifest = read_manifest(tmp_path / "one")
    assert len(manifest["run"]["tracker"]["weights_sha256"]) == 64
    assert manifest["run"]["tracker"]["model"] == TINY
    assert manifest["run"]["seed"] == 0
    assert {"python", "numpy", "torch", "sdstrack"} <= set(manifest["versions"])
    assert manifest["run"]["devices"]["cpu"]
    assert "git_revision" in manifest


def test_worker_processes_give_the_same_bytes_and_report_failures(
    scenes: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    (scenes / "b" / "depth" / "0005.png").write_bytes(b"not an image")
    for workers in (1, 2):
        plan = plan_of(scenes, tmp_path / f"{workers}", tiny_weights, workers=workers)
        with pytest.raises(RunError, match=r"(?s)1 of 4 sequences failed; the others are kept.*b: .*0005\.png"):
            run_benchmark(plan)
        assert {file.stem for file in (tmp_path / f"{workers}" / "tracks").iterdir()} == {"a", "c", "d"}
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


def test_a_run_resumes_by_sequence(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    done: list[str] = []
    first = plan_of(scenes, tmp_path / "out", tiny_weights)
    run_benchmark(first, lambda name, *_: done.append(name))
    before = files_of(tmp_path / "out")
    (tmp_path / "out" / "tracks" / "b.csv").unlink()
    (tmp_path / "out" / "timing" / "c.csv").write_text("broken")
    result = run_benchmark(first, lambda name, *_: done.append(name))
    assert done == ["a", "b", "c", "d", "b", "c"]
    assert result.resumed == ("a", "d")
    assert files_of(tmp_path / "out") == before


def test_another_run_in_the_folder_is_refused(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    run_benchmark(plan_of(scenes, tmp_path / "out", tiny_weights))
    other = plan_of(scenes, tmp_path / "out", tiny_weights, condition=parse_condition("noise=0.3", 1))
    with pytest.raises(ManifestError, match=r"holds another run \(differs in condition, seed\)"):
        run_benchmark(other)
    before = files_of(tmp_path / "out")
    replaced = plan_of(scenes, tmp_path / "out", tiny_weights, condition=other.condition, restart=True)
    assert run_benchmark(replaced).resumed == ()
    assert files_of(tmp_path / "out") != before


def test_broken_sequences_are_listed_before_anything_runs(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    (scenes / "b" / "groundtruth.txt").write_text("1,2,3,4\n")
    (scenes / "c" / "event" / "0003.png").write_bytes(b"")
    dataset = open_dataset("folder", scenes)
    with pytest.raises(RunError, match=r"(?s)2 of 4 sequences cannot be used.*b: .*1 lines for 12 .*c: .*0 bytes"):
        open_inputs(dataset)
    lines: list[str] = []
    kept = open_inputs(dataset, skip_broken=True, echo=lines.append)
    assert kept.names == ("a", "d")
    assert "2 sequences are left out" in lines[0]
    plan = RunPlan(kept, ModelSpec(TINY, tiny_weights), tmp_path / "o", device="cpu", threads=1)
    assert len(run_benchmark(plan).records) == 2


def test_impossible_plans_are_refused(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    with pytest.raises(RunError, match="workers=0"):
        plan_of(scenes, tmp_path, tiny_weights, workers=0)
    with pytest.raises(RunError, match="unknown pool 'slurm'"):
        plan_of(scenes, tmp_path, tiny_weights, pool="slurm")
    with pytest.raises(TrackerSetupError, match=r"no weights .*none\.safetensors for sdstrack_tiny_test; expected a"):
        run_benchmark(plan_of(scenes, tmp_path / "x", tmp_path / "none.safetensors"))
    with pytest.raises(TrackerSetupError, match="no NanoTrack weights"):
        NanoTrackSpec(tmp_path).describe()
    with pytest.raises(RecordError, match="cannot read"):
        read_record(tmp_path, "a")


def test_modality_table_averages_by_group(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    plan = plan_of(scenes, tmp_path / "runs", tiny_weights)
    groups = Groups((Group("held-out", ("b", "d")), Group("validation", ("a",))))
    rows = modality_table(plan, groups=groups)
    shown = [(row.sequence, row.group, row.input) for row in rows]
    assert shown[:3] == [("b", "held-out", "both"), ("b", "held-out", "rgb"), ("b", "held-out", "aux")]
    assert shown[3:5] == [("d", "held-out", "rgb"), ("a", "validation", "both")]
    assert shown.count(("mean, two cameras", "all", "rgb")) == shown.count(("mean", "all", "rgb")) == 1
    assert ("mean, two cameras", "held-out", "both") in shown
    assert ("mean", "all", "aux") not in shown
    row = next(row for row in rows if row.sequence == "a" and row.input == "both")
    assert (row.frames, row.absent_frames) == (9, 2)
    rgb = {row.sequence: row for row in rows if row.input == "rgb" and row.group in ("held-out", "validation")}
    total = next(row for row in rows if (row.sequence, row.group, row.input) == ("mean, two cameras", "all", "rgb"))
    assert total.auc == pytest.approx(np.mean([rgb["a"].auc, rgb["b"].auc, _auc(rows, "c")]))
    text = modality_markdown(rows, origin_of(plan.tracker))
    assert f"tiny.safetensors (SHA-256 {plan.tracker.describe()['weights_sha256'][:12]})" in text
    assert f"| sequence | group | {TINY} (both) | {TINY} (rgb) | {TINY} (aux) |" in text
    assert text.count("| d | held-out |  | ") == 2
    fusion = {row.sequence: row for row in fusion_rows(rows)}
    assert list(fusion) == ["b", "d", "a", "c", "mean"]
    alone = max(_auc(rows, "a"), _auc(rows, "a", "aux"))
    assert fusion["a"].gain == pytest.approx(_auc(rows, "a", "both") - alone)
    assert fusion["d"].auc == fusion["d"].rgb == _auc(rows, "d")
    assert np.isnan([fusion["d"].aux, fusion["d"].gain, fusion["d"].nanotrack]).all()
    assert fusion["mean"].gain == pytest.approx(np.mean([fusion[name].gain for name in "abc"]))
    with pytest.raises(TableError, match="in more than one group: a;"):
        Groups((Group("x", ("a",)), Group("y", ("a",))))


def _auc(rows: list[TableRow], sequence: str, shown: str = "rgb") -> float:
    return next(row.auc for row in rows if row.sequence == sequence and row.input == shown)


def test_limits_of_fusion_are_on_both_sides() -> None:
    """Fusion may be 0.02 below the better camera, and 0.05 below NanoTrack's better one."""

    def row(tracker: str, shown: str, auc: float) -> TableRow:
        return TableRow("s", "all", tracker, shown, 9, auc, auc, 0, 0, 0)

    def verdicts(both: float) -> list[str]:
        rows = [row("own", "both", both), row("own", "rgb", 0.70), row("own", "aux", 0.4)]
        rows += [row("NanoTrack (rgb)", "rgb", 0.5), row("NanoTrack (aux)", "aux", 0.72)]
        return fusion_markdown(fusion_rows(rows)).splitlines()[2:]

    assert verdicts(0.685) == [
        f"| {name} | 0.685 | 0.700 | 0.400 | -0.015 | yes | 0.720 | -0.035 | yes |" for name in ("s", "mean")
    ]
    assert "| -0.025 | no | 0.720 | -0.045 | yes |" in verdicts(0.675)[0]
    assert "| -0.040 | no | 0.720 | -0.060 | no |" in verdicts(0.66)[0]


def test_a_sequence_whose_object_never_returns_is_not_averaged() -> None:
    row = TableRow("a", "all", TINY, "both", 9, 0.5, 0.75, 1, 0, 0)
    gone = TableRow("b", "all", TINY, "both", 0, float("nan"), float("nan"), 0, 11, 2)
    total = mean_row([row, gone])
    assert (total.auc, total.precision_20px, total.frames, total.absent_frames) == (0.5, 0.75, 9, 11)
    assert np.isnan(mean_row([gone]).auc)


def test_robustness_table_compares_with_the_full_input(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    plan = plan_of(scenes, tmp_path / "robust", tiny_weights)
    found = robustness_table(plan, ["bursts", "misaligned=4", "rate=2", "start_box"])
    table = found.rows[:3]
    assert found.rows[3].frames_with_both == 1.0
    assert [len(score.sequences) for score in found.scores] == [3] * 5
    rows = {(row.sequence, row.input): row for row in found.sequences}
    assert {name for name, _ in rows} == {"a", "b", "c"}
    # 12 frames, the object absent in two of them: half the rate leaves five after the first, one of them absent.
    assert (rows["a", "full"].frames, rows["a", "full"].absent_frames) == (9, 2)
    assert (rows["a", "rate=2"].frames, rows["a", "rate=2"].absent_frames) == (4, 1)
    started = read_record(plan.out / "start_box-0.15", "a").boxes[0]
    assert started[2] / 24 == pytest.approx(1.15) or started[2] / 24 == pytest.approx(1 / 1.15)
    assert [row.condition for row in table] == ["full", "bursts=0.3", "misaligned=4@aux"]
    assert table[0].auc_change == 0.0
    assert table[1].frames_with_both == pytest.approx(0.73, abs=0.01)
    assert table[2].frames_with_both == 1.0
    text, _, data = write_table(table, tmp_path, "robustness")
    assert len(json.loads(data.read_text())["robustness"]) == 3
    assert text.read_text() == rows_to_markdown(table)
    assert text.read_text().startswith("| condition | tracker |")


def test_a_baseline_says_what_may_be_lost(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    plan = plan_of(scenes, tmp_path / "robust", tiny_weights)
    own = robustness_table(plan, ["bursts"])
    path = tmp_path / "robustness_sequences.csv"
    for ahead, verdict in ((0.03, "no"), (0.01, "yes")):
        rows = [(row.sequence, row.input, row.auc + ahead * (row.input == "bursts=0.3")) for row in own.sequences]
        lines = ["sequence,input,auc", *(",".join(map(str, row)) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        full, bursts = robustness_table(plan, ["bursts"], baseline=read_baseline(path)).rows
        assert (full.baseline_change, full.within) == (0.0, "yes")
        assert bursts.baseline_change == pytest.approx(bursts.auc_change + ahead)
        assert bursts.within == verdict
    with pytest.raises(TableError, match=r"has no row for rate=2 on a, b, c; run the baseline on the same"):
        robustness_table(plan, ["rate=2"], baseline=read_baseline(path))
    path.write_text("sequence,auc\na,0.5\n")
    with pytest.raises(TableError, match=r"is no baseline: 'input'; expected robustness_sequences\.csv"):
        read_baseline(path)
    with pytest.raises(TableError, match="cannot read the baseline"):
        read_baseline(tmp_path / "none.csv")


def test_the_packaged_baseline_has_every_everyday_condition_on_every_sequence() -> None:
    baseline = read_baseline(Path(__file__).parents[4] / "config" / "evaluation" / "nanotrack_robustness.csv")
    names = {name for name, _ in baseline.auc}
    assert len(names) == 8
    assert names <= {item.name for item in open_sequences().sequences}
    changes = {text: baseline.change(str(parse_condition(text)), sorted(names)) for text in EVERYDAY}
    assert changes["full"] == 0.0
    assert changes["rgb_gone=10"] == pytest.approx(-0.0745, abs=0.0002)


@pytest.mark.shared
def test_nanotrack_takes_the_better_camera_per_sequence(shared_data: Path, tmp_path: Path) -> None:
    """Also under a condition that takes one camera away: the other one is the better one then."""
    names = ["rgb_dlib_juicebox", "rgbe_evbench_seq2"]
    inputs = open_inputs(open_dataset("folder", shared_data / "sequences").select(names))
    tracker = NanoTrackSpec(shared_data / "baselines" / "nanotrack" / "nanotrackv2", BETTER)
    plan = RunPlan(inputs, tracker, tmp_path / "nano", device="cpu", threads=1)
    better = run_tracker(plan)
    rgb, aux = (read_record(tmp_path / "nano" / f"nanotrack_{camera}", names[1]) for camera in ("rgb", "aux"))
    np.testing.assert_array_equal(better.records[names[1]].boxes, aux.boxes)
    assert (rgb.boxes != aux.boxes).any()
    assert read_manifest(tmp_path / "nano")["run"]["tracker"]["stream"] == BETTER
    assert run_tracker(plan).score.metrics == better.score.metrics, "a second call finds everything done"
    gone = replace(
        plan, condition=parse_condition("aux_gone=10"), out=tmp_path / "gone", inputs=inputs.select(names[1:])
    )
    record = run_tracker(gone).records[names[1]]
    np.testing.assert_array_equal(record.boxes, rgb.boxes)
    dead = read_record(tmp_path / "gone" / "nanotrack_aux", names[1])
    assert set(dead.states[10:]) == {TrackState.LOST.value}
    assert (dead.boxes[10:] == dead.boxes[9]).all()
    with pytest.raises(TrackerSetupError, match="known only after both have run"):
        tracker.build(Modality.EVENT, "cpu", 1)


@pytest.mark.shared
def test_nanotrack_follows_a_real_object(shared_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset("folder", shared_data / "sequences").select(["rgb_otb_crossing"])
    weights = shared_data / "baselines" / "nanotrack" / "nanotrackv2"
    plan = RunPlan(open_inputs(dataset), NanoTrackSpec(weights), tmp_path / "nano", device="cpu", threads=1)
    result = run_benchmark(plan)
    assert result.score.metrics["AUC"] > 0.5
    assert set(result.records["rgb_otb_crossing"].states) == {TrackState.TRACKING.value}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_continues_to_the_same_result(
    scenes: Path, tmp_path: Path, tiny_weights: Path, workers: int
) -> None:
    """SIGINT, as from Ctrl-C, in the middle, then the same command again: byte for byte the uninterrupted run."""
    for index in range(4, 12):
        write_scene(scenes / f"more{index:02d}", frames=40, seed=index)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = [
        sys.executable,
        "-m",
        "ckd_core.cli",
        "benchmark",
        "-d",
        "folder",
        "--root",
        str(scenes),
        "--out",
        str(cut),
    ]
    words += ["--model", TINY, "--weights", str(tiny_weights), "--device", "cpu", "--threads", "1", "--no-report"]
    process = subprocess.Popen(
        [*words, "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    deadline = time.monotonic() + 300
    while len(list(cut.glob("tracks/[!.]*.csv"))) < 3:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    kept = {path.stem: path.stat().st_mtime_ns for path in cut.glob("tracks/[!.]*.csv")}
    assert 3 <= len(kept) < 12
    config = TrackerConfig()

    def plan(out: Path) -> RunPlan:
        tracker = ModelSpec(TINY, tiny_weights, config=config)
        return RunPlan(open_inputs(open_dataset("folder", scenes)), tracker, out, device="cpu", threads=1)

    again, uninterrupted = run_benchmark(plan(cut)), run_benchmark(plan(whole))
    assert set(again.resumed) == set(kept)
    assert uninterrupted.resumed == ()
    assert files_of(cut) == files_of(whole)
    assert again.score.metrics == uninterrupted.score.metrics
    assert all((cut / "tracks" / f"{name}.csv").stat().st_mtime_ns == stamp for name, stamp in kept.items())
