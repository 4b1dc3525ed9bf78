"""Asks the network what older frames, back to the last that showed a target for sure, say of what a look shows now."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.tracking.confidence.bystanders import is_known, is_worth_following, may_stand_by
from ckd_core.tracking.confidence.recollection import is_alike, is_the_target, may_settle
from ckd_core.tracking.confidence.rivals import chosen
from ckd_core.tracking.confidence.trail import Followed, are_close, hidden_in, was_beside
from ckd_core.tracking.looks import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.thresholds import Thresholds
    from ckd_core.tracking.confidence.trail import Sight
    from ckd_core.tracking.crop import CropWindow
    from ckd_core.tracking.engines import Templates
    from ckd_core.tracking.engines.base import Prediction
    from ckd_core.tracking.looks import TargetState
    from ckd_core.tracking.view import StreamMemory

    Predict = Callable[[MultiModalFrame, StreamMemory, list[Look]], tuple[list[Prediction], float]]
    Embed = Callable[[MultiModalFrame, StreamMemory, BoundingBox], Templates]


@dataclass(frozen=True, slots=True)
class LookBack:
    """Tells bystanders from targets, and claims of another size that are the target.

    Attributes:
        predict: What the network says of looks at a frame, and the seconds that it took.
        embed: A template of a box in a frame, for frames with the same cameras.
        search_window: The window to search around a box.
        limits: How to read scores.
        config: Behaviour of the state machine.
    """

    predict: Predict
    embed: Embed
    search_window: Callable[[BoundingBox], CropWindow]
    limits: Thresholds
    config: ConfidenceConfig

    def tell(
        self,
        evidence: Mapping[int, Sequence[Evidence]],
        targets: Mapping[int, TargetState],
        frame: MultiModalFrame,
        memory: StreamMemory,
    ) -> tuple[dict[int, list[Evidence]], float]:
        """The evidence with what older frames say of it, and the seconds that the network took.

        Args:
            evidence: What the looks of a frame say, by target.
            targets: As they were before the frame.
            frame: The frame.
            memory: What was known of the stream before it.
        """
        told, seconds = {}, 0.0
        for name, looks in evidence.items():
            target = targets[name]
            found = list(looks)
            if target.seen is not None and found:
                seconds += self._mark(name, found, target, target.seen, frame, memory)
                seconds += self._recollect(name, found, target, target.seen, frame, memory)
            told[name] = found
        return told, seconds

    def _mark(
        self,
        name: int,
        found: list[Evidence],
        target: TargetState,
        seen: Sight,
        frame: MultiModalFrame,
        memory: StreamMemory,
    ) -> float:
        """Mark bystanders: asked about is the look that would be believed, and if it is one, the next."""
        before, seconds = target.confidence, 0.0
        while True:
            best = chosen(before, found, self.limits)
            if not may_stand_by(before, seen, best, self.limits, self.config):
                break
            known = is_known(before.bystander, best.box)
            if not known and is_worth_following(before, best, self.limits, self.config):
                known, took = self._stood_beside(name, best.box, target, seen, frame, memory)
                seconds += took
            if not known:
                break
            found[:] = [replace(look, bystander=True) if look is best else look for look in found]
        return seconds

    def _stood_beside(
        self,
        name: int,
        box: BoundingBox,
        target: TargetState,
        seen: Sight,
        frame: MultiModalFrame,
        memory: StreamMemory,
    ) -> tuple[bool, float]:
        """Whether what is in a box now can be followed back to beside the target, and the network's seconds."""
        # a template of one camera would find little in an image of the other
        sights = [sight for sight in (seen, *target.trail) if sight.frame.presence == frame.presence]
        if seen not in sights or not are_close([*(sight.age for sight in sights), target.age + 1]):
            return False, 0.0
        begin = time.perf_counter()
        template = self.embed(frame, memory, box)
        seconds = time.perf_counter() - begin
        followed = Followed(box, target.age + 1)
        for sight in reversed(sights):
            expected = sight.then(followed.expected(sight.age))
            window, hidden = self.search_window(expected), hidden_in(sight, expected)
            look = Look(name, template, window, scanning=False, hidden=hidden, sought=(frame.stamp, box))
            there, took = self._asked(look, sight)
            seconds += took
            found = sight.since(window.from_crop((there.cx, there.cy, there.w, there.h)))
            further = followed.step(found, there.score, sight.age)
            if further is None:
                return False, seconds
            followed = further
        return was_beside(followed, seen), seconds

    def _recollect(
        self,
        name: int,
        found: list[Evidence],
        target: TargetState,
        seen: Sight,
        frame: MultiModalFrame,
        memory: StreamMemory,
    ) -> float:
        """Say whether the look that would be believed is the target of then, where that decides anything."""
        before = target.confidence
        best = chosen(before, found, self.limits)
        # a template of one camera would find little in an image of the other
        if frame.presence != seen.frame.presence or not may_settle(before, best, self.limits, self.config):
            return 0.0
        begin = time.perf_counter()
        template = self.embed(frame, memory, best.box)
        seconds = time.perf_counter() - begin
        sought = frame.stamp, best.box
        look = Look(name, template, self.search_window(seen.box), scanning=False, sought=sought)
        there, took = self._asked(look, seen)
        seconds += took
        if is_alike(before, there.score):
            beside, took = self._asked(replace(look, hidden=seen.box), seen)
            seconds += took
            if is_the_target(before, there.score, beside.score):
                found[:] = [replace(look, recollected=True) if look is best else look for look in found]
        return seconds

    def _asked(self, look: Look, seen: Sight) -> tuple[Prediction, float]:
        (there,), seconds = self.predict(seen.frame, seen.memory, [look])
        return there, seconds
