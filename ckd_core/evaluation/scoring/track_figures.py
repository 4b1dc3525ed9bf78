"""Where a track's boxes lose overlap, and whether its states told the truth.

One number such as AUC hides which of the two went wrong, and a tracker can raise it by claiming too much. Every figure
here is about the frames after the one in which the tracker started. docs/evaluation.md has each rule in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.boxes import is_present
from ckd_core.evaluation.scoring.metrics import MetricError, as_boxes, overlap, success_auc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

OFF_IOU = 0.1  # a box with less overlap shows something else
ON_IOU = 0.5  # a box with more overlap is on the target
MAX_SEARCH_FRAMES = 30  # a target in view should be found again within so many


@dataclass(frozen=True, slots=True, eq=False)
class TrackFrames:
    """One track beside its annotation, from the frame on in which the tracker started.

    Attributes:
        boxes: [N, 4] xywh px; nan = nothing reported.
        truth: [N, 4] xywh px; nan or without area = the target is absent.
        tracking: [N] bool, the state was TRACKING.
        lost: [N] bool, the state was LOST.
        labelled: [N] bool, the frame is annotated.

    Raises:
        MetricError: Boxes or flags of different lengths.
    """

    boxes: Floats
    truth: Floats
    tracking: Flags
    lost: Flags
    labelled: Flags

    def __post_init__(self) -> None:
        as_boxes(self.boxes, "result boxes")
        as_boxes(self.truth, "ground truth boxes")
        counts = [len(part) for part in (self.boxes, self.truth, self.tracking, self.lost, self.labelled)]
        if len(set(counts)) > 1:
            raise MetricError(f"boxes, truth, and three flags of {counts} frames; must be equal")

    @property
    def in_view(self) -> Flags:
        """[N] bool: frames that count, with the target annotated."""
        return self._known() & is_present(self.truth)

    @property
    def absent(self) -> Flags:
        """[N] bool: frames that count, with the target annotated as absent."""
        return self._known() & ~is_present(self.truth)

    def overlaps(self) -> Floats:
        """[N] 0..1; 0 where either box is missing."""
        return np.nan_to_num(overlap(self.boxes, self.truth), nan=0.0)

    def _known(self) -> Flags:
        known = self.labelled.copy()
        known[:1] = False  # the box of the first frame is given
        return known


@dataclass(frozen=True, slots=True)
class BoxFigures:
    """How far place and size are off; nan where the target is never in view.

    Attributes:
        frames: Frames with the target in view.
        auc: Success AUC over them; LOST frames count with their stale box.
        auc_true_size: The same with the tracker's centres and the annotated sizes.
        auc_true_center: The same with the annotated centres and the tracker's sizes.
        width_ratio: Median of reported / annotated width.
        height_ratio: Median of reported / annotated height.
    """

    frames: int
    auc: float
    auc_true_size: float
    auc_true_center: float
    width_ratio: float
    height_ratio: float


def box_figures(track: TrackFrames) -> BoxFigures:
    """Figures of a track's boxes, whatever its states were."""
    here = track.in_view
    boxes, truth = as_boxes(track.boxes)[here], as_boxes(track.truth)[here]
    centers, true_centers = boxes[:, :2] + boxes[:, 2:] / 2, truth[:, :2] + truth[:, 2:] / 2
    reported = np.isfinite(boxes).all(axis=1)
    width, height = _medians(boxes[reported, 2:] / truth[reported, 2:])
    return BoxFigures(
        frames=len(truth),
        auc=_auc(boxes, truth),
        auc_true_size=_auc(_around(centers, truth[:, 2:]), truth),
        auc_true_center=_auc(_around(true_centers, boxes[:, 2:]), truth),
        width_ratio=width,
        height_ratio=height,
    )


def _around(centers: NDArray[Any], sizes: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([centers - sizes / 2, sizes], axis=1)


def _auc(boxes: Floats, truth: Floats) -> float:
    return success_auc(overlap(boxes, truth)) if len(truth) else float("nan")


def _medians(ratios: Floats) -> tuple[float, float]:
    if not len(ratios):
        return float("nan"), float("nan")
    width, height = np.median(ratios, axis=0).tolist()
    return width, height


@dataclass(frozen=True, slots=True)
class StateFigures:
    """Counts over one track, or several; the shares are computed of them, so that they add up.

    A box is off while the target is in view and the overlap is below `OFF_IOU` or the state is LOST. A search begins
    with a box that is off, or in the first frame in view after an absence. It ends in the first frame that is TRACKING
    with an overlap above `ON_IOU`.

    Attributes:
        frames: Frames with the target in view.
        absent: Frames with an annotated absence.
        tracking: Annotated frames in the state TRACKING.
        false_tracking: How many of them have an overlap below `OFF_IOU`; an absent target overlaps with nothing.
        absent_tracking: Frames of `absent` in the state TRACKING.
        shy: Frames in view that are not TRACKING although the overlap is above `ON_IOU`.
        waits: Per search the frames from its beginning to its end; inf where the target stayed in view for more than
            `MAX_SEARCH_FRAMES` and was not found before it left, or the sequence ended.
        undecided: Searches cut short by an absence or the sequence's end before that; they are not in `waits`.
        sequences: Tracks counted here.
        failed: How many of them had the box off in any frame.
        before_failure: Frames before the first of those, summed over the tracks; all frames of a track without one.
    """

    frames: int = 0
    absent: int = 0
    tracking: int = 0
    false_tracking: int = 0
    absent_tracking: int = 0
    shy: int = 0
    waits: tuple[float, ...] = ()
    undecided: int = 0
    sequences: int = 0
    failed: int = 0
    before_failure: int = 0

    @property
    def false_tracking_share(self) -> float:
        """Share of the TRACKING frames that show something else; nan without such frames."""
        return _share(self.false_tracking, self.tracking)

    @property
    def absent_tracking_share(self) -> float:
        """Share of the frames without the target that claim TRACKING; nan without such frames."""
        return _share(self.absent_tracking, self.absent)

    @property
    def shyness(self) -> float:
        """Share of the frames in view that hide a good box; nan without such frames."""
        return _share(self.shy, self.frames)

    @property
    def found_share(self) -> float:
        """Share of the decided searches that took at most `MAX_SEARCH_FRAMES`; nan without searches."""
        return _share(sum(wait <= MAX_SEARCH_FRAMES for wait in self.waits), len(self.waits))

    @property
    def median_wait(self) -> float:
        """Median frames of the decided searches; inf: most never ended, nan: there were none."""
        if not self.waits:
            return float("nan")
        ordered = sorted(self.waits)
        middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
        return sum(middle) / 2

    @property
    def mean_before_failure(self) -> float:
        """Mean frames before the first failure."""
        return _share(self.before_failure, self.sequences)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def state_figures(track: TrackFrames) -> StateFigures:
    """Figures of a track's states."""
    here, absent, overlaps = track.in_view, track.absent, track.overlaps()
    off = here & (track.lost | (overlaps < OFF_IOU))
    on = here & (overlaps > ON_IOU)
    waits, undecided = _searches(here, absent, off, on & track.tracking)
    return StateFigures(
        frames=int(here.sum()),
        absent=int(absent.sum()),
        tracking=int(((here | absent) & track.tracking).sum()),
        false_tracking=int((track.tracking & (absent | (here & (overlaps < OFF_IOU)))).sum()),
        absent_tracking=int((absent & track.tracking).sum()),
        shy=int((on & ~track.tracking).sum()),
        waits=waits,
        undecided=undecided,
        sequences=1,
        failed=int(off.any()),
        before_failure=int(np.argmax(off)) - 1 if off.any() else max(len(off) - 1, 0),
    )


def _searches(here: Flags, absent: Flags, off: Flags, found: Flags) -> tuple[tuple[float, ...], int]:
    """Frames per decided search, and how many searches stay undecided."""
    waits, cut = list[float](), list[int]()
    begun: int | None = None
    returning = False
    for index in np.flatnonzero(here | absent).tolist():
        if absent[index]:
            cut += [] if begun is None else [index - begun]
            begun, returning = None, True
            continue
        if begun is None and (returning or off[index]):
            begun = index
        returning = False
        if begun is not None and found[index]:
            waits.append(float(index - begun))
            begun = None
    cut += [] if begun is None else [len(here) - begun]
    never = sum(frames > MAX_SEARCH_FRAMES for frames in cut)
    return (*waits, *[float("inf")] * never), len(cut) - never


def sum_states(parts: Iterable[StateFigures]) -> StateFigures:
    """Figures of several tracks together: every frame and every search counts the same."""
    total = StateFigures()
    for part in parts:
        total = StateFigures(
            *(getattr(total, name) + getattr(part, name) for name in StateFigures.__dataclass_fields__)
        )
    return total
