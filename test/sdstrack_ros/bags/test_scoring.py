from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.scoring import ReasonCounts, bag_input, evaluate_offline
from sdstrack_ros.bags.storage import IMAGE, open_bag
from sdstrack_ros.bags.truth import EvaluationError
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.sync.types import SyncConfig
from testkit.bag_scenes import COUNT, SIDE, BrightestSpot, custom_bag, thermal_input, walking_square


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
