"""How far to trust an answer: TRACKING, UNCERTAIN, LOST, and where to look next.

Pure functions over one frozen state, so that a frame that fails leaves nothing behind.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckd_core.frame import BoundingBox

HISTORY_LENGTH = 30  # frames whose scores say what is usual for a target
MIN_HISTORY = 5  # below this many the history says nothing
UNSEEN_WEIGHT = 2


class ConfidenceError(TrackingError):
    """Thresholds or options outside their range."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a network's numbers mean; stored in its weights' metadata, found by `sdstrack calibrate`.

    doubt: windowed score below which a frame is doubted. unseen: score below which the target was not seen at all.
    confirm: score a re-acquired target must show. rival: height of the second peak as a share of the first above which
    a frame is doubted. history: share of the target's own median score below which a frame is doubted.
    """

    doubt: float = 0.35
    unseen: float = 0.2
    confirm: float = 0.4
    rival: float = 0.8
    history: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, (int, float)) and 0 <= value <= 1):
                raise ConfidenceError(f"threshold {field.name} must be in 0..1, got {value!r}")
        if self.unseen > self.doubt:
            raise ConfidenceError(f"threshold unseen ({self.unseen}) must not exceed doubt ({self.doubt})")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Thresholds:
        """Thresholds by name; names not given keep their defaults. Errors: ConfidenceError for an unknown name."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfidenceError(f"no threshold {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return cls(**{name: _number(name, value) for name, value in values.items()})

    def as_mapping(self) -> dict[str, float]:
        """All thresholds by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ConfidenceError(f"threshold {name} must be a number, got {value!r}")
    try:
        return float(value)
    except ValueError as error:
        raise ConfidenceError(f"threshold {name} must be a number, got {value!r}") from error


@dataclass(frozen=True, slots=True)
class ConfidenceConfig:
    """Behaviour of the state machine. `enabled` False is the published behaviour: every box is believed.

    lost_after: doubted frames in a row until LOST; a frame without any sight of the target counts UNSEEN_WEIGHT times.
    recover_after: undoubted frames in a row until TRACKING again.
    growth, max_growth: search region grows by this factor a doubted frame, up to this; 1 = never.
    max_jump: centre displacement a frame, as a multiple of sqrt(w h), above which a motion is implausible.
    max_scale: change of sqrt(w h) against its recent median above which it is implausible.
    reacquire: search the whole frame while LOST. tiles_per_frame: windows looked at a frame while LOST (the bound on
    its cost). tile_scale: side of such a window as a multiple of the usual search region.
    confirm_frames: frames in a row that a re-acquired target must be seen before it counts.
    """

    enabled: bool = True
    lost_after: int = 8
    recover_after: int = 2
    growth: float = 1.2
    max_growth: float = 2.0
    max_jump: float = 1.5
    max_scale: float = 1.6
    reacquire: bool = True
    tiles_per_frame: int = 1
    tile_scale: float = 1.5
    confirm_frames: int = 3

    def __post_init__(self) -> None:
        for name in ("lost_after", "recover_after", "tiles_per_frame", "confirm_frames"):
            if getattr(self, name) < 1:
                raise ConfidenceError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("growth", "max_growth", "max_scale", "tile_scale"):
            if getattr(self, name) < 1:
                raise ConfidenceError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_jump <= 0:
            raise ConfidenceError(f"max_jump must be above 0, got {self.max_jump}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one look at one window said.

    box: the predicted box in reference pixels. score: highest windowed response. rival: second peak / first peak.
    """

    box: BoundingBox
    score: float
    rival: float


@dataclass(frozen=True, slots=True)
class Confidence:
    """State of the machine for one target.

    believed: the last box believed. seen: the last box predicted, believed or not. history, sizes: scores and sqrt(w h)
    of the last undoubted frames. doubted: weight of the doubted frames in a row. good: undoubted frames in a row.
    candidate: a re-acquired box under confirmation, seen for `confirmed` frames. scan: index of the next tile.
    """

    believed: BoundingBox
    seen: BoundingBox
    state: TrackState = TrackState.TRACKING
    history: tuple[float, ...] = ()
    sizes: tuple[float, ...] = ()
    doubted: int = 0
    good: int = 0
    candidate: BoundingBox | None = None
    confirmed: int = 0
    scan: int = 0

    @classmethod
    def begin(cls, box: BoundingBox) -> Confidence:
        """State right after the user said where the target is."""
        return cls(believed=box, seen=box, sizes=(_size(box),))

    @property
    def usual_size(self) -> float:
        """Median sqrt(w h) of the last undoubted frames: unlike the last box, a runaway cannot drag it along."""
        return statistics.median(self.sizes)


def observe(before: Confidence, evidence: Evidence, limits: Thresholds, config: ConfidenceConfig) -> Confidence:
    """State after a frame in TRACKING or UNCERTAIN. Disabled: the box is believed and the state stays TRACKING."""
    if not config.enabled:
        return replace(before, believed=evidence.box, seen=evidence.box)
    # a jump is implausible once; a target that stays where it jumped to has moved
    plausible = _is_plausible(before.believed, evidence.box, before.usual_size, config) or (
        before.seen != before.believed and _is_plausible(before.seen, evidence.box, before.usual_size, config)
    )
    visible = evidence.score >= limits.unseen
    believed = evidence.box if visible and plausible else before.believed
    if not plausible or is_doubtful(evidence, limits, before.history):
        doubted = before.doubted + (1 if visible else UNSEEN_WEIGHT)
        state = TrackState.LOST if doubted >= config.lost_after else TrackState.UNCERTAIN
        return replace(before, believed=believed, seen=evidence.box, state=state, doubted=doubted, good=0)
    good = before.good + 1
    if before.state is not TrackState.TRACKING and good < config.recover_after:
        return replace(before, believed=believed, seen=evidence.box, good=good)
    return Confidence(
        believed=believed,
        seen=evidence.box,
        history=(*before.history, evidence.score)[-HISTORY_LENGTH:],
        sizes=(*before.sizes, _size(evidence.box))[-HISTORY_LENGTH:],
        good=good,
    )


def observe_lost(
    before: Confidence, looks: tuple[Evidence, ...], limits: Thresholds, config: ConfidenceConfig
) -> Confidence:
    """State after a frame in LOST: `looks` are the windows that `tracking.multi` was told to look at."""
    best = max(looks, key=lambda look: look.score)
    fits = 1 / config.max_scale <= _size(best.box) / before.usual_size <= config.max_scale
    convincing = fits and best.score >= limits.confirm and best.rival <= limits.rival
    scan = before.scan + (1 if before.candidate is None else 0)
    if not convincing:
        return replace(before, candidate=None, confirmed=0, scan=scan, good=0)
    if before.candidate is None or not _is_plausible(before.candidate, best.box, before.usual_size, config):
        return replace(before, candidate=best.box, confirmed=1, scan=scan)
    confirmed = before.confirmed + 1
    if confirmed < config.confirm_frames:
        return replace(before, candidate=best.box, confirmed=confirmed, scan=scan)
    return Confidence(believed=best.box, seen=best.box, history=before.history, sizes=before.sizes, good=confirmed)


def is_doubtful(evidence: Evidence, limits: Thresholds, history: tuple[float, ...]) -> bool:
    """Whether score, second peak or the target's own usual score speak against a box."""
    if evidence.score < limits.doubt or evidence.rival > limits.rival:
        return True
    if len(history) < MIN_HISTORY:
        return False
    return evidence.score < limits.history * statistics.median(history)


def growth_of(state: Confidence, config: ConfidenceConfig) -> float:
    """Factor on the search region for the next frame."""
    if not config.enabled or state.doubted == 0 or config.growth == 1:
        return 1.0
    # Without re-acquisition doubt has no end, and a power of it would overflow.
    if state.doubted >= math.log(config.max_growth) / math.log(config.growth):
        return float(config.max_growth)
    return float(config.growth**state.doubted)


def tile_centers(frame_size: tuple[int, int], side: float) -> list[tuple[float, float]]:
    """Centres (x, y) of half-overlapping windows of `side` px that cover a frame (height, width), row by row."""
    height, width = frame_size
    return [(x, y) for y in _positions(height, side) for x in _positions(width, side)]


def _positions(length: float, side: float) -> list[float]:
    if side >= length:
        return [length / 2]
    count = math.ceil((length - side) / (side / 2)) + 1
    return [side / 2 + (length - side) * index / (count - 1) for index in range(count)]


def _size(box: BoundingBox) -> float:
    return max(math.sqrt(box.w * box.h), 1e-6)


def _is_plausible(before: BoundingBox, after: BoundingBox, usual_size: float, config: ConfidenceConfig) -> bool:
    jump = math.dist(before.center, after.center) / max(_size(before), 1.0)
    return jump <= config.max_jump and 1 / config.max_scale <= _size(after) / usual_size <= config.max_scale
