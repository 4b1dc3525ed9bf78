"""A network's own features of a target, as a witness of whether a box is still on it.

A network's score says how much a place looks like the target, and hardly whether it is the target: a likeness gets two
thirds of the usual score and more. What the network sees in the box, compared with what it saw in the start box, tells
them apart better. It costs a call of the template's program, so it is asked where the score gives reason to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Cells = NDArray[np.float32]

LEAST_USUAL = 0.3  # likeness of a camera that shows the target at all; it could be up to 2


class FeaturesError(TrackingError):
    """Options of the watch over features outside their range."""


@dataclass(frozen=True, slots=True)
class FeaturesConfig:
    """When a box has left its target. A likeness is a share of what is usual for the target.

    Attributes:
        enabled: False: features say nothing about boxes.
        doubt: A box that is TRACKING with a low score has left its target where either camera's likeness is below this.
        deny: A box that waits for the state TRACKING is on something else where the likeness of both cameras together
            is below this: one of them may be blind by then.
        readings: How many of the first good boxes say what is usual.
        settled_after: Readings before they may contradict the network.
        renew_every: Good frames after which the target's present look is kept beside its first one.
        renew: Likeness that such a look must have.
    """

    enabled: bool = False
    doubt: float = 0.6
    deny: float = 0.7
    readings: int = 10
    settled_after: int = 3
    renew_every: int = 10
    renew: float = 0.85

    def __post_init__(self) -> None:
        for name in ("doubt", "deny", "renew"):
            if not 0 < getattr(self, name) <= 1:
                raise FeaturesError(f"{name} is {getattr(self, name)}; expected more than 0, at most 1")
        for name in ("readings", "settled_after", "renew_every"):
            if getattr(self, name) < 1:
                raise FeaturesError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.settled_after > self.readings:
            raise FeaturesError(f"settled_after is {self.settled_after}; expected at most readings ({self.readings})")


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """How a target has looked.

    Attributes:
        first: Features in the start box.
        usual: [n, 2], likeness to them per camera in the first good boxes.
        kept: Features of a later good box; None at first.
        latest: Features that take its place next, so that a box that slips away is not what it is compared with.
        frames: Good frames so far.
    """

    first: Cells
    usual: NDArray[np.float32]
    kept: Cells | None = None
    latest: Cells | None = None
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Resemblance:
    """What features say of a box.

    Attributes:
        gallery: Of the target, with this box, if it is the target's.
        doubtful: Whether a box that is TRACKING has left its target.
        denied: Whether a box that waits for the state TRACKING is on something else.
    """

    gallery: Gallery | None = None
    doubtful: bool = False
    denied: bool = False


def cells_of(tokens: NDArray[np.float32], factor: float) -> Cells:
    """The features inside the box [2, K, C] of a template [2, N, C] that shows `factor` times its sides."""
    side = math.isqrt(tokens.shape[1])
    inner = max(1, round(side / factor))
    begin = (side - inner) // 2
    grid = tokens[:, : side * side].reshape(2, side, side, -1)
    return grid[:, begin : begin + inner, begin : begin + inner].reshape(2, inner * inner, -1)


def likeness(a: Cells, b: Cells) -> NDArray[np.float32]:
    """[2], per camera: mean cosine of the cells at the same place, and the cosine of the cells' means."""
    by_place = (_unit(a) * _unit(b)).sum(-1).mean(-1)
    whole = (_unit(a.mean(1)) * _unit(b.mean(1))).sum(-1)
    return np.asarray(by_place + whole, dtype=np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return np.asarray(vectors / lengths, dtype=np.float32)


def is_due(gallery: Gallery | None, config: FeaturesConfig) -> bool:
    """Whether a good box is to be read even if nothing speaks against it."""
    if gallery is None:
        return True
    return len(gallery.usual) < config.readings or (gallery.frames + 1) % config.renew_every == 0


def resembling(
    cells: Cells | None, gallery: Gallery | None, presence: tuple[bool, bool], asked: bool, config: FeaturesConfig
) -> Resemblance:
    """Compare the features in a box with those of the target.

    Args:
        cells: Features in the box; None where they were not read.
        gallery: How the target has looked; None at the start.
        presence: Which of the images the frame has.
        asked: Whether there is reason to doubt the box.
        config: When a box has left its target.
    """
    if gallery is None:
        return Resemblance(None if cells is None else Gallery(cells, np.empty((0, 2), dtype=np.float32)))
    frames = gallery.frames + 1
    if cells is None:
        return Resemblance(replace(gallery, frames=frames))
    to_first, usual = likeness(cells, gallery.first), gallery.usual
    if len(usual) < config.readings:
        usual = np.concatenate([usual, to_first[None]])
    after = replace(gallery, usual=usual, frames=frames)
    if len(usual) < config.settled_after:
        return Resemblance(after)
    readings = [to_first] if gallery.kept is None else [to_first, likeness(cells, gallery.kept)]
    seen = np.array(presence if any(presence) else (True, True))
    shares = [_shares(reading, usual.mean(0), seen) for reading in readings]
    weakest, together = max(one for one, _ in shares), max(other for _, other in shares)
    if frames % config.renew_every == 0 and together > config.renew:
        after = replace(after, kept=gallery.latest, latest=cells)
    return Resemblance(after, asked and weakest < config.doubt, asked and together < config.deny)


def _shares(reading: NDArray[np.float32], usual: NDArray[np.float32], seen: NDArray[np.bool_]) -> tuple[float, float]:
    """Likeness as a share of the usual one: the weaker camera's of those `seen`, and that of these together."""
    each = reading[seen] / np.maximum(usual[seen], LEAST_USUAL)
    return float(each.min()), float(reading[seen].sum() / max(float(usual[seen].sum()), LEAST_USUAL))
