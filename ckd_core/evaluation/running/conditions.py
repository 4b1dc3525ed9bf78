"""Conditions under which a sequence is tracked: which cameras are present in which frame, and how they are degraded.

The missing-modality protocol gives presence flags `[rgb, aux]` per frame; the frame in which the tracker starts has
both cameras unless a condition says otherwise. Degradations leave both cameras present and change what they show. A
condition is written `NAME`, `NAME=AMOUNT` or `NAME=AMOUNT@rgb|aux|both`; the same text and seed give the same frames on
any machine.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.data.synthetic.smoke import drifting_clouds, veil
from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.masks import MissingMasks, read_masks
from ckd_core.frame import Modality, MultiModalFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ckd_core.data.sequences import Sequence

    Flags = NDArray[np.bool_]

GAP_SHARE = 1 / 3
SWITCH_FRAMES = 20
BURST_SHARE = 0.3
BURST_FRAMES = 5
SMOKE_RISE_FRAMES = 15
PATCHES = 32  # of `occluded` along an image's longer side
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
    "switching": _Pattern(_switching, SWITCH_FRAMES, "one camera at a time, alternating after so many frames"),
    "bursts": _Pattern(_bursts, BURST_SHARE, "random bursts without one camera, a share of all frames"),
}
PROTOCOL = tuple(PATTERNS)


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
class _FrameContext:
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


def _blackout(image: NDArray[Any], amount: float, context: _FrameContext) -> NDArray[Any]:
    del amount, context
    return np.zeros_like(image)


def _noise(image: NDArray[Any], amount: float, context: _FrameContext) -> NDArray[Any]:
    return _back(image + context.rng.normal(0.0, amount * _top(image), image.shape), image)


def _blur(image: NDArray[Any], amount: float, context: _FrameContext) -> NDArray[Any]:
    del context
    return np.asarray(cv2.GaussianBlur(image, (0, 0), amount))


def _overexposed(image: NDArray[Any], amount: float, context: _FrameContext) -> NDArray[Any]:
    if context.kind is Modality.DEPTH:
        # Strong ambient light outshines a depth camera's own signal first where that is weakest: far away.
        limit = _top(image) / amount
        return np.where(image > limit, np.zeros_like(image), image)
    return _back(np.minimum(image.astype(np.float64) * amount, _top(image)), image)


def _smoke(image: NDArray[Any], amount: float, context: _FrameContext) -> NDArray[Any]:
    """Clouds that drift across the image and thicken over the first frames."""
    risen = amount * min(1.0, context.number / SMOKE_RISE_FRAMES)
    return veil(image, drifting_clouds(context.scene, image.shape[:2], context.number), risen, risen, 190.0, 70.0)


def _occluded(image: NDArray[Any], amount: float, context: _FrameContext) -> NDArray[Any]:
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


def _misaligned(image: NDArray[Any], amount: float, context: _FrameContext) -> NDArray[Any]:
    del context
    shift = np.array([[1.0, 0.0, amount], [0.0, 1.0, amount]])
    return np.asarray(cv2.warpAffine(image, shift, (image.shape[1], image.shape[0]), flags=cv2.INTER_NEAREST))


@dataclass(frozen=True, slots=True)
class _Degradation:
    apply: Callable[[NDArray[Any], float, _FrameContext], NDArray[Any]] | None
    amount: float
    target: str
    minimum: float
    meaning: str
    only: tuple[str, str] | None = None  # the one possible target, and why
    maximum: float = np.inf


DEGRADATIONS = {
    "blackout": _Degradation(_blackout, 0.0, "rgb", 0.0, "black images that count as present"),
    "noise": _Degradation(_noise, 0.1, "both", 0.0, "Gaussian noise, standard deviation as a share of the range"),
    "blur": _Degradation(_blur, 3.0, "rgb", 0.01, "Gaussian blur, sigma in px"),
    "overexposed": _Degradation(_overexposed, 4.0, "rgb", 1.0, "gain with saturation (depth: far pixels lost)"),
    "smoke": _Degradation(
        _smoke,
        0.9,
        "rgb",
        0.0,
        "drifting smoke, share of the light lost on average",
        ("rgb", "a thermal camera sees through smoke, and what others see of it is not modelled"),
    ),
    "occluded": _Degradation(
        _occluded, 0.3, "both", 0.0, "black patches at random places, a share of the image", maximum=1.0
    ),
    "misaligned": _Degradation(_misaligned, 8.0, "aux", -1e4, "shifted to the right and down, px"),
    "offset": _Degradation(None, 66.0, "aux", 0.0, "older images, by ms", ("aux", "the colour images give the time")),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of presenting a sequence to a tracker.

    Attributes:
        name: A pattern or a degradation.
        amount: Its strength (see PATTERNS, DEGRADATIONS).
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
        context = _FrameContext(rng, scene, index - sequence.start, None)
        if rgb is not None and self.target in ("rgb", "both"):
            frame = replace(frame, rgb=degradation.apply(rgb, self.amount, context))
        if aux is not None and self.target in ("aux", "both"):
            context = replace(context, kind=sequence.modality)
            frame = replace(frame, aux=degradation.apply(aux, self.amount, context))
        return frame

    def _older(self, sequence: Sequence, index: int) -> int:
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
    known: _Pattern | _Degradation | None = PATTERNS.get(name) or DEGRADATIONS.get(name)
    if known is None:
        raise ConditionError(
            f"unknown condition {name!r}; expected one of {', '.join([*PATTERNS, *DEGRADATIONS, 'masks=FILE'])}"
        )
    try:
        amount = float(number) if number else known.amount
    except ValueError:
        raise ConditionError(
            f"condition {text!r}: {number!r} is not a number; expected e.g. {known.amount:g}"
        ) from None
    if isinstance(known, _Pattern):
        if target:
            raise ConditionError(f"condition {text!r}: a presence pattern takes no @{target}")
        maximum = 1.0 if known.amount < 1 else 1e6
        if not 0 <= amount <= maximum:
            raise ConditionError(f"condition {text!r}: {amount:g} is outside 0..{maximum:g}")
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
