"""The window around a box that the networks look at, and the way back.

A window is cropped straight out of the raw image and resized into an existing uint8 buffer: no six-channel frame is
built, and only the pixels of the window are converted to the networks' three channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ckd_core.frame import Image

# A padded copy of the window larger than this (pixels) is not worth its memory: it is sampled directly instead.
MAX_PADDED_PIXELS = 2048 * 2048


class CropError(TrackingError):
    """A box around which there can be no window."""


@dataclass(frozen=True, slots=True)
class CropWindow:
    """A part of the reference image that is resized to a square crop.

    In continuous pixels of that image: pixel 0 covers 0..1.

    Attributes:
        cx: Centre that maps predictions back to the image.
        cy: The same, from the top.
        left: Where sampling begins.
        top: The same, from the top.
        width: Equal to the height, except with `square_boxes` (see `window_around`).
        height: See `width`.
        published: Whether it is a whole-pixel window as in the published trackers. Their sampling origin is rounded
            while the way back is not (up to half a pixel apart), and a window that touches the frame's last column or
            row loses it to padding.
    """

    cx: float
    cy: float
    left: float
    top: float
    width: float
    height: float
    published: bool

    def to_crop(self, box: BoundingBox) -> tuple[float, float, float, float]:
        """Map a box `xywh` in reference pixels to `cxcywh` as shares of the window; inverse of `from_crop`."""
        cx, cy = box.center
        return (
            (cx - self.cx + self.width / 2) / self.width,
            (cy - self.cy + self.height / 2) / self.height,
            box.w / self.width,
            box.h / self.height,
        )

    def from_crop(self, box_cxcywh: tuple[float, float, float, float]) -> BoundingBox:
        """Map `cxcywh` as shares of the window to a box `xywh` in reference pixels."""
        sides = self.width, self.height, self.width, self.height
        cx, cy, w, h = (value * side for value, side in zip(box_cxcywh, sides, strict=True))
        return BoundingBox(cx + (self.cx - self.width / 2) - w / 2, cy + (self.cy - self.height / 2) - h / 2, w, h)

    def sampling_matrix(self, out: int) -> NDArray[np.float64]:
        """Return the 3x3 matrix from a pixel of a crop of side `out` to a reference pixel.

        Integers are pixel centres, as in OpenCV.
        """
        x, y = self.width / out, self.height / out
        rows = ((x, 0, self.left + x / 2 - 0.5), (0, y, self.top + y / 2 - 0.5), (0, 0, 1))
        return np.array(rows, dtype=np.float64)


def window_around(box: BoundingBox, factor: float, published: bool = True, *, square_boxes: bool = False) -> CropWindow:
    """Return the square of side sqrt(w h) * factor around a box's centre (docs/trackers.md "Crops").

    Args:
        box: In reference pixels.
        factor: Side of the window in sides of the target.
        published: Whether to round to whole pixels (see `CropWindow`).
        square_boxes: Use `factor` times the box's own width and height instead, so that every box is square in its
            crop. Such a window is always exact to a fraction of a pixel.

    Raises:
        CropError: The box has no area or is not finite.
    """
    if not box.is_finite() or box.w <= 0 or box.h <= 0:
        raise CropError(f"box is {tuple(box)}; a window needs finite numbers with a positive width and height")
    cx, cy = box.center
    if square_boxes:
        width, height = box.w * factor, box.h * factor
        return CropWindow(cx, cy, cx - width / 2, cy - height / 2, width, height, published=False)
    side = math.sqrt(box.w * box.h) * factor
    if not published:
        return CropWindow(cx, cy, cx - side / 2, cy - side / 2, side, side, published)
    side = math.ceil(side)
    return CropWindow(cx, cy, round(cx - side * 0.5), round(cy - side * 0.5), side, side, published)


def _cut(image: Image, corners: tuple[int, int, int, int], convert: Callable[[Image], Image] | None) -> Image | None:
    """Part of an image between two corners (x1, y1, x2, y2), converted; None where there is nothing between them."""
    x1, y1, x2, y2 = corners
    if x2 <= x1 or y2 <= y1:
        return None
    part = image[y1:y2, x1:x2]
    return part if convert is None else convert(part)


class CropSampler:
    """Crops windows out of images; allocates nothing after its largest window. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._padded = np.empty(0, dtype=np.uint8)
        self._grey = np.empty(0, dtype=np.uint8)

    def sample(
        self,
        image: Image,
        window: CropWindow,
        out: NDArray[np.uint8],
        image_from_reference: NDArray[np.float64] | None = None,
        convert: Callable[[Image], Image] | None = None,
    ) -> None:
        """Write the window of `image` into `out` [S, S, 3] uint8, bilinear, black outside the image.

        Args:
            image: Raw array [H, W] or [H, W, 3].
            window: In reference pixels.
            out: The crop.
            image_from_reference: 3x3 matrix from a reference pixel to a pixel of this image; None: they are the same.
            convert: Turns a part of the image into uint8 [h, w] or [h, w, 3]; None: the image is that already.
        """
        side = int(window.width)
        if image_from_reference is None and window.published and side * side <= MAX_PADDED_PIXELS:
            self._sample_whole_pixels(image, window, out, convert)
            return
        matrix = window.sampling_matrix(out.shape[0])
        if image_from_reference is not None:
            matrix = image_from_reference @ matrix
        self._sample_warped(image, matrix, out, convert)

    def _sample_whole_pixels(
        self, image: Image, window: CropWindow, out: NDArray[np.uint8], convert: Callable[[Image], Image] | None
    ) -> None:
        height, width = image.shape[:2]
        left, top, side = int(window.left), int(window.top), int(window.width)
        x1, y1 = max(0, left), max(0, top)
        x2 = left + side if left + side < width else width - 1  # the published border rule drops the last column
        y2 = top + side if top + side < height else height - 1
        part = _cut(image, (x1, y1, x2, y2), convert)
        if part is None:
            out.fill(0)
            return
        if part.shape[:2] != (side, side):
            padded = self._scratch(side, part)
            padded.fill(0)
            padded[y1 - top : y2 - top, x1 - left : x2 - left] = part
            part = padded
        size = out.shape[1], out.shape[0]
        if part.ndim == 3:
            cv2.resize(part, size, dst=out, interpolation=cv2.INTER_LINEAR)
            return
        grey = self._grey_scratch(out)
        cv2.resize(part, size, dst=grey, interpolation=cv2.INTER_LINEAR)
        cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB, dst=out)

    def _sample_warped(
        self,
        image: Image,
        matrix: NDArray[np.float64],
        out: NDArray[np.uint8],
        convert: Callable[[Image], Image] | None,
    ) -> None:
        height, width = image.shape[:2]
        last = out.shape[0] - 1
        corners = matrix @ np.array(((0, last, 0, last), (0, 0, last, last), (1, 1, 1, 1)), dtype=np.float64)
        if corners[2].min() <= 1e-9:  # the homography's horizon crosses the window
            out.fill(0)
            return
        xs, ys = corners[0] / corners[2], corners[1] / corners[2]
        x1, x2 = max(0, math.floor(xs.min())), min(width, math.ceil(xs.max()) + 2)
        y1, y2 = max(0, math.floor(ys.min())), min(height, math.ceil(ys.max()) + 2)
        part = _cut(image, (x1, y1, x2, y2), convert)
        if part is None:
            out.fill(0)
            return
        matrix = np.array(((1, 0, -x1), (0, 1, -y1), (0, 0, 1)), dtype=np.float64) @ matrix
        target = out if part.ndim == 3 else self._grey_scratch(out)
        size = out.shape[1], out.shape[0]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        if np.abs(matrix[2, :2]).max() < 1e-12:
            affine = matrix[:2] / matrix[2, 2]
            cv2.warpAffine(part, affine, size, dst=target, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        else:
            cv2.warpPerspective(
                part, matrix, size, dst=target, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0
            )
        if target is not out:
            cv2.cvtColor(target, cv2.COLOR_GRAY2RGB, dst=out)

    def _scratch(self, side: int, like: Image) -> NDArray[np.uint8]:
        shape = (side, side, *like.shape[2:])
        count = math.prod(shape)
        if self._padded.size < count:
            self._padded = np.empty(count, dtype=np.uint8)
        return self._padded[:count].reshape(shape)

    def _grey_scratch(self, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shape = out.shape[:2]
        if self._grey.shape != shape:
            self._grey = np.empty(shape, dtype=np.uint8)
        return self._grey
