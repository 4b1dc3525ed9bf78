from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.scoring import ReasonCounts, bag_input, evaluate_offline
from sdstrack_ros.bags.storage.opening import IMAGE, open_bag
from sdstrack_ros.bags.streaming import evaluate_streaming
from sdstrack_ros.bags.truth import EvaluationError
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.messages.stamps import NS_PER_S, to_ns
from sdstrack_ros.sync.types import SyncConfig
from testkit.bags.scenes import COUNT, SIDE, BrightestSpot, custom_bag, image_message, thermal_input, walking_square
from testkit.reliability.lengths import examples


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", *walking_square())


def test_every_frame_is_tracked_and_scored_against_the_truth_topic(recording: Path) -> None:
    report = evaluate_offline(thermal_input(recording), BrightestSpot())
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
        frames = list(source.frames(bag))
    assert [np.unique(frame.frame.aux).tolist() for frame in frames] == [[pytest.approx(1.5)]] * 3


def test_truth_from_a_file_scores_the_same(recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "truth.txt"
    rows = ["nan,nan,nan,nan" if box is None else ",".join(map(str, box)) for box in walking_square()[1]]
    file.write_text("\n".join(rows))
    by_file = evaluate_offline(thermal_input(recording), BrightestSpot(), truth_file=file)
    assert by_file.summary == evaluate_offline(thermal_input(recording), BrightestSpot()).summary
    file.write_text("\n".join(rows[:-1]))
    with pytest.raises(EvaluationError, match=rf"truth.txt has {COUNT - 1} boxes, the recording {COUNT} colour frames"):
        evaluate_offline(thermal_input(recording), BrightestSpot(), truth_file=file)


class Refuses(BrightestSpot):
    def update(self, frame: MultiModalFrame) -> TrackResult:
        if len(self.stamps) == 5:
            self.stamps.append(frame.stamp)
            raise TrackingError("a frame that this one does not like")
        return super().update(frame)


def test_a_frame_that_the_tracker_refuses_counts_as_a_miss(recording: Path) -> None:
    report = evaluate_offline(thermal_input(recording), Refuses())
    assert [row.refused for row in report.rows if row.refused] == ["a frame that this one does not like"]
    assert report.rows[5].box is None
    assert report.summary is not None
    assert report.summary.lost == 1


def test_without_a_box_to_start_on_the_error_lists_the_topics(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "unlabelled", walking_square(5)[0])
    with pytest.raises(EvaluationError, match=r"no true boxes to start on .* topics are: .*image_raw"):
        evaluate_offline(thermal_input(path), BrightestSpot())
    report = evaluate_offline(thermal_input(path), BrightestSpot(), init_box=BoundingBox(10, 20, SIDE, SIDE))
    assert report.summary is None
    assert all(row.box is not None for row in report.rows)
    empty = write_bag(tmp_path / "absent", walking_square(5)[0], [None] * 5)
    with pytest.raises(EvaluationError, match="never started: no frame has a true box"):
        evaluate_offline(thermal_input(empty), BrightestSpot())


@pytest.mark.parametrize("stream", ["thermal", "both"])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_images_without_a_stamp_are_refused_and_counted_as_in_the_node(
    recording: Path, tmp_path: Path, stream: str, every: int
) -> None:
    messages = []
    unstamped = 0
    with open_bag(recording) as bag:
        for index, message in enumerate(bag.messages([t.name for t in bag.topics if t.type_name == IMAGE])):
            image = bag.decode(message)
            if (stream == "both" or "thermal" in message.topic) and index // 2 % every == 0:
                image.header.stamp.sec = image.header.stamp.nanosec = 0
                unstamped += 1
            messages.append((message.topic, IMAGE, message.time_ns, image))
    source, box = thermal_input(custom_bag(tmp_path / "bag", messages)), BoundingBox(10, 20, SIDE, SIDE)
    if (stream, every) == ("both", 1):
        with pytest.raises(EvaluationError, match=r"no frame that can be tracked \(\d+ times: .*header.stamp is 0"):
            evaluate_offline(source, BrightestSpot(), init_box=box)
        return
    report = evaluate_offline(source, BrightestSpot(), init_box=box)
    assert unstamped > 0
    assert sum(report.rejections.values()) == unstamped
    assert all("header.stamp is 0; the driver" in reason for reason in report.rejections)
    assert len(report.rows) == COUNT - (unstamped // 2 if stream == "both" else 0)
    assert (np.diff([row.stamp_ns for row in report.rows]) < 1_000_000_000).all()


@pytest.mark.parametrize(
    "reason",
    [
        "cam: truncated jpeg: {n} bytes without an end marker",
        "cam: {n} bytes of data, but height 7 x step {n} = {n} bytes",
        "cam: neither jpeg nor png: the data ({n} bytes) begins with '5249464{n}0000'",
        "cam: compressedDepth with quantisation a = {n}.25, b = -{n}e-3; expected finite, a > 0",
        "the image of {n} x {n} pixels is smaller than the box",
    ],
)
def test_a_cause_is_counted_once_whatever_numbers_its_text_holds(reason: str) -> None:
    counts = ReasonCounts()
    for number in range(1000, 1020):
        counts.add(reason.format(n=number))
    assert counts.counts == {reason.format(n=1000): 20}


def test_causes_that_differ_in_more_than_numbers_stay_apart_and_few() -> None:
    counts = ReasonCounts()
    for encoding in ("rgb8", "rgb16", "16UC1", "32FC1"):
        counts.add(f"cam: encoding '{encoding}' carries no depth")
    assert list(counts.counts.values()) == [1] * 4
    for index in range(3000):
        counts.add(f"cam: unknown encoding '{chr(0x4E00 + index)}\x1b[31m\n{'x' * 100_000}'")
    assert sum(counts.counts.values()) == 3004
    assert len(counts.describe()) < 10_000
    assert counts.describe().isprintable()


def _moved(recording: Path, path: Path, moves_ns: list[int]) -> Path:
    """The recording once per entry of `moves_ns`, its stamps moved by that much; the recorder's time goes on."""
    messages, later_ns = [], 0
    with open_bag(recording) as bag:
        length_ns = bag.end_ns - bag.start_ns + 33_000_000
        for move_ns in moves_ns:
            for message in bag.messages([topic.name for topic in bag.topics if topic.type_name == IMAGE]):
                image = bag.decode(message)
                stamp_ns = to_ns(image.header.stamp) + move_ns
                image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
                messages.append((message.topic, IMAGE, message.time_ns + later_ns, image))
            later_ns += length_ns
    return custom_bag(path, messages)


@pytest.mark.parametrize("latency_s", [None, 0.05])
def test_a_recording_that_starts_again_starts_the_target_again(
    recording: Path, tmp_path: Path, latency_s: float | None
) -> None:
    source, box = thermal_input(_moved(recording, tmp_path / "bag", [0, 0])), BoundingBox(10, 20, SIDE, SIDE)
    if latency_s is not None:
        truth = tmp_path / "truth.txt"
        rows = ["nan,nan,nan,nan" if known is None else ",".join(map(str, known)) for known in walking_square()[1]]
        truth.write_text("\n".join([*rows, *rows[1:]]))
        report = evaluate_streaming(source, BrightestSpot(), truth, box, latency_s)
        assert {row.state for row in report.rows[-10:]} == {"TRACKING"}
        return
    offline = evaluate_offline(source, BrightestSpot(), init_box=box)
    assert [row.state for row in offline.rows].count("INIT") == 2
    assert not [row.refused for row in offline.rows if row.refused]
    assert list(offline.time_resets.values()) == [1]
    assert "back before the start box was first used" in next(iter(offline.time_resets))


def test_a_jump_back_to_after_the_start_forgets_the_target_as_in_the_node(recording: Path, tmp_path: Path) -> None:
    hour_ns = 3600 * NS_PER_S
    moved = _moved(recording, tmp_path / "bag", [0, 2 * hour_ns, hour_ns])
    report = evaluate_offline(thermal_input(moved), BrightestSpot(), init_box=BoundingBox(10, 20, SIDE, SIDE))
    assert "choose a target again" in next(iter(report.time_resets))
    assert [row.state for row in report.rows[:COUNT]].count("INIT") == 1
    assert report.rows[2 * COUNT - 5].box is not None
    assert {row.box for row in report.rows[-COUNT + 5 :]} == {None}
    assert not [row.refused for row in report.rows if row.refused]


class Blind(BrightestSpot):
    """A tracker that stays where it is while colour is missing."""

    def update(self, frame: MultiModalFrame) -> TrackResult:
        if frame.rgb is None:
            return TrackResult(frame.stamp, self.box, 0.0, TrackState.LOST)
        return super().update(frame)


@settings(max_examples=examples(25, 3000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(24, "rgb", 1)])
@example([(0, "rgb", 1), (3, "rgb", 60), (4, "rgb", 120)])
@given(
    st.lists(
        st.tuples(st.integers(0, 24), st.sampled_from(["rgb", "thermal"]), st.integers(1, 2**31 - 1)),
        max_size=3,
        unique_by=(lambda outlier: outlier[:2], lambda outlier: outlier[2] // 60),
    )
)
def test_up_to_three_outliers_anywhere_lose_no_target_and_each_image_is_tracked_or_counted(
    tmp_path: Path, outliers: list[tuple[int, str, int]]
) -> None:
    glitches = {outlier[:2]: outlier[2] for outlier in outliers}
    messages = []
    for index in range(25):
        time_ns = 1_700_000_000 * NS_PER_S + index * NS_PER_S // 15
        for stream in ("rgb", "thermal"):
            seconds = glitches.get((index, stream))
            stamp_ns = time_ns if seconds is None else seconds * NS_PER_S
            messages.append((f"/{stream}/image", IMAGE, time_ns, image_message(stamp_ns)))
    source = thermal_input(custom_bag(Path(tempfile.mkdtemp(dir=tmp_path)) / "bag", messages))
    report = evaluate_offline(source, Blind(), init_box=BoundingBox(0, 0, 2, 2))
    assert not [row.refused for row in report.rows if row.refused]
    assert all(row.box is not None for row in report.rows)
    counters = report.counters
    refused = sum(report.rejections.values())
    assert refused <= 3 + 6  # an outlier among the first images takes the images up to the confirmation with it
    assert counters.color_in + counters.aux_in + refused == len(messages)
    assert len(report.rows) == counters.paired + counters.color_alone + counters.aux_alone
    assert len(report.rows) >= 25 - 5
