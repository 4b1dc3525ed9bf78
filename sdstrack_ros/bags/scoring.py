"""Score the tracker on every frame of a recording.

Frames take the node's own path from message to box, so the result depends on the recording and the settings alone.
What late boxes cost is in `streaming.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.background import read_ahead
from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import TrackSummary, overlap, summarize_track
from ckd_core.text import MAX_REASON, shown
from ckd_core.tracking.result import StageTiming, TrackState
from sdstrack_ros.bags.frames import BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.bags.truth import EvaluationError, load_truth
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.frame_builder import MILLIMETRE_M
from sdstrack_ros.tracking.time_jump import after_jump

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.frame import BoundingBox, Modality
    from ckd_core.tracking.tracker import FrameTracker
    from ckd_core.tracking.witnesses.box_depth import Expected
    from sdstrack_ros.bags.frames import BagFrame
    from sdstrack_ros.bags.storage.opening import Bag
    from sdstrack_ros.bags.truth import FrameTruth, RecordedTruth
    from sdstrack_ros.sync.types import SyncConfig, SyncCounters

MAX_CAUSES = 20
OTHER_CAUSES = "other reasons"
FAILURE_S = 1.0  # a target that is lost for so long is one that a robot has to be helped with
# Numbers that stand by themselves, and bytes in hexadecimal; not those inside names such as rgb8.
_NUMBER = re.compile(r"\b[0-9a-f]{8,}\b|(?<![A-Za-z_])[-+]?\d+(\.\d+)?(e[-+]?\d+)?(?![A-Za-z_])")
# State of the frame that the tracker starts on; `TrackState` has the others.
INIT = "INIT"


@dataclass(frozen=True, slots=True, eq=False)
class BagInput:
    """Which recording to read, and how.

    Attributes:
        path: rosbag2 folder, or a single .mcap or .db3 file.
        modality: of the auxiliary camera.
        topics: what to read.
        sync: configuration of the synchronizer.
        aux_from_reference: see `FrameBuilder`.
        depth_unit_m: see `FrameBuilder`.
        thermal_range: see `FrameBuilder`.
        max_image_bytes: see `FrameBuilder`.
    """

    path: Path
    modality: Modality
    topics: BagTopics
    sync: SyncConfig
    aux_from_reference: NDArray[np.float64] | None = None
    depth_unit_m: float = MILLIMETRE_M
    thermal_range: tuple[float, float] | None = None
    max_image_bytes: int | None = None

    def frames(self, bag: Bag, **options: Any) -> Iterator[BagFrame]:
        """Yield the frames of the open recording; `options` are further arguments of `read_bag_frames`."""
        return read_bag_frames(
            bag,
            self.topics,
            self.modality,
            self.sync,
            aux_from_reference=self.aux_from_reference,
            depth_unit_m=self.depth_unit_m,
            thermal_range=self.thermal_range,
            max_image_bytes=self.max_image_bytes,
            **options,
        )

    def opened_frames(self, **options: Any) -> Generator[BagFrame]:
        """Open the recording and yield its frames; SQLite lets only the thread that opened a file read it."""
        with open_bag(self.path) as bag:
            yield from self.frames(bag, **options)


def bag_input(
    path: Path,
    modality: Modality,
    topics: BagTopics,
    sync: SyncConfig,
    aux_from_reference: NDArray[np.float64] | None = None,
    depth_unit_m: float = MILLIMETRE_M,
    thermal_range: tuple[float, float] | None = None,
    max_image_bytes: int | None = None,
) -> BagInput:
    """Return the input for a recording, with the topics found that `topics` does not name.

    Raises:
        BagError: the recording cannot be read, or its topics cannot be found; see `choose_topics`.
    """
    with open_bag(path) as bag:
        complete = choose_topics(bag, modality, topics)
    return BagInput(path, modality, complete, sync, aux_from_reference, depth_unit_m, thermal_range, max_image_bytes)


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One frame: what it contained, and what the tracker returned. score, box and state are None without a result.

    Attributes:
        stamp_ns: stamp of the frame.
        released_ns: when the node would have tracked it, on the recording's clock.
        rgb: whether there was a colour image.
        aux: whether there was an auxiliary image.
        aux_held: whether the auxiliary image was an older one, used again.
        state: TRACKING, UNCERTAIN or LOST, or INIT on the frame that the tracker started on.
        box: in pixels of the reference image.
        score: of the result.
        refused: why the tracker refused the frame, or ''.
        distance: as in `TrackResult`.
        timing: seconds that the tracker spent; it differs from run to run, so it does not count in comparisons.
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
    distance: Expected | None = None
    timing: StageTiming = field(default=StageTiming(), compare=False)


def untracked_row(bag_frame: BagFrame, refused: str = "") -> FrameRow:
    """Return the row of a frame for which the tracker returned nothing."""
    frame = bag_frame.frame
    return FrameRow(
        bag_frame.stamp_ns, bag_frame.released_ns, *frame.presence, aux_held=frame.aux_held, refused=refused
    )


@dataclass(frozen=True, slots=True)
class OfflineReport:
    """The result of tracking every frame.

    Attributes:
        rows: one per frame.
        truth: what is known about each frame.
        summary: None when no frame is annotated.
        counters: of the synchronizer.
        rejections: how many images could not be used, by reason.
        remarks: why pairs did not come, or cannot be one view.
        time_resets: what jumps back in time did to the target, by what happened.
    """

    rows: tuple[FrameRow, ...]
    truth: tuple[FrameTruth, ...]
    summary: TrackSummary | None
    counters: SyncCounters
    rejections: dict[str, int]
    remarks: tuple[str, ...] = ()
    time_resets: dict[str, int] = field(default_factory=dict)

    @property
    def failed_after_s(self) -> float | None:
        """Time to failure, see `time_to_failure`."""
        return time_to_failure(self.rows, self.truth)


class BagTarget:
    """Starts a tracker on the first frame with a known box, and follows the target from there.

    A jump back in time forgets the target, as in the node; see `after_jump`.

    Attributes:
        time_resets: what each jump back in time did, in words.
    """

    def __init__(self, tracker: FrameTracker, truth: RecordedTruth, init_box: BoundingBox | None) -> None:
        self._tracker = tracker
        self._truth = truth
        self._init_box = init_box
        self._started = self._gone = False
        self._epoch = 0
        self._newest_ns = 0
        self._used_ns: int | None = None
        self.time_resets: list[str] = []
        tracker.reset()

    def track(self, bag_frame: BagFrame) -> FrameRow:
        """Track into a frame. If the tracker refuses it, the row says why; the node would report that and go on."""
        frame = bag_frame.frame
        row = untracked_row(bag_frame)
        if bag_frame.epoch != self._epoch:
            self._forget(bag_frame)
        self._newest_ns = bag_frame.stamp_ns
        try:
            if self._gone:
                return row
            if not self._started:
                box = self._start_box(bag_frame)
                if box is None:
                    return row
                box = self._tracker.start(frame, box)
                self._started = True
                self._used_ns = bag_frame.stamp_ns if self._used_ns is None else self._used_ns
                return replace(row, state=INIT, box=box, score=1.0)
            result = self._tracker.update(frame)
        except TrackingError as error:
            return replace(row, refused=str(error))
        return replace(
            row,
            state=result.state.value,
            box=result.box,
            score=float(result.score),
            distance=result.distance,
            timing=result.timing,
        )

    def _forget(self, bag_frame: BagFrame) -> None:
        self._tracker.reset()
        seconds = (self._newest_ns - bag_frame.stamp_ns) / NS_PER_S
        text, starts_again = after_jump(seconds, bag_frame.stamp_ns, "the start box", self._used_ns)
        self.time_resets.append(text)
        self._started, self._gone = False, not starts_again
        self._epoch = bag_frame.epoch

    def _start_box(self, bag_frame: BagFrame) -> BoundingBox | None:
        """Return the user's box, else the true box of this frame."""
        if self._init_box is not None:
            return self._init_box
        if not self._truth.in_order:
            return self._truth.at(bag_frame.stamp_ns).box
        if bag_frame.frame.rgb is None:
            return None
        index = bag_frame.colors - 1
        return self._truth.in_order[index] if index < len(self._truth.in_order) else None


class ReasonCounts:
    """Counts reasons by cause: texts that differ only in numbers are one, whatever a message puts into them.

    Attributes:
        counts: how often each cause came, by its first text.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._texts: dict[str, str] = {}

    def add(self, reason: str) -> None:
        """Count a reason; after `MAX_CAUSES` causes, further ones count together."""
        text = shown(reason, MAX_REASON)
        cause = _NUMBER.sub("#", text)
        if cause not in self._texts and len(self._texts) >= MAX_CAUSES:
            text = OTHER_CAUSES
        else:
            text = self._texts.setdefault(cause, text)
        self.counts[text] = self.counts.get(text, 0) + 1

    def describe(self) -> str:
        """List the counts and reasons on one line."""
        return "; ".join(f"{count} times: {text}" for text, count in sorted(self.counts.items()))


def summarize_rows(rows: Sequence[FrameRow], truth: Sequence[FrameTruth]) -> TrackSummary:
    """Summarise a track from the first frame with a box on; earlier frames do not count.

    Raises:
        EvaluationError: no frame has a box.
    """
    first = next((index for index, row in enumerate(rows) if row.box is not None), None)
    if first is None:
        raise EvaluationError("the tracker was never started: no frame has a known box to start on")
    nan_box = (np.nan,) * 4
    tracked, known = rows[first:], truth[first:]
    return summarize_track(
        np.array([row.box or nan_box for row in tracked], dtype=np.float64),
        np.array([frame.box or nan_box for frame in known], dtype=np.float64),
        tracking=np.array([row.state in (INIT, TrackState.TRACKING.value) for row in tracked]),
        lost=np.array([row.state == TrackState.LOST.value for row in tracked]),
        labelled=np.array([frame.annotated for frame in known]),
    )


def time_to_failure(rows: Sequence[FrameRow], truth: Sequence[FrameTruth]) -> float | None:
    """Return the seconds from the first box to the moment from which none touches the object for `FAILURE_S`.

    Frames without a true box do not count. None when that never happens, or the recording ends before it is sure.
    """
    began_ns = failing_ns = None
    for row, known in zip(rows, truth, strict=True):
        if row.box is None and began_ns is None:
            continue
        began_ns = row.stamp_ns if began_ns is None else began_ns
        if known.box is None:
            continue
        lost = row.box is None or row.state == TrackState.LOST.value
        if not lost and overlap(np.array([row.box]), np.array([known.box]))[0] > 0:
            failing_ns = None
        elif failing_ns is None:
            failing_ns = row.stamp_ns
        if failing_ns is not None and row.stamp_ns - failing_ns >= FAILURE_S * NS_PER_S:
            return (failing_ns - began_ns) / NS_PER_S
    return None


def evaluate_offline(
    source: BagInput,
    tracker: FrameTracker,
    truth_file: Path | None = None,
    init_box: BoundingBox | None = None,
    observe: Callable[[BagFrame, FrameRow], object] = lambda *_: None,
) -> OfflineReport:
    """Track every frame of a recording, and score it against the truth where there is one.

    Args:
        source: what to read.
        tracker: it is reset first.
        truth_file: true boxes, one line per colour frame; None takes the truth topic.
        init_box: box to start on in the first frame; None starts on the first true box.
        observe: receives every frame with its row.

    Raises:
        BagError: the recording cannot be read.
        EvaluationError: there is no box to start on, no frame that can be tracked, or the truth does not fit.
    """
    reasons = ReasonCounts()
    counters: list[SyncCounters] = []
    remarks: list[str] = []
    with open_bag(source.path) as bag:
        truth = load_truth(bag, source.topics.truth, truth_file)
        if init_box is None and not truth:
            raise EvaluationError(
                f"{source.path} has no true boxes to start on and to score against; name a Detection2DArray topic or "
                f"a file, or pass a box to start on; the recording's topics are: {bag.describe()}"
            )
    target = BagTarget(tracker, truth, init_box)
    recorded = source.opened_frames(
        on_reject=lambda rejection: reasons.add(rejection.reason),
        counters=counters.append,
        on_remark=remarks.append,
    )
    rows = []
    with read_ahead(recorded) as frames:
        for frame in frames:
            rows.append(target.track(frame))
            observe(frame, rows[-1])
    if not rows:
        raise EvaluationError(
            f"{source.path} contains no frame that can be tracked ({reasons.describe() or 'no images'})"
        )
    known = truth.of_frames([row.stamp_ns for row in rows], [row.rgb for row in rows])
    if all(row.box is None for row in rows):
        refused = ReasonCounts()
        for row in rows:
            if row.refused:
                refused.add(row.refused)
        why = refused.describe() or "no frame has a true box"
        raise EvaluationError(f"{source.path}: the tracker was never started: {why}")
    summary = summarize_rows(rows, known) if any(frame.annotated for frame in known) else None
    resets = ReasonCounts()
    for text in target.time_resets:
        resets.add(text)
    return OfflineReport(tuple(rows), known, summary, counters[0], reasons.counts, tuple(remarks), resets.counts)
