from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core import background
from ckd_core.data.sequences import list_images, open_sequence
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.replay.outputs import OverlayError, OverlayVideo, draw
from ckd_core.replay.recording import ReplayError, open_recording
from ckd_core.tracking.result import TrackResult, TrackState
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = 12


@pytest.fixture(scope="session")
def videos(tmp_path_factory, scenes) -> tuple[Path, Path]:
    """The thermal scene as two videos."""
    folder = tmp_path_factory.mktemp("videos")
    for name in ("visible", "infrared"):
        video = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (128, 96))
        for path in list_images(scenes / "a" / name):
            video.write(cv2.imread(str(path)))
        video.release()
    return folder / "visible.avi", folder / "infrared.avi"


def options(tmp_path, tiny_weights) -> list[object]:
    return ["--model", TINY, "--weights", tiny_weights, "--engine", "torch", "--device", "cpu", "--out", tmp_path / "o"]


def rows_of(folder) -> list[dict[str, str]]:
    with (folder / "boxes.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def frames_in(path) -> int:
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.read()[0]:
        count += 1
    return count


@pytest.mark.parametrize("kind", ["folder", "images", "videos", "colour video", "auxiliary images"])
def test_run_writes_boxes_video_and_timeline(tmp_path, call, scenes, videos, tiny_weights, kind: str) -> None:
    sources, name = {
        "folder": ([scenes / "b"], "b"),
        "images": ([scenes / "a/visible/*.png", scenes / "a/infrared/*.png", "--modality", "thermal"], "visible"),
        "videos": ([*videos, "--modality", "thermal"], "visible"),
        "colour video": ([videos[0]], "visible"),
        "auxiliary images": (["", scenes / "b/depth/*.png", "--modality", "depth"], "depth"),
    }[kind]
    output = call("run", *sources, "--init", "10,20,24,20", *options(tmp_path, tiny_weights))
    out = tmp_path / "o"
    assert f"{FRAMES} frames (" in output
    assert "torch/fp32 on cpu" in output
    assert {path.name for path in out.iterdir()} == {"boxes.csv", "overlay.mp4", "timeline.png", f"{name}.txt"}
    rows = rows_of(out)
    assert len(rows) == FRAMES
    assert [float(rows[0][key]) for key in "xywh"] == [10, 20, 24, 20]
    present = {(row["rgb"], row["aux"]) for row in rows}
    assert present == {("0" if kind.startswith("aux") else "1", "0" if kind.startswith("colour") else "1")}
    table = np.loadtxt(out / f"{name}.txt", delimiter=",")
    np.testing.assert_allclose(table, [[float(row[key]) for key in "xywh"] for row in rows], atol=1e-4)
    assert frames_in(out / "overlay.mp4") == FRAMES
    timeline = cv2.imread(str(out / "timeline.png"))
    assert min(timeline.shape[:2]) > 300
    assert timeline.std() > 10


@pytest.mark.parametrize("kind", ["folder", "videos"])
def test_reading_ahead_changes_no_byte(tmp_path, call, scenes, videos, tiny_weights, monkeypatch, kind: str) -> None:
    sources = [scenes / "b"] if kind == "folder" else [*videos, "--modality", "thermal"]
    results = []
    for waiting in (0, 1, 4):
        monkeypatch.setattr(background, "WAITING", waiting)
        out = tmp_path / str(waiting)
        call("run", *sources, "--init", "10,20,24,20", *options(tmp_path, tiny_weights), "--out", out)
        rows = [{name: value for name, value in row.items() if name != "ms"} for row in rows_of(out)]
        results.append((rows, next(out.glob("*.txt")).read_bytes(), (out / "overlay.mp4").read_bytes()))
    assert len(results[0][0]) == FRAMES
    assert results[0] == results[1] == results[2]


def test_a_video_that_cannot_be_written_is_an_error(tmp_path, call, scenes, tiny_weights, monkeypatch) -> None:
    def add(self: OverlayVideo, picture: object) -> None:
        del self, picture
        raise OverlayError("no encoder")

    monkeypatch.setattr(OverlayVideo, "add", add)
    output = call("run", scenes / "b", "--init", "10,20,24,20", *options(tmp_path, tiny_weights))
    assert "error: no encoder" in output
    assert not (tmp_path / "o").exists()


def test_stamps_of_a_video_are_its_own(videos) -> None:
    recording = open_recording([str(path) for path in videos], Modality.THERMAL)
    assert (recording.fps, recording.count) == (10.0, FRAMES)
    assert [frame.stamp for frame in recording.frames()] == pytest.approx([i / 10 for i in range(FRAMES)])


def test_videos_of_two_rates_do_not_pair(videos, tmp_path) -> None:
    other = cv2.VideoWriter(str(tmp_path / "slow.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (128, 96))
    other.write(np.zeros((96, 128, 3), dtype=np.uint8))
    other.release()
    with pytest.raises(ReplayError, match=r"10 frames per second and .* 5; a pair must have one rate"):
        open_recording([str(videos[0]), str(tmp_path / "slow.avi")], Modality.THERMAL)


def test_without_init_the_folders_own_box_is_used(tmp_path, call, scenes, tiny_weights) -> None:
    call("run", scenes / "a", "--no-video", *options(tmp_path, tiny_weights))
    truth = open_sequence(scenes / "a").boxes[0]
    assert [float(rows_of(tmp_path / "o")[0][key]) for key in "xywh"] == truth.tolist()
    assert not (tmp_path / "o" / "overlay.mp4").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere matches no image"),
        (["nowhere.mp4"], "is not a video that OpenCV can open"),
        (["{a}/visible/*.png"], "has no box in its first frame; give --init"),
        (["{a}/visible/*.png", "{a}/infrared/*.png"], "give --modality"),
        (["{a}/visible/*.png", "{a}/infrared/*1.png", "--modality", "thermal"], "12 images and"),
        (["{a}", "--modality", "depth"], "holds thermal images; expected depth"),
        (["{a}", "--modality", "radar"], "unknown modality 'radar'"),
        (["{a}", "--missing", "guess"], "unknown policy 'guess'"),
        (["{a}", "--published", "--ego-motion"], "--ego-motion is no part of the published tracker"),
        (["{a}", "--init", "1,2,3"], "expected four numbers"),
        (["{a}", "--init", "1,2,0,4"], "positive width"),
        (["{a}", "--init", "500,500,10,10"], "overlap with the 128 x 96 frame"),
        (["{a}", "--init", "nan,5,10,10"], "finite"),
        (["{a}", "{a}", "{a}"], "one or two sources"),
    ],
)
def test_bad_sources_and_options_are_refused(tmp_path, call, scenes, tiny_weights, words, message: str) -> None:
    output = call("run", *[word.format(a=scenes / "a") for word in words], *options(tmp_path, tiny_weights))
    assert output.startswith("error: ")
    assert message in output
    out = tmp_path / "o"
    assert not out.exists() or list(out.iterdir()) == []


def test_a_broken_image_names_the_file_and_leaves_no_video(tmp_path, call, scenes, tiny_weights) -> None:
    import shutil

    copy = shutil.copytree(scenes / "a", tmp_path / "a")
    (copy / "infrared" / "0005.png").write_bytes(b"no image")
    output = call("run", copy, *options(tmp_path, tiny_weights))
    assert "0005.png" in output
    assert not (tmp_path / "o").exists()


def result(state: TrackState) -> TrackResult:
    return TrackResult(0.0, BoundingBox(20, 30, 40, 20), 0.5, state)


def test_a_lost_target_has_no_box_and_a_missing_camera_is_black() -> None:
    frame = MultiModalFrame(0.0, np.full((120, 160, 3), 90, np.uint8), None, Modality.DEPTH)
    tracked, lost = draw(frame, result(TrackState.TRACKING)), draw(frame, result(TrackState.LOST))
    assert tracked.shape == lost.shape == (120, 320, 3)
    box_rows = slice(45, 49)  # the left edge of the box, below all text
    assert (tracked[box_rows, 18:23] != 90).any()
    assert (lost[box_rows, 18:23] == 90).all()
    assert (lost[60:, 160:] == 0).all()


def test_an_overlay_without_frames_or_after_an_error_is_not_written(tmp_path) -> None:
    with OverlayVideo(tmp_path / "x.mp4", 10.0):
        pass
    with pytest.raises(ReplayError), OverlayVideo(tmp_path / "y.mp4", 10.0) as video:
        video.add(np.zeros((64, 64, 3), dtype=np.uint8))
        raise ReplayError("stopped")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sources", [[""], ["", ""]])
def test_no_camera_at_all_is_refused(sources: list[str]) -> None:
    with pytest.raises(ReplayError, match="every source is empty"):
        open_recording(sources, Modality.DEPTH)
