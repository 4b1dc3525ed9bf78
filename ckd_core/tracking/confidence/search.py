"""The search for LOST targets: whose turn it is, where to look, what is not it, and the state after it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.boxes import iou_xywh
from ckd_core.frame import BoundingBox
from ckd_core.tracking.confidence.evidence import reaches, witnessed
from ckd_core.tracking.confidence.sizes import is_plausible, off_by, shape_of, sides_of, size_of
from ckd_core.tracking.confidence.state import Confidence, Trial, is_settled
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckd_core.tracking.confidence.config import ConfidenceConfig
    from ckd_core.tracking.confidence.evidence import Evidence
    from ckd_core.tracking.confidence.thresholds import Thresholds

TAKEN_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Turn:
    """Which of the LOST targets is searched for, and for how many frames in a row it has been."""

    target: int
    frames: int = 1


def next_turn(last: Turn | None, lost: Mapping[int, Confidence], config: ConfidenceConfig) -> Turn | None:
    """Return the next of the LOST targets in the order of numbers, or the same again while it waits for confirmation.

    Args:
        last: The turn of the last frame; None before the first.
        lost: The LOST targets by number.
        config: Says how many frames a confirmation takes; a target keeps its turn no longer.

    Returns:
        None when no target is LOST.
    """
    if not lost:
        return None
    if last is not None and last.target in lost:
        waits = lost[last.target].candidate is not None
        if waits and last.frames < config.confirm_frames:
            return Turn(last.target, last.frames + 1)
    after = -math.inf if last is None else last.target
    return Turn(min((name for name in lost if name > after), default=min(lost)))


def scan_places(
    confidence: Confidence, frame_size: tuple[int, int], factor: float, config: ConfidenceConfig
) -> list[BoundingBox]:
    """List the places where to look for a LOST target: in turn its last trusted place and the next tiles of the frame.

    Args:
        confidence: The target.
        frame_size: (height, width) of the reference image.
        factor: Side of a window as a multiple of the target's size.
        config: How many places per frame.

    Returns:
        Boxes of the target's usual size and shape to cut windows around.
    """
    # a runaway's size and shape would miss the target
    w, h = sides_of(confidence.usual_size, confidence.usual_shape)
    cx, cy = confidence.trusted_box.center
    box = BoundingBox(cx - w / 2, cy - h / 2, w, h)
    centers = tile_centers(frame_size, confidence.usual_size * factor)
    centers.sort(key=lambda center: math.dist(center, box.center))  # outwards from where it was last
    places = []
    for index in range(config.tiles_per_frame):
        step = confidence.scan * config.tiles_per_frame + index
        # every second look goes back: targets mostly reappear where they vanished
        cx, cy = centers[step // 2 % len(centers)] if step % 2 else box.center
        places.append(BoundingBox(cx - box.w / 2, cy - box.h / 2, box.w, box.h))
    return places


def observe_lost(before: Confidence, best: Evidence, limits: Thresholds, config: ConfidenceConfig) -> Confidence:
    """Return the state after a frame in LOST, of whose windows `best` has the highest score."""
    sizes = before.usual_size, before.expected_size
    fits = any(off_by(size_of(best.box), size) <= config.max_scale for size in sizes)
    other = (
        best.misplaced or (best.recognition.otherwise and before.scan < config.repaint_after) or best.resemblance.denied
    )
    convincing = fits and best.score >= limits.confirm and best.rival <= limits.rival and not other
    scan = before.scan + (1 if before.candidate is None else 0)
    if not convincing:
        return replace(before, candidate=None, confirmed_frames=0, scan=scan, good_frames=0)
    same = before.candidate is not None and is_plausible(
        before.candidate, best.box, size_of(before.candidate), shape_of(before.candidate), config
    )
    if not same:
        return replace(before, candidate=best.box, confirmed_frames=1, scan=scan)
    confirmed_frames = before.confirmed_frames + 1
    awaited = config.confirm_frames if reaches(best, limits.regain, before.history) else config.believe_after
    if confirmed_frames < awaited:
        return replace(before, candidate=best.box, confirmed_frames=confirmed_frames, scan=scan)
    settled = is_settled(before, best, config)
    certain = settled or confirmed_frames >= config.claim_after
    trial = before.trial
    if certain:
        trial = None if settled else Trial(before.expected_size, config.trial_frames)
    return Confidence(
        trusted_box=best.box,
        last_box=best.box,
        state=TrackState.TRACKING if certain else TrackState.UNCERTAIN,
        history=before.history,
        sizes=before.sizes,
        shapes=before.shapes,
        good_frames=confirmed_frames,
        stayed=confirmed_frames,
        jumped=before.jumped,
        trial=trial,
        **{**witnessed(best), "portrait": None if best.recognition.otherwise else best.recognition.portrait},
    )


def tile_centers(frame_size: tuple[int, int], side: float) -> list[tuple[float, float]]:
    """List the centres (x, y) of half-overlapping windows of `side` px that cover a frame (height, width), by rows."""
    height, width = frame_size
    return [(x, y) for y in _positions(height, side) for x in _positions(width, side)]


def _positions(length: float, side: float) -> list[float]:
    if side >= length:
        return [length / 2]
    count = math.ceil((length - side) / (side / 2)) + 1
    return [side / 2 + (length - side) * index / (count - 1) for index in range(count)]


def is_taken(box: BoundingBox, others: Sequence[BoundingBox]) -> bool:
    """Whether one of the other targets is where a search has found something: like things are easily confused."""
    if not others:
        return False
    return bool((iou_xywh(np.array([box]), np.array(others, dtype=np.float64)) >= TAKEN_OVERLAP).any())
