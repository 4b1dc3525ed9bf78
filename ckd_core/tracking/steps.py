"""What `MultiTracker` does to the boxes of targets: check the first, carry them with the camera, damp their size."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from ckd_core.tracking.camera_motion import moved_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.tracking.camera_motion import CameraMotion
    from ckd_core.tracking.confidence.state import Confidence
    from ckd_core.tracking.confidence.trail import Sight
    from ckd_core.tracking.looks import TargetState

MIN_BOX_SIDE_PX = 1.0  # a start box must be larger than this


class TrackerError(TrackingError):
    """A call in the wrong order, or a box on which no tracker can start."""


def carried(
    targets: dict[int, TargetState], camera: CameraMotion | None, view: object, frame_size: tuple[int, int]
) -> dict[int, TargetState]:
    """The targets with their boxes carried along from the views that they are in to the new `view`."""
    if camera is None:
        return targets
    motions: dict[int, NDArray[np.float64] | None] = {}
    moved = {}
    for name, target in targets.items():
        before = target.view
        if before is not None and view is not None and id(before) not in motions:
            boxes = [other.confidence.last_box for other in targets.values() if other.view is before]
            motions[id(before)] = camera.between(before, view, boxes)
        motion = motions.get(id(before))
        moved[name] = replace(target if motion is None else _moved_target(target, motion, frame_size), view=view)
    return moved


def _moved_target(target: TargetState, motion: NDArray[np.float64], frame_size: tuple[int, int]) -> TargetState:
    return replace(
        target,
        confidence=_moved(target.confidence, motion, frame_size),
        seen=None if target.seen is None else _moved_sight(target.seen, motion, frame_size),
        trail=tuple(_moved_sight(sight, motion, frame_size) for sight in target.trail),
    )


def _moved_sight(sight: Sight, motion: NDArray[np.float64], frame_size: tuple[int, int]) -> Sight:
    return replace(sight, place=moved_box(sight.place, motion, frame_size))


def _moved(before: Confidence, motion: NDArray[np.float64], frame_size: tuple[int, int]) -> Confidence:
    """The state with its places carried along with the camera's motion."""
    return replace(
        before,
        trusted_box=moved_box(before.trusted_box, motion, frame_size),
        last_box=moved_box(before.last_box, motion, frame_size),
        candidate=None if before.candidate is None else moved_box(before.candidate, motion, frame_size),
        bystander=None
        if before.bystander is None
        else replace(before.bystander, box=moved_box(before.bystander.box, motion, frame_size)),
        rival=None if before.rival is None else moved_box(before.rival, motion, frame_size),
    )


def towards(before: BoundingBox, after: BoundingBox, rate: float) -> BoundingBox:
    """The later box with its sides only `rate` of the way there from the earlier ones', in logarithms."""
    (cx, cy), w, h = after.center, before.w ** (1 - rate) * after.w**rate, before.h ** (1 - rate) * after.h**rate
    return BoundingBox(cx - w / 2, cy - h / 2, w, h)


def check_box(box: BoundingBox, frame_size: tuple[int, int], name: int) -> None:
    """Refuse a box (xywh in reference pixels) on which target `name` cannot start in a frame of (height, width).

    Raises:
        TrackerError: It is at most 1 px wide or high, not finite, or outside the frame.
    """
    height, width = frame_size
    values = tuple(box)
    if len(values) != 4 or not all(isinstance(v, (int, float, np.integer, np.floating)) for v in values):
        raise TrackerError(f"box of target {name} is {box!r}; expected four numbers x, y, w, h in pixels")
    if not all(math.isfinite(v) for v in values):
        raise TrackerError(f"box of target {name} is {values}; expected finite numbers")
    x, y, w, h = values
    if w <= MIN_BOX_SIDE_PX or h <= MIN_BOX_SIDE_PX:
        raise TrackerError(f"box of target {name} is {w} x {h} px; expected more than 1 px in width and height")
    if x + w <= 0 or y + h <= 0 or x >= width or y >= height:
        raise TrackerError(f"box of target {name} is {values}; expected an overlap with the {width} x {height} frame")
