"""Where a box will be a moment after its frame: a network needs time, and a target does not wait for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.frame import BoundingBox
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from ckd_core.tracking.result import TrackResult

WINDOW_S = 0.35  # boxes of this time before the newest tell its velocity: a box jitters from frame to frame
MIN_SPAN_S = 1e-3  # boxes that are closer in time tell no velocity
MAX_AHEAD_S = 0.5  # no box is predicted further; nobody walks straight on for ever


class BoxPredictor:
    """Remembers the last boxes of one target, and moves the newest on along their course."""

    def __init__(self) -> None:
        self._boxes: deque[tuple[float, BoundingBox]] = deque()

    def observe(self, stamp: float, box: BoundingBox | None) -> None:
        """Take in the box of a frame.

        Args:
            stamp: of the frame [s]; a jump back in time forgets what was before.
            box: xywh in pixels; None where the target was not seen, which forgets its course.
        """
        if box is None or (self._boxes and stamp <= self._boxes[-1][0]):
            self._boxes.clear()
        if box is None:
            return
        self._boxes.append((stamp, box))
        while stamp - self._boxes[0][0] > WINDOW_S:
            self._boxes.popleft()

    def at(self, stamp: float) -> BoundingBox | None:
        """Return the box at a time [s]; None without a newest box, or when it is more than `MAX_AHEAD_S` older."""
        if not self._boxes:
            return None
        newest, box = self._boxes[-1]
        ahead = stamp - newest
        if not 0 <= ahead <= MAX_AHEAD_S:
            return None
        if newest - self._boxes[0][0] < MIN_SPAN_S:
            return box
        times = np.array([at for at, _ in self._boxes])
        centers = np.array([each.center for _, each in self._boxes])
        times -= times.mean()
        vx, vy = (times @ (centers - centers.mean(axis=0)) / (times @ times)).tolist()
        return BoundingBox(box.x + vx * ahead, box.y + vy * ahead, box.w, box.h)


def seen_box(result: TrackResult) -> BoundingBox | None:
    """The box of a result that tells a target's course; None unless it is TRACKING."""
    return result.box if result.state is TrackState.TRACKING and result.box.is_finite() else None
