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
from ckd_core.modality import ModalityConverter, ModalityOptions
from ckd_core.tracking.view import image_from_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ckd_core.frame import Image, MultiModalFrame

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

    def view(self, frame: MultiModalFrame, size: tuple[int, int]) -> object:
        """Return what has to be remembered of a frame; None when nothing can be.

        Args:
            frame: the frame.
            size: (height, width) of the reference image, which `frame` may lack.
        """

    def between(self, before: object, after: object, targets: Sequence[BoundingBox]) -> Matrix | None:
        """Return the 3x3 map of reference pixels from one view to a later one; None when it is not known.

        Args:
            before: a view; nothing is known between views of two kinds.
            after: another view.
            targets: boxes in `before` whose content moves by itself.
        """


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """A small grey image.

    Attributes:
        grey: [h, w].
        camera: Which camera it is of; two cameras' pictures cannot be compared.
        from_reference: 3x3 matrix from a pixel of the reference to one of `grey`; integers are pixel centres.
    """

    grey: NDArray[np.uint8]
    camera: str
    from_reference: Matrix


class ImageMotion:
    """The camera's motion as a similarity, from sparse optical flow outside the targets.

    The flow is that of the colour images, or of the auxiliary ones while there is no colour.
    """

    def view(self, frame: MultiModalFrame, size: tuple[int, int]) -> _Picture:
        """Return the small grey picture of colour, else of the auxiliary image."""
        if frame.rgb is not None:
            return _picture(frame.rgb, "colour", image_from_reference(frame.rgb, frame.rgb_from_reference, size))
        assert frame.aux is not None  # noqa: S101 - check_frame refuses a frame without images
        mapped = image_from_reference(frame.aux, frame.aux_from_reference, size)
        converter = ModalityConverter(frame.modality, ModalityOptions(depth_colormap=False))
        return _picture(converter.convert(converter.prepare(frame.aux)), frame.modality.value, mapped)

    def between(self, before: object, after: object, targets: Sequence[BoundingBox]) -> Matrix | None:
        """See `CameraMotion`; None also when too little of the picture agrees."""
        if not (isinstance(before, _Picture) and isinstance(after, _Picture) and before.camera == after.camera):
            return None
        if before.grey.shape != after.grey.shape:
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
        fit, inliers = cv2.estimateAffinePartial2D(
            corners[seen], moved[seen], method=cv2.RANSAC, ransacReprojThreshold=INLIER_PX
        )
        if fit is None or inliers.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * seen.sum()):
            return None
        scale = math.hypot(fit[0, 0], fit[1, 0])
        if not 1 / MAX_SCALE <= scale <= MAX_SCALE:
            return None
        # Continuous pixels of the reference, as boxes are: pixel 0 covers 0..1.
        start, end = (picture.from_reference @ _shift(-0.5) for picture in (before, after))
        return np.asarray(np.linalg.inv(end) @ np.vstack((fit, (0.0, 0.0, 1.0))) @ start, dtype=np.float64)


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

    def view(self, frame: MultiModalFrame, size: tuple[int, int]) -> float:  # noqa: ARG002
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


def _picture(image: Image, camera: str, mapped: Matrix | None) -> _Picture:
    """The small picture of an uint8 image [H, W] or [H, W, 3] of RGB, to which `mapped` leads from the reference."""
    height, width = image.shape[:2]
    scale = min(1.0, FLOW_WIDTH / width)
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if small.ndim == 3 else small
    sy, sx = small.shape[0] / height, small.shape[1] / width
    shrunk = _shift(-0.5) @ np.diag((sx, sy, 1.0)) @ _shift(0.5)
    return _Picture(grey.astype(np.uint8, copy=False), camera, shrunk if mapped is None else shrunk @ mapped)


def _shift(pixels: float) -> Matrix:
    """Matrix that moves by so many pixels along both axes."""
    return np.array(((1.0, 0.0, pixels), (0.0, 1.0, pixels), (0.0, 0.0, 1.0)))


def _outside(picture: _Picture, targets: Sequence[BoundingBox]) -> NDArray[np.uint8]:
    """255 outside the targets, 0 inside."""
    mask = np.full(picture.grey.shape, 255, np.uint8)
    height, width = picture.grey.shape
    for box in targets:
        x, y, right, bottom = box.x - 0.5, box.y - 0.5, box.x + box.w - 0.5, box.y + box.h - 0.5
        corners = np.array([[(x, y), (right, y), (right, bottom), (x, bottom)]])
        seen = cv2.perspectiveTransform(corners, picture.from_reference)[0] + 0.5
        edges = np.round(np.nan_to_num((*seen.min(axis=0), *seen.max(axis=0))))
        left, top, right, bottom = np.clip(edges, 0, (width, height, width, height)).astype(int)
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
