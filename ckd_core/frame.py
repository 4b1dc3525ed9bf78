"""What every layer passes on: one moment seen by a colour camera and by a second sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    import numpy as np

Image = NDArray[Any]


class FrameError(TrackingError):
    """A frame or a box that no tracker can use."""


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
    """One moment, its images exactly as they came from the sensors (views, never copies).

    stamp: seconds.
    rgb: [H, W, 3] uint8 in RGB order, or None when the colour camera gave nothing.
    aux: the raw second image, or None: depth [h, w] uint16 millimetres or float32 metres; thermal [h, w] uint8 or
        uint16, or [h, w, 3] uint8; an event image [h, w, 3] uint8. Its size may differ from the colour image's.
    modality: what `aux` is.
    rgb_from_reference, aux_from_reference: 3x3 homographies that take a pixel of the reference image (in which boxes
        are given) to that modality's pixel. None: the colour image is the reference, and the auxiliary image shows
        the same view, scaled to its own size.
    aux_held: the auxiliary image is an older one that serves again.
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
