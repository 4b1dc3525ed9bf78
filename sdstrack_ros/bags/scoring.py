"""Score the tracker on a recording: every frame (offline), and as live, while time passes (streaming).

Both run the node's own path from message to box. Offline results depend on the recording and the settings alone.
Streaming follows Li, Wang, Ramanan, "Towards Streaming Perception" (ECCV 2020): a frame is scored against the newest
box that was ready when the frame came, and while the tracker computes, newer frames replace those that wait.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.data.box_files import read_table, to_xywh
from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import TrackSummary, summarize_track
from ckd_core.frame import BoundingBox, Modality
from ckd_core.tracking.result import StageTiming, TrackState
from sdstrack_ros.bags.frames import BagTopics, choose_topics, open_bag, read_bag_frames, read_truth_boxes
from sdstrack_ros.sync.frame_builder import MILLIMETRE_M
from sdstrack_ros.sync.types import NS_PER_S, SyncCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.tracking.tracker import FrameTracker
    from sdstrack_ros.bags.frames import BagFrame, TruthBox
    from sdstrack_ros.bags.storage import Bag
    from sdstrack_ros.sync.frame_builder import Rejection
    from sdstrack_ros.sync.types import SyncConfig

# A true box belongs to the frame of its stamp; drivers and converters round stamps to microseconds at worst.
TRUTH_TOLERANCE_NS = 1_000_000


class EvaluationError(TrackingError):
    """A recording that cannot be scored as asked."""


@dataclass(frozen=True, slots=True, eq=False)
class BagInput:
    """What to read of which recording, and how; see `read_bag_frames`. modality: of the second camera."""

    path: Path
    modality: Modality
    topics: BagTopics
    sync: SyncConfig
    aux_from_reference: NDArray[np.float64] | None = None
    depth_unit_m: float = MILLIMETRE_M

    def frames(self, bag: Bag, **options: Any) -> Iterator[BagFrame]:
        """Frames of the open recording; options: further ones of `read_bag_frames`."""
        return read_bag_frames(
            bag,
            self.topics,
            self.modality,
            self.sync,
            aux_from_reference=self.aux_from_reference,
            depth_unit_m=self.depth_unit_m,
            **options,
        )


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One frame: what it had, and what the tracker said. score, box and state are None where it said nothing.

    state: TRACKING, UNCERTAIN, LOST, or INIT on the frame with the given box. refused: why the tracker refused it.
    timing: seconds that the tracker spent; differs from run to run, so two rows may be equal without it.
    """

    stamp_ns: int
    released_ns: int
    rgb: bool
    aux: bool
    aux_held: bool
    state: str | None = None
    box: BoundingBox | None = None
    score: float | None = None
    refused: str = ""
    timing: StageTiming = field(default=StageTiming(), compare=False)


@dataclass(frozen=True, slots=True)
class OfflineReport:
    """Every frame tracked. truth: (box, labelled) of each frame; summary: None without any truth."""

    rows: tuple[FrameRow, ...]
    truth: tuple[tuple[BoundingBox | None, bool], ...]
    summary: TrackSummary | None
    counters: SyncCounters
    rejections: dict[str, int]


@dataclass(frozen=True, slots=True)
class StreamingReport:
    """As live. rows: every frame with the box that was ready when it came; truth: as in `OfflineReport`.

    dropped: frames replaced by newer ones while the tracker computed; latency_s: of every tracked frame.
    summary: of the boxes that were ready when each frame came. offline_auc - summary.auc is the price of being late.
    """

    rows: tuple[FrameRow, ...]
    truth: tuple[tuple[BoundingBox | None, bool], ...]
    summary: TrackSummary
    frames: int
    tracked: int
    dropped: int
    latency_s: tuple[float, ...]
    measured: bool


@dataclass(frozen=True, slots=True)
class RecordedTruth:
    """True boxes by stamp, or one a colour frame in order; the other is empty."""

    by_stamp: tuple[TruthBox, ...] = ()
    in_order: tuple[BoundingBox | None, ...] = ()
    source: str = ""

    def of(
        self, frames: Sequence[BagFrame | FrameRow], colors: Sequence[bool]
    ) -> list[tuple[BoundingBox | None, bool]]:
        """(box, labelled) of each frame. Errors: EvaluationError: not as many boxes in order as colour frames."""
        if self.in_order:
            if len(self.in_order) != sum(colors):
                raise EvaluationError(
                    f"{self.source} has {len(self.in_order)} boxes, the recording {sum(colors)} colour frames; "
                    "expected one a colour frame"
                )
            rest = iter(self.in_order)
            return [(next(rest), True) if color else (None, False) for color in colors]
        stamps = np.array([truth.stamp_ns for truth in self.by_stamp], dtype=np.int64)
        found: list[tuple[BoundingBox | None, bool]] = []
        for frame in frames:
            at = int(np.searchsorted(stamps, frame.stamp_ns))
            near = [i for i in (at - 1, at) if 0 <= i < len(stamps)]
            best = min(near, key=lambda i: abs(int(stamps[i]) - frame.stamp_ns), default=None)
            if best is None or abs(int(stamps[best]) - frame.stamp_ns) > TRUTH_TOLERANCE_NS:
                found.append((None, False))
            else:
                found.append((self.by_stamp[best].box, True))
        return found


def load_truth(bag: Bag, topics: BagTopics, file: Path | None) -> RecordedTruth:
    """True boxes from a file (one a colour frame, nan = absent) or else from the truth topic; empty without either."""
    if file is not None:
        return RecordedTruth(in_order=_boxes_of(file), source=str(file))
    if topics.truth:
        return RecordedTruth(by_stamp=read_truth_boxes(bag, topics.truth), source=topics.truth)
    return RecordedTruth()


def _boxes_of(file: Path) -> tuple[BoundingBox | None, ...]:
    values = to_xywh(read_table(file).values, source=str(file))
    boxes = [BoundingBox(*row) for row in values.tolist()]
    return tuple(box if box.is_finite() and box.w > 0 and box.h > 0 else None for box in boxes)


class _RecordingTarget:
    """Starts the tracker on the first frame with a known box and follows from there."""

    def __init__(self, tracker: FrameTracker, start_box: Callable[[BagFrame], BoundingBox | None]) -> None:
        self.tracker = tracker
        self._start_box = start_box
        self._started = False
        tracker.reset()

    def track(self, found: BagFrame) -> FrameRow:
        """Give the tracker a frame. What it refuses is in the row, as the node would report it and go on."""
        frame = found.frame
        row: dict[str, Any] = {
            "stamp_ns": found.stamp_ns, "released_ns": found.released_ns, "rgb": frame.rgb is not None,
            "aux": frame.aux is not None, "aux_held": frame.aux_held,
        }  # fmt: skip
        try:
            if not self._started:
                box = self._start_box(found)
                if box is None:
                    return FrameRow(**row)
                self.tracker.start(frame, box)
                self._started = True
                return FrameRow(**row, state="INIT", box=box, score=1.0)
            result = self.tracker.update(frame)
        except TrackingError as error:
            return FrameRow(**row, refused=str(error))
        return FrameRow(
            **row, state=result.state.value, box=result.box, score=float(result.score), timing=result.timing
        )


def _frames(
    bag: Bag, source: BagInput, rejections: dict[str, int], counters: Callable[[SyncCounters], object] | None = None
) -> Iterator[BagFrame]:
    def note(rejection: Rejection) -> None:
        rejections[rejection.reason] = rejections.get(rejection.reason, 0) + 1

    return source.frames(bag, on_reject=note, counters=counters)


def _start_finder(truth: RecordedTruth, given: BoundingBox | None) -> Callable[[BagFrame], BoundingBox | None]:
    """The box to start on: the given one in the first frame, else the first true one."""
    colors = 0

    def find(found: BagFrame) -> BoundingBox | None:
        nonlocal colors
        if given is not None:
            return given
        if truth.in_order:
            colors += found.frame.rgb is not None
            return truth.in_order[colors - 1] if found.frame.rgb is not None and colors <= len(truth.in_order) else None
        return truth.of([found], [found.frame.rgb is not None])[0][0]

    return find


def _summarize(rows: Sequence[FrameRow], truth: Sequence[tuple[BoundingBox | None, bool]]) -> TrackSummary:
    """Summarise from the first frame with a box on; frames before it do not count."""
    first = next((i for i, row in enumerate(rows) if row.box is not None), None)
    if first is None:
        raise EvaluationError("the tracker was never started: no frame has a known box to start on")
    nothing = (np.nan,) * 4
    part, true = rows[first:], truth[first:]
    boxes = np.array([row.box or nothing for row in part], dtype=np.float64)
    true_boxes = np.array([box or nothing for box, _ in true], dtype=np.float64)
    return summarize_track(
        boxes,
        true_boxes,
        tracking=np.array([row.state in ("INIT", TrackState.TRACKING.value) for row in part]),
        lost=np.array([row.state == TrackState.LOST.value for row in part]),
        labelled=np.array([labelled for _, labelled in true]),
    )


def evaluate_offline(
    source: BagInput, tracker: FrameTracker, truth_file: Path | None = None, init_box: BoundingBox | None = None
) -> OfflineReport:
    """Track every frame of a recording and score it against the truth, where there is one.

    Errors: BagError; EvaluationError when there is nothing to start on, or the truth does not fit.
    """
    rejections: dict[str, int] = {}
    counted: list[SyncCounters] = []
    with open_bag(source.path) as bag:
        truth = load_truth(bag, source.topics, truth_file)
        if init_box is None and not truth.by_stamp and not truth.in_order:
            raise EvaluationError(
                f"{source.path} has no true boxes to start on and to score against; name a Detection2DArray topic or "
                f"a file, or give a box to start on; there are: {bag.describe()}"
            )
        target = _RecordingTarget(tracker, _start_finder(truth, init_box))
        rows = tuple(target.track(found) for found in _frames(bag, source, rejections, counted.append))
    if not rows:
        raise EvaluationError(f"{source.path} gave no frame that can be tracked ({rejections or 'no images'})")
    known = truth.of(rows, [row.rgb for row in rows])
    if all(row.box is None for row in rows):
        reasons = sorted({row.refused for row in rows if row.refused})
        raise EvaluationError(f"{source.path}: the tracker was never started: {reasons or 'no frame has a true box'}")
    summary = _summarize(rows, known) if any(labelled for _, labelled in known) else None
    return OfflineReport(rows, tuple(known), summary, counted[0], rejections)


def evaluate_streaming(
    source: BagInput,
    tracker: FrameTracker,
    truth_file: Path | None = None,
    init_box: BoundingBox | None = None,
    latency_s: float | None = None,
) -> StreamingReport:
    """Replay a recording's time: what would have been known when, with the newest frame winning.

    latency_s: what one frame costs; None: what it costs on this machine, measured. Errors: as `evaluate_offline`.
    """
    if latency_s is not None and not (np.isfinite(latency_s) and latency_s >= 0):
        raise EvaluationError(f"latency {latency_s} s; expected a finite number from 0")
    with open_bag(source.path) as bag:
        truth = load_truth(bag, source.topics, truth_file)
        if not truth.by_stamp and not truth.in_order:
            raise EvaluationError(f"{source.path} has no true boxes; streaming evaluation needs them")
        target = _RecordingTarget(tracker, _start_finder(truth, init_box))
        arrivals: list[FrameRow] = []

        def noted(frames: Iterable[BagFrame]) -> Iterator[BagFrame]:
            for found in frames:
                frame = found.frame
                arrivals.append(
                    FrameRow(
                        found.stamp_ns, found.released_ns, frame.rgb is not None, frame.aux is not None, frame.aux_held
                    )
                )
                yield found

        answers, dropped = _run_live(noted(_frames(bag, source, {})), target, latency_s)
    known = truth.of(arrivals, [row.rgb for row in arrivals])
    seen = [_ready(row, answers) for row in arrivals]
    return StreamingReport(
        tuple(seen),
        tuple(known),
        _summarize(seen, known),
        len(arrivals),
        len(answers),
        dropped,
        tuple(a.cost_s for a in answers),
        latency_s is None,
    )


@dataclass(frozen=True, slots=True)
class _TimedRow:
    ready_ns: int
    cost_s: float
    row: FrameRow


def _run_live(
    frames: Iterable[BagFrame], target: _RecordingTarget, latency_s: float | None
) -> tuple[list[_TimedRow], int]:
    """One worker, room for one waiting frame, the newest wins. Returns the answers in order and the frames dropped."""
    answers: list[_TimedRow] = []
    dropped = 0
    free_ns: int | None = None
    waiting: BagFrame | None = None

    def work(found: BagFrame, start_ns: int) -> int:
        began = time.perf_counter()
        row = target.track(found)
        cost_s = time.perf_counter() - began if latency_s is None else latency_s
        done_ns = start_ns + round(cost_s * NS_PER_S)
        # The box to start on is given, not computed: it is known at once, so streaming and offline score equal frames.
        answers.append(_TimedRow(start_ns if row.state == "INIT" else done_ns, cost_s, row))
        return done_ns

    for found in frames:
        if waiting is not None and free_ns is not None and free_ns < found.released_ns:
            free_ns = work(waiting, free_ns)
            waiting = None
        dropped += waiting is not None
        waiting = found
        if free_ns is None or free_ns <= found.released_ns:
            free_ns = work(found, found.released_ns)
            waiting = None
    if waiting is not None and free_ns is not None:
        work(waiting, free_ns)
    return answers, dropped


def _ready(row: FrameRow, answers: Sequence[_TimedRow]) -> FrameRow:
    """The frame with the newest answer that was ready when it came."""
    at = int(np.searchsorted([answer.ready_ns for answer in answers], row.released_ns, side="right")) - 1
    while at >= 0 and answers[at].row.box is None:
        at -= 1
    if at < 0:
        return row
    known = answers[at].row
    return FrameRow(row.stamp_ns, row.released_ns, row.rgb, row.aux, row.aux_held, known.state, known.box, known.score)


def bag_input(
    path: Path,
    modality: Modality,
    topics: BagTopics,
    sync: SyncConfig,
    aux_from_reference: NDArray[np.float64] | None = None,
    depth_unit_m: float = MILLIMETRE_M,
) -> BagInput:
    """Find the topics that are not named. Errors: BagError, listing what is there."""
    with open_bag(path) as bag:
        chosen = choose_topics(bag, modality, topics)
    return BagInput(path, modality, chosen, sync, aux_from_reference, depth_unit_m)
