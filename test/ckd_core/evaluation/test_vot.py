from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
from ckd_core.evaluation.scoring.archives import ResultsError
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import score_benchmark
from ckd_core.evaluation.scoring.vot_files import trajectory_text
from ckd_core.evaluation.vot_server import VotError, channel_of, registry_entry, write_registry
from ckd_core.frame import BoundingBox, Modality
from ckd_core.tracking import build_tracker
from testkit.reliability.lengths import LONG
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STACK = """title: Tiny RGB-D
experiments:
  longterm:
    type: unsupervised
    repetitions: 1
    analyses:
      - type: average_tpr
        name: tpr
  baseline:
    type: multistart
    analyses:
      - type: multistart_eao_score
        name: eaoscore
        low: 2
        high: 6
      - type: multistart_average_ar
        name: ar
"""
FRAMES = 10
# Every sequence of every experiment starts the tracker's process anew, which takes most of the time.
NAMES = ["ball", "box"] if LONG else ["ball"]


def vot_workspace(root: Path) -> Path:
    """A workspace of the toolkit in DepthTrack's layout, which is also VOT's."""
    (root / "stack.yaml").write_text(STACK)
    (root / "config.yaml").write_text("registry:\n- ./trackers.ini\nsequences: sequences\nstack: ./stack.yaml\n")
    for seed, name in enumerate(NAMES):
        scene = write_scene(root / "plain" / name, frames=FRAMES, aux="depth", seed=seed)
        folder = root / "sequences" / name
        for ours, theirs, suffix in (("visible", "color", "jpg"), ("depth", "depth", "png")):
            (folder / theirs).mkdir(parents=True)
            for index, path in enumerate(sorted((scene / ours).iterdir()), start=1):
                image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                assert image is not None
                cv2.imwrite(str(folder / theirs / f"{index:08d}.{suffix}"), image)
        (folder / "groundtruth.txt").write_text((scene / "groundtruth.txt").read_text())
        (folder / "anchor.value").write_text("1\n" + "0\n" * (FRAMES - 2) + "-1\n")  # forward, and backward
        (folder / "sequence").write_text(
            "channels.color=color/%08d.jpg\nchannels.depth=depth/%08d.png\nfps=30\nformat=rgbd\n"
            f"height=96\nlength=10\nname={name}\nwidth=128\n"
        )
    (root / "sequences" / "list.txt").write_text("\n".join(NAMES) + "\n")
    return root


def vot(workspace: Path, *words: str) -> str:
    home = {"HOME": str(workspace), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "vot", *words, "--workspace", str(workspace)],
        cwd=workspace, capture_output=True, text=True, timeout=420, check=False, env=os.environ | home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """A workspace after `vot evaluate` with our tracker."""
    for package in ("vot", "trax"):
        pytest.importorskip(package, reason="vot-toolkit and vot-trax are not installed")
    workspace = vot_workspace(tmp_path_factory.mktemp("vot"))
    words = ["vot", "--model", TINY, "--weights", tiny_weights, "--device", "cpu", "--threads", "1"]
    outcome = CliRunner().invoke(
        build_app(ckd_core.commands), [*map(str, words), "--registry", str(workspace / "trackers.ini")]
    )
    assert outcome.exit_code == 0, outcome.output
    output = vot(workspace, "evaluate", "sdstrack")
    assert "Evaluation concluded" in output, output
    # numba compiles the toolkit's overlaps once per environment, for some 20 s; later runs find them.
    output = vot(workspace, "analysis", "sdstrack", "--format", "json", "--name", "numbers")
    assert (workspace / "analysis" / "numbers.json").is_file(), output
    return workspace


def analysis(workspace: Path, experiment: str) -> list[list[list[float]]]:
    document = json.loads((workspace / "analysis" / "numbers.json").read_text())
    numbers: list[list[list[float]]] = document["results"][experiment]["results"]
    return numbers


def test_the_toolkit_receives_the_boxes_of_a_direct_run(evaluated: Path, tiny_weights: Path) -> None:
    dataset = open_dataset("depthtrack", evaluated / "sequences")
    rule = get_rule("depthtrack")
    folder = evaluated / "results" / "sdstrack" / "longterm"
    assert list(folder.rglob("*.bin")), "the toolkit's own default"
    results = read_results(folder, dataset.names)
    assert "VOT codes" in results.describe()
    tracker = build_tracker(TINY, tiny_weights, Modality.DEPTH, engine="torch/fp32", device="cpu", threads=1)
    for name in dataset.names:
        direct = track_sequence(tracker, dataset.open(name), FULL)
        track = results.tracks[name]
        np.testing.assert_allclose(track.boxes[1:], direct.boxes[1:], atol=1e-3)
        assert track.confidence is not None
        assert np.isnan(track.confidence[0])
        np.testing.assert_allclose(track.confidence[1:], direct.scores[1:], atol=1e-5)
    ((theirs,),) = analysis(evaluated, "longterm")
    truths = [replace(truth, size=(128, 96)) for truth in read_truths(evaluated / "sequences", rule)]
    metrics = score_benchmark(rule, truths, results.tracks).metrics
    ours = [metrics[name] for name in ("Pr", "Re", "F")]
    assert ours == pytest.approx(theirs, abs=0.005)  # the toolkit paints regions on a pixel grid


def test_a_multistart_experiment_has_an_eao(evaluated: Path, tiny_weights: Path) -> None:
    """VOT-RGBD2022's experiment: from every anchor to the end, the first one forward and the last one backward."""
    from vot.region.io import read_trajectory

    folder = evaluated / "results" / "sdstrack" / "baseline"
    dataset = open_dataset("depthtrack", evaluated / "sequences")
    tracker = build_tracker(TINY, tiny_weights, Modality.DEPTH, engine="torch/fp32", device="cpu", threads=1)
    for name in dataset.names:
        sequence = dataset.open(name)
        for anchor, order in ((0, range(FRAMES)), (FRAMES - 1, range(FRAMES - 1, -1, -1))):
            boxes = rectangles(read_trajectory, folder / name / f"{name}_{anchor:08d}.bin")
            assert len(boxes) == FRAMES - 1
            frames = [replace(sequence.frame(index), stamp=place / 30) for place, index in enumerate(order)]
            tracker.start(frames[0], BoundingBox(*map(float, sequence.boxes[anchor])))
            expected = [tuple(tracker.update(frame).box) for frame in frames[1:]]
            np.testing.assert_allclose(boxes, expected, atol=1e-3)
    (((eao,),), ((accuracy, robustness, *_),)) = analysis(evaluated, "baseline")
    print(f"EAO {eao:.3f}, accuracy {accuracy:.3f}, robustness {robustness:.3f}")
    assert 0 < eao < 1
    assert 0 < accuracy <= 1
    assert 0 < robustness <= 1


def rectangles(read: Callable[[str], list[Any]], path: Path) -> list[tuple[float, float, float, float]]:
    """The toolkit's own reading of a trajectory, after the frame of the initialisation."""
    return [(region.x, region.y, region.width, region.height) for region in read(str(path))[1:]]


def test_binary_trajectories_score_without_a_word_about_them(evaluated: Path, call: Callable[..., str]) -> None:
    results = evaluated / "results" / "sdstrack" / "longterm"
    said = call("score", results, "-b", "depthtrack", "--truth", evaluated / "sequences")
    assert f"{len(NAMES)} files comma delimited, xywh, decimals, VOT codes" in said
    ((theirs,),) = analysis(evaluated, "longterm")
    assert float(said.split("longterm │")[1].split("│")[0]) == pytest.approx(theirs[2], abs=0.005)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<hI", 2, 1), "version 2; expected 1"),
        (struct.pack("<hIB2f", 1, 2, 1, 3, 4), "ends after 15 bytes"),
        (struct.pack("<hIBI", 1, 1, 0, 1) + b"xx", "has 13 bytes; its header's 1 frames end after 11"),
        (struct.pack("<hIB", 1, 1, 3), "frame 1 is a region of kind 3; expected rectangles"),
        (b"", "ends after 0 bytes"),
    ],
)
def test_broken_binary_trajectories_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ResultsError, match=re.escape(message)):
        trajectory_text(data, "a.bin")


def test_polygons_are_read() -> None:
    data = struct.pack("<hIBIBH6f", 1, 2, 0, 1, 2, 3, 1, 2, 5, 2, 5, 8)
    assert trajectory_text(data, "a.bin") == "1\n1.0,2.0,5.0,2.0,5.0,8.0\n"


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
