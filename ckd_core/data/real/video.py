"""Whole clips in memory, decoded once; a clip that ends early is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.frame import Image

MISSING_FRAMES = 2  # some containers count a frame or two more than decode


class VideoError(TrackingError):
    """A clip that is missing, does not decode, or ends before it should."""


def read_video(path: Path) -> list[Image]:
    """All frames [H, W, 3] uint8 BGR of a clip.

    Raises:
        VideoError: No such file, or fewer frames than its container counts.
    """
    if not path.is_file():
        raise VideoError(f"no clip {path}")
    video = cv2.VideoCapture(str(path))
    declared = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    frames: list[Image] = []
    while True:
        decoded, frame = video.read()
        if not decoded:
            break
        frames.append(frame)
    video.release()
    if not frames or len(frames) < declared - MISSING_FRAMES:
        raise VideoError(f"{path} decodes to {len(frames)} frames of {declared} that it promises")
    return frames
