"""A network's own features of a target, as a witness of whether a box is still on it.

A network's score says how much a place looks like the target, and hardly whether it is the target: a likeness gets two
thirds of the usual score and more. What the network sees in the box, compared with what it saw in the start box, tells
them apart better. It costs a call of the template's program, so it is asked where the score gives reason to.

A colour camera that smoke or darkness blinds shows something else, too, wherever the target is. Where its box has lost
the detail that it usually shows, thermal judges alone: it sees through both. Depth and events do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Cells = NDArray[np.float32]

LEAST_USUAL = 0.3  # likeness of a camera that shows the target at all; it could be up to 2
LEAST_DETAIL = 2.0  # grey levels from pixel to pixel; a target with less shows as little in clear air as in smoke


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
        blind: A colour camera is blind where its box shows less than this share of the usual detail.
        deny_alone: Beside such a one, thermal doubts and denies a box where its likeness is below this.
        readings: How many of the first good boxes say what is usual.
        settled_after: Readings before they may contradict the network.
        renew_every: Good frames after which the target's present look is kept beside its first one.
        renew: Likeness that such a look must have.
    """

    enabled: bool = True
    doubt: float = 0.6
    deny: float = 0.7
    blind: float = 0.5
    deny_alone: float = 0.65
    readings: int = 10
    settled_after: int = 3
    renew_every: int = 10
    renew: float = 0.85

    def __post_init__(self) -> None:
        for name in ("doubt", "deny", "blind", "deny_alone", "renew"):
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
        details: [n], detail of colour in them.
        kept: Features of a later good box; None at first.
        latest: Features that take its place next, so that a box that slips away is not what it is compared with.
        frames: Good frames so far.
    """

    first: Cells
    usual: NDArray[np.float32]
    details: NDArray[np.float32]
    kept: Cells | None = None
    latest: Cells | None = None
    frames: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Of one box.

    Attributes:
        cells: Features in it.
        detail: See `detail_of`.
    """

    cells: Cells
    detail: float


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


def detail_of(rgb: NDArray[np.uint8]) -> float:
    """Mean change from pixel to pixel of [h, w, 3] uint8, in grey levels."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.hypot(np.diff(grey, axis=0)[:, 1:], np.diff(grey, axis=1)[1:]).mean())


def is_blind(detail: float, gallery: Gallery | None, config: FeaturesConfig) -> bool:
    """Whether colour shows so little detail in a box that the target may be there unseen."""
    if gallery is None or len(gallery.details) < config.settled_after:
        return False
    usual = float(gallery.details.mean())
    return usual > LEAST_DETAIL and detail < config.blind * usual


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
    reading: Reading | None,
    gallery: Gallery | None,
    presence: tuple[bool, bool],
    asked: bool,
    config: FeaturesConfig,
    blind: bool = False,
) -> Resemblance:
    """Compare the features in a box with those of the target.

    Args:
        reading: Of the box; None where there is none.
        gallery: How the target has looked; None at the start.
        presence: Which of the images the frame has.
        asked: Whether there is reason to doubt the box.
        config: When a box has left its target.
        blind: Whether colour is, and thermal judges alone.
    """
    if gallery is None:
        return Resemblance(None if reading is None else _begun(reading))
    frames = gallery.frames + 1
    if reading is None:
        return Resemblance(replace(gallery, frames=frames))
    cells, after = reading.cells, replace(gallery, frames=frames)
    to_first = likeness(cells, gallery.first)
    if len(gallery.usual) < config.readings:
        usual = np.concatenate([gallery.usual, to_first[None]])
        details = np.append(gallery.details, np.float32(reading.detail))
        after = replace(after, usual=usual, details=details)
    if len(after.usual) < config.settled_after:
        return Resemblance(after)
    readings = [to_first] if gallery.kept is None else [to_first, likeness(cells, gallery.kept)]
    seen = np.array((False, True) if blind else presence if any(presence) else (True, True))
    shares = [_shares(one, after.usual.mean(0), seen) for one in readings]
    weakest, together = max(one for one, _ in shares), max(other for _, other in shares)
    if frames % config.renew_every == 0 and together > config.renew:
        after = replace(after, kept=gallery.latest, latest=cells)
    doubt, deny = (config.deny_alone, config.deny_alone) if blind else (config.doubt, config.deny)
    return Resemblance(after, asked and weakest < doubt, asked and together < deny)


def _begun(reading: Reading) -> Gallery:
    nothing = np.empty(0, dtype=np.float32)
    return Gallery(reading.cells, usual=nothing.reshape(0, 2), details=nothing)


def _shares(reading: NDArray[np.float32], usual: NDArray[np.float32], seen: NDArray[np.bool_]) -> tuple[float, float]:
    """Likeness as a share of the usual one: the weaker camera's of those `seen`, and that of these together."""
    each = reading[seen] / np.maximum(usual[seen], LEAST_USUAL)
    return float(each.min()), float(reading[seen].sum() / max(float(usual[seen].sum()), LEAST_USUAL))
