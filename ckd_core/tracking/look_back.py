"""Asks the network whether what a look shows stood beside its target when that was last seen for sure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckd_core.tracking.confidence.bystanders import is_known, may_stand_by, stood_by, tells
from ckd_core.tracking.confidence.rivals import chosen
from ckd_core.tracking.looks import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.thresholds import Thresholds
    from ckd_core.tracking.crop import CropWindow
    from ckd_core.tracking.engines.base import Prediction
    from ckd_core.tracking.looks import TargetState
    from ckd_core.tracking.view import StreamMemory

    Predict = Callable[[MultiModalFrame, StreamMemory, list[Look]], tuple[list[Prediction], float]]


def marked(
    evidence: Mapping[int, Sequence[Evidence]],
    targets: Mapping[int, TargetState],
    predict: Predict,
    search_window: Callable[[BoundingBox], CropWindow],
    limits: Thresholds,
    config: ConfidenceConfig,
) -> tuple[dict[int, list[Evidence]], float]:
    """The evidence with bystanders marked as such, and the seconds that the network took.

    Args:
        evidence: What the looks of a frame say, by target.
        targets: As they were before the frame.
        predict: What the network says of looks at a frame.
        search_window: The window to search around a box.
        limits: How to read scores.
        config: Behaviour of the state machine.
    """
    seconds, found = 0.0, {}
    for name, looks in evidence.items():
        found[name], took = _marked(name, looks, targets[name], predict, search_window, limits, config)
        seconds += took
    return found, seconds


def _marked(
    name: int,
    looks: Sequence[Evidence],
    target: TargetState,
    predict: Predict,
    search_window: Callable[[BoundingBox], CropWindow],
    limits: Thresholds,
    config: ConfidenceConfig,
) -> tuple[list[Evidence], float]:
    """The looks of one target; asked about is the one that would be believed, and if that is a bystander, the next."""
    before, seen, found, seconds = target.confidence, target.seen, list(looks), 0.0
    while seen is not None and found:
        best = chosen(before, found, limits)
        if not may_stand_by(before, seen, best, limits, config):
            break
        known = is_known(before.bystander, best.box)
        if not known and tells(seen, target.age):
            window = search_window(seen.then(best.box))
            look = Look(name, target.template.of(seen.frame), window, scanning=False, hidden=seen.box)
            (there,), took = predict(seen.frame, seen.memory, [look])
            seconds += took
            then = window.from_crop((there.cx, there.cy, there.w, there.h))
            known = stood_by(before, seen, best.box, then, there.score, target.age + 1, limits, config)
        if not known:
            break
        found = [replace(look, bystander=True) if look is best else look for look in found]
    return found, seconds
