"""The targets between two frames, and what the network says about the windows in which it looks for them."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ckd_core.tracking.confidence.state import predicted_box
from ckd_core.tracking.engines.base import Prediction
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.steps import TrackerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.confidence.state import Confidence
    from ckd_core.tracking.confidence.trail import Sight
    from ckd_core.tracking.crop import CropWindow
    from ckd_core.tracking.engines import Engine, Templates
    from ckd_core.tracking.view import FrameView, StreamMemory

# A target is calm while no recent box was further from where it was foreseen than this many of its sides.
CALM_ERROR = 0.1
ERROR_DECAY = 0.9  # per frame
UNKNOWN_ERROR = 0.3  # of a new target, which is calm after eleven good frames
SIDES = [Prediction._fields.index(name) for name in ("w", "h", "rival_w", "rival_h")]


@dataclass(frozen=True, slots=True, eq=False)
class TargetTemplate:
    """Template tokens of one target.

    Attributes:
        both: Of colour and auxiliary crop.
        rgb: With the colour crop in both places, for frames without an auxiliary image. Policies other than `alone`
            use `both`.
        aux: The same for the auxiliary crop.
    """

    both: Templates
    rgb: Templates
    aux: Templates

    def of(self, frame: MultiModalFrame) -> Templates:
        """Choose by the images that a frame has."""
        rgb, aux = frame.presence
        return self.both if rgb and aux else self.rgb if rgb else self.aux

    def blended(self, newest: TargetTemplate, share: float, engine: Engine) -> TargetTemplate:
        """The template `share` of the way from this one to the `newest` one."""
        both = engine.blend(self.both, newest.both, share)
        if self.rgb is self.both:
            return TargetTemplate(both, both, both)
        rgb, aux = engine.blend(self.rgb, newest.rgb, share), engine.blend(self.aux, newest.aux, share)
        return TargetTemplate(both, rgb, aux)


@dataclass(frozen=True, slots=True)
class TargetState:
    """One target between frames.

    Attributes:
        confidence: State, boxes and history.
        template: What is looked for.
        first: The template of the first frame.
        learnt: The stamp of the frame and the box that are blended into the template; None: it is the first one.
        cameras: Which images that frame had: colour, auxiliary.
        age: Frames since the start.
        score: That of the last look at it.
        view: What `CameraMotion` remembers of the frame in whose pixels the boxes are.
        error: See `error_of`.
        steady: Frames in a row in which it was TRACKING without a jump.
        sure: Whether the last frame showed it for sure (see `is_sure_of`).
        seen: The last frame that did, where such are kept.
        trail: Frames since then, oldest first.
    """

    confidence: Confidence
    template: TargetTemplate
    first: TargetTemplate
    cameras: tuple[bool, bool]
    learnt: tuple[float, BoundingBox] | None = None
    age: int = 0
    score: float = 1.0
    view: object = None
    error: float = UNKNOWN_ERROR
    steady: int = 0
    sure: bool = False
    seen: Sight | None = None
    trail: tuple[Sight, ...] = ()


def error_of(target: TargetState, found: BoundingBox, prediction: float) -> float:
    """How far recent boxes were from where they were foreseen, in sides of the target: the largest, fading.

    Args:
        target: As it was before this frame.
        found: Its box in this frame.
        prediction: See `MotionConfig`.
    """
    foreseen = predicted_box(target.confidence, prediction)
    error = math.dist(foreseen.center, found.center) / max(math.sqrt(foreseen.w * foreseen.h), 1.0)
    return max(error, ERROR_DECAY * target.error)


def is_calm(target: TargetState) -> bool:
    """Whether a target moves as foreseen, so that in the next frame it will still be in a smaller search region."""
    return target.confidence.state is TrackState.TRACKING and target.error < CALM_ERROR


def looks_as_usual(target: TargetState, share: float) -> bool:
    """Whether a target's last look shows it for sure, and has at least this share of its usual score."""
    history = target.confidence.history
    return target.sure and (not history or target.score >= share * statistics.median(history))


@dataclass(frozen=True, slots=True)
class Look:
    """A target's template against a window.

    Attributes:
        target: Number of the target.
        template: What to look for.
        window: Where to look.
        scanning: Whether the target is equally likely anywhere in the window, so that no place gets a lower weight.
        narrow: `Engine.narrow_size` where the window is cut to that size; 0: to the network's own.
        second: Whether it is where the target may be instead (`Confidence.rival`).
        hidden: What of it is painted over, in reference pixels.
        sought: The stamp of the frame and the box that the template is of; None: it is the target's own.
        learnt: `TargetState.learnt` of the target's own template.
    """

    target: int
    template: Templates
    window: CropWindow
    scanning: bool
    narrow: int = 0
    second: bool = False
    hidden: BoundingBox | None = None
    sought: tuple[float, BoundingBox] | None = None
    learnt: tuple[float, BoundingBox] | None = None


class Looker:
    """Cuts the windows of a frame and asks the network about all of them, in one call per size of crop.

    Args:
        engine: How the network runs.
        view: Cuts windows out of frames.
        weights: [g, g] of the response map of a look that does not scan; a narrow one has their middle, so that a
            target's score is the same in both.
        device_crops: See `TrackerConfig`.
    """

    def __init__(self, engine: Engine, view: FrameView, weights: NDArray[np.float32], device_crops: bool) -> None:
        self._engine, self._view, self._device_crops = engine, view, device_crops
        self._weights = weights
        # the last ones, by size of crop and by whether they were second looks
        self._joined: dict[tuple[int, bool], tuple[tuple[Templates, ...], Templates]] = {}

    def predict(
        self, frame: MultiModalFrame, memory: StreamMemory, looks: Sequence[Look]
    ) -> tuple[list[Prediction], float]:
        """Predictions for all looks, and the seconds that the network took.

        Second looks are asked about apart, so that they need no size of batch that the first ones do not: some engines
        compile or capture each.

        Raises:
            TrackerError: The network's output is not finite.
        """
        predictions: list[Prediction | None] = [None] * len(looks)
        network_s = 0.0
        self._view.begin(frame, memory)
        for second in (False, True):
            rows = [row for row, look in enumerate(looks) if look.second is second]
            found, seconds = self._ask(frame, [looks[row] for row in rows]) if rows else ([], 0.0)
            network_s += seconds
            for row, prediction in zip(rows, found, strict=True):
                predictions[row] = prediction
        return cast("list[Prediction]", predictions), network_s

    def _ask(self, frame: MultiModalFrame, looks: Sequence[Look]) -> tuple[list[Prediction], float]:
        engine, windows = self._engine, [look.window for look in looks]
        hides = any(look.hidden is not None for look in looks)
        if self._device_crops and engine.cuts and all(frame.presence) and not hides:
            images = self._view.images(windows, engine.spec.search_size)
            cropped = time.perf_counter()
            found = engine.track_images(self._join(looks), images, self._weighted(0, looks))
            return _predictions(engine, found), time.perf_counter() - cropped
        groups = {side: [i for i, look in enumerate(looks) if look.narrow == side] for side in (0, engine.narrow_size)}
        groups = {side: rows for side, rows in groups.items() if rows}
        crops = {side: engine.search_crops(len(rows), side) for side, rows in groups.items()}
        outs: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(looks)
        for side, rows in groups.items():
            for row, out in zip(rows, crops[side], strict=True):
                outs[row] = out
        self._view.cut_all(windows, outs)
        for look, out in zip(looks, outs, strict=True):
            if look.hidden is not None:
                _paint_over(out, look.window, look.hidden)
        cropped = time.perf_counter()
        predictions: list[Prediction | None] = [None] * len(looks)
        for side, rows in groups.items():
            group = [looks[row] for row in rows]
            found = engine.track(self._join(group), crops[side], self._weighted(side, group))
            for row, prediction in zip(rows, _predictions(engine, found), strict=True):
                predictions[row] = prediction
        return cast("list[Prediction]", predictions), time.perf_counter() - cropped

    def _weighted(self, side: int, looks: Sequence[Look]) -> NDArray[np.float32]:
        weights = self._engine.response_weights(len(looks), side)
        edge = (len(self._weights) - weights.shape[-1]) // 2
        middle = self._weights[edge : len(self._weights) - edge, edge : len(self._weights) - edge]
        for row, look in enumerate(looks):
            weights[row, 0] = 1.0 if look.scanning else middle
        return weights

    def _join(self, looks: Sequence[Look]) -> Templates:
        if len(looks) == 1:
            return looks[0].template
        parts = tuple(look.template for look in looks)
        call = looks[0].narrow, looks[0].second
        key, joined = self._joined.get(call, ((), None))
        if len(key) != len(parts) or any(one is not other for one, other in zip(key, parts, strict=True)):
            joined = self._engine.join(parts)
            self._joined[call] = parts, joined
        return joined


def _paint_over(crops: NDArray[np.uint8], window: CropWindow, box: BoundingBox) -> None:
    """Fill a box (reference pixels) in both crops [2, S, S, 3] of a window with their mean."""
    side = crops.shape[1]
    cx, cy, w, h = (side * value for value in window.to_crop(box))
    left, right = (min(max(round(x), 0), side) for x in (cx - w / 2, cx + w / 2))
    top, bottom = (min(max(round(y), 0), side) for y in (cy - h / 2, cy + h / 2))
    for crop in crops:
        crop[top:bottom, left:right] = crop.mean(axis=(0, 1)).astype(np.uint8)


def _predictions(engine: Engine, rows: NDArray[np.float32]) -> list[Prediction]:
    if not np.isfinite(rows).all():
        raise TrackerError(
            f"the network's output has NaN or infinity ({engine.name} on {engine.device}); expected finite numbers"
        )
    if (rows[:, SIDES] < 0).any():
        raise TrackerError(
            f"the network's output has a box of negative size ({engine.name} on {engine.device}); expected sizes from 0"
        )
    return [Prediction(*row) for row in rows.tolist()]
