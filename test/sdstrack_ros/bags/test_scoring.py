from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import summarize_track
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.bags.evaluate import EvaluateRequest, evaluate
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

COUNT, SIDE, SPEED = 40, 20, 4
PERIOD_S = 1 / 30


def film(count: int = COUNT) -> tuple[list[MultiModalFrame], list[BoundingBox | None]]:
    """A bright square that walks to the right on a dark ground; absent in frames 10 and 11."""
    frames, boxes = [], []
    for i in range(count):
        rgb = np.random.default_rng(i).integers(0, 40, (64, 240, 3), dtype=np.uint8)
        aux = rgb[..., 0].copy()
        x = 10 + i * SPEED
        if i not in (10, 11):
            rgb[20 : 20 + SIDE, x : x + SIDE] = 250
            aux[20 : 20 + SIDE, x : x + SIDE] = 250
        frames.append(MultiModalFrame(i * PERIOD_S, rgb, aux, Modality.THERMAL))
        boxes.append(None if i in (10, 11) else BoundingBox(x, 20, SIDE, SIDE))
    return frames, boxes


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
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", *film())


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
    rows = ["nan,nan,nan,nan" if box is None else ",".join(map(str, box)) for box in film()[1]]
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
    truth = film()[1]
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
    path = write_bag(tmp_path / "untold", film(5)[0])
    with pytest.raises(EvaluationError, match=r"no true boxes to start on .* there are: .*image_raw"):
        evaluate_offline(given(path), BrightestSpot())
    report = evaluate_offline(given(path), BrightestSpot(), init_box=BoundingBox(10, 20, SIDE, SIDE))
    assert report.summary is None
    assert all(row.box is not None for row in report.rows)
    empty = write_bag(tmp_path / "absent", film(5)[0], [None] * 5)
    with pytest.raises(EvaluationError, match="never started: no frame has a true box"):
        evaluate_offline(given(empty), BrightestSpot())
    with pytest.raises(EvaluationError, match="latency -1"):
        evaluate_streaming(given(path), BrightestSpot(), latency_s=-1)


@dataclass(frozen=True)
class Weights:
    path: Path
    model: str

    def settings(self, modality: str) -> dict[str, str]:
        """Node parameters; the plain engine has nothing to compile."""
        plain = {"device": "cpu", "engine": "torch/fp32", "modality": modality}
        return {"model": self.model, "weights": str(self.path), **plain}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    name = "sdstrack_tiny_test"
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model(name, seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal", "event"], "seeded random numbers"))
    return Weights(path, name)


def test_the_same_recording_gives_byte_identical_results_with_a_real_network(
    recording: Path, weights: Weights, tmp_path: Path
) -> None:
    overrides = weights.settings("thermal")
    outputs = []
    for run in ("a", "b"):
        lines = list(
            evaluate(EvaluateRequest(recording, overrides=overrides, out=tmp_path / run, latency_s=0.05, realtime=True))
        )
        outputs.append(
            [(tmp_path / run / name).read_bytes() for name in ("result.json", "boxes.txt", "streaming.json")]
        )
        assert any("every frame: AUC" in line for line in lines)
        assert any("price of being late" in line for line in lines)
    assert outputs[0] == outputs[1]
    result = json.loads(outputs[0][0])
    assert len(result["frames"]) == len(outputs[0][1].splitlines()) == COUNT
    assert result["synchronizer"]["paired"] == COUNT
    assert str(tmp_path) not in outputs[0][0].decode()


def test_the_command_line_evaluates_with_a_parameter_file(recording: Path, weights: Weights, tmp_path: Path) -> None:
    import sdstrack_ros.commands
    from ckd_core.cli import build_app

    config = tmp_path / "node.yaml"
    config.write_text(
        "/**:\n  ros__parameters:\n    modality: thermal\n    device: cpu\n    engine: torch/fp32\n"
        f"    model: {weights.model}\n    weights: {weights.path}\n    rgb_topic: /camera/color/image_raw\n"
    )
    app = build_app(sdstrack_ros.commands)
    words = ["evaluate", str(recording), "--config", str(config)]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"{COUNT} frames: {COUNT} pairs" in done.output
    assert (tmp_path / "out" / "result.json").exists()
    refused = CliRunner().invoke(app, [*words, "--rgb", "/none"])
    assert isinstance(refused.exception, TrackingError)
    assert "no topic '/none'; there are:" in str(refused.exception)


@pytest.mark.shared
def test_a_real_recording_is_evaluated_whole(shared_data: Path, weights: Weights, tmp_path: Path) -> None:
    bag = shared_data / "bags" / "rgbt_clip_0111_1753_mcap_compressed"
    truth = shared_data / "sequences" / "rgbt_m3svd_clip_0111_1753" / "groundtruth.txt"
    overrides = weights.settings("thermal")
    lines = list(
        evaluate(
            EvaluateRequest(bag, overrides=overrides, truth_file=truth, out=tmp_path, realtime=True, latency_s=0.04)
        )
    )
    assert any(line.startswith("20 frames: 20 pairs") for line in lines)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["summary"]["frames"] == 19
    assert result["rejected"] == {}
