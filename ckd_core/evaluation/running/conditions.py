"""Conditions under which a sequence is tracked: which cameras are present in which frame, and how they are degraded.

The missing-modality protocol gives presence flags `[rgb, aux]` per frame; the frame in which the tracker starts has
both cameras unless a condition says otherwise. Degradations leave both cameras present and change what they show;
settings change the frame rate or the start box. A condition is written `NAME`, `NAME=AMOUNT` or
`NAME=AMOUNT@rgb|aux|both`; the same text and seed give the same frames on any machine.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.degradations import DEGRADATIONS, Degradation, FrameContext
from ckd_core.evaluation.running.masks import MissingMasks, read_masks
from ckd_core.frame import BoundingBox, MultiModalFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ckd_core.data.sequences import Sequence

    Flags = NDArray[np.bool_]

GAP_SHARE = 1 / 3
SWITCH_FRAMES = 20
BURST_SHARE = 0.3
BURST_FRAMES = 5
GONE_FRAMES = 10
START_BOX_ERROR = 0.15
TARGETS = ("rgb", "aux", "both")


class ConditionError(TrackingError):
    """A condition that does not exist, or does not fit a sequence."""


def _full(count: int, amount: float, rng: np.random.Generator) -> Flags:
    del amount, rng
    return np.ones((count, 2), dtype=np.bool_)


def _only(column: int) -> Callable[[int, float, np.random.Generator], Flags]:
    def flags(count: int, amount: float, rng: np.random.Generator) -> Flags:
        present = _full(count, amount, rng)
        present[:, 1 - column] = False
        return present

    return flags


def _gap(column: int) -> Callable[[int, float, np.random.Generator], Flags]:
    """One camera is missing for a share of the sequence, in its middle."""

    def flags(count: int, amount: float, rng: np.random.Generator) -> Flags:
        present = _full(count, amount, rng)
        length = round(count * amount)
        begin = (count - length) // 2
        present[begin : begin + length, column] = False
        return present

    return flags


def _gone(column: int) -> Callable[[int, float, np.random.Generator], Flags]:
    """One camera works at first, then delivers nothing more."""

    def flags(count: int, amount: float, rng: np.random.Generator) -> Flags:
        present = _full(count, amount, rng)
        present[max(round(amount) - 1, 0) :, column] = False
        return present

    return flags


def _switching(count: int, amount: float, rng: np.random.Generator) -> Flags:
    """One camera at a time; they take turns every `amount` frames."""
    present = _full(count, amount, rng)
    block = (np.arange(count) // max(round(amount), 1)) % 2
    present[np.arange(count), block] = False
    return present


def _bursts(count: int, amount: float, rng: np.random.Generator) -> Flags:
    """Bursts of a few frames, each without one randomly chosen camera, until `amount` of all frames lack one."""
    present = _full(count, amount, rng)
    wanted = round(count * amount)
    while wanted - int((~present.all(axis=1)).sum()) > 0:
        missing = wanted - int((~present.all(axis=1)).sum())
        length = min(int(rng.integers(1, 2 * BURST_FRAMES)), missing)
        begin = int(rng.integers(0, max(count - length, 0) + 1))
        column = int(rng.integers(0, 2))
        free = present[begin : begin + length].all(axis=1)
        present[begin : begin + length, column] &= ~free
    return present


@dataclass(frozen=True, slots=True)
class _Pattern:
    flags: Callable[[int, float, np.random.Generator], Flags]
    amount: float
    meaning: str


PATTERNS = {
    "full": _Pattern(_full, 0.0, "both cameras in every frame"),
    "rgb_only": _Pattern(_only(0), 0.0, "the colour camera alone after the first frame"),
    "aux_only": _Pattern(_only(1), 0.0, "the auxiliary camera alone after the first frame"),
    "rgb_gap": _Pattern(_gap(0), GAP_SHARE, "colour missing for a share of the frames, in the middle"),
    "aux_gap": _Pattern(_gap(1), GAP_SHARE, "auxiliary missing for a share of the frames, in the middle"),
    "switching": _Pattern(_switching, SWITCH_FRAMES, "one camera at a time, taking turns of that many frames"),
    "bursts": _Pattern(_bursts, BURST_SHARE, "random bursts without one camera, a share of all frames"),
    "rgb_gone": _Pattern(_gone(0), GONE_FRAMES, "colour missing from that many frames after the first one on"),
    "aux_gone": _Pattern(_gone(1), GONE_FRAMES, "auxiliary missing from that many frames after the first one on"),
}
# The missing-modality protocol, and what a robot meets on any day.
PROTOCOL = ("full", "rgb_only", "aux_only", "rgb_gap", "aux_gap", "switching", "bursts")
EVERYDAY = ("full", "rgb_gone=10", "aux_gone=10", "late=2", "misaligned=10", "rate=2", "start_box=0.15", "jpeg=10")
SETS = {"missing": PROTOCOL, "everyday": EVERYDAY}


@dataclass(frozen=True, slots=True)
class _Setting:
    amount: float
    minimum: float
    maximum: float
    meaning: str


# What changes a run as a whole; both cameras are present and show what they show.
SETTINGS = {
    "rate": _Setting(2, 1, 1e3, "every so-manieth frame alone, from the first one on"),
    "start_box": _Setting(START_BOX_ERROR, 0.0, 0.9, "start box off by this share of its sides, in place and in size"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of presenting a sequence to a tracker.

    Attributes:
        name: A pattern, a degradation or a setting.
        amount: Its strength (see PATTERNS, DEGRADATIONS, SETTINGS).
        target: The degraded cameras: rgb, aux or both.
        seed: For what is random.
        start_full: The frame in which the tracker starts has both cameras.
        masks: Presence by frame from a file, for the name "masks".
    """

    name: str = "full"
    amount: float = 0.0
    target: str = "both"
    seed: int = 0
    start_full: bool = True
    masks: MissingMasks | None = None

    def __str__(self) -> str:
        if self.masks is not None:
            return f"masks={self.masks.name}"
        if self.name in DEGRADATIONS:
            return f"{self.name}={self.amount:g}@{self.target}"
        return f"{self.name}={self.amount:g}" if self.amount else self.name

    def _rng(self, sequence: str, frame: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.name.encode()), zlib.crc32(sequence.encode()), frame])

    @property
    def every(self) -> int:
        """Distance of the frames that the tracker is shown."""
        return round(self.amount) if self.name == "rate" else 1

    def kept(self, sequence: Sequence) -> slice:
        """The frames of a whole sequence that are shown, its first box among them."""
        return slice(sequence.start % self.every, None, self.every)

    def thinned(self, sequence: Sequence) -> Sequence:
        """The sequence of the frames that are shown; the other methods take this one."""
        if self.every == 1:
            return sequence
        kept, aux_boxes = self.kept(sequence), sequence.aux_boxes
        return replace(
            sequence,
            rgb_paths=sequence.rgb_paths[kept],
            aux_paths=sequence.aux_paths[kept],
            boxes=sequence.boxes[kept],
            labelled=sequence.labelled[kept],
            stamps=sequence.stamps[kept],
            aux_boxes=None if aux_boxes is None else aux_boxes[kept],
        )

    def first_box(self, sequence: Sequence) -> BoundingBox:
        """The box on which a tracker starts.

        Under "start_box" its centre is moved by that share of width and height, each to a random side, and width and
        height are each made larger or smaller by it: always by the whole share, so that no draw is a lucky one.
        """
        x, y, w, h = sequence.boxes[sequence.start].tolist()
        if self.name != "start_box":
            return BoundingBox(x, y, w, h)
        signs = self._rng(sequence.name).choice([-1.0, 1.0], 4)
        (right, down), (wider, higher) = (signs[:2] * self.amount).tolist(), ((1 + self.amount) ** signs[2:]).tolist()
        center_x, center_y = x + w / 2 + right * w, y + h / 2 + down * h
        return BoundingBox(center_x - w * wider / 2, center_y - h * higher / 2, w * wider, h * higher)

    def presence(self, sequence: Sequence) -> Flags:
        """[N, 2] bool: (colour, auxiliary) per frame; a camera that the sequence lacks is never present.

        Raises:
            ConditionError: The sequence has one camera, which the condition takes away, or masks leave none in the
                frame in which the tracker starts.
            MaskError: The masks do not fit the sequence.
        """
        count, start = len(sequence), sequence.start
        present = np.ones((count, 2), dtype=np.bool_)
        pattern = PATTERNS.get(self.name)
        if pattern:
            first = start + 1 if self.start_full else start
            present[first:] = pattern.flags(count - first, self.amount, self._rng(sequence.name))
        if self.masks is not None:
            present = self.masks.of(sequence.name, count)
        present &= [bool(sequence.rgb_paths), bool(sequence.aux_paths)]
        if self.masks is not None:
            if not present[start].any():
                raise ConditionError(
                    f"{sequence.name} has no image in frame {start + 1}, where the tracker starts, under {self}; "
                    "expected at least one camera"
                )
            return present
        if not present[start:].any(axis=1).all():
            raise ConditionError(
                f"{sequence.name} has one camera; under {self} some frames would have none, expected two cameras"
            )
        return present

    def frame(self, sequence: Sequence, index: int, present: Flags) -> MultiModalFrame:
        """Frame `index` as the tracker sees it; missing images are not read.

        Args:
            sequence: Where it comes from.
            index: From 0.
            present: From `presence`.
        """
        show_rgb, show_aux = (bool(flag) for flag in present[index])
        rgb = sequence.rgb(index) if show_rgb else None
        degradation = DEGRADATIONS.get(self.name) if index > sequence.start else None
        source = index if degradation is None or degradation.apply else self._older(sequence, index)
        aux = sequence.aux(source) if show_aux else None
        frame = MultiModalFrame(float(sequence.stamps[index]), rgb, aux, sequence.modality, aux_held=source != index)
        if degradation is None or degradation.apply is None:
            return frame
        rng, scene = self._rng(sequence.name, index), self._rng(sequence.name)
        context = FrameContext(rng, scene, index - sequence.start, None)
        if rgb is not None and self.target in ("rgb", "both"):
            frame = replace(frame, rgb=degradation.apply(rgb, self.amount, context))
        if aux is not None and self.target in ("aux", "both"):
            context = replace(context, kind=sequence.modality)
            frame = replace(frame, aux=degradation.apply(aux, self.amount, context))
        return frame

    def _older(self, sequence: Sequence, index: int) -> int:
        if self.name == "late":
            return max(index - round(self.amount), 0)
        wanted = sequence.stamps[index] - self.amount / 1e3
        return int(np.argmin(np.abs(sequence.stamps[: index + 1] - wanted)))


FULL = Condition()
RGB_ALONE = Condition("rgb_only", start_full=False)
AUX_ALONE = Condition("aux_only", start_full=False)


def parse_condition(text: str, seed: int = 0) -> Condition:
    """Read `NAME[=AMOUNT][@TARGET]`, or `masks=PATH` (see `read_masks`).

    Raises:
        ConditionError: An unknown name, or an amount or target that the condition does not take.
        MaskError: Masks that cannot be read.
    """
    if text.startswith("masks="):
        return Condition("masks", seed=seed, masks=read_masks(Path(text.removeprefix("masks="))))
    body, _, target = text.partition("@")
    name, _, number = body.partition("=")
    known: _Pattern | Degradation | _Setting | None = PATTERNS.get(name) or DEGRADATIONS.get(name) or SETTINGS.get(name)
    if known is None:
        names = [*PATTERNS, *DEGRADATIONS, *SETTINGS, "masks=FILE"]
        raise ConditionError(f"unknown condition {name!r}; expected one of {', '.join(names)}")
    try:
        amount = float(number) if number else known.amount
    except ValueError:
        raise ConditionError(
            f"condition {text!r}: {number!r} is not a number; expected e.g. {known.amount:g}"
        ) from None
    if not isinstance(known, Degradation):
        if target:
            raise ConditionError(
                f"condition {text!r}: it is about the whole run and takes no @{target}; expected {name} alone"
            )
        if isinstance(known, _Setting):
            minimum, maximum = known.minimum, known.maximum
        else:
            minimum, maximum = 0.0, 1.0 if known.amount < 1 else 1e6
        if not minimum <= amount <= maximum:
            raise ConditionError(f"condition {text!r}: {amount:g} is outside {minimum:g}..{maximum:g}")
        if name == "rate" and amount != round(amount):
            raise ConditionError(f"condition {text!r}: every {amount:g}th frame; expected a whole number, e.g. 2")
        return Condition(name, amount, "both", seed)
    target = target or known.target
    if target not in TARGETS:
        raise ConditionError(f"condition {text!r}: {target!r} is not one of {', '.join(TARGETS)}")
    if known.only and target != known.only[0]:
        raise ConditionError(f"condition {text!r}: {known.only[1]}; only @{known.only[0]}")
    if not np.isfinite(amount) or amount < known.minimum:
        raise ConditionError(f"condition {text!r}: amount must be at least {known.minimum:g}")
    if amount > known.maximum:
        raise ConditionError(f"condition {text!r}: amount must be at most {known.maximum:g}")
    return Condition(name, amount, target, seed)


def named_conditions(text: str) -> list[str]:
    """The conditions of a list separated by commas, in which a name of `SETS` stands for all of its conditions."""
    return [name for word in text.split(",") for name in SETS.get(word.strip(), (word.strip(),))]
