"""Whether a start box fits its target: people click, draw and detect boxes loosely.

The template of a box that is too large, too small or beside its target still shows most of it, and in the same frame
the network then finds another box. That one is nearer to the truth (figures: docs/experiments.md "Start boxes that do
not fit"), so it becomes the start box, unless it hardly differs or differs too much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckd_core.boxes import iou_xywh

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.frame import BoundingBox
    from ckd_core.tracking.looks import TargetTemplate

SAME = 0.85  # IoU from which on two boxes do not differ: around true boxes 96 % of those found are above it
NEAR = 0.5  # IoU with the given box below which it is another thing that was found
ROUNDS = 3


class SelfLook(NamedTuple):
    """What a box's own template finds in the frame that it is of.

    Attributes:
        template: Of the box.
        found: The box that it finds around it, xywh in reference pixels.
        score: Of what it finds.
    """

    template: TargetTemplate
    found: BoundingBox
    score: float


def fitted(
    given: BoundingBox, look: Callable[[BoundingBox], SelfLook], least_score: float
) -> tuple[TargetTemplate, BoundingBox]:
    """The box to start on, and its template.

    Args:
        given: What the user gave, xywh in reference pixels.
        look: Looks for the template of a box around that box.
        least_score: Score below which nothing was found.
    """
    box, seen = given, look(given)
    for _ in range(ROUNDS):
        if seen.score < least_score or _overlap(seen.found, given) < NEAR or _overlap(seen.found, box) >= SAME:
            break
        box = seen.found
        seen = look(box)
    return seen.template, box


def _overlap(a: BoundingBox, b: BoundingBox) -> float:
    return float(iou_xywh(np.array(a), np.array(b)))
