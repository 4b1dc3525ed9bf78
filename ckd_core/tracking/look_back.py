"""Asks the network what the last frame that showed a target for sure says of what a look shows now."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.tracking.confidence.bystanders import is_known, may_stand_by, stood_by, tells
from ckd_core.tracking.confidence.recollection import is_alike, is_the_target, may_settle
from ckd_core.tracking.confidence.rivals import chosen
from ckd_core.tracking.looks import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.confidence.bystanders import LastSeen
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.thresholds import Thresholds
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
        """The evidence with what the last sure frame says of it, and the seconds that the network took.

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
                seconds += self._mark(name, found, target, target.seen)
                seconds += self._recollect(name, found, target, target.seen, frame, memory)
            told[name] = found
        return told, seconds

    def _mark(self, name: int, found: list[Evidence], target: TargetState, seen: LastSeen) -> float:
        """Mark bystanders: asked about is the look that would be believed, and if it is one, the next."""
        before, seconds = target.confidence, 0.0
        while True:
            best = chosen(before, found, self.limits)
            if not may_stand_by(before, seen, best, self.limits, self.config):
                break
            known = is_known(before.bystander, best.box)
            if not known and tells(seen, target.age):
                window = self.search_window(seen.then(best.box))
                look = Look(name, target.template.of(seen.frame), window, scanning=False, hidden=seen.box)
                there, took = self._asked(look, seen)
                seconds += took
                then = window.from_crop((there.cx, there.cy, there.w, there.h))
                known = stood_by(before, seen, best.box, then, there.score, target.age + 1, self.limits, self.config)
            if not known:
                break
            found[:] = [replace(look, bystander=True) if look is best else look for look in found]
        return seconds

    def _recollect(
        self,
        name: int,
        found: list[Evidence],
        target: TargetState,
        seen: LastSeen,
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

    def _asked(self, look: Look, seen: LastSeen) -> tuple[Prediction, float]:
        (there,), seconds = self.predict(seen.frame, seen.memory, [look])
        return there, seconds
