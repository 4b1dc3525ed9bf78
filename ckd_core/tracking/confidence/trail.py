"""Trails: the frames that are kept since a target was last seen for sure, and how something is followed back in them.

Nothing is in two places at once. What a target seems to have jumped to is looked for in ever older frames, each time
near where it was in the one after, until the last frame that showed the target for sure. What was beside the target
there is something else, however much it looks like it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ckd_core.frame import BoundingBox
from ckd_core.tracking.confidence.sizes import jump_between, off_by, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckd_core.frame import Image, MultiModalFrame
    from ckd_core.tracking.view import StreamMemory

EVERY = 8  # frames of the stream, of which one is kept
LONGEST = 64  # frames since the last sure one for which any are
LONGEST_STEP = 16  # frames; further apart, two things at one place may be different ones
FAINTEST, FAINTER = 0.4, 0.65  # lowest score of a step, and as a share of the first one's
# Sides by which a step may miss its place: at once, per frame, and at most.
NEAR, DRIFT, FURTHEST = 0.25, 0.1, 0.6
SAME_SCALE = 1.4  # most that sqrt(w h) changes in a step
HIDDEN = 0.8  # sides from the target, beyond which that is painted over
CLEAR = 0.75  # sides from where the target was for sure, from which on something is beside it
VELOCITY_SHARE = 0.5  # of a step's displacement in the velocity
FEW_FRAMES = 2  # in which a first step would tell too little of the velocity


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A frame that is kept, and where a target was believed in it.

    Attributes:
        frame: Its images.
        memory: What was known of the stream then.
        box: Where the target was believed.
        place: The same place in pixels of the newest frame: they differ where the camera's motion is foreseen.
        age: That of the target then, in frames since its start.
        steady: Whether the target was TRACKING without a jump.
    """

    frame: MultiModalFrame
    memory: StreamMemory
    box: BoundingBox
    place: BoundingBox
    age: int
    steady: bool = True

    @classmethod
    def now(
        cls, frame: MultiModalFrame, memory: StreamMemory, box: BoundingBox, age: int, steady: bool = True
    ) -> Sight:
        """This frame. Of older images those are kept that it lacks."""
        last_rgb = memory.last_rgb if frame.rgb is None else None
        last_aux = memory.last_aux if frame.aux is None else None
        return cls(frame, replace(memory, last_rgb=last_rgb, last_aux=last_aux), box, box, age, steady)

    @property
    def images(self) -> list[Image]:
        """Those that are kept."""
        kept = (self.frame.rgb, self.frame.aux, self.memory.last_rgb, self.memory.last_aux)
        return [image for image in kept if image is not None]

    def then(self, box: BoundingBox) -> BoundingBox:
        """A box of the newest frame in pixels of this one."""
        return _carried(box, self.place, self.box)

    def since(self, box: BoundingBox) -> BoundingBox:
        """A box of this frame in pixels of the newest one."""
        return _carried(box, self.box, self.place)


def trail_after(trail: tuple[Sight, ...], seen: Sight | None, now: Sight, keep: bool) -> tuple[Sight, ...]:
    """The trail after another frame.

    Args:
        trail: Before it.
        seen: The last frame that shows the target for sure; None where none is kept.
        now: The frame.
        keep: Whether it is one of those that are kept.
    """
    if seen is None or seen.frame is now.frame or now.age - seen.age > LONGEST:
        return ()
    return (*trail, now) if keep else trail


@dataclass(frozen=True, slots=True)
class Followed:
    """Something that is followed back.

    Attributes:
        box: Where it was in the oldest frame so far, at first the newest, in pixels of the newest one.
        age: That of the target in that frame.
        velocity: Its pixels per frame along x and y; None before the first step.
        score: That of the first step, 0 before it.
    """

    box: BoundingBox
    age: int
    velocity: tuple[float, float] | None = None
    score: float = 0.0

    def expected(self, age: int) -> BoundingBox:
        """Where it should have been at an age, in pixels of the newest frame."""
        frames, (dx, dy) = self.age - age, self.velocity or (0.0, 0.0)
        return self.box._replace(x=self.box.x - frames * dx, y=self.box.y - frames * dy)

    def step(self, found: BoundingBox, score: float, age: int) -> Followed | None:
        """One step further back; None where what is found is not the same thing for sure.

        Args:
            found: What was found near the expected place, in pixels of the newest frame.
            score: Its score.
            age: That of the target in that frame.
        """
        frames, first = self.age - age, self.velocity is None
        if score < max(FAINTEST, FAINTER * self.score) or off_by(size_of(found), size_of(self.box)) > SAME_SCALE:
            return None
        if jump_between(self.expected(age), found) > min(NEAR + DRIFT * frames, FURTHEST):
            return None
        (x, y), (u, v) = self.box.center, found.center
        dx, dy = self.velocity or (0.0, 0.0)
        share = min(1.0, frames / FEW_FRAMES) if first else VELOCITY_SHARE
        velocity = dx + share * ((x - u) / frames - dx), dy + share * ((y - v) / frames - dy)
        return Followed(found, age, velocity, score if first else self.score)


def are_close(ages: Sequence[int]) -> bool:
    """Whether something can be followed back through frames in which the target had these ages, oldest first."""
    return ages[-1] - ages[0] <= LONGEST and all(later - age <= LONGEST_STEP for age, later in pairwise(ages))


def hidden_in(sight: Sight, place: BoundingBox) -> BoundingBox | None:
    """What of a frame is painted over when something is looked for at a place of it: the target, unless it is there."""
    return sight.box if sight.steady and jump_between(sight.box, place) > HIDDEN else None


def was_beside(followed: Followed, seen: Sight) -> bool:
    """Whether what was followed back to the last sure frame was beside the target there."""
    return jump_between(seen.box, seen.then(followed.box)) > CLEAR


def _carried(box: BoundingBox, before: BoundingBox, after: BoundingBox) -> BoundingBox:
    scale = size_of(after) / size_of(before)
    (x, y), (u, v), (cx, cy) = after.center, before.center, box.center
    w, h = scale * box.w, scale * box.h
    return BoundingBox(x + scale * (cx - u) - w / 2, y + scale * (cy - v) - h / 2, w, h)
