from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ckd_core.frame import BoundingBox, Modality
from ckd_core.models.checkpoint import metadata_of, save_model
from ckd_core.models.registry import build_model
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.writer import EVENTS_TOPIC
from sdstrack_ros.demo import run
from sdstrack_ros.demo.live_replay import (
    LiveBox,
    LiveReplay,
)
from sdstrack_ros.demo.pictures import IMAGE_WIDTH, SHEET_FRAMES

EVENTS = ("packets", EVENTS_TOPIC)
TRUTH = {stamp: BoundingBox(10.0 * stamp, 0, 40, 40) for stamp in range(5)}


def recording(truth: dict[int, BoundingBox | None] | None = None) -> run.DemoRecording:
    return run.DemoRecording(Path("bag"), Modality.DEPTH, BagTopics(), TRUTH[0], truth or dict(TRUTH), 10.0)


def summary_of(results: list[LiveBox], **status: str) -> run.DemoSummary:
    return run.summarize_demo(recording(), list(TRUTH), LiveReplay(results, status))


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model("sdstrack_tiny_test")
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_model(path, model, metadata_of(model, list(Modality), "random"))
    return path


def test_perfect_boxes_score_1() -> None:
    summary = summary_of([LiveBox(stamp, box, 0.9) for stamp, box in TRUTH.items()], **{"frames.frames": "5"})
    assert summary.success_auc == pytest.approx(20 / 21, abs=1e-4)
    assert (summary.precision_20px, summary.center_error_px) == (1.0, 0.0)
    assert (summary.frames_in, summary.frames_answered, summary.boxes_out, summary.lost_in_transport) == (5, 5, 5, 0)


def test_a_frame_without_a_result_counts_with_the_box_before_it() -> None:
    summary = summary_of([LiveBox(1, TRUTH[1], 0.9), LiveBox(4, TRUTH[4], 0.9)], **{"frames.frames": "3"})
    assert (summary.frames_answered, summary.lost_in_transport) == (2, 2)
    assert summary.center_error_px == 5.0  # errors 0, 10, 20, 0
    assert summary.precision_20px == 1.0


def test_an_empty_message_is_a_miss() -> None:
    results = [LiveBox(stamp, None, 0.0) for stamp in TRUTH]
    summary = summary_of(results)
    assert (summary.boxes_out, summary.success_auc, summary.precision_20px) == (0, 0.0, 0.0)


def test_frames_without_a_true_box_are_not_scored() -> None:
    truth: dict[int, BoundingBox | None] = {**TRUTH, 2: None, 3: None}
    far = [LiveBox(1, TRUTH[1], 0.9), LiveBox(2, BoundingBox(900, 900, 9, 9), 0.9), LiveBox(4, TRUTH[4], 0.9)]
    summary = run.summarize_demo(recording(truth), list(truth), LiveReplay(far, {}))
    assert summary.precision_20px == 1.0


@pytest.mark.ros
@pytest.mark.parametrize("name", ["rgbd", "rgbt", "rgbe"])
def test_the_demo_runs_on_the_real_node(
    name: str, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "DEMO_FRAMES", 20)
    monkeypatch.setattr(run, "DEMO_SIZE", (160, 120))
    modality = run.MODALITY_NAMES[name]
    demo = run.demo_synthetic_recording(modality, tmp_path)
    parameters = {
        "model": "sdstrack_tiny_test", "weights": str(tiny_weights), "engine": "torch/fp32", "threads": 1,
        "input_reliability": "reliable", "input_depth": 20,  # a busy machine drops frames, but loses none uncounted
    }  # fmt: skip
    summary = run.run_demo(demo, tmp_path / "out", parameters, rate=0.2)
    assert (demo.event_input, demo.topics.aux) == EVENTS if name == "rgbe" else demo.event_input == "image"
    assert summary.frames_in == 20
    assert summary.frames_answered + summary.dropped_by_node + summary.lost_in_transport == 20
    assert summary.frames_answered >= 10
    assert summary.model == "sdstrack_tiny_test"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames_in"] == 20
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*run.RESULT_FILES, "node.log", "player.log"}, "the same files each time"
    assert len((tmp_path / "out" / "boxes.csv").read_text().splitlines()) == 21
    video = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 20
    sheet = cv2.imread(str(tmp_path / "out" / "contact_sheet.png"))
    assert sheet is not None
    assert np.ptp(sheet) > 100
    columns = sheet.shape[1] // IMAGE_WIDTH
    assert columns == (SHEET_FRAMES + 1 if name == "rgbd" else SHEET_FRAMES), "depth has a plan from above beside it"
