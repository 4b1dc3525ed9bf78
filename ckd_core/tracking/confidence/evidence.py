"""What one window says of a target, and how that compares with what is known of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckd_core.tracking.result import TrackState
from ckd_core.tracking.witnesses.colours import Recognition
from ckd_core.tracking.witnesses.distance import Sighting
from ckd_core.tracking.witnesses.features import Resemblance

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.state import Confidence
    from ckd_core.tracking.confidence.thresholds import Thresholds

MIN_HISTORY = 5  # with fewer frames the history does not count
NOTHING_SIGHTED, NOTHING_RECOGNISED, NOTHING_RESEMBLED = Sighting(), Recognition(), Resemblance()


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
        bystander: Whether it stood beside the target when that was last seen for sure.
        recollected: Whether it is found again where the target was then, and nowhere else.
        rival_box: The box at the second peak in reference pixels; None where it is not known.
    """

    box: BoundingBox
    score: float
    rival: float
    sighting: Sighting = NOTHING_SIGHTED
    recognition: Recognition = NOTHING_RECOGNISED
    resemblance: Resemblance = NOTHING_RESEMBLED
    veiled: bool = False
    bystander: bool = False
    recollected: bool = False
    rival_box: BoundingBox | None = None

    @property
    def contradicted(self) -> bool:
        """Whether anything says that this is not the target."""
        return self.misplaced or self.recognition.otherwise or self.resemblance.denied

    @property
    def misplaced(self) -> bool:
        """Whether its place says so: its distance, or that it was there when the target was elsewhere."""
        return self.sighting.elsewhere or self.bystander


def witnessed(evidence: Evidence) -> dict[str, Any]:
    """What the witnesses will know of a target whose box this is."""
    return {
        "course": evidence.sighting.course,
        "portrait": evidence.recognition.portrait,
        "gallery": evidence.resemblance.gallery,
    }


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
    return before.state is not TrackState.TRACKING or not reaches(evidence, limits.regain, before.history)


def is_doubtful(evidence: Evidence, limits: Thresholds, history: tuple[float, ...]) -> bool:
    """Whether the score, the second peak, the target's own usual score or its colours speak against a box."""
    return is_low(evidence, limits, history) or evidence.recognition.otherwise


def is_low(evidence: Evidence, limits: Thresholds, history: tuple[float, ...]) -> bool:
    """Whether the score, the second peak or the target's own usual score speaks against a box."""
    low = evidence.score < limits.doubt or not reaches(evidence, limits.history, history)
    return low or evidence.rival > limits.rival


def reaches(evidence: Evidence, share: float, history: tuple[float, ...]) -> bool:
    """Whether the score is at least this share of the target's usual one; yes where too little is known of it."""
    return len(history) < MIN_HISTORY or evidence.score >= share * statistics.median(history)
