"""Pictures of a replay: a video of every frame, and a contact sheet of a few. No ROS import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.files import atomic_path
from ckd_core.frame import BoundingBox
from ckd_core.modality import to_network_image
from ckd_core.replay.outputs import is_whole_video
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.demo.plan import draw_plan
from sdstrack_ros.messages.overlay import Caption, draw_overlay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.frame import MultiModalFrame
    from sdstrack_ros.demo.live_replay import LiveBox
    from sdstrack_ros.demo.plan import Plan

    Picture = NDArray[np.uint8]

SHEET_FRAMES = 4
IMAGE_WIDTH = 320
TITLE_HEIGHT, GAP, BAR_HEIGHT = 36, 6, 22
_BACKGROUND = (24, 24, 28)
_WHITE, _GREEN, _RED, _GREY = (255, 255, 255), (60, 220, 80), (255, 90, 80), (170, 170, 170)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class DemoPictureError(TrackingError):
    """Frames that cannot be drawn, or a file that cannot be written."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame with what the node published for it.

    Attributes:
        frame: the images.
        result: None when the node published nothing for this frame.
        true: the true box; None where the target is absent or its place is unknown.
    """

    frame: MultiModalFrame
    result: LiveBox | None
    true: BoundingBox | None

    @property
    def box(self) -> BoundingBox | None:
        """The published box."""
        return None if self.result is None else self.result.box


def write_video(path: Path, shots: Sequence[Shot], fps: float) -> None:
    """Write an mp4 with both images side by side, the node's box in colour and the true box in white.

    Raises:
        DemoPictureError: no frame has an image, or OpenCV has no encoder.
    """
    video: cv2.VideoWriter | None = None
    with atomic_path(path) as temporary:
        for shot in shots:
            picture = draw_overlay(shot.frame, _named_track(shot), Caption("target"), side_by_side=True)
            if picture is None:
                continue
            if shot.true is not None:
                _draw_rectangle(picture, shot.true, _WHITE, 1)
            if video is None:
                size = (picture.shape[1], picture.shape[0])
                video = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not video.isOpened():
                    raise DemoPictureError(f"OpenCV cannot write {path}; its build has no mp4v encoder")
            video.write(np.ascontiguousarray(picture[..., ::-1]))
        if video is None:
            raise DemoPictureError(f"{path}: no frame has an image; expected at least one")
        video.release()
        if not is_whole_video(temporary):
            raise DemoPictureError(f"{path} could not be written whole; is the disk full?")


def write_sheet(path: Path, shots: Sequence[Shot], title: str, plan: Plan | None = None) -> None:
    """Write a png with a few evenly spaced frames: colour on top, the auxiliary image below, a plan beside them.

    Raises:
        DemoPictureError: one of these frames has no image, or the file cannot be written.
    """
    places = np.linspace(0, len(shots) - 1, SHEET_FRAMES).round().astype(int).tolist()
    selected = [_nearest_with_result(shots, place) for place in places]
    begin = shots[0].frame.stamp
    columns = [_column(shot, shot.frame.stamp - begin) for shot in selected]
    height, width = columns[0].shape[:2]
    if plan is not None:
        columns.append(draw_plan(plan, height, width))
    sheet = np.empty((TITLE_HEIGHT + height + GAP, len(columns) * (width + GAP) + GAP, 3), dtype=np.uint8)
    sheet[:] = _BACKGROUND
    _put_text(sheet, title, (GAP + 2, TITLE_HEIGHT - 12), _WHITE, 0.6)
    for number, column in enumerate(columns):
        left = GAP + number * (width + GAP)
        sheet[TITLE_HEIGHT : TITLE_HEIGHT + height, left : left + width] = column
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), np.ascontiguousarray(sheet[..., ::-1])):
            raise DemoPictureError(f"OpenCV cannot write {path}")


def _nearest_with_result(shots: Sequence[Shot], place: int) -> Shot:
    """Return the nearest frame with a result within a quarter of the columns' distance, else the one at `place`."""
    reach = len(shots) // (4 * SHEET_FRAMES)
    around = range(max(0, place - reach), min(len(shots), place + reach + 1))
    with_result = [index for index in around if shots[index].result is not None]
    return shots[min(with_result, key=lambda index: abs(index - place), default=place)]


def _column(shot: Shot, seconds: float) -> Picture:
    """Return both images at the sheet's size, boxes drawn after resizing so that lines stay sharp, and a caption."""
    frame = shot.frame
    aux = None if frame.aux is None else to_network_image(frame.aux, frame.modality)
    reference = frame.rgb if frame.rgb is not None else aux
    if reference is None:
        raise DemoPictureError(f"the frame at {frame.stamp} s has no image")
    scale = IMAGE_WIDTH / reference.shape[1]
    size = (IMAGE_WIDTH, round(reference.shape[0] * scale))
    halves = [_half(image, size) for image in (frame.rgb, aux)]
    for half in halves:
        if shot.true is not None:
            _draw_rectangle(half, _scaled(shot.true, scale), _WHITE, 1)
        if shot.box is not None:
            _draw_rectangle(half, _scaled(shot.box, scale), _GREEN, 2)
    bar = np.zeros((BAR_HEIGHT, IMAGE_WIDTH, 3), dtype=np.uint8)
    word, color = _verdict(shot)
    _put_text(bar, f"{seconds:.1f} s", (8, BAR_HEIGHT - 7), _WHITE, 0.5)
    _put_text(bar, word, (72, BAR_HEIGHT - 7), color, 0.5)
    return np.vstack([*halves, bar])


def _half(image: NDArray[np.uint8] | None, size: tuple[int, int]) -> Picture:
    if image is None:
        return np.zeros((size[1], size[0], 3), dtype=np.uint8)
    shrunk = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.dstack([shrunk] * 3) if shrunk.ndim == 2 else shrunk


def _verdict(shot: Shot) -> tuple[str, tuple[int, int, int]]:
    if shot.result is None:
        return "frame dropped", _GREY
    if shot.result.box is None:
        return "LOST", _RED
    return f"score {shot.result.score:.2f}", _GREEN


def _named_track(shot: Shot) -> list[tuple[str, TrackResult]]:
    if shot.result is None:
        return []
    state = TrackState.LOST if shot.result.box is None else TrackState.TRACKING
    box = shot.result.box or BoundingBox(0.0, 0.0, 0.0, 0.0)
    return [("target", TrackResult(shot.frame.stamp, box, shot.result.score, state, *shot.frame.presence))]


def _scaled(box: BoundingBox, scale: float) -> BoundingBox:
    return BoundingBox(*(side * scale for side in box))


def _draw_rectangle(picture: Picture, box: BoundingBox, color: tuple[int, int, int], thickness: int) -> None:
    """Draw a rectangle with a dark outline that shows on any background."""
    first, last = (round(box.x), round(box.y)), (round(box.x + box.w), round(box.y + box.h))
    for shade, width in (((0, 0, 0), thickness + 2), (color, thickness)):
        cv2.rectangle(picture, first, last, shade, width, cv2.LINE_AA)


def _put_text(picture: Picture, text: str, place: tuple[int, int], color: tuple[int, int, int], scale: float) -> None:
    cv2.putText(picture, text, place, _FONT, scale, color, 1, cv2.LINE_AA)
