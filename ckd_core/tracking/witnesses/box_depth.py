"""How far away the target in a box is.

A box contains the target, its background, and holes. So the nearest strong mode of the readings (weighted towards the
centre of the box) is taken as the target, and the trimmed median of the readings around that mode as its distance.
Where the target is expected at a distance, the surface there counts before others, if it is not too weak. Where the
image ends within the target, its middle is taken to be at that edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.frame import Modality
from ckd_core.modality import depth_in_metres

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import BoundingBox, MultiModalFrame

# Bins grow with the distance, as the noise of stereo and time-of-flight cameras does.
BIN_RATIO = 1.02
# A nearer mode is the target if it has at least this share of the strongest mode's weight.
FOREGROUND_SHARE = 0.5
# The surface where the target is expected is the target if it has at least this share of the strongest mode's weight.
EXPECTED_SHARE = 0.25
# How far the readings of a surface are from its middle [m], and as a share of the distance; the larger counts.
SURFACE_M, SURFACE_SHARE = 0.12, 0.04
SHIFTS = 5
MODE_WIDTH_BINS = 4
MIN_READINGS = 12
MIN_VALID_SHARE = 0.02
TRIM = 0.1
# A box this near to an edge of the image [px of the reference image] goes on behind it.
EDGE_PX = 0.5
# More readings than this add cost but no accuracy.
MAX_SAMPLES_PER_SIDE = 96


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
class Expected:
    """Where along the optical axis a target should be.

    Attributes:
        z: its distance [m].
        reach: how far it may be from there [m].
    """

    z: float
    reach: float

    def __contains__(self, z: float) -> bool:
        """Whether a target at distance `z` [m] may be the one that is expected."""
        return abs(z - self.z) <= self.reach


@dataclass(frozen=True, slots=True)
class Cut:
    """Which sides of a box are the image's own, so that the target may go on behind them."""

    left: bool = False
    top: bool = False
    right: bool = False
    bottom: bool = False

    @classmethod
    def of(cls, box: BoundingBox, size: tuple[int, int]) -> Cut:
        """The sides of a box at which an image of `size` (width, height) ends."""
        width, height = size
        right, bottom = box.x + box.w, box.y + box.h
        return cls(box.x <= EDGE_PX, box.y <= EDGE_PX, right >= width - EDGE_PX, bottom >= height - EDGE_PX)


UNCUT = Cut()


def target_depth(
    frame: MultiModalFrame,
    box: BoundingBox,
    size: tuple[int, int],
    min_m: float,
    max_m: float,
    expected: Expected | None = None,
) -> BoxDepth | None:
    """Return how far away the target in a box is; None without depth, or with too few valid readings.

    Args:
        frame: with depth in metres or millimetres.
        box: in pixels of the reference image.
        size: width and height of the reference image.
        min_m: nearer readings are ignored.
        max_m: farther readings are ignored.
        expected: where the target should be; None where nothing is known.
    """
    depth = frame.aux
    if frame.modality is not Modality.DEPTH or depth is None or depth.ndim != 2 or depth.dtype == np.uint8:
        return None
    readings = readings_in(depth, box, size, frame.aux_from_reference)
    cut = UNCUT if frame.aux_from_reference is not None else Cut.of(box, size)  # another view has its own edges
    return robust_depth(readings, min_m, max_m, expected, cut)


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


def robust_depth(
    metres: NDArray[np.float32], min_m: float, max_m: float, expected: Expected | None = None, cut: Cut = UNCUT
) -> BoxDepth | None:
    """Return the distance of the target in a box, or None if there are too few valid readings.

    Args:
        metres: readings of the box, [h, w] float32; 0 where invalid.
        min_m: nearer readings are ignored.
        max_m: farther readings are ignored.
        expected: where the target should be; None where nothing is known.
        cut: the sides at which the image ends.
    """
    valid = (metres >= max(min_m, 1e-3)) & (metres <= max_m)
    count = int(valid.sum())
    if count < MIN_READINGS or count < MIN_VALID_SHARE * metres.size:
        return None
    height, width = metres.shape
    # Cosine weights: readings in the corners of a box are mostly background.
    central = np.outer(_central(height, cut.top, cut.bottom), _central(width, cut.left, cut.right))
    values, weights = metres[valid], central[valid]
    bins = (np.log(values / values.min()) / np.log(BIN_RATIO)).astype(int)
    histogram = np.bincount(bins, weights=weights, minlength=MODE_WIDTH_BINS)
    smooth = np.convolve(histogram, np.ones(2 * MODE_WIDTH_BINS + 1), mode="same")
    if len(smooth) > len(histogram):
        smooth = smooth[MODE_WIDTH_BINS : MODE_WIDTH_BINS + len(histogram)]
    if expected is not None:
        target = _around(values, weights, expected)
        if weights[target].sum() >= EXPECTED_SHARE * smooth.max():
            return _depth_of(values[target])
    return _depth_of(values[np.abs(bins - _foreground_mode(smooth)) <= MODE_WIDTH_BINS])


def _central(count: int, from_first: bool, to_last: bool) -> NDArray[np.float64]:
    """Weights [count] with their peak in the middle, or at the one end behind which the target goes on."""
    if from_first == to_last:
        return np.hanning(count + 2)[1:-1]
    falling = np.hanning(2 * count + 1)[count:-1]
    return falling if from_first else falling[::-1]


def _around(values: NDArray[np.float32], weights: NDArray[np.float64], expected: Expected) -> NDArray[np.bool_]:
    """Which readings are of the surface next to where the target is expected: a mean shift from there."""
    z = expected.z
    for _ in range(SHIFTS):
        near = np.abs(values - z) <= max(SURFACE_M, SURFACE_SHARE * z)
        weight = float(weights[near].sum())
        if weight == 0:
            break
        z = float(weights[near] @ values[near]) / weight
    return near if z in expected else np.zeros_like(near)


def _depth_of(readings: NDArray[np.float32]) -> BoxDepth:
    low, high = np.quantile(readings, [TRIM, 1 - TRIM])
    trimmed = readings[(readings >= low) & (readings <= high)]
    return BoxDepth(float(np.median(trimmed if trimmed.size else readings)), float(high - low))  # two have no middle


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
