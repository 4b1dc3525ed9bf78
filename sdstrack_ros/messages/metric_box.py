"""From a box in pixels and the depth of its target to metres. No ROS import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.tracking.witnesses.box_depth import Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.witnesses.box_depth import BoxDepth
    from sdstrack_ros.messages.camera import PinholeCamera

SPREAD_DEVIATIONS = 2.563  # standard deviations between the 10 % and 90 % quantiles of a normal distribution
MIN_DEPTH_NOISE = 0.01  # standard deviation of a good depth camera, as a share of the distance
# Standard deviation of a tracked box's centre to either side, as a share of the square's side that has the box's area:
# legs and arms swing by a share of a person's height, however narrow the box is.
CENTER_NOISE = 0.08
# The same across a side at which the image ends, as a share of the box's longer side: how much of the target is behind
# it is not known.
CUT_NOISE = 0.25


@dataclass(frozen=True, slots=True)
class MetricBox:
    """Axis-aligned box in the camera's optical frame.

    Attributes:
        center: centre of the visible surface [m].
        size: extent along x, y and z [m].
    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class MetricPoint:
    """A target's place in the camera's optical frame.

    Attributes:
        position: [3] m.
        covariance: [3, 3] m^2; long along the ray through the point where the depth is unsure.
    """

    position: NDArray[np.float64]
    covariance: NDArray[np.float64]


def metric_box(box: BoundingBox, depth: BoxDepth, camera: PinholeCamera) -> MetricBox:
    """Return the metric box of a box in pixels whose target is at `depth`; `camera` has the reference image's size."""
    left, top = camera.box_ray(box.x, box.y)
    right, bottom = camera.box_ray(box.x + box.w, box.y + box.h)
    x, y = camera.box_ray(*box.center)
    z = depth.z
    return MetricBox((x * z, y * z, z), ((right - left) * z, (bottom - top) * z, max(depth.spread, 1e-3)))


def metric_point(box: BoundingBox, depth: BoxDepth, camera: PinholeCamera) -> MetricPoint:
    """Return the centre of a box whose target is at `depth`, with its noise; arguments as of `metric_box`."""
    ray = np.array((*camera.box_ray(*box.center), 1.0))
    deviation = max(depth.spread / SPREAD_DEVIATIONS, MIN_DEPTH_NOISE * depth.z)
    pixels = CENTER_NOISE * math.sqrt(box.w * box.h)
    cut, longer = Cut.of(box, (camera.width, camera.height)), max(box.w, box.h)
    off_x = math.hypot(pixels, CUT_NOISE * longer if cut.left or cut.right else 0.0)
    off_y = math.hypot(pixels, CUT_NOISE * longer if cut.top or cut.bottom else 0.0)
    across = np.array((off_x / camera.fx, off_y / camera.fy, 0.0)) * depth.z
    return MetricPoint(depth.z * ray, deviation**2 * np.outer(ray, ray) + np.diag(across**2))
