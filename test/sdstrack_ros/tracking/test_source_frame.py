"""A frame between the synchronizer and the tracker, and the history of frames."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from std_msgs.msg import Header

from ckd_core.frame import Modality
from sdstrack_ros.messages.event_window import EventSlice
from sdstrack_ros.sync.frame_builder import FrameBuilder, Rejection
from sdstrack_ros.sync.types import Sample, SyncedSet
from sdstrack_ros.tracking.source_frame import History, SourceFrame, spread
from testkit.ros.camera import OPTICAL_FRAME
from testkit.session_bench import BROKEN_MESSAGE, DEPTH_MESSAGE, PERIOD_NS, source_frame


def test_history_is_bounded_and_finds_the_nearest_stamp() -> None:
    history = History(5)
    for index in range(20):
        history.append(source_frame(index - 1))
    assert history.span_ns() == (15 * PERIOD_NS, 19 * PERIOD_NS)
    assert [f.sequence for f in history.since(17 * PERIOD_NS + 1000, 2000)] == [16, 17, 18]
    assert history.since(17 * PERIOD_NS + 3000, 2000) == ()


@pytest.mark.parametrize(("count", "limit"), [(0, 3), (2, 3), (3, 3), (10, 3), (29, 8), (300, 1)])
def test_spread_keeps_the_last_and_the_order(count: int, limit: int) -> None:
    frames = tuple(source_frame(index) for index in range(count))
    chosen = [frame.sequence for frame in spread(frames, limit)]
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen))
    assert not count or chosen[-1] == count - 1


def event_window() -> EventSlice:
    header = Header(frame_id="event_camera")
    x = y = np.zeros(1, np.uint16)
    return EventSlice(header, 8, 6, 0, PERIOD_NS, x, y, np.zeros(1, np.int64), np.ones(1, np.uint8))


def test_a_decoded_frame_lets_go_of_its_messages() -> None:
    window = event_window()
    kept = weakref.ref(window.t_ns)
    source = SourceFrame(
        0, SyncedSet(PERIOD_NS, None, Sample(PERIOD_NS, 0, window), False, 0, 0, 0), FrameBuilder(Modality.EVENT)
    )
    del window
    assert kept() is not None
    images = source.images()
    assert kept() is None
    assert source.images() is images


def test_a_frame_reports_each_image_that_it_cannot_use_and_keeps_the_other() -> None:
    rejections: list[Rejection] = []
    stamp_ns = 7 * PERIOD_NS
    samples = Sample(stamp_ns, 2_000_000_000, BROKEN_MESSAGE), Sample(stamp_ns, 1_000_000_000, DEPTH_MESSAGE)
    synced = SyncedSet(stamp_ns, *samples, False, 0, 0, 2_500_000_000)
    source = SourceFrame(3, synced, FrameBuilder(Modality.DEPTH, "/rgb", "/aux"), rejections.append)
    assert (source.sequence, source.stamp_ns, source.frame_id) == (3, stamp_ns, OPTICAL_FRAME)
    assert (source.arrived, source.released) == (1.0, 2.5)
    assert not rejections, "nothing is decoded before it is asked for"
    assert source.images().presence == (False, True)
    assert [(rejection.stream, rejection.topic) for rejection in rejections] == [("rgb", "/rgb")]
    assert "no_such_encoding" in rejections[0].reason


def test_a_frame_of_events_alone_has_the_header_of_its_last_packet() -> None:
    synced = SyncedSet(PERIOD_NS, None, Sample(PERIOD_NS, 0, event_window()), False, 0, 0, 0)
    source = SourceFrame(0, synced, FrameBuilder(Modality.EVENT))
    assert source.frame_id == "event_camera"
    assert source.images().presence == (False, True)
