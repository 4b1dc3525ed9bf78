"""Real recordings through the real node with the shipped weights: what a user does first.

The folder of images is played whole in the long form, its first two seconds in the short one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core import DEFAULT_MODEL
from ckd_core.evaluation.scoring.metrics import overlap
from ckd_core.frame import Modality
from sdstrack_ros.demo import run
from testkit.reliability.lengths import LONG

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ros, pytest.mark.shared]

FOLDER_FRAMES = None if LONG else 60
# Of the results with a box; how far a target is followed depends on the weights and is measured by the benchmarks.
MIN_BOXES, MIN_MEAN_OVERLAP = 10, 0.25


def check_run(recording: run.DemoRecording, out: Path, rate: float) -> run.DemoSummary:
    """Run, and check the files that every replay writes; `rate` is slow enough for a busy core."""
    summary = run.run_demo(recording, out, {"threads": 1}, rate=rate)
    assert summary.frames_answered + summary.dropped_by_node + summary.lost_in_transport == summary.frames_in
    assert summary.boxes_out >= MIN_BOXES
    assert summary.model == DEFAULT_MODEL
    table = np.genfromtxt(out / "boxes.csv", delimiter=",", names=True)
    assert len(table) == summary.frames_in
    boxes = np.stack([table[name] for name in ("x", "y", "w", "h")], axis=1)
    truth = np.stack([table[f"true_{name}"] for name in ("x", "y", "w", "h")], axis=1)
    both = np.isfinite(boxes).all(axis=1) & np.isfinite(truth).all(axis=1)
    assert overlap(boxes[both], truth[both]).mean() > MIN_MEAN_OVERLAP, "the tracker follows the target"
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet is not None
    assert cv2.VideoCapture(str(out / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == summary.frames_in
    return summary


def test_a_compressed_bag_is_played_and_scored(shared_data: Path, tmp_path: Path) -> None:
    """Jpeg colour and thermal, the second 7 ms late; starts on the first true box of the sequence of that name."""
    truth = shared_data / "sequences" / "rgbt_m3svd_clip_0111_1753" / "groundtruth.txt"
    bag = shared_data / "bags" / "rgbt_clip_0111_1753_mcap_compressed"
    recording = run.open_demo_recording(bag, Modality.THERMAL, truth_file=truth)
    assert recording.topics.rgb.endswith("/compressed")
    assert check_run(recording, tmp_path, 0.2).frames_in == 20


def first_frames(source: Path, folder: Path) -> Path:
    """A sequence of the first `FOLDER_FRAMES` images of another one."""
    for camera in ("visible", "infrared"):
        (folder / camera).mkdir(parents=True)
        for image in sorted((source / camera).iterdir())[:FOLDER_FRAMES]:
            (folder / camera / image.name).symlink_to(image)
    lines = (source / "groundtruth.txt").read_text().splitlines()[:FOLDER_FRAMES]
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_folder_of_images_is_written_as_a_bag_played_and_scored(shared_data: Path, tmp_path: Path) -> None:
    folder = first_frames(shared_data / "sequences" / "rgbt_m3svd_0117_1620", tmp_path / "sequence")
    recording = run.demo_folder_recording(folder, tmp_path)
    frames = len(sorted((folder / "visible").iterdir()))
    assert check_run(recording, tmp_path / "out", 0.5).frames_in == frames
