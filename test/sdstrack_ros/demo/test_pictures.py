from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.demo.live_replay import LiveBox
from sdstrack_ros.demo.pictures import SHEET_FRAMES, DemoPictureError, Shot, write_sheet, write_video

if TYPE_CHECKING:
    from pathlib import Path

BOX = BoundingBox(40, 30, 50, 40)
GREEN_BGR = (80, 220, 60)


def shot(index: int, result: LiveBox | None = None, image: bool = True) -> Shot:
    rgb = np.zeros((120, 160, 3), np.uint8) if image else None
    aux = np.zeros((60, 80), np.uint8) if image else None
    return Shot(MultiModalFrame(index / 10, rgb, aux, Modality.THERMAL), result, None)


def visible(index: int) -> LiveBox:
    return LiveBox(index, BOX, 0.9)


def green_columns(path: Path) -> list[bool]:
    """Whether each column of a sheet shows a green box."""
    sheet = cv2.imread(str(path))
    assert sheet is not None
    images = sheet[36:-30]  # without title and captions, whose scores are green too
    green = np.abs(images.astype(int) - GREEN_BGR).max(axis=2) < 10
    return [bool(part.any()) for part in np.array_split(green, SHEET_FRAMES, axis=1)]


def test_the_video_has_every_frame_with_an_image(tmp_path: Path) -> None:
    shots = [shot(index, visible(index), image=index != 2) for index in range(5)]
    write_video(tmp_path / "video.mp4", shots, 10.0)
    video = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 4
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == 320


def test_a_recording_without_images_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DemoPictureError, match=r"video\.mp4: no frame has an image"):
        write_video(tmp_path / "video.mp4", [shot(0, image=False)], 10.0)
    with pytest.raises(DemoPictureError, match=r"the frame at 0\.0 s has no image"):
        write_sheet(tmp_path / "sheet.png", [shot(0, image=False)], "title")
    assert not list(tmp_path.iterdir())


def test_the_sheet_shows_a_box_only_where_the_node_published_one(tmp_path: Path) -> None:
    results = [visible(0), LiveBox(1, None, 0.0), None, visible(3)]
    write_sheet(tmp_path / "sheet.png", [shot(index, result) for index, result in enumerate(results)], "title")
    assert green_columns(tmp_path / "sheet.png") == [True, False, False, True]


def test_the_sheet_prefers_a_neighbour_with_a_result_to_a_dropped_frame(tmp_path: Path) -> None:
    shots = [shot(index, visible(index) if index % 2 else None) for index in range(40)]
    write_sheet(tmp_path / "sheet.png", shots, "title")
    assert green_columns(tmp_path / "sheet.png") == [True] * 4
