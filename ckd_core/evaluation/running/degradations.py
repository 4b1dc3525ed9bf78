"""Degradations: what a camera's images look like under a condition. One function and one row of `DEGRADATIONS` each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.data.synthetic.smoke import drifting_clouds, veil
from ckd_core.errors import TrackingError
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SMOKE_RISE_FRAMES = 15
PATCHES = 32  # of `occluded` along an image's longer side


class ImageError(TrackingError):
    """An image that a degradation cannot change."""


def _top(image: NDArray[Any]) -> float:
    """Brightest value that the image's type and use allow."""
    if image.dtype == np.uint8:
        return 255.0
    known = image[np.isfinite(image)] if image.dtype.kind == "f" else image
    return float(known.max(initial=1))


def _back(values: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
    if image.dtype.kind == "f":
        return np.asarray(values, dtype=image.dtype)
    return np.asarray(np.clip(np.rint(values), 0, np.iinfo(image.dtype).max), dtype=image.dtype)


@dataclass(frozen=True, slots=True)
class FrameContext:
    """What a degradation knows about a frame.

    Attributes:
        rng: Generator of this frame.
        scene: Generator in the same state in every frame of a sequence.
        number: Frames since the tracker started.
        kind: Kind of the camera, None = colour.
    """

    rng: np.random.Generator
    scene: np.random.Generator
    number: int
    kind: Modality | None


def _blackout(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    del amount, context
    return np.zeros_like(image)


def _noise(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    return _back(image + context.rng.normal(0.0, amount * _top(image), image.shape), image)


def _blur(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    del context
    return np.asarray(cv2.GaussianBlur(image, (0, 0), amount))


def _overexposed(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    if context.kind is Modality.DEPTH:
        # Strong ambient light outshines a depth camera's own signal first where that is weakest: far away.
        limit = _top(image) / amount
        return np.where(image > limit, np.zeros_like(image), image)
    return _back(np.minimum(image.astype(np.float64) * amount, _top(image)), image)


def _smoke(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    """Clouds that drift across the image and thicken over the first frames."""
    risen = amount * min(1.0, context.number / SMOKE_RISE_FRAMES)
    return veil(image, drifting_clouds(context.scene, image.shape[:2], context.number), risen, risen, 190.0, 70.0)


def _occluded(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    """Black patches on a grid, drawn anew in every frame and for each camera."""
    height, width = image.shape[:2]
    side = max(1, round(max(height, width) / PATCHES))
    rows, columns = -(-height // side), -(-width // side)
    hidden = np.zeros(rows * columns, dtype=np.bool_)
    hidden[context.rng.permutation(rows * columns)[: round(amount * rows * columns)]] = True
    mask = np.kron(hidden.reshape(rows, columns), np.ones((side, side), dtype=np.bool_))[:height, :width]
    shown = image.copy()
    shown[mask] = 0
    return shown


def _misaligned(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    del context
    shift = np.array([[1.0, 0.0, amount], [0.0, 1.0, amount]])
    return np.asarray(cv2.warpAffine(image, shift, (image.shape[1], image.shape[0]), flags=cv2.INTER_NEAREST))


def _jpeg(image: NDArray[Any], amount: float, context: FrameContext) -> NDArray[Any]:
    """Encoded and decoded again; images of more than 8 bits do not travel as JPEG and stay as they are."""
    del context
    if image.dtype != np.uint8:
        return image
    color = image.ndim == 3
    quality = [cv2.IMWRITE_JPEG_QUALITY, round(amount)]
    done, data = cv2.imencode(".jpg", image[:, :, ::-1] if color else image, quality)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE) if done else None
    if decoded is None:
        raise ImageError(f"OpenCV cannot make a JPEG of an image of shape {image.shape}; expected [H, W] or [H, W, 3]")
    return np.ascontiguousarray(decoded[:, :, ::-1]) if color else np.asarray(decoded)


@dataclass(frozen=True, slots=True)
class Degradation:
    """A row of `DEGRADATIONS`.

    Attributes:
        apply: From image, amount and what is known about the frame to the image; None: an older image is shown.
        amount: The usual strength.
        target: The usual cameras: rgb, aux or both.
        minimum: The smallest possible strength.
        meaning: What happens, and the unit of its strength.
        only: The one possible target, and why.
        maximum: The largest possible strength.
    """

    apply: Callable[[NDArray[Any], float, FrameContext], NDArray[Any]] | None
    amount: float
    target: str
    minimum: float
    meaning: str
    only: tuple[str, str] | None = None
    maximum: float = math.inf


DEGRADATIONS = {
    "blackout": Degradation(_blackout, 0.0, "rgb", 0.0, "black images that count as present"),
    "noise": Degradation(_noise, 0.1, "both", 0.0, "Gaussian noise, standard deviation as a share of the range"),
    "blur": Degradation(_blur, 3.0, "rgb", 0.01, "Gaussian blur, sigma in px"),
    "overexposed": Degradation(_overexposed, 4.0, "rgb", 1.0, "gain with saturation (depth: far pixels lost)"),
    "smoke": Degradation(
        _smoke,
        0.9,
        "rgb",
        0.0,
        "drifting smoke, share of the light lost on average",
        ("rgb", "a thermal camera sees through smoke, and what others see of it is not modelled"),
    ),
    "occluded": Degradation(
        _occluded, 0.3, "both", 0.0, "black patches at random places, a share of the image", maximum=1.0
    ),
    "misaligned": Degradation(_misaligned, 8.0, "aux", -1e4, "shifted to the right and down, px"),
    "jpeg": Degradation(_jpeg, 10.0, "both", 1.0, "8-bit images through JPEG of this quality", maximum=100.0),
    "offset": Degradation(None, 66.0, "aux", 0.0, "older images, by ms", ("aux", "the colour images give the time")),
    "late": Degradation(
        None, 2.0, "aux", 0.0, "the image of that many frames ago", ("aux", "the colour images give the time")
    ),
}
