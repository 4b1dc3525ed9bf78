"""Boxes for clips that have none: simple detectors propose start boxes, a teacher tracker follows them.

A track counts only as far as it is consistent: tracked forwards from its start box, and then backwards from its last
box, both directions must agree. Errors that detector and teacher share remain, so look at the
contact sheet.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np

from ckd_core.boxes import iou_xywh
from ckd_core.errors import TrackingError
from ckd_core.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.frame import Image

logger = logging.getLogger(__name__)
NANOTRACK_FILES = ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx")


class TeacherError(TrackingError):
    """A teacher that cannot be loaded, or clips that it cannot label."""


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How clips are labelled.

    Attributes:
        starts: Frames per clip that are searched for start boxes, spread evenly.
        most: Maximum number of tracks per colour clip.
        most_thermal: Maximum number of tracks per thermal clip.
        length: Frames that are tracked from a start box.
        agree: Minimum IoU of the forward and the backward track at the start.
        shortest: Minimum number of frames per track.
        smallest: Minimum side of a start box in pixels.
    """

    starts: int = 4
    most: int = 9
    most_thermal: int = 7
    length: int = 60
    agree: float = 0.7
    shortest: int = 8
    smallest: float = 10.0


@dataclass(frozen=True, slots=True)
class Track:
    """One target of one clip.

    Attributes:
        first: Index of the first frame.
        detector: What proposed the start box: `warm`, `person`, `moving`; `file` for annotated boxes.
        boxes: [N] xywh in pixels, one per frame.
    """

    first: int
    detector: str
    boxes: tuple[tuple[float, float, float, float], ...]


class Teacher:
    """NanoTrack v2 through OpenCV, one target at a time.

    Args:
        folder: Where the ONNX files are (`NANOTRACK_FILES`).

    Raises:
        TeacherError: A file is missing.
    """

    def __init__(self, folder: Path) -> None:
        parameters = cv2.TrackerNano.Params()
        parameters.backbone, parameters.neckhead = (str(folder / name) for name in NANOTRACK_FILES)
        for name in NANOTRACK_FILES:
            if not (folder / name).is_file():
                raise TeacherError(f"no {folder / name}; the teacher is NanoTrack v2 ({', '.join(NANOTRACK_FILES)})")
        self._tracker = cv2.TrackerNano.create(parameters)

    def follow(self, frames: list[Image], box: NDArray[np.float64]) -> NDArray[np.float64]:
        """Track `box` through `frames` (BGR): boxes [N, 4] xywh, of which the first one is `box`."""
        self._tracker.init(frames[0], tuple(round(float(value)) for value in box))
        boxes = [box]
        for frame in frames[1:]:
            _, tracked = self._tracker.update(frame)
            boxes.append(np.asarray(tracked, dtype=np.float64))
        return np.stack(boxes)


class TeacherFeatures:
    """Features that NanoTrack v2 compares, of whole crops: what a network may learn to see alike.

    Args:
        folder: Where the ONNX files are (`NANOTRACK_FILES`).

    Raises:
        TeacherError: The file of the backbone is missing or cannot be read.
    """

    channels: ClassVar[int] = 48

    def __init__(self, folder: Path) -> None:
        self._path = folder / NANOTRACK_FILES[0]
        self._networks: dict[int, cv2.dnn.Net] = {}  # by side: OpenCV 4 fails on a second shape

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB crops [N, S, S, 3] to features [N, 48, S / 16, S / 16]."""
        network = self._network(crops.shape[1])
        features = []
        for crop in crops:  # one by one: the file has a batch of one
            network.setInput(cv2.dnn.blobFromImage(crop))
            features.append(network.forward()[0].copy())
        return np.stack(features)

    def _network(self, side: int) -> cv2.dnn.Net:
        if side not in self._networks:
            try:
                self._networks[side] = cv2.dnn.readNetFromONNX(str(self._path))
            except cv2.error as error:
                raise TeacherError(f"cannot read {self._path}; the teacher is NanoTrack v2 ({error.err})") from error
        return self._networks[side]


def label_clip(frames: list[Image], teacher: Teacher, settings: LabelSettings, thermal: bool) -> list[Track]:
    """Tracks of one clip's frames (BGR), in the order in which their start boxes were proposed."""
    tracks: list[Track] = []
    median = np.median(np.stack(frames[:: max(1, len(frames) // 15)]), axis=0).astype(np.uint8)
    indices = np.unique(np.linspace(0, max(0, len(frames) - settings.shortest), settings.starts).astype(int))
    for index in indices:
        occupied = [np.array(t.boxes[index - t.first]) for t in tracks if t.first <= index < t.first + len(t.boxes)]
        for detector, box in propose(frames[index], median, thermal):
            if len(tracks) >= (settings.most_thermal if thermal else settings.most):
                return tracks
            if min(box[2:]) < settings.smallest or any(iou_xywh(box, other) > 0.5 for other in occupied):
                continue
            occupied.append(box)
            boxes = consistent(frames[index : index + settings.length], box, teacher, settings.agree)
            if len(boxes) >= settings.shortest:
                rows = tuple((float(x), float(y), float(w), float(h)) for x, y, w, h in boxes.round(2))
                tracks.append(Track(int(index), detector, rows))
    return tracks


def consistent(frames: list[Image], box: NDArray[np.float64], teacher: Teacher, agree: float) -> NDArray[np.float64]:
    """The beginning of the forward track that the backward one confirms, boxes [N, 4]; may be empty."""
    forward = teacher.follow(frames, box)
    backward = teacher.follow(frames[::-1], forward[-1])[::-1]
    overlaps = np.array([iou_xywh(a, b) for a, b in zip(forward, backward, strict=True)])
    if overlaps[0] >= agree:
        confirmed = overlaps >= agree * 0.85
        end = len(confirmed) if confirmed.all() else int(np.argmin(confirmed))
        return forward[:end]
    return forward[:0]


def propose(frame: Image, median: Image, thermal: bool) -> list[tuple[str, NDArray[np.float64]]]:
    """Propose start boxes in one frame.

    Args:
        frame: BGR image.
        median: Median of the clip's frames.
        thermal: Whether the camera is thermal: then warm regions, else people and what moves before a still background.

    Returns:
        Names of the detectors and boxes [4] xywh, without overlapping ones.
    """
    height, width = frame.shape[:2]
    candidates = [("warm", box) for box in _warm(frame)] if thermal else [("person", box) for box in _people(frame)]
    if not thermal:
        candidates += [("moving", box) for box in _moving(frame, median)]
    proposals: list[tuple[str, NDArray[np.float64]]] = []
    for name, box in candidates:
        x, y, w, h = box
        inside = x >= 1 and y >= 1 and x + w <= width - 1 and y + h <= height - 1
        sane = 1 / 6 < w / h < 6 and w * h < 0.35 * width * height
        if inside and sane and all(iou_xywh(box, other) < 0.5 for _, other in proposals):
            proposals.append((name, box))
    return proposals


def _components(mask: Image, min_area: float) -> list[NDArray[np.float64]]:
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    order = sorted(range(1, count), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))
    boxes = [stats[i, :4].astype(np.float64) for i in order[:8]]
    areas = [float(stats[i, cv2.CC_STAT_AREA]) for i in order[:8]]
    return [box for box, area in zip(boxes, areas, strict=True) if area >= min_area and area > 0.35 * box[2] * box[3]]


def _warm(frame: Image) -> list[NDArray[np.float64]]:
    grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (0, 0), 1.0)
    level = max(float(np.percentile(grey, 90)), 0.45 * float(grey.max()))
    mask = cv2.morphologyEx((grey > level).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 3), np.uint8))
    return _components(mask, 120)


def _moving(frame: Image, median: Image) -> list[NDArray[np.float64]]:
    change = cv2.absdiff(frame, median).max(axis=2)
    mask = (cv2.GaussianBlur(change, (0, 0), 1.5) > 22).astype(np.uint8)
    if mask.mean() > 0.4:  # the camera moves
        return []
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    return _components(mask, max(100.0, 0.001 * mask.size))


def _people(frame: Image) -> list[NDArray[np.float64]]:
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector()))
    scale = 720 / max(frame.shape[:2]) * 1.0
    picture = cv2.resize(frame, None, fx=scale, fy=scale)
    boxes, weights = detector.detectMultiScale(picture, winStride=(8, 8), padding=(16, 16), scale=1.08)
    people = []
    for box, weight in zip(boxes, np.ravel(weights), strict=True):
        if weight < 0.6:
            continue
        x, y, w, h = (float(value) / scale for value in box)
        people.append(np.array((x + 0.2 * w, y + 0.07 * h, 0.6 * w, 0.86 * h)))  # its windows have a wide margin
    return people


def write_tracks(path: Path, settings: LabelSettings, clips: dict[str, list[Track]]) -> None:
    """Write all clips' tracks as JSON."""
    plain = {
        name: [{"first": track.first, "found": track.detector, "boxes": track.boxes} for track in tracks]
        for name, tracks in clips.items()
    }
    write_text(path, json.dumps({"settings": asdict(settings), "clips": plain}))


def read_part(path: Path, settings: LabelSettings) -> dict[str, list[Track]]:
    """Tracks that an interrupted call with the same settings has left; none where there was no such call."""
    try:
        known = json.loads(path.read_text())["settings"] == json.loads(json.dumps(asdict(settings)))
        return read_tracks(path) if known else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def read_tracks(path: Path) -> dict[str, list[Track]]:
    """Tracks by clip, as `write_tracks` wrote them.

    Raises:
        TeacherError: No such file, or another kind of file.
    """
    try:
        clips = json.loads(path.read_text())["clips"]
        return {
            name: [Track(int(t["first"]), str(t["found"]), tuple(tuple(box) for box in t["boxes"])) for t in tracks]
            for name, tracks in clips.items()
        }
    except OSError as error:
        raise TeacherError(f"cannot read tracks {path} ({error.strerror}); sdstrack label writes them") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TeacherError(f"{path} is not what sdstrack label writes: {error}") from error
