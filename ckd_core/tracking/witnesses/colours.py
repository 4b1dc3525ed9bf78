"""A target's colours, as a witness of whether its box is still on it.

A network that compares shapes finds another person as good as the one it began with. Colours tell them apart: a box
whose colours suddenly are others has left its target. Where the whole picture has other colours too, the light has
changed, or the camera; then they say nothing, and what is in the box from then on is usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Histogram = NDArray[np.float32]

BINS = (4, 12, 12)  # of lightness and the two axes of colour in CIE Lab, as OpenCV scales them to 0..255
RANGES = (0, 256, 64, 192, 64, 192)  # colours further out do not occur in pictures
INNER_SHARE, INNER_SIDE = 0.75, 36  # of the box, and the pixels that it is sampled on: its rim shows what is behind
SCENE_SIDE = 60  # at least so many samples along the shorter side of the picture
RATE = 0.1  # at which what is usual follows the readings
TYPICAL = 1.25  # from the mean distance to the standard deviation of a normal distribution


class ColoursError(TrackingError):
    """Options of the watch over colours outside their range."""


@dataclass(frozen=True, slots=True)
class ColoursConfig:
    """When a box has left its target.

    Attributes:
        enabled: False: colours say nothing about boxes.
        spreads: A likeness to the start that is lower than the usual one by more than this many times its usual spread
            is not the target's.
        least_spread: Lower bound of that spread.
        settled_after: Readings before they may contradict the network.
        scene_fall: By how much the likeness of the whole picture to that of the last good frame falls when the light
            changes.
    """

    enabled: bool = True
    spreads: float = 4.0
    least_spread: float = 0.1
    settled_after: int = 5
    scene_fall: float = 0.2

    def __post_init__(self) -> None:
        for name in ("spreads", "least_spread", "scene_fall"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ColoursError(f"{name} is {getattr(self, name)}; expected more than 0")
        if self.settled_after < 1:
            raise ColoursError(f"settled_after is {self.settled_after}; expected at least 1")


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """A reading.

    Attributes:
        target: Square roots of the shares of pixels in the middle of the box by colour.
        scene: The same of the whole picture.
    """

    target: Histogram
    scene: Histogram


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """What is usual for a target.

    Attributes:
        first: Its colours at the start.
        scene: Those of the picture in the last good frame.
        usual: Likeness to `first` of the last good frames, 0..1.
        spread: By how much it differs from frame to frame.
        steadiness: Usual likeness of the picture to that of the frame before.
        readings: How many `usual` is made of.
    """

    first: Histogram
    scene: Histogram
    usual: float
    spread: float
    steadiness: float = 1.0
    readings: int = 1


@dataclass(frozen=True, slots=True)
class Recognition:
    """What colours say of a box.

    Attributes:
        portrait: Of the target, with this reading, if it is in the box.
        otherwise: Whether the box looks like something else.
    """

    portrait: Portrait | None = None
    otherwise: bool = False


def histogram(rgb: NDArray[np.uint8]) -> Histogram:
    """Square roots of the shares of pixels by colour, so that the product of two with themselves is their likeness."""
    lab = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2LAB)
    counts = np.asarray(cv2.calcHist([lab], [0, 1, 2], None, BINS, RANGES), dtype=np.float32).reshape(-1)
    roots: Histogram = np.sqrt(counts / max(float(counts.sum()), 1.0))
    return roots


def scene_of(rgb: NDArray[np.uint8]) -> Histogram:
    """The histogram of a whole picture [H, W, 3] uint8, of a sample of its pixels."""
    step = max(1, min(rgb.shape[:2]) // SCENE_SIDE)
    return histogram(rgb[::step, ::step])


def likeness(a: Histogram, b: Histogram) -> float:
    """Bhattacharyya coefficient of two histograms: 1 for the same colours, 0 for none in common."""
    return float(a @ b)


def recognised(colours: Colours, before: Portrait | None, config: ColoursConfig) -> Recognition:
    """Compare the colours in a box with what is usual for the target.

    Args:
        colours: In the box and in the picture.
        before: What is usual; None where colours have said nothing yet.
        config: When a box has left its target.
    """
    if before is None:
        return Recognition(Portrait(colours.target, colours.scene, 1.0, config.least_spread))
    alike, steady = likeness(colours.target, before.first), likeness(colours.scene, before.scene)
    steadiness = before.steadiness + RATE * (steady - before.steadiness)
    if steady < before.steadiness - config.scene_fall:
        return Recognition(Portrait(before.first, colours.scene, alike, config.least_spread, steadiness))
    limit = before.usual - config.spreads * max(before.spread, config.least_spread)
    if before.readings >= config.settled_after and alike < limit:
        return Recognition(before, otherwise=True)
    # The first reading is of the start box, which is like itself.
    share = 1.0 if before.readings == 1 else max(RATE, 1 / (before.readings + 1))
    missed = alike - before.usual
    portrait = Portrait(
        first=before.first,
        scene=colours.scene,
        usual=before.usual + share * missed,
        spread=before.spread + RATE * (TYPICAL * abs(missed) - before.spread),
        steadiness=steadiness,
        readings=before.readings + 1,
    )
    return Recognition(portrait)
