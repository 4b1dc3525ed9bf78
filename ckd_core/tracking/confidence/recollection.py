"""Recollections: what a target seems to be now, looked for in the last frame that showed it for sure.

A claim of another size is mostly a lookalike's, and waits. A network that is shown the claim as what to look for,
and finds it where the target was then and nowhere else, says that both are the same thing: then nothing is waited for.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from ckd_core.tracking.confidence.evidence import MIN_HISTORY, is_doubtful
from ckd_core.tracking.confidence.observe import has_jumped
from ckd_core.tracking.confidence.state import has_usual_size
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.state import Confidence
    from ckd_core.tracking.confidence.thresholds import Thresholds

ALIKE = 0.95  # of the target's usual score that is reached in that frame
AHEAD = 0.6  # by which that is more than what is reached beside the target


def may_settle(before: Confidence, look: Evidence, limits: Thresholds, config: ConfidenceConfig) -> bool:
    """Whether a look is due to make its target TRACKING, but for its size, so that a recollection decides."""
    if before.state is TrackState.TRACKING or look.contradicted or len(before.history) < MIN_HISTORY:
        return False
    if before.state is TrackState.LOST:
        due = before.candidate is not None and before.confirmed_frames + 1 >= config.confirm_frames
        credible = due and look.score >= limits.confirm
    else:
        due = before.good_frames + 1 >= config.recover_after and has_jumped(before, look.box, config)
        credible = due and not is_doubtful(look, limits, before.history)
    return credible and not has_usual_size(before, look.box, config)


def is_alike(before: Confidence, score: float) -> bool:
    """Whether a claim finds something in that frame that is as like it as the target usually is to its own template.

    Args:
        before: The state so far.
        score: Of the best place in that frame.
    """
    return score >= ALIKE * statistics.median(before.history)


def is_the_target(before: Confidence, score: float, beside: float) -> bool:
    """Whether what is alike is the target: a claim finds much less where the target is painted over.

    Args:
        before: The state so far.
        score: As in `is_alike`.
        beside: Of the best place in that frame with the target painted over.
    """
    return score - beside >= AHEAD * statistics.median(before.history)
