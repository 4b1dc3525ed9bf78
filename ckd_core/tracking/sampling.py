"""What a device needs to cut windows out of whole images itself: the images, and where each window's pixels come from.

The same windows as `CropSampler`'s, of the same frame; pixels differ by the rounding of two implementations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import Image
    from ckd_core.tracking.crop import CropWindow

# One window of one image: the 3x3 matrix from a crop's pixel to the image's, row by row; the least and greatest x and y
# that are sampled; the first pixel that counts, and the first after the last, in x and y. Outside it is black.
GEOMETRY = 9 + 4 + 4


@dataclass(frozen=True, slots=True, eq=False)
class FrameImages:
    """One frame's images and the windows to cut out of them.

    Attributes:
        rgb: [H, W, 3] uint8.
        aux: [h, w] or [h, w, 3] uint8, or [h, w] uint16.
        geometry: [N, 2, GEOMETRY] float32 per window: of the colour image, of the auxiliary one.
        tone: [4] float32 for a uint16 image: lowest and highest value, factor and offset that then give 0..255.
        colored: Whether those become the colours of `cv2.COLORMAP_JET`.
    """

    rgb: NDArray[np.uint8]
    aux: Image
    geometry: NDArray[np.float32]
    tone: NDArray[np.float32]
    colored: bool


def window_geometry(
    window: CropWindow, side: int, size: tuple[int, int], image_from_reference: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Describe a window of an image for a crop of `side` pixels, see `GEOMETRY`.

    Args:
        window: In reference pixels.
        side: Of the crop.
        size: (height, width) of the image.
        image_from_reference: 3x3 matrix from a reference pixel to a pixel of this image; None: they are the same.
    """
    height, width = size
    matrix = window.sampling_matrix(side)
    limits: tuple[float, ...] = (-np.inf, -np.inf, np.inf, np.inf)
    valid: tuple[float, ...] = (0, 0, width, height)
    if image_from_reference is not None:
        matrix = image_from_reference @ matrix
        corners = matrix[2] @ np.array(((0, side - 1, 0, side - 1), (0, 0, side - 1, side - 1), (1, 1, 1, 1)))
        if corners.min() <= 1e-9:  # the homography's horizon crosses the window
            valid = (0, 0, 0, 0)
    elif window.published:
        right, bottom = window.left + window.width, window.top + window.height
        limits = (window.left, window.top, right - 1, bottom - 1)
        # the published border rule drops the last column and row
        valid = (0, 0, right if right < width else width - 1, bottom if bottom < height else height - 1)
    return np.concatenate((matrix.ravel(), limits, valid))
