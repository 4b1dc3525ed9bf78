"""Bystanders: things that look like the target, and are known to be something else by where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core.tracking.confidence.evidence import is_doubtful, reaches
from ckd_core.tracking.confidence.observe import has_jumped, jumps
from ckd_core.tracking.confidence.sizes import jump_between, off_by, size_of
from ckd_core.tracking.confidence.state import Bystander
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.state import Confidence
    from ckd_core.tracking.confidence.thresholds import Thresholds
    from ckd_core.tracking.confidence.trail import Sight

STEADY_FRAMES = 10  # without a jump, until a target is seen for sure
AWAY = 0.4  # sides from where that was; what is nearer is not asked about
SAME_SCALE = 1.4  # most that the size of a known bystander may be off
MOST_UNSEEN = 3  # frames in a row without a known bystander until it is forgotten
SAME_PLACE = 0.35  # most that a known bystander moves in a frame


def steady_frames(before: int, after: Confidence) -> int:
    """For how many frames in a row a target has been TRACKING without a jump, after another frame."""
    return before + 1 if after.state is TrackState.TRACKING and not after.jumped else 0


def is_sure_of(after: Confidence, best: Evidence, steady: int, limits: Thresholds) -> bool:
    """Whether a frame shows the target for sure, as far as one can know.

    Not soon after a jump: that may have been one to something else, to which the target would be a bystander.
    """
    return steady >= STEADY_FRAMES and after.trial is None and reaches(best, limits.regain, after.history)


def may_stand_by(before: Confidence, seen: Sight, look: Evidence, limits: Thresholds, config: ConfidenceConfig) -> bool:
    """Whether what a look shows may be a bystander: away from where the target was, and not where that was going."""
    if look.score < limits.unseen or look.contradicted:
        return False
    return has_jumped(before, look.box, config) and jump_between(seen.place, look.box) > AWAY


def is_worth_following(before: Confidence, look: Evidence, limits: Thresholds, config: ConfidenceConfig) -> bool:
    """Whether what may be a bystander is followed back now: it has just jumped there, or is due to be TRACKING."""
    if before.state is TrackState.LOST:
        due = before.candidate is not None and before.confirmed_frames + 1 >= config.confirm_frames
        return due and look.score >= limits.confirm
    if jumps(before, look.box, config):
        return look.score >= limits.doubt
    due = before.state is TrackState.UNCERTAIN and before.good_frames + 1 >= config.recover_after
    return due and not is_doubtful(look, limits, before.history)


def is_known(bystander: Bystander | None, box: BoundingBox) -> bool:
    """Whether a box is where a bystander was a frame ago."""
    if bystander is None or jump_between(bystander.box, box) > SAME_PLACE:
        return False
    return off_by(size_of(box), size_of(bystander.box)) <= SAME_SCALE


def bystander_after(before: Bystander | None, looks: Sequence[Evidence], config: ConfidenceConfig) -> Bystander | None:
    """The known bystander after a frame: what was recognised as one, and while it is seen again and again."""
    for look in looks:
        if look.bystander and not is_known(before, look.box):
            return Bystander(look.box, config.bystander_frames)
    if before is None or before.frames <= 1:
        return None
    seen = next((look.box for look in looks if look.bystander), None)
    if seen is None and before.unseen >= MOST_UNSEEN:
        return None
    return Bystander(seen or before.box, before.frames - 1, 0 if seen else before.unseen + 1)
