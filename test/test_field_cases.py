"""Inputs from the field, made by the scripts beside the shared data: each is read, counted, or refused by name.

What the same kinds do to a live node is tested with the node (running/test_pairs.py, test_memory.py, test_faults.py).
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import ckd_core.commands
import sdstrack_ros.commands
from ckd_core.cli import build_app
from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from sdstrack_ros.bags.frames import BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.parameters.checks import settings_from
from sdstrack_ros.tracking.warm_tracker import build_warm_tracker
from testkit.reliability.lengths import LONG

if TYPE_CHECKING:
    from ckd_core.frame import MultiModalFrame

pytestmark = pytest.mark.shared
ROOT = Path(__file__).parents[1]
BOX = "60,80,40,50"


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the smallest network, seeded."""
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model("sdstrack_tiny_test", seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal", "event"], "seeded random numbers"))
    return path


def make(case: str, shared_data: Path, out: Path) -> Path:
    """The inputs of a case."""
    script = shared_data.parent / "cases" / f"{case}.py"
    if case.startswith("bag_"):
        runpy.run_path(str(script))["main"](out)
    else:  # some of the others replace modules
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, str(script), str(out)], check=True, env=environment, timeout=120)
    return out


def run(*words: object) -> tuple[int, str]:
    """Exit status and everything printed by `sdstrack` with these words."""
    result = CliRunner().invoke(build_app(ckd_core.commands, sdstrack_ros.commands), [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        if not isinstance(result.exception, TrackingError):
            raise result.exception
        return 1, result.output + str(result.exception)
    return result.exit_code, result.output


def evaluated(bag: Path, weights: Path) -> tuple[int, str]:
    return run("evaluate", bag, "--init-box", BOX, "--weights", weights, "--device", "cpu", "--engine", "torch/fp32")


def frames_of(path: Path) -> list[MultiModalFrame]:
    with open_bag(path) as bag:
        topics = choose_topics(bag, Modality.DEPTH, BagTopics())
        return [item.frame for item in read_bag_frames(bag, topics, Modality.DEPTH)]


ALL_PAIRS = "20 frames: 20 pairs, 0 with a held image, 0 colour alone, 0 without colour"


@pytest.mark.parametrize(
    ("case", "recording", "said"),
    [
        ("bag_qos_differs", "edited_mcap", (ALL_PAIRS, "metadata.yaml")),
        ("bag_qos_differs", "edited_sqlite3", (ALL_PAIRS, "metadata.yaml")),
        ("bag_no_storage_id", "reindexed_mcap", (ALL_PAIRS,)),
        ("bag_no_storage_id", "reindexed_sqlite3", (ALL_PAIRS,)),
        ("bag_wal_left", "killed", (ALL_PAIRS, "-wal")),
        ("bag_nv_images", "nv12", (ALL_PAIRS,)),
        ("bag_nv_images", "nv21", (ALL_PAIRS,)),
        ("bag_rvl_depth", "rvl", (ALL_PAIRS,)),
        ("bag_reasons_flood", "webp", (ALL_PAIRS,)),
        (
            "bag_foreign_clock", "foreign_clock",
            ("0 pairs", "20 colour alone", "behind, its driver stamps with another clock"),
        ),
        (
            "bag_foreign_clock", "an_hour_ahead",
            ("0 pairs", "20 colour alone", "depth is 3600.0 s ahead, its driver stamps with another clock"),
        ),
        (
            "bag_unregistered_depth", "unregistered",
            ("640 x 360", "640 x 576", "rgb_camera_link", "depth_camera_link", "aux_homography"),
        ),
        ("bag_zero_stamps", "some", ("header.stamp is 0", "rejected")),
        ("bag_long_text", "long", ("rejected 1 images",)),
        ("bag_long_text", "escape", ("rejected 1 images",)),
    ],
)  # fmt: skip
def test_a_recording_is_read_and_what_is_odd_about_it_is_said(
    case: str, recording: str, said: tuple[str, ...], tiny_weights: Path, shared_data: Path, tmp_path: Path
) -> None:
    path = make(case, shared_data, tmp_path) / recording
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    status, output = evaluated(path, tiny_weights)
    assert status == 0, output
    for text in said:
        assert text in output, output
    assert len(output) < 10_000
    assert all(line.isprintable() for line in output.splitlines())
    assert len(output.splitlines()) == len(set(output.splitlines())), "nothing is said twice"
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before, "the folder stays as it was"
    if case in ("bag_qos_differs", "bag_no_storage_id", "bag_wal_left"):
        with open_bag(path) as bag:
            assert sum(1 for _ in bag.messages([topic.name for topic in bag.topics])) == 40


def test_images_without_any_stamp_are_an_error(tiny_weights: Path, shared_data: Path, tmp_path: Path) -> None:
    status, output = evaluated(make("bag_zero_stamps", shared_data, tmp_path) / "all", tiny_weights)
    assert status != 0
    assert "header.stamp is 0" in output


@pytest.mark.parametrize("kind", ["nv12", "nv21"])
def test_nv_images_are_the_pictures_that_were_sent(kind: str, shared_data: Path, tmp_path: Path) -> None:
    frames = frames_of(make("bag_nv_images", shared_data, tmp_path) / kind)
    sent = frames_of(make("bag_qos_differs", shared_data, tmp_path) / "edited_mcap")
    assert len(frames) == len(sent) == 20
    for frame, true in zip(frames, sent, strict=True):
        assert frame.rgb is not None
        assert true.rgb is not None
        difference = np.abs(frame.rgb.astype(int) - true.rgb.astype(int))
        assert np.median(difference) <= 3
        assert np.percentile(difference, 95) < 25, "what halving the chroma costs"


def test_rvl_depth_is_exact(shared_data: Path, tmp_path: Path) -> None:
    for frame in frames_of(make("bag_rvl_depth", shared_data, tmp_path) / "rvl"):
        assert frame.aux is not None
        assert set(np.unique(np.asarray(frame.aux))) <= {0, 1500, 4000}


def test_companions_of_macos_are_nothing(tiny_weights: Path, shared_data: Path, tmp_path: Path) -> None:
    out = make("sequence_apple_double", shared_data, tmp_path)
    tracker = ["--weights", tiny_weights, "--device", "cpu", "--any-modality"]
    status, output = run("run", out / "lasher" / "walker", "--init", BOX, "--out", tmp_path / "run", *tracker)
    assert status == 0, output
    assert len((tmp_path / "run" / "walker.txt").read_text().splitlines()) == 8
    words = ["benchmark", "-d", "lasher", "--root", out / "lasher", "--out", tmp_path / "bench", "--no-report"]
    status, output = run(*words, *tracker)
    assert status == 0, output
    status, output = run("score", out / "results", "-b", "lasher", "--truth", out / "lasher")
    assert status == 0, output
    assert "1.0000" in output or "1.000" in output, output


@pytest.mark.parametrize("name", ["plain", "module", "compiled", "compiled_in_ddp", "ddp_in_compiled"])
def test_prefixes_of_wrappers_are_dropped_in_any_order(name: str, shared_data: Path, tmp_path: Path) -> None:
    out = make("weights_compiled", shared_data, tmp_path)
    status, output = run("convert", out / f"{name}.pth.tar", "--model", "ostrack_b256", "--out", tmp_path / "w")
    assert status != 0
    rows = dict(re.findall(r"^│ ([a-z ()]+?) +│ +(\d+) ", output, re.MULTILINE))
    assert (rows["used"], rows["unexpected"]) == ("3", "0"), output


@pytest.mark.parametrize(
    ("case", "words", "said"),
    [
        ("results_many_members", "score OUT/tracker.zip -b lasher --truth OUT/truth", "OUT/tracker.zip unpack to"),
        ("config_merge_bomb", "train OUT/merge.yaml", "OUT/merge.yaml"),
        ("weights_deep_config", f"run OUT/lasher/walker --init {BOX} --weights OUT/deep.safetensors", "OUT/deep"),
    ],
)
def test_what_would_exhaust_the_machine_is_refused_by_name(
    case: str, words: str, said: str, shared_data: Path, tmp_path: Path
) -> None:
    make(case, shared_data, tmp_path)
    make("sequence_apple_double", shared_data, tmp_path)
    begun = time.monotonic()
    status, output = run(*words.replace("OUT", str(tmp_path)).split())
    assert status == 1, output
    assert said.replace("OUT", str(tmp_path)) in output, output
    assert len(output) < 3000
    assert time.monotonic() - begun < 60, "refused at once, not after hours; a busy machine takes its time"


def test_the_node_refuses_weights_of_an_absurd_network_when_it_is_configured(shared_data: Path, tmp_path: Path) -> None:
    make("weights_deep_config", shared_data, tmp_path)
    settings = settings_from({"weights": str(tmp_path / "deep.safetensors"), "model": "sdstrack_s128"})
    with pytest.raises(TrackingError, match=r"deep\.safetensors"):
        build_warm_tracker(settings)


def measured(*words: object) -> tuple[int, str, int]:
    """Status, everything printed, and the peak memory in bytes of a process of `sdstrack` with these words."""
    command = [sys.executable, "-m", "sdstrack_ros.cli", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, output, int(usage.ru_maxrss) * 1024


def pictures(folder: Path, size: int) -> Path:
    """A sequence of three colour images of `size` x `size` black pixels as PNG."""
    (folder / "visible").mkdir(parents=True)
    for index in range(3):
        cv2.imwrite(str(folder / "visible" / f"{index:04d}.png"), np.zeros((size, size, 3), np.uint8))
    (folder / "groundtruth.txt").write_text("60,80,40,50\n" * 3)
    return folder


@pytest.mark.skipif(not LONG, reason="three pictures of 67 megapixels take 15 s; long form (make test-all)")
def test_a_folder_of_67_megapixels_needs_less_than_a_gigabyte(tiny_weights: Path, tmp_path: Path) -> None:
    """0.2 MB each on the disk, 201 MB decoded."""
    words = ["--init", BOX, "--no-video", "--weights", tiny_weights, "--device", "cpu", "--engine", "torch/fp32"]
    peaks = []
    for size in (320, 8192):
        status, output, peak = measured("run", pictures(tmp_path / str(size), size), *words, "--out", tmp_path / "out")
        assert status == 0, output
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 1_000_000_000


@pytest.mark.skipif(not LONG, reason="four pictures of 67 megapixels take 10 s; long form (make test-all)")
def test_a_recording_of_67_megapixels_is_refused_within_the_nodes_memory(
    tiny_weights: Path, shared_data: Path, tmp_path: Path
) -> None:
    script = runpy.run_path(str(shared_data.parent / "cases" / "bag_large_png.py"))
    script["main"].__globals__["N"] = 4
    script["main"](tmp_path)
    words = ["--init-box", BOX, "--weights", tiny_weights, "--device", "cpu", "--engine", "torch/fp32"]
    status, output, peak = measured("evaluate", tmp_path / "large", *words)
    assert status == 1, output
    assert "4 times: /camera/color/image_raw/compressed: an image of 196035 bytes that takes 403 MB" in output
    assert "expected at most 256 MB, half of memory_mb" in output
    _, _, idle = measured("evaluate", make("bag_qos_differs", shared_data, tmp_path) / "edited_mcap", *words)
    assert peak - idle < 300_000_000
