"""The scene from above: where the target was followed, where it was, and where the camera drove. No ROS import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Path2D = NDArray[np.float64]

MARGIN, LEGEND = 34, 64  # pixels at every side, and above for the legend
_BACKGROUND, _GRID = (24, 24, 28), (58, 58, 64)
_WHITE, _GREEN, _BLUE = (255, 255, 255), (60, 220, 80), (90, 160, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Paths on the ground, each [n, 2] m: x ahead, y to the left (REP 103).

    Attributes:
        followed: the node's poses.
        true: the true places of the target.
        camera: places of the camera.
    """

    followed: Path2D
    true: Path2D
    camera: Path2D


def draw_plan(plan: Plan, height: int, width: int) -> Picture:
    """Draw the paths, x upwards, with a grid of a metre or of what fits."""
    picture: Picture = np.full((height, width, 3), _BACKGROUND, np.uint8)
    everything = np.concatenate((plan.followed, plan.true, plan.camera))
    if not len(everything):
        return picture
    low, high = everything.min(axis=0), everything.max(axis=0)
    middle, extent = (low + high) / 2, np.maximum(high - low, 0.5)
    scale = min((height - LEGEND - 2 * MARGIN) / extent[0], (width - 2 * MARGIN) / extent[1])  # pixels per metre
    center = np.array((width / 2, (LEGEND + height) / 2))

    def pixels(places: Path2D) -> NDArray[np.int32]:
        mirrored = center - (places - middle)[:, ::-1] * scale  # y goes left, x goes up
        return np.asarray(np.round(mirrored), dtype=np.int32)

    step = _step(max(height, width) / scale)
    reach = max(height, width) / scale
    for axis in (0, 1):
        for line in np.arange(math.floor((middle[axis] - reach) / step), (middle[axis] + reach) / step) * step:
            ends = np.array([(line, middle[1] - reach), (line, middle[1] + reach)])
            if axis == 1:
                ends = np.array([(middle[0] - reach, line), (middle[0] + reach, line)])
            first, last = (tuple(map(int, end)) for end in pixels(ends))
            cv2.line(picture, first, last, _GRID, 1)
    for places, color, thickness in ((plan.camera, _BLUE, 2), (plan.true, _WHITE, 5), (plan.followed, _GREEN, 2)):
        if len(places):
            points = pixels(places)
            cv2.polylines(picture, [points.reshape(-1, 1, 2)], False, color, thickness, cv2.LINE_AA)
            cv2.circle(picture, tuple(map(int, points[0])), 4, color, -1, cv2.LINE_AA)
    for row, (text, color) in enumerate((("camera", _BLUE), ("target, true", _WHITE), ("target, followed", _GREEN))):
        cv2.putText(picture, text, (10, 20 + 18 * row), _FONT, 0.45, color, 1, cv2.LINE_AA)
    cv2.putText(picture, f"from above, grid {step:g} m", (10, height - 10), _FONT, 0.45, _WHITE, 1, cv2.LINE_AA)
    return picture


def _step(extent_m: float) -> float:
    """A round number of metres of which a few fit into the picture."""
    return next((step for step in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0) if extent_m / step <= 10), 100.0)
