"""What a report shows of one run: its timelines, its worst moments and where its numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.evaluation.report.figures import box_rows, state_rows, tracks_of
from ckd_core.evaluation.running.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ckd_core.evaluation.report.figures import BoxRow, StateRow
    from ckd_core.evaluation.running.records import TrackRecord
    from ckd_core.evaluation.running.runner import RunResult
    from ckd_core.evaluation.scoring.score import SequenceScore
    from ckd_core.frame import MultiModalFrame

WORST_MOMENTS = 12
THUMBNAIL_WIDTH = 300
TRUTH_BGR, TRACKER_BGR = (115, 158, 0), (0, 94, 213)


class ReportError(TrackingError):
    """A report without content, or of evaluations that cannot stand side by side."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One sequence over time.

    Attributes:
        record: What the tracker did.
        overlaps: [N] float64, nan where there is no annotation.

    """

    record: TrackRecord
    overlaps: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame worth looking at.

    Attributes:
        sequence: Name of the sequence.
        frame: Index in it.
        overlap: nan where there is no annotation.
        score: The tracker's confidence.
        state: The tracker's state.
        jpeg: The image with both boxes drawn.

    """

    sequence: str
    frame: int
    overlap: float
    score: float
    state: str
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class ReportRun:
    """What a run adds to its numbers.

    Attributes:
        label: Name in tables.
        timelines: One per sequence.
        moments: The worst ones.
        provenance: The run's manifest or the like, shown as it is.
        boxes: Where its boxes lose overlap, per sequence and in the mean.
        states: Whether its states told the truth, likewise.

    """

    label: str
    timelines: tuple[Timeline, ...] = ()
    moments: tuple[Moment, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    boxes: tuple[BoxRow, ...] = ()
    states: tuple[StateRow, ...] = ()

    def latency_ms(self) -> NDArray[np.float64]:
        """Milliseconds of all frames that were timed."""
        parts = [timeline.record.latency_ms() for timeline in self.timelines]
        values = np.concatenate(parts) if parts else np.zeros(0)
        return np.asarray(values[values > 0])


def draw_moment(frame: MultiModalFrame, truth: NDArray[np.float64] | None, box: NDArray[np.float64]) -> bytes:
    """JPEG thumbnail of a frame (colour, else auxiliary) with the annotated box in green and the tracker's in orange.

    Raises:
        ReportError: OpenCV was built without JPEG.

    """
    from ckd_core.modality import to_network_image

    if frame.rgb is not None:
        image = frame.rgb
    elif frame.aux is not None:
        image = to_network_image(frame.aux, frame.modality)
    else:
        image = np.zeros((90, 120, 3), dtype=np.uint8)
    scale = THUMBNAIL_WIDTH / image.shape[1]
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:, :, ::-1].copy()
    for numbers, color in ((truth, TRUTH_BGR), (box, TRACKER_BGR)):
        if numbers is not None and np.isfinite(numbers).all():
            x, y, w, h = (round(float(value) * scale) for value in numbers)
            cv2.rectangle(small, (x, y), (x + w, y + h), color, 2, cv2.LINE_AA)
    done, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise ReportError("OpenCV cannot write JPEG thumbnails; expected a build with JPEG")
    return bytes(data)


def worst_moments(
    timelines: Sequence[Timeline],
    frame_of: Callable[[str, int], tuple[MultiModalFrame, NDArray[np.float64] | None]],
    limit: int = WORST_MOMENTS,
) -> tuple[Moment, ...]:
    """Frames of smallest overlap (of lowest score in a sequence without annotation), the worst first.

    Every sequence gives about its share of `limit`, at least one, from moments apart.

    Args:
        timelines: The sequences.
        frame_of: (sequence, index) -> the frame as the tracker saw it, and the annotated box or None.
        limit: How many at most.

    """
    share = max(limit // max(len(timelines), 1), 1)
    candidates = [place for timeline in timelines for place in _worst_frames(timeline, share)]
    moments = []
    for _, index, timeline in sorted(candidates, key=lambda item: item[0])[:limit]:
        record = timeline.record
        frame, truth = frame_of(record.name, index)
        jpeg = draw_moment(frame, truth, record.boxes[index])
        overlap, score = float(timeline.overlaps[index]), float(record.scores[index])
        moments.append(Moment(record.name, index, overlap, score, record.states[index], jpeg))
    return tuple(moments)


def _worst_frames(timeline: Timeline, count: int) -> list[tuple[float, int, Timeline]]:
    """Up to `count` of (how good, frame, timeline), a twentieth of the sequence apart."""
    measure = timeline.overlaps if np.isfinite(timeline.overlaps).any() else timeline.record.scores
    tracked = np.arange(len(measure)) > timeline.record.start
    apart, worst = max(len(measure) // 20, 5), list[tuple[float, int, Timeline]]()
    for index in np.argsort(np.where(tracked, measure, np.nan), kind="stable"):  # nan comes last
        if len(worst) == count or not tracked[index] or not np.isfinite(measure[index]):
            break
        if all(abs(int(index) - other) >= apart for _, other, _ in worst):
            worst.append((float(measure[index]), int(index), timeline))
    return worst


def report_run(result: RunResult) -> ReportRun:
    """A benchmark run with its timelines, worst moments and manifest."""
    scores = {item.name: item for item in result.score.sequences}
    timelines = tuple(
        Timeline(record, on_all_frames(len(record), scores[name])) for name, record in result.records.items()
    )

    def frame_of(name: str, index: int) -> tuple[MultiModalFrame, NDArray[np.float64]]:
        sequence = result.plan.inputs.sequences[name]
        present = result.plan.condition.presence(sequence)
        return result.plan.condition.frame(sequence, index, present), sequence.boxes[index]

    label, tracks = result.plan.tracker.label, tracks_of(result)
    return ReportRun(
        label,
        timelines,
        worst_moments(timelines, frame_of),
        read_manifest(result.plan.out),
        tuple(box_rows(label, tracks)),
        tuple(state_rows(label, tracks)),
    )


def on_all_frames(count: int, score: SequenceScore) -> NDArray[np.float64]:
    """Overlaps [count] of the scored frames, back on a sequence's own frames; nan where none was scored."""
    scored = np.where(score.overlaps < 0, np.nan, score.overlaps)
    if len(scored) == count:
        return scored
    wide = np.full(count, np.nan)
    every = -(-count // len(scored))
    if every > 1 and len(wide[::every]) == len(scored):
        wide[::every] = scored
    else:
        wide[-len(scored) :] = scored
    return wide
