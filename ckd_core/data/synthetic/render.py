"""Rendering a moment of a synthetic scene through any view: a whole camera image, or straight into a tracker's crop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.data.synthetic.actors import Canvas
    from ckd_core.data.synthetic.textures import Surface


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The far surface.

    Attributes:
        surface: What it looks like.
        matrix: 2x3 from its pixels to world pixels.
        depth_mm: Distance at the world's origin.
        slope: Change of the distance in mm per world pixel, along x and y.
        relief_mm: Range of the surface's own depth steps.
    """

    surface: Surface
    matrix: NDArray[np.float64]
    depth_mm: float = 5000.0
    slope: tuple[float, float] = (0.0, -4.0)
    relief_mm: float = 300.0


@dataclass(frozen=True, slots=True)
class Placed:
    """One actor's appearance at its place; `matrix` maps canvas pixels to world pixels (2x3)."""

    canvas: Canvas
    matrix: NDArray[np.float64]
    depth_mm: float = 2500.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered moment.

    Attributes:
        color_heat: [h, w, 4] uint8.
        depth_mm: [h, w] float32, None unless it was requested.
        cover: [h, w] uint8, visible share of the target (0..255) per pixel; None without a target.
    """

    color_heat: NDArray[np.uint8]
    depth_mm: NDArray[np.float32] | None
    cover: NDArray[np.uint8] | None

    def rgb(self) -> NDArray[np.uint8]:
        """[h, w, 3] colours alone; OpenCV copies channels several times faster than NumPy reads a strided view."""
        return cv2.cvtColor(self.color_heat, cv2.COLOR_RGBA2RGB).astype(np.uint8, copy=False)

    def grey(self) -> NDArray[np.uint8]:
        """[h, w] brightness."""
        return cv2.cvtColor(self.color_heat, cv2.COLOR_RGBA2GRAY).astype(np.uint8, copy=False)

    def heat(self) -> NDArray[np.uint8]:
        """[h, w] warmth alone."""
        return cv2.extractChannel(self.color_heat, 3).astype(np.uint8, copy=False)


def compose(outer: NDArray[np.float64], inner: NDArray[np.float64]) -> NDArray[np.float64]:
    """2x3 affine map that applies `inner`, then `outer`."""
    both = outer[:, :2] @ inner
    both[:, 2] += outer[:, 2]
    return both


def similarity(
    scale_x: float, scale_y: float, angle: float, center: tuple[float, float], target: tuple[float, float]
) -> NDArray[np.float64]:
    """2x3 map that scales and turns about `center` and takes it to `target`."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    linear = np.array(((c * scale_x, -s * scale_y), (s * scale_x, c * scale_y)))
    matrix = np.empty((2, 3))
    matrix[:, :2] = linear
    matrix[:, 2] = np.array(target) - linear @ np.array(center)
    return matrix


def scale_of(matrix: NDArray[np.float64]) -> float:
    """Return the output pixels per input pixel, on average over directions."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return math.sqrt(abs(a * d - b * c))


def apply(matrix: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map points [n, 2]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def box_of(placed: Placed, homography: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """`xywh` [4] in world pixels of the whole actor, hidden parts included; seen through a 3x3 homography if given."""
    points = apply(placed.matrix, placed.canvas.hull)
    if homography is not None:
        points = cv2.perspectiveTransform(points[None], homography)[0].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    # hull points are pixel corners counted from pixel centres; boxes count from the corner of the first pixel
    return np.concatenate((low + 0.5, high - low))


def pixel_view(left: float, top: float, width: float, height: float, out: int) -> NDArray[np.float64]:
    """2x3 map from world pixels to those of a crop `width` x `height` at (left, top), resized to a square of `out`."""
    x, y = out / width, out / height
    return np.array(((x, 0.0, 0.5 * x - 0.5 - left * x), (0.0, y, 0.5 * y - 0.5 - top * y)))


def _background(backdrop: Backdrop, view: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    matrix = compose(view, backdrop.matrix)
    scale = scale_of(matrix)
    level = int(np.clip(np.floor(np.log2(max(1e-6, 1 / scale)) + 0.3), 0, len(backdrop.surface.levels) - 1))
    if level:
        # pyrDown keeps pixel (2i, 2j): coarse pixel k stands at fine pixel 2^level k
        matrix = compose(matrix, np.array(((2.0**level, 0, 0), (0, 2.0**level, 0))))
    picture = backdrop.surface.levels[level]
    return cv2.warpAffine(
        picture, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.uint8, copy=False)


def render(
    backdrop: Backdrop,
    placed: Sequence[Placed],
    view: NDArray[np.float64],
    size: tuple[int, int],
    depth: bool = False,
    target: int | None = None,
) -> Rendered:
    """Render `placed` in order over the backdrop.

    Args:
        backdrop: The far surface.
        placed: Actors from back to front.
        view: 2x3 from world to output pixels.
        size: (height, width) of the output.
        depth: Whether to render the depth map as well.
        target: Index in `placed` of the actor whose visible share is rendered as well; None = no cover.
    """
    image = _background(backdrop, view, size)
    distance = _background_depth(backdrop, view, size, image) if depth else None
    cover = np.zeros(size, dtype=np.uint8) if target is not None else None
    for index, item in enumerate(placed):
        _draw_actor(image, distance, cover, item, view, index == target)
    return Rendered(image, distance, cover)


def _background_depth(
    backdrop: Backdrop, view: NDArray[np.float64], size: tuple[int, int], image: NDArray[np.uint8]
) -> NDArray[np.float32]:
    inverse = np.linalg.inv(view[:, :2])
    ys, xs = np.ogrid[0 : size[0], 0 : size[1]]
    world_x = inverse[0, 0] * (xs - view[0, 2]) + inverse[0, 1] * (ys - view[1, 2])
    world_y = inverse[1, 0] * (xs - view[0, 2]) + inverse[1, 1] * (ys - view[1, 2])
    plane = backdrop.depth_mm + backdrop.slope[0] * world_x + backdrop.slope[1] * world_y
    smooth = cv2.blur(image[..., 1], (5, 5)).astype(np.uint8, copy=False)
    steps = (smooth >> 5).astype(np.float32) * np.float32(1 / 8)  # surfaces at several depths
    depth: NDArray[np.float32] = np.clip(plane + backdrop.relief_mm * (steps - 0.5), 300, 15000).astype(np.float32)
    return depth


def _draw_actor(
    image: NDArray[np.uint8],
    distance: NDArray[np.float32] | None,
    cover: NDArray[np.uint8] | None,
    item: Placed,
    view: NDArray[np.float64],
    is_target: bool,
) -> None:
    height, width = image.shape[:2]
    matrix = compose(view, item.matrix)
    canvas = item.canvas
    h, w = canvas.alpha.shape
    corners = apply(matrix, np.array(((0, 0), (w, 0), (0, h), (w, h)), dtype=np.float64))
    x1, y1 = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    x2, y2 = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 2, (width, height))
    if x2 <= x1 or y2 <= y1:
        return
    colors, alpha = canvas.color_heat, canvas.alpha
    scale = scale_of(matrix)
    if scale < 0.6:  # shrink first; small actors would flicker otherwise
        factor = max(scale * 1.2, 0.08)
        small = (max(2, round(w * factor)), max(2, round(h * factor)))
        colors = cv2.resize(colors, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        alpha = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        fx, fy = w / small[0], h / small[1]
        matrix = compose(matrix, np.array(((fx, 0, fx / 2 - 0.5), (0, fy, fy / 2 - 0.5))))
    matrix = matrix - np.array(((0, 0, x1), (0, 0, y1)))
    size = (int(x2 - x1), int(y2 - y1))
    front = cv2.warpAffine(colors, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    opacity = cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR)
    part = image[y1:y2, x1:x2]
    weight = opacity.astype(np.uint16)[..., None]
    part[:] = (front * weight + part * (255 - weight) + 127) // 255
    if distance is not None:
        distance[y1:y2, x1:x2][opacity > 127] = item.depth_mm
    if cover is not None:
        visible = cover[y1:y2, x1:x2]
        visible[:] = np.maximum(visible, opacity) if is_target else (visible.astype(np.uint16) * (255 - opacity) // 255)
