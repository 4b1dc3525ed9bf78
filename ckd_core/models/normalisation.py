"""ImageNet normalisation, as every part of the package applies it: pixels to what networks take, and back.

The forms differ in rounding, and weights and golden numbers depend on each: none may be replaced by another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# Statistics of values 0..1 in red, green, blue; the same for the auxiliary image (docs/trackers.md "Conventions").
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN, STD = np.array(IMAGE_MEAN, dtype=np.float32), np.array(IMAGE_STD, dtype=np.float32)
# [3, 256]: what each level of each channel becomes; a look-up is several times faster than computing every pixel.
_LEVELS = (np.arange(256, dtype=np.float32) / (255 * STD)[:, None] - (MEAN / STD)[:, None]).astype(np.float32)


def scale_and_shift() -> tuple[Tensor, Tensor]:
    """Factor and summand of six-channel pixel values 0..255, float32 [1, 6, 1, 1] each."""
    mean = torch.tensor(IMAGE_MEAN).repeat(2).view(1, 6, 1, 1)
    std = torch.tensor(IMAGE_STD).repeat(2).view(1, 6, 1, 1)
    return 1 / (255 * std), -mean / std


def normalise_values(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values 0..1 [h, w, 6], colour first, to [6, h, w]."""
    mean, std = np.tile(MEAN, 2), np.tile(STD, 2)
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))


def normalise_images(rgb: NDArray[np.uint8], aux: NDArray[np.uint8]) -> Tensor:
    """Two [h, w, 3] uint8 images to one [6, h, w] float32."""
    planes = np.empty((6, *rgb.shape[:2]), dtype=np.float32)
    for index, plane in enumerate((*cv2.split(rgb), *cv2.split(aux))):
        cv2.LUT(plane, _LEVELS[index % 3], dst=planes[index])
    return torch.from_numpy(planes)


def to_pixels(crop: Tensor) -> NDArray[np.uint8]:
    """Normalised [6, h, w] back to uint8 [h, w, 6], for people to look at."""
    std, mean = torch.tensor(IMAGE_STD * 2).view(6, 1, 1), torch.tensor(IMAGE_MEAN * 2).view(6, 1, 1)
    pixels = (crop.detach().float().cpu() * std + mean).clamp(0, 1) * 255
    return np.asarray(pixels.byte().permute(1, 2, 0).numpy(), dtype=np.uint8)
