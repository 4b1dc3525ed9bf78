"""How far to trust a box: TRACKING, UNCERTAIN, LOST, and where to look next.

Pure functions over one frozen state, so that a frame that fails changes nothing.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckd_core.frame import BoundingBox
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.thresholds import ConfidenceError
from ckd_core.tracking.witnesses.colours import Recognition
from ckd_core.tracking.witnesses.distance import Sighting
from ckd_core.tracking.witnesses.features import Resemblance

if TYPE_CHECKING:
    from ckd_core.tracking.thresholds import Thresholds
    from ckd_core.tracking.witnesses.colours import Portrait
    from ckd_core.tracking.witnesses.distance import Course
    from ckd_core.tracking.witnesses.features import Gallery

HISTORY_LENGTH = 30  # frames whose scores define what is usual for a target
USUAL_LENGTH = 10  # frames whose sizes and shapes are usual: a target that comes closer grows by half in twenty
MIN_HISTORY = 5  # with fewer frames the history does not count
VELOCITY_RATE = 0.4  # of the latest displacement in the smoothed velocity
VELOCITY_DECAY = 0.7  # per doubtful frame
NOTHING_SIGHTED, NOTHING_RECOGNISED, NOTHING_RESEMBLED = Sighting(), Recognition(), Resemblance()
UNSEEN_WEIGHT = 2  # of a frame without any sign of the target, where a doubtful one counts 1
LOOK_WEIGHT = 0.25  # of one that only looks different: a target may do that for a second


@dataclass(frozen=True, slots=True)
class ConfidenceConfig:
    """Behaviour of the state machine.

    Attributes:
        enabled: False is the published behaviour: every box is trusted and the state is always TRACKING.
        lost_after: Doubtful frames in a row until LOST; one without any sign of the target counts UNSEEN_WEIGHT times.
        recover_after: Good frames in a row until TRACKING again, the last of them as high as `Thresholds.regain`.
        believe_after: Good frames in a row, or frames that show a re-acquired target, after which a lower score will
            do: the target looks different now.
        repaint_after: Frames of looking for a LOST target after which it may have other colours.
        alter_after: Frames of looking for it after which it may have other features.
        growth: Factor by which the search region grows per doubtful frame; 1 = never.
        max_growth: Bound on that growth.
        max_jump: Displacement of the centre per frame, as a multiple of sqrt(w h), above which a motion is implausible.
        max_scale: Change of sqrt(w h) against its recent median above which it is implausible.
        max_shape: Change of w / h against its recent median above which it is implausible: a box that swallows a
            neighbour beside the target.
        reacquire: Whether to search the whole frame while LOST.
        tiles_per_frame: Windows searched per frame while LOST; bounds its cost.
        tile_scale: Side of such a window as a multiple of the usual search region.
        confirm_frames: Frames in a row that must show a re-acquired target before it counts, the last of them as high
            as `Thresholds.regain`.
    """

    enabled: bool = True
    lost_after: int = 8
    recover_after: int = 2
    believe_after: int = 12
    repaint_after: int = 90
    alter_after: int = 30
    growth: float = 1.2
    max_growth: float = 2.0
    max_jump: float = 1.5
    max_scale: float = 1.6
    max_shape: float = 1.6
    reacquire: bool = True
    tiles_per_frame: int = 1
    tile_scale: float = 1.5
    confirm_frames: int = 3

    def __post_init__(self) -> None:
        for name in (
            "lost_after", "recover_after", "repaint_after", "alter_after", "tiles_per_frame", "confirm_frames",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfidenceError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.believe_after < max(self.recover_after, self.confirm_frames):
            raise ConfidenceError(
                f"believe_after is {self.believe_after}; expected at least recover_after ({self.recover_after}) and "
                f"confirm_frames ({self.confirm_frames})"
            )
        for name in ("growth", "max_growth", "max_scale", "max_shape", "tile_scale"):
            if getattr(self, name) < 1:
                raise ConfidenceError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.max_jump <= 0:
            raise ConfidenceError(f"max_jump is {self.max_jump}; expected more than 0")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the network says about one window.

    Attributes:
        box: The predicted box in reference pixels.
        score: Highest weighted response.
        rival: Height of the second peak as a share of the first.
        sighting: What depth says of the box.
        recognition: What colours say of it.
        resemblance: What the network's features say of it.
        veiled: Whether one of the cameras may be blind while the other sees. What looks different to it makes a target
            UNCERTAIN then, and never LOST.
    """

    box: BoundingBox
    score: float
    rival: float
    sighting: Sighting = NOTHING_SIGHTED
    recognition: Recognition = NOTHING_RECOGNISED
    resemblance: Resemblance = NOTHING_RESEMBLED
    veiled: bool = False


@dataclass(frozen=True, slots=True)
class Confidence:
    """State of the machine for one target.

    Attributes:
        trusted_box: The last box that was trusted.
        last_box: The last box that was predicted, trusted or not.
        state: TRACKING, UNCERTAIN or LOST.
        history: Scores of the last good frames.
        sizes, shapes: sqrt(w h) and w / h of the last good frames.
        doubt_weight: Weight of the doubtful frames in a row.
        blur_weight: Of those whose score or place is doubtful, which widen the search region.
        good_frames: Good frames in a row.
        candidate: A re-acquired box that waits for confirmation.
        confirmed_frames: Frames in a row that show the candidate.
        scan: Index of the next tile.
        velocity: Pixels per frame along x and y, smoothed over good frames.
        course: The target's distance, where depth tells.
        portrait: Its colours, where there are any.
        gallery: Its features, where they are watched.
    """

    trusted_box: BoundingBox
    last_box: BoundingBox
    state: TrackState = TrackState.TRACKING
    history: tuple[float, ...] = ()
    sizes: tuple[float, ...] = ()
    shapes: tuple[float, ...] = ()
    doubt_weight: float = 0.0
    blur_weight: int = 0
    good_frames: int = 0
    candidate: BoundingBox | None = None
    confirmed_frames: int = 0
    scan: int = 0
    velocity: tuple[float, float] = (0.0, 0.0)
    course: Course | None = None
    portrait: Portrait | None = None
    gallery: Gallery | None = None

    @classmethod
    def begin(cls, box: BoundingBox) -> Confidence:
        """Return the state at the start, with the user's box."""
        return cls(trusted_box=box, last_box=box, sizes=(_size(box),), shapes=(_shape(box),))

    @property
    def usual_size(self) -> float:
        """Median sqrt(w h) of the last good frames: unlike the last box, a runaway cannot drag it along."""
        return statistics.median(self.sizes)

    @property
    def usual_shape(self) -> float:
        """Median w / h of the last good frames."""
        return statistics.median(self.shapes)


def predicted_box(state: Confidence, share: float) -> BoundingBox:
    """The trusted box, moved by a share of what the target's velocity predicts for the next frame."""
    dx, dy = (share * rate for rate in state.velocity)
    return state.trusted_box._replace(x=state.trusted_box.x + dx, y=state.trusted_box.y + dy)


def observe(
    before: Confidence, evidence: Evidence, limits: Thresholds, config: ConfidenceConfig, bounded: bool = False
) -> Confidence:
    """Return the state after a frame in TRACKING or UNCERTAIN; if disabled, every box is trusted.

    Args:
        before: The state so far.
        evidence: What the network says.
        limits: How to read its scores.
        config: Behaviour of the state machine.
        bounded: See `MotionConfig`.
    """
    if not config.enabled:
        return replace(before, trusted_box=evidence.box, last_box=evidence.box)
    # a jump is implausible once; a target that stays where it jumped to has moved
    plausible = not evidence.sighting.elsewhere and any(
        _is_plausible(box, evidence.box, before.usual_size, before.usual_shape, config)
        for box in (before.trusted_box, before.last_box)
    )
    visible = evidence.score >= limits.unseen
    trusted_box = before.trusted_box
    if visible and plausible:
        trusted_box = evidence.box
    elif visible and bounded and not evidence.sighting.elsewhere:
        trusted_box = _followed(before, evidence.box, config)
    said = evidence.resemblance
    strange = said.doubtful if before.state is TrackState.TRACKING else said.denied
    if not visible or not plausible or _is_low(evidence, limits, before.history):
        weight = 1 if visible else UNSEEN_WEIGHT
        return _doubted(before, evidence, trusted_box, (weight, weight), config)
    strange = strange or evidence.recognition.otherwise
    if strange and not evidence.veiled:
        return _doubted(before, evidence, trusted_box, (LOOK_WEIGHT, 0), config)
    good_frames = 0 if strange else before.good_frames + 1
    alike = _reaches(evidence, limits.regain, before.history)
    awaited = config.recover_after if alike else config.believe_after
    certain = not strange and (before.state is TrackState.TRACKING or good_frames >= awaited)
    if not (certain or strange) and before.doubt_weight > 0:
        return replace(
            before,
            trusted_box=trusted_box,
            last_box=evidence.box,
            good_frames=good_frames,
            **_witnessed(evidence),
        )
    known = _witnessed(evidence)
    if strange:
        known = {"course": before.course, "portrait": before.portrait, "gallery": before.gallery}
    return Confidence(
        trusted_box=trusted_box,
        last_box=evidence.box,
        state=TrackState.TRACKING if certain else TrackState.UNCERTAIN,
        history=(*before.history, evidence.score)[-HISTORY_LENGTH:],
        sizes=(*before.sizes, _size(evidence.box))[-USUAL_LENGTH:],
        shapes=(*before.shapes, _shape(evidence.box))[-USUAL_LENGTH:],
        good_frames=good_frames,
        velocity=_velocity(before, evidence.box),
        **known,
    )


def _doubted(
    before: Confidence,
    evidence: Evidence,
    trusted_box: BoundingBox,
    weights: tuple[float, int],
    config: ConfidenceConfig,
) -> Confidence:
    """The state after a doubtful frame, with what it adds to both weights."""
    doubt_weight = before.doubt_weight + weights[0]
    return replace(
        before,
        trusted_box=trusted_box,
        last_box=evidence.box,
        state=TrackState.LOST if doubt_weight >= config.lost_after else TrackState.UNCERTAIN,
        doubt_weight=doubt_weight,
        blur_weight=before.blur_weight + weights[1],
        good_frames=0,
        velocity=(VELOCITY_DECAY * before.velocity[0], VELOCITY_DECAY * before.velocity[1]),
    )


def _witnessed(evidence: Evidence) -> dict[str, Any]:
    """What the witnesses will know of a target whose box this is."""
    return {
        "course": evidence.sighting.course,
        "portrait": evidence.recognition.portrait,
        "gallery": evidence.resemblance.gallery,
    }


def _followed(before: Confidence, box: BoundingBox, config: ConfidenceConfig) -> BoundingBox:
    """Where the belief goes with an implausible box: nowhere if it is far away, else along, with its sides bounded.

    A box that has swallowed a neighbour still holds the target: of a side that has grown too much the part counts that
    is nearest to where the target was expected.
    """
    size = _clip(_size(box), before.usual_size, config.max_scale)
    shape = _clip(_shape(box), before.usual_shape, config.max_shape)
    w, h = sides_of(size, shape)
    cx, cy = predicted_box(before, 1.0).center
    x, y = _nearest(cx, box.x, box.w, w), _nearest(cy, box.y, box.h, h)
    followed = BoundingBox(x, y, w, h)
    return followed if _jump(before.trusted_box, followed) <= config.max_jump else before.trusted_box


def _clip(value: float, usual: float, factor: float) -> float:
    return min(max(value, usual / factor), usual * factor)


def _nearest(center: float, start: float, length: float, wanted: float) -> float:
    """Start of the interval of the `wanted` length, inside or around the given one, that is nearest to `center`."""
    low, high = sorted((start, start + length - wanted))
    return min(max(center - wanted / 2, low), high)


def _velocity(before: Confidence, box: BoundingBox) -> tuple[float, float]:
    """Smoothed velocity after a good frame."""
    (x, y), (u, v) = before.trusted_box.center, box.center
    dx, dy = before.velocity
    return dx + VELOCITY_RATE * (u - x - dx), dy + VELOCITY_RATE * (v - y - dy)


def observe_lost(
    before: Confidence, looks: tuple[Evidence, ...], limits: Thresholds, config: ConfidenceConfig
) -> Confidence:
    """Return the state after a frame in LOST, in which the windows of `looks` were searched."""
    best = max(looks, key=lambda look: look.score)
    fits = 1 / config.max_scale <= _size(best.box) / before.usual_size <= config.max_scale
    other = (
        best.sighting.elsewhere
        or (best.recognition.otherwise and before.scan < config.repaint_after)
        or best.resemblance.denied
    )
    convincing = fits and best.score >= limits.confirm and best.rival <= limits.rival and not other
    scan = before.scan + (1 if before.candidate is None else 0)
    if not convincing:
        return replace(before, candidate=None, confirmed_frames=0, scan=scan, good_frames=0)
    same = before.candidate is not None and _is_plausible(
        before.candidate, best.box, _size(before.candidate), _shape(before.candidate), config
    )
    if not same:
        return replace(before, candidate=best.box, confirmed_frames=1, scan=scan)
    confirmed_frames = before.confirmed_frames + 1
    awaited = config.confirm_frames if _reaches(best, limits.regain, before.history) else config.believe_after
    if confirmed_frames < awaited:
        return replace(before, candidate=best.box, confirmed_frames=confirmed_frames, scan=scan)
    return Confidence(
        trusted_box=best.box,
        last_box=best.box,
        history=before.history,
        sizes=before.sizes,
        shapes=before.shapes,
        good_frames=confirmed_frames,
        **{**_witnessed(best), "portrait": None if best.recognition.otherwise else best.recognition.portrait},
    )


def is_credible(before: Confidence, evidence: Evidence, limits: Thresholds) -> bool:
    """Whether a box may be the target's as far as everything but features says, so that comparing them is worth it.

    The first sight of a LOST target is not: its box comes from a large window and is coarse.
    """
    if before.state is TrackState.LOST:
        return before.candidate is not None
    return not is_doubtful(evidence, limits, before.history)


def is_suspicious(before: Confidence, evidence: Evidence, limits: Thresholds, config: ConfidenceConfig) -> bool:
    """Whether features may contradict a credible box: a claim with a low score, or a new one."""
    if before.state is TrackState.LOST:
        return evidence.score >= limits.confirm and before.scan < config.alter_after
    return before.state is not TrackState.TRACKING or not _reaches(evidence, limits.regain, before.history)


def is_doubtful(evidence: Evidence, limits: Thresholds, history: tuple[float, ...]) -> bool:
    """Whether the score, the second peak, the target's own usual score or its colours speak against a box."""
    return _is_low(evidence, limits, history) or evidence.recognition.otherwise


def _is_low(evidence: Evidence, limits: Thresholds, history: tuple[float, ...]) -> bool:
    low = evidence.score < limits.doubt or not _reaches(evidence, limits.history, history)
    return low or evidence.rival > limits.rival


def _reaches(evidence: Evidence, share: float, history: tuple[float, ...]) -> bool:
    """Whether the score is at least this share of the target's usual one; yes where too little is known of it."""
    return len(history) < MIN_HISTORY or evidence.score >= share * statistics.median(history)


def growth_of(state: Confidence, config: ConfidenceConfig) -> float:
    """Return the factor on the search region for the next frame."""
    if not config.enabled or state.blur_weight == 0 or config.growth == 1:
        return 1.0
    # Without re-acquisition the weight grows without bound, and a power of it would overflow.
    if state.blur_weight >= math.log(config.max_growth) / math.log(config.growth):
        return float(config.max_growth)
    return float(config.growth**state.blur_weight)


def sides_of(size: float, shape: float) -> tuple[float, float]:
    """Width and height of a box with sqrt(w h) = `size` and w / h = `shape`."""
    return size * math.sqrt(shape), size / math.sqrt(shape)


def _size(box: BoundingBox) -> float:
    return max(math.sqrt(box.w * box.h), 1e-6)


def _shape(box: BoundingBox) -> float:
    return max(box.w, 1e-6) / max(box.h, 1e-6)


def _jump(before: BoundingBox, after: BoundingBox) -> float:
    """Displacement of the centre as a multiple of sqrt(w h)."""
    return math.dist(before.center, after.center) / max(_size(before), 1.0)


def _is_plausible(before: BoundingBox, after: BoundingBox, size: float, shape: float, config: ConfidenceConfig) -> bool:
    """Whether a target of the usual `size` sqrt(w h) and `shape` w / h may have moved so in one frame."""
    scale, stretch = _size(after) / size, _shape(after) / shape
    fits = 1 / config.max_scale <= scale <= config.max_scale and 1 / config.max_shape <= stretch <= config.max_shape
    return _jump(before, after) <= config.max_jump and fits
