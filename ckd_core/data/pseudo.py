"""An invented auxiliary modality for colour-only sequences, to train on where there is nothing better.

This is not a physical model. It keeps what matters to a tracker that fuses two streams: the same outlines, other
values, other failures. Both crops of a pair use the same parameters.

thermal: a random smooth brightness curve (rising or falling) over a random mixture of the colour channels, blurred.
depth: such a curve over a strongly blurred mixture plus a vertical ramp, in JET colours (BGR order, as real depth).
event: sign of the change between the image and its copy moved by a few pixels, on white, red brighter, blue darker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.frame import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import Image

BLUR_SHARE = {Modality.THERMAL: 0.004, Modality.DEPTH: 0.012, Modality.EVENT: 0.0}  # of the image's diagonal


@dataclass(frozen=True, slots=True)
class PseudoSensor:
    """Parameters of one invented sensor.

    Attributes:
        modality: What it imitates.
        weights: [3] of the colour channels.
        curve: [256] uint8, brightness curve.
        shift: (dx, dy) in pixels between the two images that events are the change of.
        threshold: Smallest change of an event in grey levels.
    """

    modality: Modality
    weights: NDArray[np.float32]
    curve: NDArray[np.uint8]
    shift: tuple[float, float]
    threshold: float

    def image(self, rgb: Image) -> Image:
        """Turn [H, W, 3] uint8 RGB into [H, W, 3] uint8 as the networks see that modality."""
        grey: Image = cv2.transform(rgb, self.weights[None])
        grey = grey if grey.ndim == 2 else grey[..., 0]
        if self.modality is Modality.EVENT:
            return self._events(grey)
        blur = BLUR_SHARE[self.modality] * float(np.hypot(*grey.shape))
        grey = cv2.GaussianBlur(grey, (0, 0), max(0.5, blur))
        if self.modality is Modality.THERMAL:
            return np.repeat(cv2.LUT(grey, self.curve)[..., None], 3, axis=2)
        ramp = np.linspace(96, 0, grey.shape[0], dtype=np.float32)[:, None]
        depth = np.clip(cv2.LUT(grey, self.curve) * 0.6 + ramp, 0, 255).astype(np.uint8)
        picture: Image = cv2.applyColorMap(depth, cv2.COLORMAP_JET)
        return picture

    def _events(self, grey: Image) -> Image:
        matrix = np.array(((1, 0, self.shift[0]), (0, 1, self.shift[1])), dtype=np.float64)
        size = grey.shape[1], grey.shape[0]
        before = cv2.warpAffine(grey, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        change = grey.astype(np.int16) - before
        image = np.full((*grey.shape, 3), 255, dtype=np.uint8)
        image[change > self.threshold] = (255, 0, 0)
        image[change < -self.threshold] = (0, 0, 255)
        return image


def draw_sensor(modality: Modality, rng: np.random.Generator) -> PseudoSensor:
    """Draw the parameters of one sensor of that modality."""
    weights = rng.dirichlet((1.0, 1.0, 1.0)).astype(np.float32)
    knots = np.sort(rng.uniform(0, 255, 5))
    if rng.random() < 0.5:
        knots = knots[::-1]
    curve = np.interp(np.arange(256), np.linspace(0, 255, 5), knots).astype(np.uint8)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 4.0)
    shift = (float(length * np.cos(angle)), float(length * np.sin(angle)))
    return PseudoSensor(modality, weights, curve, shift, float(rng.uniform(8, 24)))
