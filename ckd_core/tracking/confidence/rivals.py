"""The second look: where a target in doubt may be instead, and which of two looks to believe.

A network that looks at a lookalike hardly responds to the target beside it, and the other way round. So after a jump,
while a target is UNCERTAIN or on trial, the second peak gets a window of its own in the next frame, and the scores of
both can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core.tracking.confidence.evidence import reaches
from ckd_core.tracking.confidence.sizes import jump_between, off_by, size_of
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.state import Confidence
    from ckd_core.tracking.confidence.thresholds import Thresholds

LOWEST_RIVAL = 0.03  # response at a second peak that is worth a look; one of 0.05 was 0.74 in a look of its own
RIVAL_SCALE = 1.4  # most that its size is off the usual one
RIVAL_DISTANCE = 0.35  # least distance from the first one, in sides of that
KEPT_SHARE = 0.5  # of the better look's likeness from which the other place is looked at again


def chosen(before: Confidence, looks: Sequence[Evidence], limits: Thresholds) -> Evidence:
    """Return the look to believe.

    Args:
        before: The state so far.
        looks: Of a LOST target the windows that were searched, of which the highest score counts that nothing
            contradicts. Else of the place
            where it was expected, and perhaps of `Confidence.rival`, which has to score as a target seen again, with
            nothing that contradicts it. Where something contradicts the first, another counts if there is one.
        limits: How to read their scores.
    """
    if before.state is TrackState.LOST:
        return max(looks, key=lambda look: (not look.contradicted, look.score))
    first, *others = looks
    good = [
        look
        for look in others
        if look.score >= limits.doubt and reaches(look, limits.regain, before.history) and not look.contradicted
    ]
    candidates = good if first.contradicted and good else [first, *good]
    return max(candidates, key=lambda look: _likeness(before, look))


def rival_of(
    before: Confidence, after: Confidence, looks: Sequence[Evidence], best: Evidence, config: ConfidenceConfig
) -> BoundingBox | None:
    """Return where else the next frame looks: where the other look was if it was nearly as good, or at a second peak.

    Args:
        before: The state before this frame.
        after: The state after it.
        looks: See `chosen`.
        best: The one that was chosen.
        config: Behaviour of the state machine.
    """
    in_doubt = after.jumped and after.state is TrackState.UNCERTAIN
    on_trial = after.trial is not None and after.state is TrackState.TRACKING
    if not (config.second_look and (in_doubt or on_trial or best.bystander)):
        return None
    box, response = best.rival_box, best.rival * best.score
    least = KEPT_SHARE * _likeness(before, best)
    for other in looks:
        if other is not best and not other.contradicted and _likeness(before, other) >= least:
            box, response = other.box, other.score
    if box is None or response < LOWEST_RIVAL or off_by(size_of(box), after.expected_size) > RIVAL_SCALE:
        return None
    if not best.bystander and jump_between(after.trusted_box, box) <= RIVAL_DISTANCE:
        return None  # the first look goes there
    return box if RIVAL_DISTANCE < jump_between(best.box, box) <= config.max_jump else None


def _likeness(before: Confidence, look: Evidence) -> float:
    """The score, less where the size is not the usual one."""
    return look.score / off_by(size_of(look.box), before.expected_size)
