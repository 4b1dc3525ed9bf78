"""The camera's own motion between two frames: where what stood still in the first is in the second.

A tracker searches around the last box. When the camera turns, that place moves in the image, by more than the search
region allows for a small target, and the same for everything that stands still: so it can be foreseen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from ckd_core.frame import BoundingBox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ckd_core.frame import MultiModalFrame

    Matrix = NDArray[np.float64]

FLOW_WIDTH = 320  # width [px] at which the flow is computed
MAX_CORNERS = 200
MIN_INLIERS = 12
MIN_INLIER_SHARE = 0.4  # with fewer, most of the picture moves by itself, and the motion is not the camera's
INLIER_PX = 2.0  # at FLOW_WIDTH
MAX_SCALE = 1.5  # a larger change of scale between two frames is a wrong fit, not a camera
MAX_OUTSIDE = 1.0  # how far outside the frame a box may be carried, in sides of the frame
MIN_SIDE_PX = 4.0  # smaller no box is carried: a camera that backs off from a lost target would shrink it to nothing


class CameraMotion(Protocol):
    """A way to know the camera's motion."""

    def view(self, frame: MultiModalFrame) -> object:
        """Return what has to be remembered of a frame; None when nothing can be."""

    def between(self, before: object, after: object, targets: Sequence[BoundingBox]) -> Matrix | None:
        """Return the 3x3 map of reference pixels from one view to a later one; None when it is not known.

        Args:
            before: a view; nothing is known between views of two kinds.
            after: another view.
            targets: boxes in `before` whose content moves by itself.
        """


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """A small grey image and how many of its pixels make one of the reference."""

    grey: NDArray[np.uint8]
    scale: float


class ImageMotion:
    """The camera's motion as a similarity, from sparse optical flow outside the targets."""

    def view(self, frame: MultiModalFrame) -> _Picture | None:
        """Return the small grey picture; None for a frame without colour, or whose boxes are in other pixels."""
        if frame.rgb is None or frame.rgb_from_reference is not None:
            return None
        height, width, _ = frame.rgb.shape
        scale = min(1.0, FLOW_WIDTH / width)
        small = cv2.resize(frame.rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        return _Picture(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False), scale)

    def between(self, before: object, after: object, targets: Sequence[BoundingBox]) -> Matrix | None:
        """See `CameraMotion`; None also when too little of the picture agrees."""
        if not (isinstance(before, _Picture) and isinstance(after, _Picture) and before.grey.shape == after.grey.shape):
            return None
        corners = cv2.goodFeaturesToTrack(before.grey, MAX_CORNERS, 0.01, 8, mask=_outside(before, targets))
        if corners is None or len(corners) < MIN_INLIERS:
            return None
        moved, found, _ = cv2.calcOpticalFlowPyrLK(
            before.grey, after.grey, corners, np.empty_like(corners), winSize=(21, 21), maxLevel=3
        )
        seen = found.ravel() == 1
        if seen.sum() < MIN_INLIERS:
            return None
        # Continuous pixels of the reference, as boxes are: pixel 0 covers 0..1.
        start, end = ((points[seen].reshape(-1, 2) + 0.5) / before.scale for points in (corners, moved))
        fit, inliers = cv2.estimateAffinePartial2D(
            start, end, method=cv2.RANSAC, ransacReprojThreshold=INLIER_PX / before.scale
        )
        if fit is None or inliers.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * seen.sum()):
            return None
        scale = math.hypot(fit[0, 0], fit[1, 0])
        if not 1 / MAX_SCALE <= scale <= MAX_SCALE:
            return None
        return np.vstack((fit, (0.0, 0.0, 1.0)))


class RotationMotion:
    """The camera's rotation, as its mounting knows it, and its focal length: exact for what is far away."""

    def __init__(
        self,
        rotation: Callable[[float, float], Matrix | None],
        camera: Callable[[], Matrix | None],
    ) -> None:
        """Store where to ask.

        Args:
            rotation: returns for two stamps [s] the 3x3 rotation from the camera's optical axes at the first to those
                at the second; None when it is not known.
            camera: returns the 3x3 camera matrix of the reference image, integers being pixel centres; None when it is
                not known.
        """
        self._rotation = rotation
        self._camera = camera

    def view(self, frame: MultiModalFrame) -> float:
        """Return the frame's stamp."""
        return frame.stamp

    def between(self, before: object, after: object, targets: Sequence[BoundingBox]) -> Matrix | None:  # noqa: ARG002
        """See `CameraMotion`."""
        if not (isinstance(before, float) and isinstance(after, float)):
            return None
        camera = self._camera()
        rotation = None if camera is None else self._rotation(before, after)
        if camera is None or rotation is None:
            return None
        pixels = camera.copy()
        pixels[:2, 2] += 0.5  # continuous pixels, as boxes are
        return np.asarray(pixels @ rotation @ np.linalg.inv(pixels), dtype=np.float64)


def _outside(picture: _Picture, targets: Sequence[BoundingBox]) -> NDArray[np.uint8]:
    """255 outside the targets, 0 inside."""
    mask = np.full(picture.grey.shape, 255, np.uint8)
    height, width = picture.grey.shape
    for box in targets:
        corners = np.array((box.x, box.y, box.x + box.w, box.y + box.h)) * picture.scale
        left, top, right, bottom = np.clip(np.round(corners), 0, (width, height, width, height)).astype(int)
        mask[top:bottom, left:right] = 0
    return mask


def moved_box(box: BoundingBox, motion: Matrix, frame_size: tuple[int, int]) -> BoundingBox:
    """Carry a box along with the camera's motion.

    It stays within one frame's size of the frame (height, width), and neither grows beyond the frame's longer side nor
    shrinks to nothing, however long the camera drives towards a lost target or away from it.
    """
    x, y, w = motion @ np.array((*box.center, 1.0))
    if not np.isfinite((x, y, w)).all() or w <= 1e-6:
        return box  # behind the camera
    height, width = frame_size
    cx = min(max(float(x / w), -MAX_OUTSIDE * width), (1 + MAX_OUTSIDE) * width)
    cy = min(max(float(y / w), -MAX_OUTSIDE * height), (1 + MAX_OUTSIDE) * height)
    scale = math.sqrt(abs(float(np.linalg.det(motion))) / float(w) ** 3)  # root of the change of area at this place
    scale = min(max(scale, 1 / MAX_SCALE), MAX_SCALE)
    scale = min(scale, max(1.0, max(frame_size) / max(box.w, box.h)))
    scale = max(scale, min(1.0, MIN_SIDE_PX / min(box.w, box.h)))
    return BoundingBox(cx - box.w * scale / 2, cy - box.h * scale / 2, box.w * scale, box.h * scale)
