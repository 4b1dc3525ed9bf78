"""Where a box will be a moment after its frame: a network needs time, and a target does not wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.frame import BoundingBox
from ckd_core.tracking.motion_filter import Motions
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from ckd_core.tracking.result import TrackResult

MAX_AHEAD_S = 0.5  # no box is predicted further; nobody walks straight on for ever
# In sides of the box: the standard deviation of its centre from frame to frame, that of its velocity per second before
# any is known, and the densities of `Motions`: of somebody who walks, and of a robot that swings its camera round.
CENTER_NOISE, START_SPEED, DENSITIES = 0.05, 3.0, np.array((0.1, 100.0))


class BoxPredictor:
    """Follows the centre of one target's boxes, and moves the newest box on along its course."""

    def __init__(self) -> None:
        self._motions: Motions | None = None
        self._box = BoundingBox(0.0, 0.0, 0.0, 0.0)
        self._stamp = 0.0

    def observe(self, stamp: float, box: BoundingBox | None) -> None:
        """Take in the box of a frame.

        Args:
            stamp: of the frame [s]; a jump back in time forgets what was before.
            box: xywh in pixels; None where the target was not seen, which forgets its course.
        """
        if box is None:
            self._motions = None
            return
        side = max(float(np.sqrt(box.w * box.h)), 1.0)
        center, noise = np.array(box.center), (CENTER_NOISE * side) ** 2 * np.eye(2)
        if self._motions is None or stamp <= self._stamp:
            self._motions = Motions.begin(center, noise, START_SPEED * side)
        else:
            predicted = self._motions.predicted(stamp - self._stamp, side**2 * DENSITIES)
            self._motions = predicted.corrected(center, noise)
        self._box, self._stamp = box, stamp

    def at(self, stamp: float) -> BoundingBox | None:
        """Return the box at a time [s]; None without a newest box, or when it is more than `MAX_AHEAD_S` older."""
        ahead = stamp - self._stamp
        if self._motions is None or not 0 <= ahead <= MAX_AHEAD_S:
            return None
        vx, vy = self._motions.mixed()[0][2:].tolist()
        x, y, w, h = self._box
        return BoundingBox(x + vx * ahead, y + vy * ahead, w, h)


def seen_box(result: TrackResult) -> BoundingBox | None:
    """The box of a result that tells a target's course; None unless it is TRACKING."""
    return result.box if result.state is TrackState.TRACKING and result.box.is_finite() else None
