"""A patch of one image on two others: unknown targets on changing backgrounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import Image

MAX_SHARE = 0.6  # of the background's sides


def random_box(image: Image, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """A textured box xywh of random size, place and shape (up to 3.3 : 1); None if none of 30 draws is textured."""
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for _ in range(30):
        size = np.exp(rng.uniform(np.log(18), np.log(0.45 * min(height, width))))
        shape = np.exp(rng.uniform(-1.2, 1.2) / 2)
        w, h = size * shape, size / shape
        if w >= width * 0.8 or h >= height * 0.8:
            continue
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        if grey[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1].std() > 14:
            return np.array((x, y, w, h))
    return None


def paste(
    image: Image, box: NDArray[np.float64], backgrounds: tuple[Image, Image], rng: np.random.Generator
) -> tuple[tuple[Image, NDArray[np.float64]], tuple[Image, NDArray[np.float64]]] | None:
    """Paste the patch of `image` inside `box`, cut along one random outline, on both backgrounds.

    Args:
        image: [H, W, 3] uint8 image with the patch.
        box: [4] xywh of the patch.
        backgrounds: Images of template and search frame.
        rng: Draws outline, sizes and places.

    Returns:
        Per background the image and the box [4] xywh of the patch in it; None if a patch would cover most of one.
    """
    x, y, w, h = box
    piece = image[int(y) : int(y + h), int(x) : int(x + w)]
    outline = _outline(rng)
    base_scale = np.exp(rng.uniform(np.log(24), np.log(110))) / np.sqrt(piece.shape[0] * piece.shape[1])
    pasted = []
    for background in backgrounds:
        scale = base_scale * np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.06, 2))
        wide, high = (max(8, int(side * factor)) for side, factor in zip(piece.shape[1::-1], scale, strict=True))
        if wide >= background.shape[1] * MAX_SHARE or high >= background.shape[0] * MAX_SHARE:
            return None
        pasted.append(_paste_on(piece, outline + rng.normal(0, 0.02, outline.shape), background, (wide, high), rng))
    return pasted[0], pasted[1]


def _outline(rng: np.random.Generator) -> NDArray[np.float64]:
    """Corners [N, 2] of a shape that touches all sides of the unit square."""
    kind = rng.random()
    if kind < 0.25:
        return np.array(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    if kind < 0.48:
        angles, reach = np.linspace(0, 2 * np.pi, 40), np.ones(40)
    else:
        corners = int(rng.integers(5, 10))
        angles, reach = np.sort(rng.uniform(0, 2 * np.pi, corners)), rng.uniform(0.75, 1.25, corners)
    points = np.stack((np.cos(angles), np.sin(angles)), axis=1) * reach[:, None]
    points -= points.min(axis=0)
    return np.asarray(points / (points.max(axis=0) + 1e-6))


def _paste_on(
    piece: Image, outline: NDArray[np.float64], background: Image, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image, NDArray[np.float64]]:
    wide, high = size
    outline = (outline - outline.min(axis=0)) / (outline.max(axis=0) - outline.min(axis=0))
    mask: NDArray[Any] = np.zeros((high, wide), dtype=np.float32)
    cv2.fillPoly(mask, [(outline * (wide - 1, high - 1)).round().astype(np.int32)], (1.0,))
    mask = cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None]
    patch = cv2.resize(piece, size, interpolation=cv2.INTER_AREA)
    picture = background.copy()
    x, y = int(rng.integers(0, picture.shape[1] - wide)), int(rng.integers(0, picture.shape[0] - high))
    under = picture[y : y + high, x : x + wide]
    picture[y : y + high, x : x + wide] = (under * (1 - mask) + patch * mask).astype(np.uint8)
    return picture, np.array((x, y, wide, high), dtype=np.float64)
