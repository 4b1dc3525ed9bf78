"""The true boxes of a recording: from a Detection2DArray topic, or from a file with one line per colour frame."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.data.box_files import read_table, to_xywh
from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from sdstrack_ros.bags.storage.opening import DETECTIONS
from sdstrack_ros.messages.stamps import stamp_of
from sdstrack_ros.tracking.target_requests import detection_box

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sdstrack_ros.bags.storage.opening import Bag

# A true box belongs to the frame of its stamp; drivers and converters round stamps to microseconds at worst.
TRUTH_TOLERANCE_NS = 1_000_000


class EvaluationError(TrackingError):
    """A recording that cannot be scored as requested."""


@dataclass(frozen=True, slots=True)
class TruthBox:
    """The true box at a stamp; None where the object is absent."""

    stamp_ns: int
    box: BoundingBox | None


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """What is known about one frame.

    Attributes:
        box: the true box; None where the object is absent or the frame is not annotated.
        annotated: whether the truth says anything about this frame.
    """

    box: BoundingBox | None
    annotated: bool


NOT_ANNOTATED = FrameTruth(None, False)


@dataclass(frozen=True, slots=True)
class RecordedTruth:
    """True boxes by stamp, or one per colour frame in order; the other one is empty.

    Attributes:
        by_stamp: from a topic, in ascending order of stamps.
        in_order: from a file.
        source: the topic or file, for error messages.
    """

    by_stamp: tuple[TruthBox, ...] = ()
    in_order: tuple[BoundingBox | None, ...] = ()
    source: str = ""

    def __bool__(self) -> bool:
        """Whether there is any true box or annotated absence."""
        return bool(self.by_stamp or self.in_order)

    def at(self, stamp_ns: int) -> FrameTruth:
        """Return what `by_stamp` says about the frame of a stamp."""
        after = bisect_left(self.by_stamp, stamp_ns, key=lambda truth: truth.stamp_ns)
        nearest = min(
            self.by_stamp[max(after - 1, 0) : after + 1], key=lambda truth: abs(truth.stamp_ns - stamp_ns), default=None
        )
        if nearest is None or abs(nearest.stamp_ns - stamp_ns) > TRUTH_TOLERANCE_NS:
            return NOT_ANNOTATED
        return FrameTruth(nearest.box, True)

    def of_frames(self, stamps_ns: Sequence[int], colors: Sequence[bool]) -> tuple[FrameTruth, ...]:
        """Return the truth of every frame of a recording.

        Args:
            stamps_ns: stamps of all frames.
            colors: whether each of them has a colour image.

        Raises:
            EvaluationError: there are not as many boxes in order as colour frames.
        """
        if not self.in_order:
            return tuple(self.at(stamp_ns) for stamp_ns in stamps_ns)
        if len(self.in_order) != sum(colors):
            raise EvaluationError(
                f"{self.source} has {len(self.in_order)} boxes, the recording {sum(colors)} colour frames; "
                "expected one box per colour frame"
            )
        boxes = iter(self.in_order)
        return tuple(FrameTruth(next(boxes), True) if color else NOT_ANNOTATED for color in colors)


def load_truth(bag: Bag, topic: str, file: Path | None) -> RecordedTruth:
    """Read the true boxes from `file`, or else from `topic`; empty without either.

    Args:
        bag: the open recording.
        topic: a Detection2DArray topic, or ''.
        file: one line per colour frame; nan, or a box without extent, where the object is absent.

    Raises:
        BagError: the topic is missing or of another type.
        BoxFileError: the file is not a table of boxes.
    """
    if file is not None:
        return RecordedTruth(in_order=_read_box_file(file), source=str(file))
    if topic:
        return RecordedTruth(by_stamp=read_truth_boxes(bag, topic), source=topic)
    return RecordedTruth()


def read_truth_boxes(bag: Bag, topic: str) -> tuple[TruthBox, ...]:
    """Read the true boxes of a Detection2DArray topic, by stamp.

    The first detection of a message counts; an empty message means that the object is absent.

    Raises:
        BagError: the topic is missing or of another type.
    """
    bag.topic(topic, DETECTIONS)
    boxes: dict[int, BoundingBox | None] = {}
    for message in bag.messages([topic]):
        array = bag.decode(message)
        stamp_ns = stamp_of(array)
        boxes[stamp_ns] = detection_box(array.detections[0]) if array.detections else None
    return tuple(TruthBox(stamp_ns, boxes[stamp_ns]) for stamp_ns in sorted(boxes))


def _read_box_file(file: Path) -> tuple[BoundingBox | None, ...]:
    rows = to_xywh(read_table(file).values, source=str(file)).tolist()
    boxes = [BoundingBox(*row) for row in rows]
    return tuple(box if box.is_finite() and box.w > 0 and box.h > 0 else None for box in boxes)
