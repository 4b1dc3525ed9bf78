"""A camera that moves through a synthetic scene, and what that does to the picture.

The world's axes are those of the camera at the start: x to the right, y down, z ahead, in metres. Turning about the
vertical axis is exact; driving moves every actor by its own depth, and the far surface as one plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ckd_core.data.synthetic.render import Backdrop, Placed, Rendered, compose

if TYPE_CHECKING:
    from numpy.typing import NDArray

Movement = Literal["drive", "swing"]
FIELD_OF_VIEW = math.pi / 3  # horizontal
SWING_REACH, SWING_RATE = math.radians(15), math.radians(60)  # a pan to and fro, at up to 60 degrees a second
# Room around the picture of a camera that looks straight ahead, in pictures: what a turn by SWING_REACH brings in.
WIDER, HIGHER = 0.5, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class CameraPose:
    """Where a camera is.

    Attributes:
        position: [3] m in the world.
        yaw: radians that it has turned to the right.
    """

    position: NDArray[np.float64]
    yaw: float

    def rotation(self) -> NDArray[np.float64]:
        """[3, 3] from the world's axes to the camera's."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return np.array(((c, 0.0, -s), (0.0, 1.0, 0.0), (s, 0.0, c)))

    def to_camera(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates of a point [3] of the world in the camera's frame."""
        return np.asarray(self.rotation() @ (point - self.position))


@dataclass(frozen=True, slots=True, eq=False)
class SpaceTruth:
    """What is true in space, frame by frame.

    Attributes:
        cameras: poses of the camera.
        positions: [N, 3] m, middle of the target in the world, also where the image does not show it.
    """

    cameras: tuple[CameraPose, ...]
    positions: NDArray[np.float64]


def camera_matrix(width: int, height: int) -> NDArray[np.float64]:
    """[3, 3] intrinsics of the synthetic camera; integers are pixel centres."""
    focal = width / (2 * math.tan(FIELD_OF_VIEW / 2))
    return np.array(((focal, 0, width / 2), (0, focal, height / 2), (0, 0, 1.0)))


def camera_at(movement: Movement, seconds: float) -> CameraPose:
    """Where the camera is at a time: `drive` weaves ahead as a robot does, `swing` pans on the spot."""
    if movement == "swing":
        return CameraPose(np.zeros(3), SWING_REACH * math.sin(SWING_RATE / SWING_REACH * seconds))
    ahead = 0.6 * (1 - math.cos(0.45 * seconds)) / 2
    return CameraPose(np.array((0.5 * math.sin(0.5 * seconds), 0.0, ahead)), math.radians(9) * math.sin(0.6 * seconds))


class MovingCamera:
    """Renders for one pose: `move` the scene, render it with `view` at `size`, then `turn` the picture."""

    def __init__(self, pose: CameraPose, width: int, height: int) -> None:
        self._pose = pose
        self._width, self._height = width, height
        self._matrix = camera_matrix(width, height)
        left, top = round(WIDER * width), round(HIGHER * height)
        self.size = (height + 2 * top, width + 2 * left)  # (height, width)
        self.view = np.array(((1.0, 0, left), (0, 1.0, top)))

    @property
    def homography(self) -> NDArray[np.float64]:
        """[3, 3] from a pixel of the rendered picture to a pixel of the camera's."""
        wide = self._matrix.copy()
        wide[:2, 2] += self.view[:, 2]
        return np.asarray(self._matrix @ self._pose.rotation() @ np.linalg.inv(wide))

    def place(self, placed: Placed) -> Placed:
        """An actor as it is seen after the drive, before the turn."""
        matrix, depth_mm = self._driven(placed.depth_mm)
        return replace(placed, matrix=compose(matrix, placed.matrix), depth_mm=depth_mm)

    def backdrop(self, backdrop: Backdrop) -> Backdrop:
        """The same of the far surface."""
        matrix, depth_mm = self._driven(backdrop.depth_mm)
        return replace(backdrop, matrix=compose(matrix, backdrop.matrix), depth_mm=depth_mm)

    def turn(self, rendered: Rendered) -> Rendered:
        """The camera's picture, after the turn."""
        size, homography = (self._width, self._height), self.homography
        color_heat = cv2.warpPerspective(rendered.color_heat, homography, size, flags=cv2.INTER_LINEAR)
        cover, depth = rendered.cover, rendered.depth_mm
        if cover is not None:
            cover = cv2.warpPerspective(cover, homography, size, flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
        if depth is not None:
            # Depth runs along the axis of the camera, which has turned.
            warped = cv2.warpPerspective(depth, homography, size, flags=cv2.INTER_NEAREST)
            ahead = (np.linalg.inv(self._matrix).T @ self._pose.rotation())[:, 2]  # z of a pixel's ray before the turn
            columns, rows = np.arange(self._width), np.arange(self._height)[:, None]
            depth = (warped / (ahead[0] * columns + ahead[1] * rows + ahead[2])).astype(np.float32)
        return Rendered(color_heat.astype(np.uint8, copy=False), depth, cover)

    def _driven(self, depth_mm: float) -> tuple[NDArray[np.float64], float]:
        """The 2x3 map of world pixels at a depth, and the depth after the drive."""
        x, y, z = self._pose.position * 1000
        focal, (cx, cy) = self._matrix[0, 0], self._matrix[:2, 2]
        scale, left = depth_mm / (depth_mm - z), depth_mm - z
        shift_x = cx - scale * cx - focal * x / left
        shift_y = cy - scale * cy - focal * y / left
        return np.array(((scale, 0.0, shift_x), (0.0, scale, shift_y))), float(left)
