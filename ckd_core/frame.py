"""Frames and boxes, which all layers share: one moment of a colour camera and of an auxiliary sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ckd_core.errors import TrackingError

Image = NDArray[Any]


class FrameError(TrackingError):
    """A frame that no tracker can use."""


class Modality(str, Enum):
    """Kind of the auxiliary (non-colour) stream."""

    DEPTH = "depth"
    THERMAL = "thermal"
    EVENT = "event"


class BoundingBox(NamedTuple):
    """An axis-aligned box `xywh` in pixels of the colour image: left, top, width, height; origin top-left."""

    x: float
    y: float
    w: float
    h: float

    @property
    def center(self) -> tuple[float, float]:
        """Centre (cx, cy) in pixels."""
        return self.x + self.w / 2, self.y + self.h / 2

    def is_finite(self) -> bool:
        """Whether all four numbers are finite."""
        return all(math.isfinite(v) for v in self)


@dataclass(frozen=True, slots=True)
class MultiModalFrame:
    """One moment; images are exactly as they came from the sensors (views, never copies).

    Attributes:
        stamp: Seconds.
        rgb: [H, W, 3] uint8 in RGB order, or None without a colour image.
        aux: The raw auxiliary image, or None: depth [h, w] uint16 millimetres or float32 metres; thermal [h, w] uint8
            or uint16, or [h, w, 3] uint8; an event image [h, w, 3] uint8. Its size may differ from the colour image's.
        modality: Kind of `aux`.
        rgb_from_reference: 3x3 homography from a pixel of the reference image, in which boxes are given, to a pixel of
            `rgb`. None: the colour image is the reference.
        aux_from_reference: The same for `aux`. None: it shows the same view as the colour image, scaled to its own
            size.
        aux_held: Whether the auxiliary image is an older one that is used again.
    """

    stamp: float
    rgb: Image | None
    aux: Image | None
    modality: Modality
    rgb_from_reference: NDArray[np.float64] | None = None
    aux_from_reference: NDArray[np.float64] | None = None
    aux_held: bool = False

    @property
    def presence(self) -> tuple[bool, bool]:
        """(colour present, auxiliary present)."""
        return self.rgb is not None, self.aux is not None


# dtypes of the raw auxiliary image by modality; with three channels it must be uint8
AUX_DTYPES = {
    Modality.DEPTH: ("uint8", "uint16", "float32"),
    Modality.THERMAL: ("uint8", "uint16"),
    Modality.EVENT: ("uint8",),
}


def check_frame(frame: MultiModalFrame) -> None:
    """Refuse a frame that no tracker can use.

    Rows may be padded (a view of an image message); pixels within a row must be dense, because OpenCV would copy
    anything else.

    Raises:
        FrameError: A stamp or homography is not finite, both images are missing, or an image is too small, has a wrong
            dtype or number of channels, or is not contiguous within its rows.
    """
    if not isinstance(frame.stamp, (int, float)) or not math.isfinite(frame.stamp):
        message = f"the frame's stamp must be a finite number of seconds, got {frame.stamp}"
        raise FrameError(message)
    if frame.rgb is None and frame.aux is None:
        message = f"the frame at {frame.stamp} s has neither a colour nor a {frame.modality.value} image; one is needed"
        raise FrameError(message)
    if frame.rgb is not None:
        _check_image(frame.rgb, "colour", ("uint8",), channels=(3,))
    if frame.aux is not None:
        name = frame.modality.value
        _check_image(frame.aux, name, AUX_DTYPES[frame.modality], channels=(1, 3))
        if frame.aux.ndim == 3 and frame.aux.shape[2] == 3 and frame.aux.dtype != "uint8":
            message = f"a three-channel {name} image must be uint8, got {frame.aux.dtype}"
            raise FrameError(message)
    _check_homography(frame.rgb_from_reference, "rgb_from_reference")
    _check_homography(frame.aux_from_reference, "aux_from_reference")


def _check_image(image: Image, name: str, dtypes: tuple[str, ...], channels: tuple[int, ...]) -> None:
    value: object = image  # at run time it may be anything
    if not isinstance(value, np.ndarray):
        message = f"the {name} image must be a numpy array, got {type(value).__name__}"
        raise FrameError(message)
    shape = "x".join(str(length) for length in image.shape)
    if image.ndim not in (2, 3) or (image.ndim == 2 and 1 not in channels):
        message = f"the {name} image must be [H, W{', C' if 1 not in channels else ''}], got shape {shape}"
        raise FrameError(message)
    count = image.shape[2] if image.ndim == 3 else 1
    if count not in channels:
        message = f"the {name} image must have {' or '.join(map(str, channels))} channels, got {count} (shape {shape})"
        raise FrameError(message)
    if image.shape[0] < 2 or image.shape[1] < 2:
        message = f"the {name} image must be at least 2 x 2 pixels, got shape {shape}"
        raise FrameError(message)
    if str(image.dtype) not in dtypes:
        message = f"the {name} image must be {' or '.join(dtypes)}, got {image.dtype}"
        raise FrameError(message)
    pixel = image.itemsize * count
    dense = image.strides[1] == pixel and image.strides[0] >= pixel * image.shape[1]
    if image.ndim == 3:
        dense = dense and (count == 1 or image.strides[2] == image.itemsize)
    if not dense:
        message = (
            f"the {name} image must have dense rows, got strides {image.strides} for shape {shape} of {image.dtype}; "
            "pass numpy.ascontiguousarray(image)"
        )
        raise FrameError(message)


def _check_homography(matrix: NDArray[np.float64] | None, name: str) -> None:
    if matrix is None:
        return
    if not isinstance(matrix, np.ndarray) or matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        message = f"{name} must be a finite 3x3 matrix, got {np.asarray(matrix).tolist()}"
        raise FrameError(message)
    if np.linalg.det(matrix) == 0:
        message = f"{name} maps the whole image to a line or a point, expected an invertible matrix: {matrix.tolist()}"
        raise FrameError(message)
