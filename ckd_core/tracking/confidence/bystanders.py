"""Bystanders: things that look like the target, and stood beside it when it was last seen for sure.

Nothing is in two places at once. So where a target seems to have jumped to, the network also looks for it in the last
frame in which it was sure of it, with the target painted over: what it finds there is something else.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.frame import BoundingBox
from ckd_core.tracking.confidence.evidence import reaches
from ckd_core.tracking.confidence.observe import has_jumped
from ckd_core.tracking.confidence.sizes import jump_between, off_by, size_of
from ckd_core.tracking.confidence.state import Bystander
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckd_core.frame import Image, MultiModalFrame
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.state import Confidence
    from ckd_core.tracking.confidence.thresholds import Thresholds
    from ckd_core.tracking.view import StreamMemory

STEADY_FRAMES = 10  # without a jump, until a target is seen for sure
BESIDE = 1.0  # least distance in sides between a bystander and the target: less may be what is not painted over of it
NEAR, DRIFT, FURTHEST = 0.25, 0.04, 0.6  # most that a thing may have moved since then: at once, per frame, and ever
AWAY = BESIDE - FURTHEST  # so what is nearer to where the target was need not be asked about
OLDEST = 25  # frames for which it counts where things stood
SAME_SCALE = 1.4  # most that its size may be off
MOST_UNSEEN = 3  # frames in a row without a known bystander until it is forgotten
SAME_PLACE = 0.35  # most that a known bystander moves in a frame


@dataclass(frozen=True, slots=True, eq=False)
class LastSeen:
    """The last frame in which a target was seen for sure.

    Attributes:
        frame: Its images.
        memory: What was known of the stream then.
        box: Where the target was in it.
        place: The same place in pixels of the newest frame: they differ where the camera's motion is foreseen.
        age: That of the target then, in frames since its start.
    """

    frame: MultiModalFrame
    memory: StreamMemory
    box: BoundingBox
    place: BoundingBox
    age: int

    @classmethod
    def now(cls, frame: MultiModalFrame, memory: StreamMemory, box: BoundingBox, age: int) -> LastSeen:
        """This frame. Of older images those are kept that it lacks."""
        last_rgb = memory.last_rgb if frame.rgb is None else None
        last_aux = memory.last_aux if frame.aux is None else None
        return cls(frame, replace(memory, last_rgb=last_rgb, last_aux=last_aux), box, box, age)

    @property
    def images(self) -> list[Image]:
        """Those that are kept."""
        kept = (self.frame.rgb, self.frame.aux, self.memory.last_rgb, self.memory.last_aux)
        return [image for image in kept if image is not None]

    def then(self, box: BoundingBox) -> BoundingBox:
        """A box of the newest frame in pixels of this one."""
        scale = size_of(self.box) / size_of(self.place)
        (x, y), (u, v), (cx, cy) = self.box.center, self.place.center, box.center
        w, h = scale * box.w, scale * box.h
        return BoundingBox(x + scale * (cx - u) - w / 2, y + scale * (cy - v) - h / 2, w, h)


def steady_frames(before: int, after: Confidence) -> int:
    """For how many frames in a row a target has been TRACKING without a jump, after another frame."""
    return before + 1 if after.state is TrackState.TRACKING and not after.jumped else 0


def is_sure_of(after: Confidence, best: Evidence, steady: int, limits: Thresholds) -> bool:
    """Whether a frame shows the target for sure, as far as one can know.

    Not soon after a jump: that may have been one to something else, to which the target would be a bystander.
    """
    return steady >= STEADY_FRAMES and after.trial is None and reaches(best, limits.regain, after.history)


def may_stand_by(
    before: Confidence, seen: LastSeen, look: Evidence, limits: Thresholds, config: ConfidenceConfig
) -> bool:
    """Whether what a look shows may be a bystander: away from where the target was, and not where that was going."""
    if look.score < limits.unseen or look.contradicted:
        return False
    return has_jumped(before, look.box, config) and jump_between(seen.place, look.box) > AWAY


def tells(seen: LastSeen, age: int) -> bool:
    """Whether the last frame that showed a target for sure says anything of one of this age in frames."""
    return age - seen.age < OLDEST


def is_known(bystander: Bystander | None, box: BoundingBox) -> bool:
    """Whether a box is where a bystander was a frame ago."""
    return bystander is not None and _is_same(bystander.box, box, SAME_PLACE)


def stood_by(
    before: Confidence,
    seen: LastSeen,
    box: BoundingBox,
    found: BoundingBox,
    score: float,
    age: int,
    limits: Thresholds,
    config: ConfidenceConfig,
) -> bool:
    """Whether something like the target stood where it seems to be now.

    Args:
        before: The state so far.
        seen: The last frame in which the target was seen for sure.
        box: Where it seems to be now.
        found: What the network found there in that frame, when the target was painted over, in pixels of that frame.
        score: Its score.
        age: That of the target now, in frames.
        limits: How to read scores.
        config: Behaviour of the state machine.
    """
    usual = statistics.median(before.history) if before.history else 1.0
    if score < max(limits.confirm, config.bystander_score * usual) or jump_between(seen.box, found) <= BESIDE:
        return False
    return _is_same(seen.then(box), found, min(NEAR + DRIFT * (age - seen.age), FURTHEST))


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


def _is_same(one: BoundingBox, other: BoundingBox, distance: float) -> bool:
    return jump_between(one, other) <= distance and off_by(size_of(other), size_of(one)) <= SAME_SCALE
