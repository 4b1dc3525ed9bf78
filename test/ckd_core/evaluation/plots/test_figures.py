"""Every figure, made from small real runs: its files are there, and its numbers are those of the runs."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from ckd_core.data.sequences import open_sequence
from ckd_core.evaluation.plots.features import instance_normalised, student_tokens
from ckd_core.evaluation.plots.figure import FIGURES
from ckd_core.evaluation.plots.pictures import map_over, score_maps
from ckd_core.evaluation.plots.tables import gflops
from ckd_core.evaluation.running.conditions import parse_condition
from ckd_core.evaluation.scoring.attributes import FLAG_ORDER
from ckd_core.models.checkpoint import load_model, metadata_of, save_model
from ckd_core.models.registry import build_model
from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.small_scenes import TINY, write_scene
from testkit.training import runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Call = Callable[..., str]


def weights_of(path: Path, model: str, seed: int) -> Path:
    network = build_model(model, seed=seed)
    save_model(path, network, metadata_of(network, ["thermal"], "seeded random numbers"))
    return path


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for seed, name in enumerate(("walk", "turn", "stop")):
        write_scene(root / name, frames=8, seed=seed)
    return root


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory, scenes: Path, call: Call) -> list[Path]:
    """Runs of two weights over the scenes."""
    root = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("first", "second")):
        weights = weights_of(root / f"{name}.safetensors", TINY, seed)
        said = call("benchmark", "-d", "folder", "--root", scenes, "--out", root / name, "--weights", weights,
                    "--device", "cpu", "--threads", 1, "--no-report")  # fmt: skip
        assert "3/3" in said, said
    return [root / "first", root / "second"]


def table(out: Path) -> list[dict[str, str]]:
    """The rows behind a figure, after a look at its pictures: PNG of a size to print, PDF with embedded fonts."""
    image = cv2.imread(str(out.with_name(out.name + ".png")))
    assert image is not None
    assert min(image.shape[:2]) > 100
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20, "not an empty page"
    pdf = out.with_name(out.name + ".pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    with out.with_name(out.name + ".csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def scored(run: Path) -> dict[str, float]:
    (score,) = json.loads((run / "score.json").read_text())["trackers"].values()
    numbers: dict[str, float] = score["metrics"]
    return numbers


@pytest.mark.parametrize(("name", "metric"), [("success", "AUC"), ("precision", "PR")])
def test_overall_plots_show_the_curves_of_the_scores(
    call: Call, two_runs: list[Path], scenes: Path, tmp_path: Path, name: str, metric: str
) -> None:
    said = call("figure", name, *two_runs, "-b", "folder", "--truth", scenes, "--out", tmp_path / "fig")
    assert said.count("wrote") == 3, said
    rows = table(tmp_path / "fig")
    for run in two_runs:
        curve = [float(row[name]) for row in rows if row["tracker"] == run.name]
        shown = np.mean(curve) if name == "success" else curve[20]
        assert shown == pytest.approx(scored(run)[metric], abs=1e-4)


def test_the_radar_has_an_axis_per_attribute(call: Call, two_runs: list[Path], scenes: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text("sequence,FM,LI,SV\nwalk,1,0,1\nturn,0,1,1\nstop,1,1,0\n")
    words = ["figure", "radar", *two_runs, "-b", "folder", "--truth", scenes, "--out", tmp_path / "fig"]
    assert "wrote" in call(*words, "--attributes", marks)
    rows = table(tmp_path / "fig")
    assert len(rows) == 6
    for attribute in ("FM", "LI", "SV"):
        shares = [float(row["of_best"]) for row in rows if row["attribute"] == attribute]
        assert max(shares) == 1.0
    marks.write_text("sequence,FM,LI\nwalk,1,0\nturn,0,1\nstop,1,1\n")
    assert "2 attributes have sequences (FM, LI); expected at least 3" in call(*words, "--attributes", marks)
    assert "needs --attributes" in call(*words)
    assert len(FLAG_ORDER["visevent"]) == 17


def test_speed_has_own_runs_and_published_points(
    call: Call, two_runs: list[Path], scenes: Path, tmp_path: Path
) -> None:
    points = tmp_path / "others.csv"
    points.write_text("tracker,fps,PR,source\nOther,30,0.5,a paper\n")
    words = ["figure", "speed", *two_runs, "-b", "folder", "--truth", scenes, "--out", tmp_path / "fig"]
    assert "wrote" in call(*words, "--points", points)
    rows = table(tmp_path / "fig")
    assert [row["origin"] for row in rows] == ["own run", "own run", "a paper"]
    assert float(rows[0]["PR"]) == pytest.approx(scored(two_runs[0])["PR"], abs=1e-4)
    assert all(float(row["fps"]) > 0 for row in rows)
    points.write_text("tracker,fps\nOther,30\n")
    assert "line 2: expected the columns tracker, fps and PR" in call(*words, "--points", points)
    assert "has no times; expected runs of sdstrack benchmark" in call(*words[:2], scenes, *words[4:])


def test_robustness_shows_the_tables(call: Call, scenes: Path, two_runs: list[Path], tmp_path: Path) -> None:
    weights = two_runs[0].with_suffix(".safetensors")
    call("robustness", "-d", "folder", "--root", scenes, "--out", tmp_path / "rob", "--weights", weights, "--device",
         "cpu", "--threads", 1, "--conditions", "rgb_only,occluded=0.3@both")  # fmt: skip
    assert "wrote" in call("figure", "robustness", tmp_path / "rob", "--out", tmp_path / "fig")
    assert [row["condition"] for row in table(tmp_path / "fig")] == ["full", "rgb_only", "occluded=0.3@both"]
    assert "is no table of sdstrack robustness" in call("figure", "robustness", scenes, "--out", tmp_path / "fig")


def test_score_maps_lie_over_the_search_regions(call: Call, scenes: Path, two_runs: list[Path], tmp_path: Path) -> None:
    weights = two_runs[0].with_suffix(".safetensors")
    words = [
        "figure",
        "score-maps",
        "--root",
        scenes,
        "--weights",
        weights,
        "--sequence",
        "walk",
        "--out",
        tmp_path / "f",
    ]
    assert "wrote" in call(*words, "--frames", "1,4", "--condition", "occluded=0.3@aux")
    rows = table(tmp_path / "f")
    assert [row["frame"] for row in rows] == ["1", "4"]
    assert "has no tracked frame 0; expected 1 to 7" in call(*words, "--frames", "0")
    network, _ = load_model(weights)
    maps = list(score_maps(network, open_sequence(scenes / "walk"), parse_condition("full")))
    assert [item.index for item in maps] == list(range(1, 8))
    assert maps[0].response.shape == (8, 8)
    assert not network.backbone.norm._forward_hooks, "the hooks are gone"
    spot = np.zeros((8, 8), dtype=np.float32)
    spot[1, 6] = 1.0
    heat = map_over(np.zeros((128, 128, 3), dtype=np.uint8), spot)
    y, x = np.unravel_index(int(heat[..., 0].astype(int).argmax()), (128, 128))
    assert (y // 16, x // 16) == (1, 6), "the hottest place of the picture is the peak's"


def test_frames_show_the_boxes_of_several_trackers(
    call: Call, scenes: Path, two_runs: list[Path], tmp_path: Path
) -> None:
    words = ["figure", "frames", *two_runs, "--root", scenes, "--sequence", "turn", "--out", tmp_path / "fig"]
    assert "wrote" in call(*words, "--frames", "2,5")
    rows = table(tmp_path / "fig")
    assert [(row["frame"], row["tracker"]) for row in rows] == [
        ("2", "first"), ("2", "second"), ("5", "first"), ("5", "second")
    ]  # fmt: skip
    own = np.loadtxt(two_runs[0] / "results" / "turn.txt", delimiter=",")[2]
    assert [float(rows[0][side]) for side in "xywh"] == pytest.approx(own.tolist(), rel=1e-4)
    assert "expected at least one" in call("figure", "frames", "--root", scenes, "--out", tmp_path / "fig")


def test_style_shows_the_students_apart_and_normalised_together(call: Call, scenes: Path, tmp_path: Path) -> None:
    weights = weights_of(tmp_path / "ckd.safetensors", "ckd_tiny_test", 3)
    words = ["figure", "style", "--root", scenes, "--sequence", "walk", "--weights", weights, "--out", tmp_path / "fig"]
    assert "wrote" in call(*words)
    rows = table(tmp_path / "fig")
    gaps = [row for row in rows if row["panel"] == "style gap"]
    assert len(gaps) == 4, "one per block"
    assert all(float(row["y"]) < float(row["x"]) for row in gaps), "normalising takes the style away"
    assert {row["camera"] for row in rows} == {"", "colour", "thermal"}
    network, _ = load_model(weights)
    (rgb, aux), *_ = student_tokens(network, open_sequence(scenes / "walk"), [1, 2])  # type: ignore[arg-type]
    assert rgb.shape == aux.shape == (2, 16 + 64, 48)
    plain = instance_normalised(rgb)
    torch.testing.assert_close(plain.mean(dim=1), torch.zeros(2, 48), atol=1e-4, rtol=0)
    assert "expected pca or tsne" in call(*words, "--method", "umap")
    other = weights_of(tmp_path / "sds.safetensors", TINY, 3)
    assert "has no two students" in call(*words[:6], "--weights", other, "--out", tmp_path / "fig")


@pytest.mark.parametrize("method", ["pca", pytest.param("tsne", marks=pytest.mark.skipif(not LONG, reason=ONLY_LONG))])
def test_the_style_of_the_packaged_small_ckd_is_shown(call: Call, scenes: Path, tmp_path: Path, method: str) -> None:
    """Its students share a stem, so their first gap is that of the cameras after the correlation."""
    words = ["figure", "style", "--root", scenes, "--sequence", "walk", "--out", tmp_path / "fig"]
    said = call(*words, "--model", "ckd_s128", "--method", method)
    assert "wrote" in said, said
    rows = table(tmp_path / "fig")
    network, _ = load_model("ckd_s128")
    gaps = [row for row in rows if row["panel"] == "style gap"]
    assert len(gaps) == 1 + network.config.depth, "after the correlation, and after every stage"
    assert all(0 < float(row["y"]) < float(row["x"]) for row in gaps), "normalising takes the style away"
    for panel in ("features", "instance-normalised"):
        cameras = [row["camera"] for row in rows if row["panel"] == panel]
        assert set(cameras) == {"colour", "thermal"}
        assert cameras.count("colour") == cameras.count("thermal") >= 64


def test_a_sweep_shows_a_key_of_the_runs(call: Call, tmp_path: Path) -> None:
    for weight in (0.0, 0.1):
        for seed in (0, 1):
            out, one = (
                tmp_path / f"w{weight:g}_s{seed}",
                {"run__epochs": 1, "run__samples_per_epoch": 8, "run__val_every": 1},
            )
            chosen = runs.settings(out, "ckd_tiny_test", run__seed=seed, objective__style_weight=weight, **one)
            runs.run(chosen, val_pairs=runs.BrightSquares(7))
    folders = sorted(tmp_path.glob("w*"))
    words = ["figure", "sweep", *folders, "--out", tmp_path / "fig"]
    assert "wrote" in call(*words, "--key", "objective.style_weight")
    rows = table(tmp_path / "fig")
    assert sorted({float(row["objective.style_weight"]) for row in rows}) == [0.0, 0.1]
    assert len(rows) == 4
    assert "has no key objective.style: style is not among" in call(*words, "--key", "objective.style")
    said = call(*words, "--key", "run.seed", "--metric", "val/nothing")
    assert "has no values of val/nothing; expected one of train/loss" in said
    shutil.rmtree(folders[0] / "checkpoints")
    assert "is no training run" in call(*words, "--key", "run.seed")


def test_costs_are_counted(call: Call, two_runs: list[Path], tmp_path: Path) -> None:
    assert "wrote" in call("figure", "cost", two_runs[0], "--model", "ckd_tiny_test", "--out", tmp_path / "fig")
    own, other = table(tmp_path / "fig")
    assert (own["network"], own["run"], other["network"]) == (TINY, "first", "ckd_tiny_test")
    assert float(own["AUC"]) == pytest.approx(scored(two_runs[0])["AUC"], abs=1e-4)
    assert 0 < float(own["trained / M"]) < float(own["parameters / M"])
    assert float(own["FPS"]) > 0
    assert other["FPS"] == other["AUC"] == ""
    single = build_model(TINY, depth=4, ce_blocks=(), cross_blocks=()).eval()
    double = build_model(TINY, depth=8, ce_blocks=(), cross_blocks=()).eval()
    ends = gflops(single) * 2 - gflops(double)
    assert 0 < ends < gflops(single), "twice the blocks is twice their part of the work"


def test_what_no_figure_can_be_drawn_from_is_named(call: Call, tmp_path: Path) -> None:
    assert f"unknown figure 'pie'; expected one of {', '.join(FIGURES)}" in call(
        "figure", "pie", "--out", tmp_path / "f"
    )
    for name in FIGURES:
        said = call("figure", name, "--out", tmp_path / "f")
        assert said.startswith("error:"), f"{name}: {said}"
        assert "expected" in said or "needs" in said
    assert not list(tmp_path.iterdir())
