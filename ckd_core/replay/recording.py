"""Recorded frames from files: a sequence folder, one or two videos, or one or two sets of images."""

from __future__ import annotations

import glob
import logging
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.data.event_files import RAW_SUFFIX, RawEvents, read_header
from ckd_core.data.sequences import IMAGE_SUFFIXES, Sequence, natural_key, open_sequence
from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.modality import events_to_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckd_core.frame import Image

logger = logging.getLogger(__name__)
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})
SAME_RATE = 0.01  # relative difference of two videos' frame rates that is rounding


class ReplayError(TrackingError):
    """Files that cannot be played, or an option of `sdstrack run` that does not exist."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Frames to be played.

    Attributes:
        name: Of the folder or file.
        modality: Kind of the auxiliary images.
        count: Number of frames; of a video what its header claims; None where only reading tells.
        fps: Frames per second.
        frames: Opens the files and yields the frames in order.
        first_box: Annotated box of the first frame, or None.
        has_auxiliary: Whether there are auxiliary images; without them `modality` says nothing.
    """

    name: str
    modality: Modality
    count: int | None
    fps: float
    frames: Callable[[], Iterator[MultiModalFrame]]
    first_box: BoundingBox | None = None
    has_auxiliary: bool = True


def parse_modality(text: str | None) -> Modality | None:
    """Look a modality up by name; None stays None.

    Raises:
        ReplayError: There is no such modality.
    """
    if text is None:
        return None
    try:
        return Modality(text)
    except ValueError as error:
        names = ", ".join(modality.value for modality in Modality)
        raise ReplayError(f"unknown modality {text!r}; expected one of: {names}") from error


def open_recording(sources: list[str], modality: Modality | None = None, fps: float = 30.0) -> Recording:
    """Open the user's files.

    Args:
        sources: A sequence folder (see `open_sequence`); or a colour video and optionally an auxiliary one; or a glob
            pattern of colour images and optionally one of auxiliary images, paired in the order of their numbers. In
            the place of the auxiliary source, or alone, a Prophesee RAW file: its events from the first on, drawn per
            colour frame, or per 1 / fps seconds. An empty string in the place of the colour source: the auxiliary
            stream alone.
        modality: Kind of the auxiliary images; needed unless the folder's name shows it.
        fps: Frames per second of images.

    Raises:
        ReplayError: The files do not exist, cannot be opened, or do not pair.
        SequenceError: The folder is not a sequence.
    """
    if not 1 <= len(sources) <= 2:
        raise ReplayError(f"got {len(sources)} sources; expected one or two sources (colour, auxiliary)")
    if not any(sources):
        raise ReplayError('every source is empty (""); give a folder, videos, or a quoted glob pattern of images')
    if len(sources) == 1 and Path(sources[0]).is_dir():
        return _from_folder(Path(sources[0]), modality, fps)
    rgb, aux = (*sources, "")[:2]
    if len(sources) == 1 and _is_raw(rgb):
        rgb, aux = "", rgb
    if _is_raw(aux):
        if modality not in (None, Modality.EVENT):
            raise ReplayError(f"{aux} holds events; expected --modality event, or none")
        return _from_raw(rgb, Path(aux), fps)
    if aux and modality is None:
        raise ReplayError(f"the kind of the images in {aux} is unknown; give --modality depth, thermal or event")
    kind = modality or Modality.THERMAL
    if all(Path(source).suffix.lower() in VIDEO_SUFFIXES for source in (rgb, aux) if source):
        return _from_videos(rgb, aux, kind)
    return _from_images(rgb, aux, kind, fps)


def _from_folder(folder: Path, modality: Modality | None, fps: float) -> Recording:
    sequence = open_sequence(folder, ground_truth=False, fps=fps)
    if modality is not None and sequence.aux_paths and modality is not sequence.modality:
        raise ReplayError(f"{folder} holds {sequence.modality.value} images; expected {modality.value}")
    box = BoundingBox(*map(float, sequence.boxes[0])) if sequence.present[0] else None
    return Recording(
        sequence.name, sequence.modality, len(sequence), fps, sequence.frames, box, bool(sequence.aux_paths)
    )


def _is_raw(source: str) -> bool:
    return Path(source).suffix.lower() == RAW_SUFFIX


def _from_raw(rgb: str, raw: Path, fps: float) -> Recording:
    """Draw the events of each frame; colour begins with the first event, and the shorter one ends the recording."""
    size = read_header(raw)
    color = open_recording([rgb], Modality.EVENT, fps) if rgb else None
    fps = color.fps if color is not None else fps

    def frames() -> Iterator[MultiModalFrame]:
        events = RawEvents(raw)
        images = (events_to_image(part, (size.height, size.width)) for part in events.slices(fps))
        colors = (frame.rgb for frame in color.frames()) if color is not None else repeat(None)
        for index, (image, picture) in enumerate(zip(images, colors, strict=False)):
            yield MultiModalFrame(index / fps, picture, image, Modality.EVENT)
        for remark in events.remarks():
            logger.warning("%s: %s", raw, remark)

    count = color.count if color is not None else None
    return Recording(raw.stem, Modality.EVENT, count, fps, frames)


def _from_images(rgb: str, aux: str, modality: Modality, fps: float) -> Recording:
    paths = [_matching(pattern) if pattern else () for pattern in (rgb, aux)]
    lengths = {len(images) for images in paths if images}
    if len(lengths) != 1:
        raise ReplayError(f"{rgb} matches {len(paths[0])} images and {aux} matches {len(paths[1])}; must be equal")
    count = lengths.pop()
    sequence = Sequence(
        name=Path(rgb or aux).parent.name or "images",
        modality=modality,
        rgb_paths=paths[0],
        aux_paths=paths[1],
        boxes=np.full((count, 4), np.nan),
        labelled=np.zeros(count, dtype=np.bool_),
        stamps=np.arange(count) / fps,
    )
    return Recording(sequence.name, modality, count, fps, sequence.frames, has_auxiliary=bool(aux))


def _matching(pattern: str) -> tuple[Path, ...]:
    files = (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute
    images = sorted((path for path in files if path.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    if not images:
        raise ReplayError(f"{pattern} matches no image; give a folder, videos, or a quoted glob pattern of images")
    return tuple(images)


def _from_videos(rgb: str, aux: str, modality: Modality) -> Recording:
    paths = [Path(source) for source in (rgb, aux) if source]
    counts, rates = [], []
    for path in paths:
        video = _open_video(path)
        counts.append(int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        rates.append(float(video.get(cv2.CAP_PROP_FPS)))
        video.release()
    if len(set(rates)) > 1 and abs(rates[0] - rates[1]) > SAME_RATE * max(rates):
        raise ReplayError(f"{rgb} has {rates[0]:g} frames per second and {aux} {rates[1]:g}; a pair must have one rate")
    fps = rates[0] if rates[0] > 0 else 30.0

    def frames() -> Iterator[MultiModalFrame]:
        videos = [_open_video(path) for path in paths]
        try:
            for index, images in enumerate(zip(*map(_images_of, videos), strict=False)):  # ends with the shorter one
                color = images[0] if rgb else None
                yield MultiModalFrame(index / fps, color, images[-1] if aux else None, modality)
        finally:
            for video in videos:
                video.release()

    return Recording(paths[0].stem, modality, min(counts), fps, frames, has_auxiliary=bool(aux))


def _open_video(path: Path) -> cv2.VideoCapture:
    video = cv2.VideoCapture(str(path)) if path.is_file() else None  # which a pipe is not: it may block for ever
    if video is None or not video.isOpened():
        raise ReplayError(f"{path} is not a video that OpenCV can open")
    return video


def _images_of(video: cv2.VideoCapture) -> Iterator[Image]:
    """Images [H, W, 3] uint8 RGB to the end of the video."""
    while True:
        success, image = video.read()
        if not success:
            return
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
