from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import ckd_core.commands
from ckd_core.cli import build_app
from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.running.conditions import FULL
from ckd_core.evaluation.running.records import track_sequence
from ckd_core.evaluation.scoring.annotations import read_truths
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import score_benchmark
from ckd_core.evaluation.vot_server import VotError, channel_of, registry_entry, write_registry
from ckd_core.frame import Modality
from ckd_core.tracking import build_tracker
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from pathlib import Path

STACK = """title: Tiny RGB-D
experiments:
  longterm:
    type: unsupervised
    repetitions: 1
    analyses:
      - type: average_tpr
        name: tpr
"""


def vot_workspace(root: Path) -> Path:
    """A workspace of the toolkit with two sequences in DepthTrack's layout, which is also VOT's."""
    (root / "stack.yaml").write_text(STACK)
    (root / "config.yaml").write_text("registry:\n- ./trackers.ini\nsequences: sequences\nstack: ./stack.yaml\n")
    names = ["ball", "box"]
    for seed, name in enumerate(names):
        scene = write_scene(root / "plain" / name, frames=10, aux="depth", seed=seed)
        folder = root / "sequences" / name
        for ours, theirs, suffix in (("visible", "color", "jpg"), ("depth", "depth", "png")):
            (folder / theirs).mkdir(parents=True)
            for index, path in enumerate(sorted((scene / ours).iterdir()), start=1):
                image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                assert image is not None
                cv2.imwrite(str(folder / theirs / f"{index:08d}.{suffix}"), image)
        (folder / "groundtruth.txt").write_text((scene / "groundtruth.txt").read_text())
        (folder / "sequence").write_text(
            "channels.color=color/%08d.jpg\nchannels.depth=depth/%08d.png\nfps=30\nformat=rgbd\n"
            f"height=96\nlength=10\nname={name}\nwidth=128\n"
        )
    (root / "sequences" / "list.txt").write_text("\n".join(names) + "\n")
    return root


def vot(workspace: Path, *words: str) -> str:
    home = {"HOME": str(workspace), "OMP_NUM_THREADS": "1", "VOT_RESULTS_BINARY": "false"}
    done = subprocess.run(
        [sys.executable, "-m", "vot", *words, "--workspace", str(workspace)],
        cwd=workspace, capture_output=True, text=True, timeout=240, check=False, env=os.environ | home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_toolkit_receives_the_boxes_of_a_direct_run(tmp_path: Path, tiny_weights: Path) -> None:
    for package in ("vot", "trax"):
        pytest.importorskip(package, reason="vot-toolkit and vot-trax are not installed")
    workspace = vot_workspace(tmp_path)
    words = ["vot", "--model", TINY, "--weights", tiny_weights, "--device", "cpu", "--threads", "1"]
    outcome = CliRunner().invoke(
        build_app(ckd_core.commands), [*map(str, words), "--registry", str(workspace / "trackers.ini")]
    )
    assert outcome.exit_code == 0, outcome.output
    output = vot(workspace, "evaluate", "sdstrack")
    assert "Evaluation concluded" in output, output
    dataset = open_dataset("depthtrack", workspace / "sequences")
    rule = get_rule("depthtrack")
    results = read_results(workspace / "results" / "sdstrack" / "longterm", dataset.names)
    assert "VOT codes" in results.describe()
    tracker = build_tracker(TINY, tiny_weights, Modality.DEPTH, engine="torch/fp32", device="cpu", threads=1)
    for name in dataset.names:
        direct = track_sequence(tracker, dataset.open(name), FULL)
        track = results.tracks[name]
        np.testing.assert_allclose(track.boxes[1:], direct.boxes[1:], atol=1e-3)
        assert track.confidence is not None
        assert np.isnan(track.confidence[0])
        np.testing.assert_allclose(track.confidence[1:], direct.scores[1:], atol=1e-5)
    vot(workspace, "analysis", "sdstrack", "--format", "json", "--name", "numbers")
    document = json.loads((workspace / "analysis" / "numbers.json").read_text())
    ((theirs,),) = document["results"]["longterm"]["results"]
    truths = [replace(truth, size=(128, 96)) for truth in read_truths(workspace / "sequences", rule)]
    metrics = score_benchmark(rule, truths, results.tracks).metrics
    ours = [metrics[name] for name in ("Pr", "Re", "F")]
    assert ours == pytest.approx(theirs, abs=0.005)  # the toolkit paints regions on a pixel grid


def test_a_registry_entry_replaces_only_its_own(tmp_path: Path) -> None:
    path = tmp_path / "trackers.ini"
    path.write_text("[other]\nlabel = Other\nprotocol = trax\ncommand = other\n")
    write_registry(path, registry_entry("ours", "Ours", ["--model", "a b"]))
    write_registry(path, registry_entry("ours", "Ours", ["--model", "c"]))
    text = path.read_text()
    assert "[other]" in text
    assert text.count("[ours]") == 1
    assert "vot --model c" in text
    with pytest.raises(VotError, match="letters, digits"):
        registry_entry("my tracker", "x", [])
    path.write_text("no section\n")
    with pytest.raises(VotError, match="not a tracker registry"):
        write_registry(path, registry_entry("ours", "Ours", []))


def test_events_have_no_trax_channel() -> None:
    with pytest.raises(VotError, match="TraX has no channel for event; expected one of depth, thermal"):
        channel_of(Modality.EVENT)
