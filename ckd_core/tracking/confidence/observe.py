"""The state after a frame in TRACKING or UNCERTAIN."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckd_core.frame import BoundingBox
from ckd_core.tracking.confidence.evidence import is_low, reaches, witnessed
from ckd_core.tracking.confidence.sizes import (
    clip,
    is_plausible,
    jump_between,
    nearest,
    off_by,
    shape_of,
    sides_of,
    size_of,
)
from ckd_core.tracking.confidence.state import Confidence, Trial, is_settled, predicted_box
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.thresholds import Thresholds

HISTORY_LENGTH = 30  # frames whose scores define what is usual for a target
USUAL_LENGTH = 10  # frames whose sizes and shapes are usual: a target that comes closer grows by half in twenty
VELOCITY_RATE = 0.4  # of the latest displacement in the smoothed velocity
VELOCITY_DECAY = 0.7  # per doubtful frame
UNSEEN_WEIGHT = 2  # of a frame without any sign of the target, where a doubtful one counts 1
LOOK_WEIGHT = 0.25  # of one that only looks different: a target may do that for a second


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
    plausible = not evidence.misplaced and any(
        is_plausible(box, evidence.box, before.usual_size, before.usual_shape, config)
        for box in (before.trusted_box, before.last_box)
    )
    visible = evidence.score >= limits.unseen
    jumped = visible and jumps(before, evidence.box, config)  # the best of nothing may be anywhere
    before = replace(before, jumped=jumped or is_away(before), stayed=0 if jumped else before.stayed)
    trusted_box = before.trusted_box
    if visible and plausible:
        trusted_box = evidence.box
    elif visible and bounded and not evidence.misplaced:
        trusted_box = _followed(before, evidence.box, config)
    said = evidence.resemblance
    strange = said.doubtful if before.state is TrackState.TRACKING else said.denied
    if not visible or not plausible or is_low(evidence, limits, before.history):
        weight = 1 if visible else UNSEEN_WEIGHT
        last_box = evidence.box if visible else before.last_box
        return _doubted(before, (last_box, trusted_box), (weight, weight), config)
    strange = strange or evidence.recognition.otherwise
    if strange and not evidence.veiled:
        return _doubted(before, (evidence.box, trusted_box), (LOOK_WEIGHT, 0), config)
    good_frames = 0 if strange else before.good_frames + 1
    stayed = before.stayed + (not strange)
    alike = reaches(evidence, limits.regain, before.history)
    awaited = config.recover_after if alike else config.believe_after
    again = not strange and (before.state is TrackState.TRACKING or good_frames >= awaited)
    settled = is_settled(before, evidence, config)
    stays = stayed >= config.claim_after or good_frames >= config.believe_after
    certain = again and (settled or stays)
    trial = _trial_after(before.trial, evidence.box, config)
    if certain and not settled:
        trial = Trial(before.expected_size, config.trial_frames)
    if not (again or strange) and before.doubt_weight > 0:
        return replace(
            before,
            trusted_box=trusted_box,
            last_box=evidence.box,
            good_frames=good_frames,
            stayed=stayed,
            **witnessed(evidence),
        )
    known = witnessed(evidence)
    if strange:
        known = {"course": before.course, "portrait": before.portrait, "gallery": before.gallery}
    return Confidence(
        trusted_box=trusted_box,
        last_box=evidence.box,
        state=TrackState.TRACKING if certain else TrackState.UNCERTAIN,
        history=(*before.history, evidence.score)[-HISTORY_LENGTH:],
        # what would count by its score, but for its size, must not make that the usual one
        sizes=(*before.sizes, size_of(evidence.box))[-USUAL_LENGTH:] if certain or not again else before.sizes,
        shapes=(*before.shapes, shape_of(evidence.box))[-USUAL_LENGTH:],
        good_frames=good_frames,
        stayed=stayed,
        jumped=before.jumped,
        trial=trial,
        velocity=_velocity(before, evidence.box),
        **known,
    )


def has_jumped(before: Confidence, box: BoundingBox, config: ConfidenceConfig) -> bool:
    """Whether a target is where it has jumped to since it was TRACKING."""
    return jumps(before, box, config) or is_away(before)


def is_away(before: Confidence) -> bool:
    """Whether a target has jumped and has not been TRACKING since."""
    return before.jumped and before.state is not TrackState.TRACKING


def jumps(before: Confidence, box: BoundingBox, config: ConfidenceConfig) -> bool:
    """Whether a target that is here now has jumped, from its last box and from where that was going."""
    dx, dy = before.velocity
    ahead = before.last_box._replace(x=before.last_box.x + dx, y=before.last_box.y + dy)
    return min(jump_between(place, box) for place in (before.last_box, ahead)) > config.claim_jump


def _trial_after(trial: Trial | None, box: BoundingBox, config: ConfidenceConfig) -> Trial | None:
    """A trial after another frame: over at once when the size is the old one again."""
    if trial is None or trial.frames <= 1 or off_by(size_of(box), trial.size) <= config.claim_scale:
        return None
    return replace(trial, frames=trial.frames - 1)


def _doubted(
    before: Confidence,
    boxes: tuple[BoundingBox, BoundingBox],
    weights: tuple[float, int],
    config: ConfidenceConfig,
) -> Confidence:
    """The state after a doubtful frame, with the last and the trusted box, and with what it adds to both weights."""
    doubt_weight = before.doubt_weight + weights[0]
    lost = doubt_weight >= config.lost_after
    return replace(
        before,
        last_box=boxes[0],
        trusted_box=boxes[1],
        state=TrackState.LOST if lost else TrackState.UNCERTAIN,
        jumped=before.jumped or lost,
        doubt_weight=doubt_weight,
        blur_weight=before.blur_weight + weights[1],
        good_frames=0,
        velocity=(VELOCITY_DECAY * before.velocity[0], VELOCITY_DECAY * before.velocity[1]),
    )


def _followed(before: Confidence, box: BoundingBox, config: ConfidenceConfig) -> BoundingBox:
    """Where the belief goes with an implausible box: nowhere if it is far away, else along, with its sides bounded.

    A box that has swallowed a neighbour still holds the target: of a side that has grown too much the part counts that
    is nearest to where the target was expected.
    """
    size = clip(size_of(box), before.usual_size, config.max_scale)
    shape = clip(shape_of(box), before.usual_shape, config.max_shape)
    w, h = sides_of(size, shape)
    cx, cy = predicted_box(before, 1.0).center
    x, y = nearest(cx, box.x, box.w, w), nearest(cy, box.y, box.h, h)
    followed = BoundingBox(x, y, w, h)
    return followed if jump_between(before.trusted_box, followed) <= config.max_jump else before.trusted_box


def _velocity(before: Confidence, box: BoundingBox) -> tuple[float, float]:
    """Smoothed velocity after a good frame."""
    (x, y), (u, v) = before.trusted_box.center, box.center
    dx, dy = before.velocity
    return dx + VELOCITY_RATE * (u - x - dx), dy + VELOCITY_RATE * (v - y - dy)
