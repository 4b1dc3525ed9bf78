"""A tracker's results on one sequence, and their files.

`tracks/SEQUENCE.csv` holds everything that must repeat exactly, `timing/SEQUENCE.csv` the seconds, which never do, and
`results/SEQUENCE.txt` the boxes in the benchmark's format.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.background import read_ahead
from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.score import Track
from ckd_core.files import write_text
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.evaluation.scoring.rules import BenchmarkRule
    from ckd_core.tracking.tracker import FrameTracker

TRACK_COLUMNS = ("frame", "stamp", "x", "y", "w", "h", "score", "state", "rgb", "aux")
TIMING_COLUMNS = ("frame", "crop_s", "network_s", "post_s")


class RecordError(TrackingError):
    """Files of a run that are missing, damaged or do not fit together."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackRecord:
    """One tracker on one sequence, frame by frame.

    Attributes:
        name: Name of the sequence.
        start: Index of the frame on whose box the tracker started; frames before it repeat that box with state LOST.
        stamps: [N] s.
        boxes: [N, 4] xywh px.
        scores: [N] 0..1.
        states: N names of TrackState.
        presence: [N, 2] bool (colour, auxiliary).
        seconds: [N, 3] for crop, network and the rest; 0 up to `start`.
    """

    name: str
    start: int
    stamps: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    states: tuple[str, ...]
    presence: NDArray[np.bool_]
    seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.boxes)

    def in_state(self, state: TrackState) -> NDArray[np.bool_]:
        """[N] bool: frames in this state."""
        return np.array([name == state.value for name in self.states], dtype=np.bool_)

    def latency_ms(self) -> NDArray[np.float64]:
        """Milliseconds [M] of the frames that were tracked."""
        return np.asarray(self.seconds[self.start + 1 :].sum(axis=1) * 1e3)


def track_sequence(tracker: FrameTracker, sequence: Sequence, condition: Condition) -> TrackRecord:
    """Run a tracker over a sequence under a condition, from the first annotated frame on.

    Args:
        tracker: Is started anew.
        sequence: The frames that the condition shows (`Condition.thinned`).
        condition: What the tracker is shown of them.

    Raises:
        SequenceError: An image cannot be read.
        ConditionError: The condition does not fit the sequence.
        TrackingError: The tracker refuses a frame.
    """
    start, count = sequence.start, len(sequence)
    present = condition.presence(sequence)
    first = condition.first_box(sequence)
    boxes = np.tile(np.array(first, dtype=np.float64), (count, 1))
    scores, seconds = np.zeros(count), np.zeros((count, 3))
    states = [TrackState.LOST.value] * count
    scores[start], states[start] = 1.0, TrackState.TRACKING.value
    shown = (condition.frame(sequence, index, present) for index in range(start, count) if present[index].any())
    with read_ahead(shown) as frames:
        tracker.start(next(frames), first)
        for index in range(start + 1, count):
            if not present[index].any():  # no image: the box stays where it was, and nothing is known
                boxes[index] = boxes[index - 1]
                continue
            result = tracker.update(next(frames))
            boxes[index] = result.box
            scores[index], states[index] = result.score, result.state.value
            seconds[index] = result.timing.crop, result.timing.network, result.timing.post
    return TrackRecord(sequence.name, start, sequence.stamps.copy(), boxes, scores, tuple(states), present, seconds)


def _csv(header: tuple[str, ...], rows: list[list[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def write_record(record: TrackRecord, folder: Path, rule: BenchmarkRule, integers: bool = False) -> None:
    """Write a record's three files below `folder`; the track comes last, so that its presence means completeness.

    `integers` cuts the decimals off the results; the track keeps them.
    """
    write_text(folder / "results" / f"{record.name}.txt", benchmark_text(record, rule, integers))
    timing = [[str(i), *(f"{value:.6f}" for value in row)] for i, row in enumerate(record.seconds)]
    write_text(folder / "timing" / f"{record.name}.csv", _csv(TIMING_COLUMNS, timing))
    rows = [
        [
            str(i),
            f"{record.stamps[i]:.9f}",
            *(f"{value:.4f}" for value in record.boxes[i]),
            f"{record.scores[i]:.6f}",
            record.states[i],
            *(str(int(flag)) for flag in record.presence[i]),
        ]
        for i in range(len(record))
    ]
    write_text(folder / "tracks" / f"{record.name}.csv", _csv(TRACK_COLUMNS, rows))


def read_record(folder: Path, name: str) -> TrackRecord:
    """Read what `write_record` wrote.

    Raises:
        RecordError: A file is missing, damaged, or of another length than the others.
    """
    path, timing = folder / "tracks" / f"{name}.csv", folder / "timing" / f"{name}.csv"
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        with timing.open(newline="", encoding="utf-8") as stream:
            times = list(csv.DictReader(stream))
        numbers = np.array([[float(row[key]) for key in TRACK_COLUMNS if key != "state"] for row in rows])
        seconds = np.array([[float(row[key]) for key in TIMING_COLUMNS[1:]] for row in times])
        states = tuple(TrackState(row["state"]).value for row in rows)
    except OSError as error:
        raise RecordError(f"cannot read {error.filename}: {error.strerror}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise RecordError(f"{path} or {timing.name} is not a file of `sdstrack benchmark`: {error}") from error
    if not len(rows) or len(seconds) != len(rows):
        raise RecordError(f"{path} has {len(rows)} frames, {timing} has {len(seconds)}; must be equal and not 0")
    tracked = [state == TrackState.TRACKING.value for state in states]
    return TrackRecord(
        name=name,
        start=tracked.index(True) if True in tracked else 0,
        stamps=numbers[:, 1],
        boxes=numbers[:, 2:6],
        scores=numbers[:, 6],
        states=states,
        presence=numbers[:, 7:9] > 0,
        seconds=seconds,
    )


def _benchmark_rows(
    record: TrackRecord, rule: BenchmarkRule, integers: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first = record.start if rule.shorter == "late_start" else 0
    boxes = np.round(record.boxes[first:], 4)
    if rule.layout.one_based:
        boxes = boxes + np.array([1.0, 1.0, 0.0, 0.0])
    return np.trunc(boxes) if integers else boxes, np.round(record.scores[first:], 6)


def benchmark_text(record: TrackRecord, rule: BenchmarkRule, integers: bool = False) -> str:
    """Lines `x,y,w,h` as the benchmark takes them, with the confidence where it scores that."""
    boxes, scores = _benchmark_rows(record, rule, integers)
    digits = 0 if integers else 4
    lines = [",".join(f"{value:.{digits}f}" for value in box) for box in boxes]
    if rule.long_term:
        lines = [f"{line},{score:.6f}" for line, score in zip(lines, scores, strict=True)]
    return "".join(line + "\n" for line in lines)


def benchmark_track(record: TrackRecord, rule: BenchmarkRule, integers: bool = False) -> Track:
    """The same numbers as `benchmark_text`, to be scored."""
    boxes, scores = _benchmark_rows(record, rule, integers)
    return Track(record.name, boxes, scores)
