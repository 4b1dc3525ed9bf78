from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ckd_core.evaluation.scoring.metrics import summarize_track
from ckd_core.frame import BoundingBox
from sdstrack_ros.bags.report import streaming_json
from sdstrack_ros.bags.scoring import evaluate_offline
from sdstrack_ros.bags.streaming import evaluate_streaming
from sdstrack_ros.bags.truth import EvaluationError
from sdstrack_ros.bags.writer import write_bag
from testkit.bags.scenes import COUNT, PERIOD_S, BrightestSpot, thermal_input, walking_square


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", *walking_square())


def test_boxes_without_latency_score_the_same_as_offline(recording: Path) -> None:
    offline = evaluate_offline(thermal_input(recording), BrightestSpot())
    live = evaluate_streaming(thermal_input(recording), BrightestSpot(), latency_s=0.0)
    assert live.summary == offline.summary
    assert (live.dropped, live.tracked, live.frames) == (0, COUNT, COUNT)


@pytest.mark.parametrize(("latency_s", "tracked_every"), [(0.02, 1), (PERIOD_S * 1.45, 1.45), (PERIOD_S * 2.4, 2.4)])
def test_late_boxes_are_scored_as_late_and_dropped_frames_are_counted(
    recording: Path, latency_s: float, tracked_every: float
) -> None:
    tracker = BrightestSpot()
    live = evaluate_streaming(thermal_input(recording), tracker, latency_s=latency_s)
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
    assert tracker.stamps == sorted(tracker.stamps)


def test_the_gap_grows_with_latency_and_is_reported(recording: Path) -> None:
    offline = evaluate_offline(thermal_input(recording), BrightestSpot()).summary
    assert offline is not None
    scores = [
        evaluate_streaming(thermal_input(recording), BrightestSpot(), latency_s=latency).summary.auc
        for latency in (0.0, 0.03, 0.06, 0.12)
    ]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    live = evaluate_streaming(thermal_input(recording), BrightestSpot(), latency_s=0.06)
    plain = streaming_json(live, offline)
    assert plain["offline_minus_streaming"]["auc"] == pytest.approx(offline.auc - live.summary.auc)
    assert plain["latency"] == {"measured": False, "p50_ms": 60.0, "p95_ms": 60.0, "p99_ms": 60.0}


def test_latency_is_measured_when_none_is_stated(recording: Path) -> None:
    live = evaluate_streaming(thermal_input(recording), BrightestSpot())
    assert live.measured
    assert len(live.latency_s) == live.tracked
    assert all(0 < cost < 5 for cost in live.latency_s)


def test_an_impossible_latency_is_refused(recording: Path) -> None:
    for latency_s in (-1.0, float("nan"), float("inf")):
        with pytest.raises(EvaluationError, match=f"latency {latency_s} s; expected a finite number from 0"):
            evaluate_streaming(thermal_input(recording), BrightestSpot(), latency_s=latency_s)


def test_a_recording_without_true_boxes_cannot_be_streamed(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", walking_square(5)[0])
    with pytest.raises(EvaluationError, match="no true boxes; streaming evaluation needs them"):
        evaluate_streaming(thermal_input(path), BrightestSpot(), init_box=BoundingBox(10, 20, 20, 20))


def test_boxes_moved_on_to_the_frames_own_time_make_up_for_much_of_the_lateness(recording: Path) -> None:
    offline = evaluate_offline(thermal_input(recording), BrightestSpot())
    live = evaluate_streaming(thermal_input(recording), BrightestSpot(), latency_s=PERIOD_S * 2.4)
    assert offline.summary is not None
    late, moved_on = (offline.summary.auc - summary.auc for summary in (live.summary, live.predicted))
    assert late > 0.3
    assert moved_on < 0.6 * late
    report = streaming_json(live, offline.summary)
    assert report["predicted"]["auc"] == live.predicted.auc


def test_boxes_that_are_in_time_stay_as_they_are(recording: Path) -> None:
    live = evaluate_streaming(thermal_input(recording), BrightestSpot(), latency_s=0.0)
    assert live.predicted == live.summary
