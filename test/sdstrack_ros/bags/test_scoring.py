from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import summarize_track
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.bags.frames import BagTopics, open_bag, write_bag
from sdstrack_ros.bags.report import streaming_json
from sdstrack_ros.bags.scoring import (
    BagInput,
    EvaluationError,
    bag_input,
    evaluate_offline,
    evaluate_streaming,
)
from sdstrack_ros.sync.types import SyncConfig
from testkit.bag_scenes import COUNT, PERIOD_S, SIDE, walking_square


class BrightestSpot:
    """A tracker whose answer is known: the bright square's box, LOST where there is none."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> None:
        self.box = box
        self.seen = [frame.stamp]

    def update(self, frame: MultiModalFrame) -> TrackResult:
        self.seen.append(frame.stamp)
        assert frame.rgb is not None
        ys, xs = np.nonzero(frame.rgb[..., 0] > 200)
        if not len(xs):
            return TrackResult(frame.stamp, self.box, 0.0, TrackState.LOST)
        x, y = int(xs.min()), int(ys.min())
        self.box = BoundingBox(x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y)
        return TrackResult(frame.stamp, self.box, 1.0, TrackState.TRACKING)

    def reset(self) -> None:
        self.seen = []


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", *walking_square())


def given(path: Path) -> BagInput:
    return bag_input(path, Modality.THERMAL, BagTopics(), SyncConfig())


def test_every_frame_is_tracked_and_scored_against_the_truth_topic(recording: Path) -> None:
    report = evaluate_offline(given(recording), BrightestSpot())
    assert len(report.rows) == COUNT
    assert report.rows[0].state == "INIT"
    assert [row.state for row in report.rows[9:13]] == ["TRACKING", "LOST", "LOST", "TRACKING"]
    assert report.summary is not None
    assert report.summary.frames == COUNT - 3
    assert report.summary.absent == 2
    assert report.summary.lost == report.summary.false_tracking == 0
    assert report.summary.precision == 1.0
    assert report.summary.auc == pytest.approx(20 / 21)
    assert report.counters.paired == COUNT


def test_depth_recorded_in_another_unit_is_read_as_metres(tmp_path: Path) -> None:
    frames = [MultiModalFrame(i / 30, None, np.full((8, 8), 15_000, np.uint16), Modality.DEPTH) for i in range(3)]
    path = write_bag(tmp_path / "tenths", frames, [None] * 3)
    source = bag_input(path, Modality.DEPTH, BagTopics(), SyncConfig(), depth_unit_m=0.0001)
    with open_bag(path) as bag:
        found = list(source.frames(bag))
    assert [np.unique(frame.frame.aux).tolist() for frame in found] == [[pytest.approx(1.5)]] * 3


def test_truth_from_a_file_scores_the_same(recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "truth.txt"
    rows = ["nan,nan,nan,nan" if box is None else ",".join(map(str, box)) for box in walking_square()[1]]
    file.write_text("\n".join(rows))
    by_file = evaluate_offline(given(recording), BrightestSpot(), truth_file=file)
    assert by_file.summary == evaluate_offline(given(recording), BrightestSpot()).summary
    file.write_text("\n".join(rows[:-1]))
    with pytest.raises(EvaluationError, match=rf"truth.txt has {COUNT - 1} boxes, the recording {COUNT} colour frames"):
        evaluate_offline(given(recording), BrightestSpot(), truth_file=file)


def test_instant_answers_lose_nothing_when_streaming(recording: Path) -> None:
    offline = evaluate_offline(given(recording), BrightestSpot())
    live = evaluate_streaming(given(recording), BrightestSpot(), latency_s=0.0)
    assert live.summary == offline.summary
    assert (live.dropped, live.tracked, live.frames) == (0, COUNT, COUNT)


@pytest.mark.parametrize(("latency_s", "tracked_every"), [(0.02, 1), (PERIOD_S * 1.45, 1.45), (PERIOD_S * 2.4, 2.4)])
def test_late_answers_are_scored_as_late_and_replaced_frames_counted(
    recording: Path, latency_s: float, tracked_every: float
) -> None:
    tracker = BrightestSpot()
    live = evaluate_streaming(given(recording), tracker, latency_s=latency_s)
    assert live.tracked + live.dropped == live.frames == COUNT
    assert live.tracked == pytest.approx(COUNT / tracked_every, abs=2)
    # An independent replay of the same rules: which box was ready when each frame came.
    arrivals = [i * PERIOD_S for i in range(COUNT)]
    truth = walking_square()[1]
    ready: list[tuple[float, int]] = []
    free, next_frame = 0.0, 0
    while next_frame < COUNT:
        start = max(free, arrivals[next_frame])
        newest = max(i for i in range(COUNT) if arrivals[i] <= start + 1e-9) if next_frame else 0
        newest = max(newest, next_frame)
        free = start + latency_s
        ready.append((free if ready else 0.0, newest))  # the given box is known from the start
        next_frame = newest + 1
    boxes, last = [], None
    for moment in arrivals:
        done = [frame for at, frame in ready if at <= moment + 1e-9]
        last = done[-1] if done else None
        while last is not None and truth[last] is None:
            last -= 1  # the tracker repeats the last box it believed while LOST
        boxes.append(truth[last] if last is not None else (np.nan,) * 4)
    first = next(i for i, box in enumerate(boxes) if np.isfinite(box).all())
    known = np.array([box or (np.nan,) * 4 for box in truth])
    expected = summarize_track(np.array(boxes, dtype=float)[first:], known[first:])
    assert live.summary.auc == pytest.approx(expected.auc, abs=0.02)
    assert live.summary.frames == COUNT - 3, "the same frames as offline"
    assert live.summary.auc < 0.9
    assert tracker.seen == sorted(tracker.seen)


def test_the_gap_grows_with_latency_and_is_reported(recording: Path) -> None:
    offline = evaluate_offline(given(recording), BrightestSpot()).summary
    assert offline is not None
    scores = [
        evaluate_streaming(given(recording), BrightestSpot(), latency_s=latency).summary.auc
        for latency in (0.0, 0.03, 0.06, 0.12)
    ]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    live = evaluate_streaming(given(recording), BrightestSpot(), latency_s=0.06)
    plain = streaming_json(live, offline)
    assert plain["offline_minus_streaming"]["auc"] == pytest.approx(offline.auc - live.summary.auc)
    assert plain["latency"] == {"measured": False, "p50_ms": 60.0, "p95_ms": 60.0, "p99_ms": 60.0}


def test_measured_latency_is_measured(recording: Path) -> None:
    live = evaluate_streaming(given(recording), BrightestSpot())
    assert live.measured
    assert len(live.latency_s) == live.tracked
    assert all(0 < cost < 5 for cost in live.latency_s)


class Refuses(BrightestSpot):
    def update(self, frame: MultiModalFrame) -> TrackResult:
        if len(self.seen) == 5:
            self.seen.append(frame.stamp)
            raise TrackingError("a frame that this one does not like")
        return super().update(frame)


def test_a_frame_that_the_tracker_refuses_is_a_miss_and_not_the_end(recording: Path) -> None:
    report = evaluate_offline(given(recording), Refuses())
    assert [row.refused for row in report.rows if row.refused] == ["a frame that this one does not like"]
    assert report.rows[5].box is None
    assert report.summary is not None
    assert report.summary.lost == 1


def test_nothing_to_start_on_is_an_error_that_lists_the_topics(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "untold", walking_square(5)[0])
    with pytest.raises(EvaluationError, match=r"no true boxes to start on .* there are: .*image_raw"):
        evaluate_offline(given(path), BrightestSpot())
    report = evaluate_offline(given(path), BrightestSpot(), init_box=BoundingBox(10, 20, SIDE, SIDE))
    assert report.summary is None
    assert all(row.box is not None for row in report.rows)
    empty = write_bag(tmp_path / "absent", walking_square(5)[0], [None] * 5)
    with pytest.raises(EvaluationError, match="never started: no frame has a true box"):
        evaluate_offline(given(empty), BrightestSpot())
    with pytest.raises(EvaluationError, match="latency -1"):
        evaluate_streaming(given(path), BrightestSpot(), latency_s=-1)
