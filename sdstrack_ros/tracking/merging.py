"""Notices that two tracks follow one target."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.boxes import iou_xywh
from ckd_core.frame import BoundingBox

if TYPE_CHECKING:
    from collections.abc import Mapping

# Two people who pass each other overlap for less; two tracks of one target do so for good.
MERGE_OVERLAP = 0.7
MERGE_FRAMES = 20


def coincide(a: BoundingBox, b: BoundingBox) -> bool:
    """Whether two boxes show the same target, as far as one frame can tell."""
    return bool(iou_xywh(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)) >= MERGE_OVERLAP)


def moved_along(box: BoundingBox, start: BoundingBox, given: BoundingBox) -> BoundingBox:
    """What `given` would be now: the same parts of `box` beside, above and beyond it as of `start`."""
    across, down = box.w / start.w, box.h / start.h
    return BoundingBox(
        box.x + (given.x - start.x) * across, box.y + (given.y - start.y) * down, given.w * across, given.h * down
    )


class Merging:
    """Counts, for each pair of targets, the frames in a row in which their boxes coincide."""

    def __init__(self) -> None:
        self._frames: dict[tuple[int, int], int] = {}

    def observe(self, boxes: Mapping[int, BoundingBox]) -> dict[int, int]:
        """Note the boxes of a frame, by the number of the target.

        Returns:
            The targets that have become one with an older one: that one's number by the younger one's.

        """
        pairs = [pair for pair in combinations(sorted(boxes), 2) if coincide(boxes[pair[0]], boxes[pair[1]])]
        self._frames = {pair: self._frames.get(pair, 0) + 1 for pair in pairs}
        merged: dict[int, int] = {}
        for (older, younger), frames in self._frames.items():
            if frames >= MERGE_FRAMES:
                merged.setdefault(younger, older)
        return merged
