"""Weights know their network and their sensor: every verb compares them with what it is given."""

from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING

import pytest

from ckd_core import DEFAULT_MODEL
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import WeightsFileError, metadata_of, save_model
from ckd_core.models.registry import build_model
from ckd_core.tracking import build_tracker
from ckd_core.tracking.engines.origin import model_of, weights_origin
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MISMATCH = "was trained with depth cameras, and this is thermal; expected weights for thermal"


@pytest.fixture(scope="module")
def depth_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "rgbd.safetensors"
    model = build_model(TINY, seed=3)
    save_model(path, model, metadata_of(model, ["depth"], "seeded random numbers"))
    return path


@pytest.fixture(scope="module")
def thermal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sequences")
    write_scene(root / "walk", frames=4)
    return root


def verbs(weights: Path, root: Path, out: Path) -> list[list[object]]:
    common = ["--weights", weights, "--device", "cpu", "--threads", 1]
    plan = ["-d", "folder", "--root", root, "--out", out, *common]
    return [
        ["run", root / "walk", "--out", out, "--no-video", "--engine", "torch/fp32", *common],
        ["benchmark", *plan],
        ["benchmark", *plan, "--table", "modalities"],
        ["robustness", *plan, "--conditions", "bursts"],
        ["vot", "--modality", "thermal", "--registry", out.with_suffix(".ini"), *common],
    ]


def test_a_run_with_depth_weights_on_a_thermal_sequence_says_so(
    call: Callable[..., str], depth_weights: Path, thermal: Path, tmp_path: Path
) -> None:
    words = verbs(depth_weights, thermal, tmp_path / "out")[0]
    said = call(*words)
    assert said.startswith("warning: "), said
    assert MISMATCH in said
    assert (tmp_path / "out" / "walk.txt").exists()
    assert "warning" not in call(*words, "--any-modality")


@pytest.mark.parametrize("verb", range(1, 5))
def test_depth_weights_are_refused_on_thermal_sequences(
    call: Callable[..., str], depth_weights: Path, thermal: Path, tmp_path: Path, verb: int
) -> None:
    words = verbs(depth_weights, thermal, tmp_path / "out")[verb]
    said = call(*words)
    assert said.startswith("error:"), said
    assert MISMATCH in said
    assert "--any-modality" in said
    assert not list(tmp_path.rglob("*.txt")), "nothing was tracked"
    said = call(*words, "--any-modality")
    assert "error" not in said
    assert list(tmp_path.rglob("*.txt")) or "--any-modality" in (tmp_path / "out.ini").read_text()


def test_depth_weights_are_not_calibrated_on_thermal_sequences(
    call: Callable[..., str], depth_weights: Path, thermal: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    words = ["calibrate", "--weights", depth_weights, "--sequences", thermal, "--scenes", 0, "--out", out]
    said = call(*words)
    assert said.startswith("error:"), said
    assert MISMATCH in said
    assert not out.exists()


def test_the_manifest_says_that_any_modality_was_permitted(
    call: Callable[..., str], depth_weights: Path, thermal: Path, tmp_path: Path
) -> None:
    words = verbs(depth_weights, thermal, tmp_path / "out")[1]
    call(*words, "--any-modality", "--no-report")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())["run"]["tracker"]
    assert manifest["any_modality"] is True
    assert manifest["model"] == TINY, "the network is the one that the weights name"


def test_colour_alone_and_the_trained_camera_are_no_mismatch(
    call: Callable[..., str], depth_weights: Path, tmp_path: Path
) -> None:
    write_scene(tmp_path / "data" / "color", frames=3, aux=None)
    write_scene(tmp_path / "data" / "depth", frames=3, aux="depth")
    words = verbs(depth_weights, tmp_path / "data", tmp_path / "out")[1]
    assert "2/2" in call(*words, "--no-report")
    words = verbs(depth_weights, tmp_path / "data", tmp_path / "run")[0]
    assert "3 frames" in call("run", tmp_path / "data" / "color", *words[2:])


def test_weights_name_their_network(
    call: Callable[..., str], depth_weights: Path, tmp_path: Path, thermal: Path
) -> None:
    assert model_of(None, None) == DEFAULT_MODEL
    assert model_of(None, depth_weights) == TINY
    assert model_of("ckd_s128", depth_weights) == "ckd_s128"
    assert weights_origin().modalities == ("depth", "thermal", "event")
    said = call("export", "--out", tmp_path / "export", "--weights", depth_weights, "--engine", "torch/fp32")
    assert TINY in said
    origin = weights_origin(None, tmp_path / "export")
    assert (origin.model, origin.modalities) == (TINY, ("depth",))
    words = verbs(tmp_path / "export", thermal, tmp_path / "out")[1]
    assert MISMATCH in call(*words)
    said = call("run", thermal / "walk", "--weights", depth_weights, "--model", "sdstrack_s128", "--any-modality")
    assert f"holds weights of {TINY}, not of sdstrack_s128" in said
    with pytest.raises(WeightsFileError, match="cannot be read"):
        weights_origin(None, tmp_path / "none.safetensors")


def test_a_tracker_names_the_cameras_that_it_may_run_on(depth_weights: Path) -> None:
    assert ModelSpec(TINY, depth_weights).modalities() == (Modality.DEPTH,)
    assert ModelSpec(TINY, depth_weights, any_modality=True).modalities() == tuple(Modality)


def test_the_library_warns(
    depth_weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, logger="ckd_core.tracking")
    # a library that another test loaded may have configured logging, and disabled the loggers that there were
    monkeypatch.setattr(logging.getLogger("ckd_core.tracking"), "disabled", False)
    build_tracker(None, depth_weights, Modality.THERMAL, engine="torch/fp32", device="cpu")
    assert MISMATCH in caplog.text
    caplog.clear()
    build_tracker(None, depth_weights, Modality.DEPTH, engine="torch/fp32", device="cpu")
    assert "trained with" not in caplog.text


def test_a_missing_weight_file_is_named(call: Callable[..., str], thermal: Path, tmp_path: Path) -> None:
    shutil.copytree(thermal, tmp_path / "data")
    words = verbs(tmp_path / "none.safetensors", tmp_path / "data", tmp_path / "out")[1]
    assert "none.safetensors cannot be read" in call(*words)
