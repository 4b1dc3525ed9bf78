"""Whether a start box fits its target: people click, draw and detect boxes loosely.

The template of a box that is too large, too small or beside its target still shows most of it, and in the same frame
the network then finds another box. That one is nearer to the truth (figures: docs/experiments.md "Start boxes that do
not fit"), so it becomes the start box, unless it hardly differs or differs too much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ckd_core.boxes import iou_xywh

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.frame import BoundingBox

SAME = 0.85  # IoU from which on two boxes do not differ: around true boxes 96 % of those found are above it
NEAR = 0.5  # IoU with the given box below which it is another thing that was found
SEEN = 0.4  # score below which nothing was found
ROUNDS = 3

T = TypeVar("T")


def fitted(
    given: BoundingBox,
    template_of: Callable[[BoundingBox], T],
    look: Callable[[BoundingBox, T], tuple[BoundingBox, float]],
) -> tuple[T, BoundingBox]:
    """The template and the box to start on; at most `ROUNDS` looks and one template more.

    Args:
        given: What the user gave, xywh in reference pixels.
        template_of: Makes the template of a box.
        look: What a template finds around the box that it is of, and its score; a score of 0 for nothing.
    """
    box, template = given, template_of(given)
    for _ in range(ROUNDS):
        found, score = look(box, template)
        if score < SEEN or _overlap(found, given) < NEAR or _overlap(found, box) >= SAME:
            break
        box, template = found, template_of(found)
    return template, box


def _overlap(a: BoundingBox, b: BoundingBox) -> float:
    return float(iou_xywh(np.array(a), np.array(b)))
