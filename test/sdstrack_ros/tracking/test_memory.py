"""The memory of past frames is bounded in bytes, and images that cannot be used are let go of."""

from __future__ import annotations

import pytest

from ckd_core.errors import TrackingError
from ckd_core.frame import FrameError, Modality
from sdstrack_ros.sync.frame_builder import FrameBuilder, Rejection
from sdstrack_ros.sync.types import Sample, SyncedSet
from sdstrack_ros.tracking.source_frame import History, SourceFrame
from sdstrack_ros.tracking.target_requests import BoxRequest
from testkit.ros.camera import image_message
from testkit.session_bench import (
    BOX,
    BROKEN_MESSAGE,
    COLOR,
    COLOR_MESSAGE,
    DEPTH_MESSAGE,
    PERIOD_NS,
    Bench,
    source_frame,
)


def test_the_memory_of_the_history_is_bounded_and_the_oldest_frames_give_way() -> None:
    size = len(COLOR_MESSAGE.data) + len(DEPTH_MESSAGE.data)
    history = History(30, max_bytes=4 * size)
    frames = [source_frame(index) for index in range(10)]
    for frame in frames:
        history.append(frame)
        assert history.nbytes <= 4 * size
    assert history.span_ns() == (7 * PERIOD_NS, 10 * PERIOD_NS)
    assert history.evicted == 6
    with pytest.raises(FrameError, match="had to make room for newer ones"):
        frames[0].images()
    history.elsewhere_bytes = 2 * size
    history.append(source_frame(10))
    assert history.nbytes == 2 * size
    history.make_room(100 * size, frames[9])
    assert [frame.sequence for frame in history.since(10 * PERIOD_NS, PERIOD_NS)] == [9, 10], "asked for, newest"


def test_catching_up_holds_no_more_than_the_budget_at_a_time() -> None:
    message = image_message(COLOR, "bgr8", 0)
    size = len(message.data) + len(DEPTH_MESSAGE.data)
    bench = Bench()
    bench.history.max_bytes = 10 * size  # eight frames wait; decoding one more takes three times its colour
    frames = [source_frame(index, message) for index in range(8)]
    for frame in frames:
        bench.history.append(frame)
    served = bench.session.on_request(BoxRequest("init_box", BOX, PERIOD_NS))
    assert served[0].outcome.accepted
    assert "caught up through 7 frames" in served[0].outcome.reason
    assert "skipped" not in served[0].outcome.reason
    assert sum(frame.nbytes for frame in frames) <= 10 * size
    bench.history.max_bytes = 2 * size
    late = [source_frame(index, message) for index in range(8, 10)]
    for frame in late:
        bench.history.append(frame)
    assert frames[0].nbytes == 0, "tracked, and let go"


def test_the_images_of_a_frame_that_the_tracker_refuses_are_let_go() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    bench.tracker.error = TrackingError("another size")
    before = bench.history.nbytes
    for index in range(1, 5):
        with pytest.raises(TrackingError, match="another size"):
            bench.frame(index)
    assert bench.history.nbytes == before


def test_a_frame_without_a_usable_image_is_decoded_and_reported_once() -> None:
    rejections: list[Rejection] = []
    synced = SyncedSet(PERIOD_NS, Sample(PERIOD_NS, 0, BROKEN_MESSAGE), None, False, 0, 0, 0)
    source = SourceFrame(0, synced, FrameBuilder(Modality.DEPTH), rejections.append)
    for _ in range(5):
        with pytest.raises(FrameError, match="has no usable image"):
            source.images()
    assert len(rejections) == 1
    assert source.nbytes == 0
