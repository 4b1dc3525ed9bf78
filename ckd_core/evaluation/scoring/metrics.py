"""Numbers that compare boxes: errors per frame, curves over thresholds, and what long-term tracking adds.

All functions are vectorised over frames. Boxes are `xywh` in pixels; nan in a ground truth means that the object is
absent. They compute in float64, or in float32 where both boxes are float32, as for some published numbers.
What a benchmark does around these numbers (rounding, absences, averaging) is in `rules.py` and `score.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.boxes import iou_xywh, is_present
from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

PRECISION_THRESHOLDS = np.linspace(0, 50, 51)
NORMALIZED_THRESHOLDS = np.linspace(0, 0.5, 51)
SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
PRECISION_PX = 20.0
LONG_TERM_RESOLUTION = 100


class MetricError(TrackingError):
    """Boxes that cannot be compared."""


def as_boxes(boxes: NDArray[Any] | Sequence[Sequence[float]], name: str = "boxes") -> NDArray[Any]:
    """Boxes as [N, 4] float64; float32 stays float32.

    Raises:
        MetricError: Another shape.
    """
    array = np.asarray(boxes)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise MetricError(f"{name} have shape {array.shape}; expected (frames, 4): x, y, width, height")
    return array


def _pair(result: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    result, truth = as_boxes(result, "result boxes"), as_boxes(truth, "ground truth boxes")
    if len(result) != len(truth):
        raise MetricError(f"{len(result)} result boxes for {len(truth)} ground truth boxes; must be equal")
    return result, truth


def center_error(result: Floats, truth: Floats, last_pixel: bool = False) -> Floats:
    """Distance [N] between the box centres in pixels; nan where either box is nan.

    Whether a box's last pixel belongs to it moves both centres alike, so the benchmarks' two conventions differ by
    rounding only. `last_pixel` rounds as MATLAB toolkits do, for whom a box ends at x + w - 1.
    """
    result, truth = _pair(result, truth)
    if last_pixel:
        delta = result[:, :2] + (result[:, 2:] - 1) / 2 - (truth[:, :2] + (truth[:, 2:] - 1) / 2)
        return np.asarray(np.sqrt((delta**2).sum(axis=1)))
    delta = result[:, :2] + result[:, 2:] / 2 - (truth[:, :2] + truth[:, 2:] / 2)
    return np.asarray(np.hypot(delta[:, 0], delta[:, 1]))


def normalized_center_error(result: Floats, truth: Floats) -> Floats:
    """Distance [N] between the centres in units of the true width and height (TrackingNet, section 4.2).

    nan or inf where the true box has no area. The centre is x + (w - 1) / 2 and each is divided on its own, as in the
    LasHeR toolkit: in single precision the order decides ties at a threshold.
    """
    result, truth = _pair(result, truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = ((result[:, 2:] - 1) / 2 + result[:, :2]) / truth[:, 2:]
        delta -= ((truth[:, 2:] - 1) / 2 + truth[:, :2]) / truth[:, 2:]
        return np.asarray(np.sqrt((delta**2).sum(axis=1)))


def overlap(result: Floats, truth: Floats, last_pixel: bool = False) -> Floats:
    """Intersection over union [N], 0..1; nan where either box is nan, 0 where the union has no area.

    `last_pixel` rounds as MATLAB toolkits do, for whom a box ends at x + w - 1: an overlap of 1 may then be a little
    more, which counts at the threshold 1, and a union without area is nan or below 0.
    """
    result, truth = _pair(result, truth)
    if last_pixel:
        ends = np.minimum(result[:, :2] + result[:, 2:] - 1, truth[:, :2] + truth[:, 2:] - 1)
        shared = np.maximum(ends - np.maximum(result[:, :2], truth[:, :2]) + 1, 0).prod(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(shared / (result[:, 2:].prod(axis=1) + truth[:, 2:].prod(axis=1) - shared))
    return np.asarray(iou_xywh(result, truth))


def count_at_most(values: Floats, thresholds: Floats, strict: bool = False) -> NDArray[np.int64]:
    """How many of `values` [N] are <= (or, strictly, <) each threshold [T]; nan never is."""
    return np.searchsorted(np.sort(values), thresholds, side="left" if strict else "right").astype(np.int64)


def count_above(values: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """How many of `values` [N] are > each threshold [T]; nan never is."""
    known = np.sort(values[~np.isnan(values)])
    return (len(known) - np.searchsorted(known, thresholds, side="right")).astype(np.int64)


def success_auc(overlaps: Floats) -> float:
    """Mean over 21 thresholds of the share of frames whose overlap is above the threshold (OTB); nan is a miss."""
    return float(np.mean(count_above(overlaps, SUCCESS_THRESHOLDS) / max(len(overlaps), 1)))


def precision_at(errors: Floats, pixels: float = PRECISION_PX) -> float:
    """Share of frames whose centre error is at most `pixels` (OTB); nan is a miss."""
    return float(count_at_most(errors, np.array([pixels]))[0] / max(len(errors), 1))


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """How one track went, in numbers that also cover absences.

    Attributes:
        frames: Frames that count: after the first, where the object is annotated.
        auc: Success AUC over these frames, 0..1.
        precision: Share of them with a centre error of at most 20 px.
        lost: Frames among them whose box does not touch the object, or whose state was LOST.
        absent: Frames with an annotated absence.
        false_tracking: How many of them had the state TRACKING.
    """

    frames: int
    auc: float
    precision: float
    lost: int
    absent: int
    false_tracking: int


def summarize_track(
    boxes: Floats,
    truth: Floats,
    tracking: Flags | None = None,
    lost: Flags | None = None,
    labelled: Flags | None = None,
) -> TrackSummary:
    """Summary of one track; the first frame, in which the tracker starts, does not count.

    Args:
        boxes: [N, 4] xywh; nan is a miss.
        truth: [N, 4] xywh; nan where the object is absent.
        tracking: [N] bool, the state was TRACKING; None: always.
        lost: [N] bool, the state was LOST; None: never.
        labelled: [N] bool, the frame is annotated; None: all are.

    Raises:
        MetricError: Boxes or flags of different lengths.
    """
    boxes, truth = _pair(boxes, truth)
    confident = np.ones(len(boxes), dtype=np.bool_) if tracking is None else np.asarray(tracking, dtype=np.bool_)
    gone = np.zeros(len(boxes), dtype=np.bool_) if lost is None else np.asarray(lost, dtype=np.bool_)
    known = np.ones(len(boxes), dtype=np.bool_) if labelled is None else np.asarray(labelled, dtype=np.bool_).copy()
    if not len(confident) == len(gone) == len(known) == len(boxes):
        raise MetricError(
            f"flags of {len(confident)}, {len(gone)}, {len(known)} frames for {len(boxes)} boxes; must be equal"
        )
    known[:1] = False
    here = is_present(truth)
    present, absent = known & here, known & ~here
    overlaps = np.nan_to_num(overlap(boxes[present], truth[present]), nan=0.0)
    return TrackSummary(
        frames=int(present.sum()),
        auc=success_auc(overlaps) if present.any() else float("nan"),
        precision=precision_at(center_error(boxes[present], truth[present])) if present.any() else float("nan"),
        lost=int(((overlaps <= 0) | gone[present]).sum()),
        absent=int(absent.sum()),
        false_tracking=int((absent & confident).sum()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class LongTermTrack:
    """One sequence for the long-term measures: overlaps [N] (0 where absent), confidence [N], visible frames."""

    overlaps: Floats
    confidence: Floats
    visible: int


@dataclass(frozen=True, slots=True, eq=False)
class LongTermScore:
    """Tracking precision, recall and F over confidence thresholds [T], and the point of the largest F."""

    thresholds: Floats
    precision_curve: Floats
    recall_curve: Floats
    f_curve: Floats

    @property
    def best(self) -> int:
        """Index of the largest F."""
        return int(np.argmax(self.f_curve))

    @property
    def precision(self) -> float:
        """Precision at the largest F."""
        return float(self.precision_curve[self.best])

    @property
    def recall(self) -> float:
        """Recall at the largest F."""
        return float(self.recall_curve[self.best])

    @property
    def f_score(self) -> float:
        """The largest F."""
        return float(self.f_curve[self.best])


def long_term_track(
    boxes: Floats, truth: Floats, confidence: Floats, size: tuple[float, float] | None = None
) -> LongTermTrack:
    """Prepare one sequence for `long_term_score`.

    Args:
        boxes: [N, 4] xywh; nan where nothing is reported.
        truth: [N, 4] xywh; nan where the object is absent.
        confidence: [N]; nan where nothing is reported.
        size: (width, height) of the image, at whose border boxes are cut as in the VOT toolkit; None: no cut.

    Raises:
        MetricError: Not one confidence per box.
    """
    boxes, truth = _pair(boxes, truth)
    confidence = np.asarray(confidence, dtype=np.float64)
    if confidence.shape != (len(boxes),):
        raise MetricError(f"{confidence.shape} confidences for {len(boxes)} boxes; expected one per box")
    if size is not None:
        boxes, truth = clip_to_image(boxes, size), clip_to_image(truth, size)
    overlaps = np.nan_to_num(overlap(boxes, truth), nan=0.0)
    return LongTermTrack(overlaps, confidence, int(np.isfinite(truth).all(axis=1).sum()))


def clip_to_image(boxes: Floats, size: tuple[float, float]) -> Floats:
    """Boxes [N, 4] cut at the border of an image of `size` (width, height); the rest keeps its place."""
    limit = np.asarray(size, dtype=np.float64)
    low = np.clip(boxes[:, :2], 0, limit)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limit)
    return np.concatenate([low, high - low], axis=1)


def confidence_thresholds(confidence: Floats, resolution: int = LONG_TERM_RESOLUTION) -> Floats:
    """Falling thresholds that divide all confidences into groups of equal size, between inf and -inf (VOT-LT)."""
    scores = np.sort(confidence[~np.isnan(confidence)])[::-1]
    inner = resolution - 2
    if len(scores) > inner:
        step = len(scores) // inner
        scores = scores[np.round(np.linspace(step, len(scores) - step, inner)).astype(np.int64)]
    return np.concatenate([[np.inf], scores, [-np.inf]])


def long_term_score(tracks: Sequence[LongTermTrack], resolution: int = LONG_TERM_RESOLUTION) -> LongTermScore:
    """Long-term precision, recall and F-score (Lukezic et al., "Now you see me", 2018; VOT-LT, DepthTrack).

    At a threshold, precision is the mean overlap of the reported frames (1 where none is reported), recall the summed
    overlap over the visible frames; both are averaged over sequences, and F is their harmonic mean.

    Raises:
        MetricError: There are no tracks, or a sequence has no visible frame.
    """
    if not tracks:
        raise MetricError("0 sequences to score; expected at least one")
    if any(track.visible == 0 for track in tracks):
        raise MetricError("a sequence without a visible frame has no recall; leave it out")
    thresholds = confidence_thresholds(np.concatenate([track.confidence for track in tracks]), resolution)
    precision, recall = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for track in tracks:
        reported = ~np.isnan(track.confidence)
        order = np.argsort(-track.confidence[reported], kind="stable")
        summed = np.concatenate([[0.0], np.cumsum(track.overlaps[reported][order])])
        count = np.searchsorted(-track.confidence[reported][order], -thresholds, side="right")
        precision += np.where(count > 0, summed[count] / np.maximum(count, 1), 1.0)
        recall += summed[count] / track.visible
    precision, recall = precision / len(tracks), recall / len(tracks)
    both = precision + recall
    f_curve = np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1.0), 0.0)
    return LongTermScore(thresholds, precision, recall, f_curve)
