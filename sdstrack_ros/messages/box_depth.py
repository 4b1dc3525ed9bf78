"""How far away the target in a box is, and how large. No ROS import.

A box contains the target, its background, and holes. So the nearest strong mode of the readings (weighted towards the
centre of the box) is taken as the target, and the trimmed median of the readings around that mode as its distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.modality import depth_in_metres

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import BoundingBox
    from sdstrack_ros.messages.camera import PinholeCamera

# Bins grow with the distance, as the noise of stereo and time-of-flight cameras does.
BIN_RATIO = 1.02
# A nearer mode is the target if it has at least this share of the strongest mode's weight.
FOREGROUND_SHARE = 0.5
MODE_WIDTH_BINS = 4
MIN_READINGS = 12
MIN_VALID_SHARE = 0.02
TRIM = 0.1
# More readings than this add cost but no accuracy.
MAX_SAMPLES_PER_SIDE = 96
SPREAD_DEVIATIONS = 2.563  # standard deviations between the 10 % and 90 % quantiles of a normal distribution
MIN_DEPTH_NOISE = 0.01  # standard deviation of a good depth camera, as a share of the distance
# Standard deviation of a tracked box's centre to either side, as a share of the square's side that has the box's area:
# legs and arms swing by a share of a person's height, however narrow the box is.
CENTER_NOISE = 0.08


@dataclass(frozen=True, slots=True)
class BoxDepth:
    """Depth of a target.

    Attributes:
        z: distance along the optical axis [m].
        spread: range of the target's readings between their 10th and 90th percentile [m].
    """

    z: float
    spread: float


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


def readings_in(
    depth: NDArray[np.generic],
    box: BoundingBox,
    size: tuple[int, int],
    aux_from_reference: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Return the depth readings inside the part of a box that lies in the image.

    Args:
        depth: [h, w], integer millimetres or float metres; it may differ in size from the reference image.
        box: in pixels of the reference image.
        size: width and height of the reference image.
        aux_from_reference: homography from reference pixels to depth pixels; None: the same view, scaled.

    Returns:
        [h, w] float32 metres, 0 where invalid; it may be empty.
    """
    height, width = depth.shape[:2]
    corners = np.array([[box.x, box.y], [box.x + box.w, box.y + box.h]], dtype=np.float64)
    if aux_from_reference is not None:
        corners = cv2.perspectiveTransform(corners[None], aux_from_reference)[0].astype(np.float64)
    else:
        corners *= (width / size[0], height / size[1])
    if not np.all(np.isfinite(corners)):
        return np.zeros((0, 0), np.float32)
    low = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, (width, height)).astype(int)
    inside = depth[low[1] : high[1], low[0] : high[0]]
    step = max(1, -(-max(inside.shape[:2], default=1) // MAX_SAMPLES_PER_SIDE))
    return depth_in_metres(inside[::step, ::step])


def robust_depth(metres: NDArray[np.float32], min_m: float, max_m: float) -> BoxDepth | None:
    """Return the distance of the target in a box, or None if there are too few valid readings.

    Args:
        metres: readings of the box, [h, w] float32; 0 where invalid.
        min_m: nearer readings are ignored.
        max_m: farther readings are ignored.
    """
    valid = (metres >= max(min_m, 1e-3)) & (metres <= max_m)
    count = int(valid.sum())
    if count < MIN_READINGS or count < MIN_VALID_SHARE * metres.size:
        return None
    height, width = metres.shape
    # Cosine weights: readings in the corners of a box are mostly background.
    central = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    values, weights = metres[valid], central[valid]
    bins = (np.log(values / values.min()) / np.log(BIN_RATIO)).astype(int)
    histogram = np.bincount(bins, weights=weights, minlength=MODE_WIDTH_BINS)
    smooth = np.convolve(histogram, np.ones(2 * MODE_WIDTH_BINS + 1), mode="same")
    if len(smooth) > len(histogram):
        smooth = smooth[MODE_WIDTH_BINS : MODE_WIDTH_BINS + len(histogram)]
    mode = _foreground_mode(smooth)
    target = values[np.abs(bins - mode) <= MODE_WIDTH_BINS]
    low, high = np.quantile(target, [TRIM, 1 - TRIM])
    trimmed = target[(target >= low) & (target <= high)]
    return BoxDepth(float(np.median(trimmed)), float(high - low))


def _foreground_mode(weights: NDArray[np.floating]) -> int:
    """Return the index of the nearest local maximum that is strong enough."""
    padded = np.concatenate([[-1.0], weights, [-1.0]])
    peaks = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] >= padded[2:]))
    strong = peaks[weights[peaks] >= FOREGROUND_SHARE * weights.max()]
    first = int(strong[0])
    # The mode is the middle of a plateau, not its near edge.
    end = first
    while end + 1 < len(weights) and weights[end + 1] == weights[first]:
        end += 1
    return (first + end) // 2


def metric_box(box: BoundingBox, depth: BoxDepth, camera: PinholeCamera) -> MetricBox:
    """Return the metric box of a box in pixels whose target is at `depth`; `camera` has the reference image's size."""
    left, top = camera.ray(box.x, box.y)
    right, bottom = camera.ray(box.x + box.w, box.y + box.h)
    x, y = camera.ray(*box.center)
    z = depth.z
    return MetricBox((x * z, y * z, z), ((right - left) * z, (bottom - top) * z, max(depth.spread, 1e-3)))


def metric_point(box: BoundingBox, depth: BoxDepth, camera: PinholeCamera) -> MetricPoint:
    """Return the centre of a box whose target is at `depth`, with its noise; arguments as of `metric_box`."""
    ray = np.array((*camera.ray(*box.center), 1.0))
    deviation = max(depth.spread / SPREAD_DEVIATIONS, MIN_DEPTH_NOISE * depth.z)
    pixels = CENTER_NOISE * math.sqrt(box.w * box.h)
    across = np.array((pixels / camera.fx, pixels / camera.fy, 0.0)) * depth.z
    return MetricPoint(depth.z * ray, deviation**2 * np.outer(ray, ray) + np.diag(across**2))
