"""Random changes to a training pair, the same for both modalities of a crop (docs/trackers.md "Augmentation").

`draw_changes` draws from an explicit generator; the other functions apply what was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.frame import BoundingBox
from ckd_core.models.normalisation import normalise_values
from ckd_core.settings import limits

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AugmentationSettings:
    """Strengths and probabilities; the defaults are the published ones.

    Attributes:
        center_jitter: Of the search window, see `jitter_box`.
        scale_jitter: The same.
        grayscale: Probability that the colour images of both crops become grey. Published training never does it: its
            grayscale step raises on 6 channels and the sampler drops the sample silently (docs/trackers.md "Grey images
            are never drawn"); 0 is that behaviour without the lost samples.
        joint_flip: Probability that both crops are mirrored together.
        own_flip: Probability that one crop is mirrored, in addition.
        brightness: The factor of a crop is within 1 - b .. 1 + b.
    """

    center_jitter: float = field(default=3.0, metadata=limits(0.0, 10.0))
    scale_jitter: float = field(default=0.25, metadata=limits(0.0, 2.0))
    grayscale: float = field(default=0.05, metadata=limits(0.0, 1.0))
    joint_flip: float = field(default=0.5, metadata=limits(0.0, 1.0))
    own_flip: float = field(default=0.5, metadata=limits(0.0, 1.0))
    brightness: float = field(default=0.2, metadata=limits(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class CropChanges:
    """Changes of one six-channel crop, the same for all its channels."""

    grayscale: bool
    flip: bool
    brightness: float


def draw_changes(settings: AugmentationSettings, rng: np.random.Generator) -> tuple[CropChanges, CropChanges]:
    """Draw the changes of template and search: grayscale and one flip together, brightness and a second flip each."""
    gray, joint = rng.random() < settings.grayscale, rng.random() < settings.joint_flip

    def one() -> CropChanges:
        flip = joint != (rng.random() < settings.own_flip)
        return CropChanges(gray, bool(flip), 1 + settings.brightness * rng.uniform(-1, 1))

    return one(), one()


def jitter_box(box: BoundingBox, center_jitter: float, scale_jitter: float, rng: np.random.Generator) -> BoundingBox:
    """Move a box as an imperfect tracker would: size by a log-normal factor, centre uniformly around the true one.

    wh' = wh * exp(scale_jitter * N(0, 1)); centre' = centre + center_jitter * sqrt(w' h') * U(-0.5, 0.5), each axis.
    """
    w, h = (side * float(np.exp(scale_jitter * rng.standard_normal())) for side in (box.w, box.h))
    reach = center_jitter * (w * h) ** 0.5
    cx, cy = (middle + reach * (rng.random() - 0.5) for middle in box.center)
    return BoundingBox(cx - w / 2, cy - h / 2, w, h)


def apply_changes(crops: NDArray[np.uint8], changes: CropChanges) -> NDArray[np.float32]:
    """Change and normalise crops [2, S, S, 3] uint8 (colour, auxiliary): [6, S, S] float32.

    Brightness acts on values 0..1 with clamping, then the colour mean and deviation normalise both modalities.
    """
    rgb, aux = crops
    if changes.grayscale:
        rgb = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    image = np.concatenate((rgb, aux), axis=2)
    if changes.flip:
        image = image[:, ::-1]
    values = image.astype(np.float32) / np.float32(255)
    if changes.brightness != 1:
        values = np.clip(values * np.float32(changes.brightness), 0, 1)
    return normalise_values(values)


def mirror_box(box_xywh: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mirror a box [4], `xywh` as shares of its crop."""
    x, y, w, h = box_xywh
    return np.array((1 - x - w, y, w, h), dtype=np.float32)
