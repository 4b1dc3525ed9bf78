from __future__ import annotations

import math
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, FrameError, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.tracking.session import GIVE_UP_AFTER_FRAMES, PENDING_S, Answer, Reply, Session
from sdstrack_ros.tracking.source_frame import History, SourceFrame, spread
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    Candidate,
    CandidatesRequest,
    PixelRequest,
    ResetRequest,
    TargetError,
    TargetRequest,
    box_at_pixel,
    checked_box,
)

SIZE = (640, 480)
PERIOD_NS = 33_000_000
BOX = BoundingBox(200.0, 180.0, 60.0, 40.0)


def text_of(box: BoundingBox) -> str:
    return f"({', '.join(f'{value:.1f}' for value in box)})"


def scene(index: int = 0) -> MultiModalFrame:
    depth = np.full((480, 640), 4000, np.uint16)
    depth[180:220, 200:260] = 1500
    return MultiModalFrame(float(index), np.zeros((480, 640, 3), np.uint8), depth, Modality.DEPTH)


class Recorder:
    """A tracker that writes down what it is asked and answers with the states it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []
        self.state = TrackState.TRACKING
        self.error: Exception | None = None
        self.refusal: Exception | None = None
        self.box = BOX

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("start", frame.stamp))
        self.box = box

    def update(self, frame: MultiModalFrame) -> TrackResult:
        if self.error is not None:
            raise self.error
        self.calls.append(("update", frame.stamp))
        return TrackResult(frame.stamp, self.box, 0.9, self.state)

    def reset(self) -> None:
        self.calls.append(("reset", 0.0))


class Bench:
    """A session, its history, a clock that the test moves, and frames."""

    def __init__(self, **settings: object) -> None:
        self.tracker = Recorder()
        self.history = History(30)
        self.settings = replace(Settings(), **settings)  # type: ignore[arg-type]  # names and types are the test's
        self.now = 0.0
        self.session = Session(self.tracker, self.history, lambda: self.settings, lambda: self.now)

    def arrive(self, index: int) -> SourceFrame:
        """A frame that leaves the synchronizer but is not looked at yet."""
        source = SourceFrame(index, (index + 1) * PERIOD_NS, "optical", 0.0, 0.0, lambda: scene(index))
        self.history.append(source)
        return source

    def look(self, source: SourceFrame) -> tuple[list[Reply], Answer | None]:
        """What the tracking thread does with a frame."""
        waited = self.session.on_waiting()
        replies, answer = self.session.on_frame(source)
        return waited + replies, answer

    def frame(self, index: int) -> tuple[list[Reply], Any]:
        return self.look(self.arrive(index))

    def ask(self, request: TargetRequest) -> Any:
        """The reply to a request; None: it waits, or needs none."""
        replies = self.session.on_request(request)
        assert len(replies) <= 1
        return replies[0] if replies else None


def test_a_box_in_colour_pixels_does_not_start_on_a_smaller_second_image() -> None:
    bench = Bench()
    bench.frame(0)
    small = replace(scene(1), rgb=None, aux=np.ascontiguousarray(scene(1).aux[::2, ::2]))
    source = SourceFrame(1, 2 * PERIOD_NS, "optical", 0.0, 0.0, lambda: small)
    bench.history.append(source)
    bench.look(source)
    reply = bench.ask(BoxRequest("init_roi", BOX))
    assert reply is not None
    assert not reply.taken
    assert "colour is missing, and a box in its" in reply.text


def test_without_a_target_frames_are_answered_empty() -> None:
    bench = Bench()
    replies, answer = bench.frame(0)
    assert not replies
    assert answer.result is None
    assert answer.target_id == ""
    assert bench.session.state == "NONE"


def test_a_box_starts_on_the_newest_frame_and_keeps_its_id() -> None:
    bench = Bench()
    bench.frame(0)
    reply = bench.ask(BoxRequest("init_roi", BOX))
    assert reply.taken
    assert reply.text.startswith("init_roi taken: target 1")
    assert reply.answer.result.box == BOX
    ids = {bench.frame(index)[1].target_id for index in range(1, 4)}
    assert ids == {"1"}
    assert bench.ask(BoxRequest("init_roi", BOX)).answer.target_id == "2"


def test_a_box_on_a_past_frame_starts_there_and_catches_up() -> None:
    bench = Bench(catch_up_frames=100)
    for index in range(10):
        bench.frame(index)
    reply = bench.ask(BoxRequest("init_box", BOX, 4 * PERIOD_NS))
    assert bench.tracker.calls == [("start", 3.0), *(("update", float(i)) for i in range(4, 10))]
    assert "caught up through 6 frames" in reply.text
    assert reply.answer.source.sequence == 9
    _, answer = bench.frame(10)
    assert answer.source.sequence == 10


def test_catching_up_is_bounded_and_ends_on_the_newest_frame() -> None:
    bench = Bench(catch_up_frames=4)
    for index in range(30):
        bench.frame(index)
    reply = bench.ask(BoxRequest("init_box", BOX, PERIOD_NS))
    updates = [stamp for name, stamp in bench.tracker.calls if name == "update"]
    assert len(updates) == 4
    assert updates[-1] == 29.0
    assert reply.answer.source.sequence == 29


def test_a_frame_that_catching_up_used_is_not_answered_twice() -> None:
    bench = Bench()
    bench.frame(0)
    waiting = bench.arrive(1)
    assert bench.ask(BoxRequest("init_box", BOX, PERIOD_NS)).answer.source is waiting
    assert bench.session.on_frame(waiting) == ([], None)


def test_a_box_on_a_forgotten_frame_is_refused_with_the_reach_of_the_history() -> None:
    bench = Bench()
    for index in range(40):
        bench.frame(index)
    reply = bench.ask(BoxRequest("init_box", BOX, PERIOD_NS))
    assert not reply.taken
    assert "history reaches 0.96 s back" in reply.text
    assert bench.session.state == "NONE"


def test_a_box_that_comes_before_its_frame_waits_for_it() -> None:
    bench = Bench()
    bench.frame(0)
    assert bench.ask(BoxRequest("init_box", BOX, 3 * PERIOD_NS)) is None
    assert bench.frame(1)[0] == []
    replies, _ = bench.frame(2)
    assert replies[0].taken
    assert bench.tracker.calls[-1] == ("start", 2.0)


def test_a_box_whose_frame_never_comes_is_refused_after_a_second() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_box", BOX, 300 * PERIOD_NS))
    bench.now = PENDING_S + 0.1
    replies, _ = bench.frame(1)
    assert not replies[0].taken
    assert "no frame of stamp 9.900 came" in replies[0].text


def test_a_request_without_any_frame_is_refused_in_time_and_never_met_by_a_later_frame() -> None:
    bench = Bench()
    assert bench.ask(BoxRequest("init_roi", BOX)) is None
    assert bench.session.on_waiting() == []
    bench.now = PENDING_S + 0.1
    assert [reply.text for reply in bench.session.on_waiting()] == ["init_roi refused: no frame came within 1 s"]
    assert bench.ask(BoxRequest("init_roi", BOX)) is None
    bench.now = 600.0
    replies, answer = bench.frame(0)
    assert [reply.text for reply in replies] == ["init_roi refused: no frame came within 1 s"]
    assert answer.result is None


def test_a_request_that_waits_is_told_who_took_its_place() -> None:
    bench = Bench()
    told = "init_box refused: a newer request ({}) took its place before its frame came"
    bench.frame(0)
    assert bench.ask(BoxRequest("init_box", BOX, 5 * PERIOD_NS)) is None
    assert bench.ask(BoxRequest("init_box", BOX, 6 * PERIOD_NS)).text == told.format("init_box")
    impossible = bench.ask(BoxRequest("init_roi", BoundingBox(0, 0, 1, 1)))
    assert impossible.text.startswith("init_roi refused"), "which takes nobody's place"
    replies = bench.session.on_request(BoxRequest("init_roi", BOX))
    assert [reply.text for reply in replies] == [told.format("init_roi"), f"init_roi taken: target 1 at {text_of(BOX)}"]
    assert bench.ask(BoxRequest("init_box", BOX, 5 * PERIOD_NS)) is None
    assert bench.session.on_request(ResetRequest("reset"))[0].text == told.format("reset")
    assert all(not bench.frame(index)[0] for index in range(1, 9))


def test_candidates_never_take_the_place_of_what_somebody_asked_for() -> None:
    bench = Bench(adopt_candidates=True)
    other = (Candidate(BoundingBox(10, 10, 30, 30), "cup", 0.9),)
    bench.frame(0)
    assert bench.ask(CandidatesRequest("candidates", other, 2 * PERIOD_NS)) is None
    assert bench.ask(BoxRequest("init_box", BOX, 2 * PERIOD_NS)) is None, "candidates give way without a word"
    assert bench.ask(CandidatesRequest("candidates", other)) is None
    assert bench.ask(CandidatesRequest("candidates", other, 2 * PERIOD_NS)) is None
    replies, _ = bench.frame(1)
    assert [reply.text for reply in replies] == [f"init_box taken: target 1 at {text_of(BOX)}"]


def test_a_request_that_waits_outlives_the_target_that_is_given_up() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    assert bench.ask(BoxRequest("init_box", BOX, (GIVE_UP_AFTER_FRAMES + 2) * PERIOD_NS)) is None
    bench.tracker.error = TrackingError("another size")
    for index in range(1, GIVE_UP_AFTER_FRAMES):
        with pytest.raises(TrackingError, match="another size"):
            bench.frame(index)
    assert "target forgotten" in bench.frame(GIVE_UP_AFTER_FRAMES)[0][0].text
    assert bench.frame(GIVE_UP_AFTER_FRAMES + 1)[0][0].taken


@pytest.mark.parametrize("what", ["images", "tracker"])
def test_a_bad_frame_on_the_way_does_not_undo_what_was_taken(what: str) -> None:
    bench = Bench()

    def broken() -> MultiModalFrame:
        if what == "images":
            raise FrameError("no usable image")
        bench.tracker.error = RuntimeError("out of memory")
        return scene(1)

    bench.arrive(0)
    bench.history.append(SourceFrame(1, 2 * PERIOD_NS, "optical", 0.0, 0.0, broken))
    last = bench.arrive(2)
    reply = bench.ask(BoxRequest("init_box", BOX, PERIOD_NS))
    assert reply.taken
    assert "caught up through 2 frames" in reply.text
    assert ("1 left out: no usable image" if what == "images" else "2 left out: out of memory") in reply.text
    assert bench.session.state == "TRACKING"
    assert reply.answer.source.sequence == (last.sequence if what == "images" else 0)


def test_a_request_that_fails_for_whatever_reason_is_answered() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    bench.tracker.refusal = RuntimeError("out of memory")
    assert bench.ask(BoxRequest("init_roi", BOX)).text == "init_roi refused: RuntimeError: out of memory"
    assert (bench.session.state, bench.session.target_id) == ("TRACKING", "1")


def test_the_init_box_parameter_waits_for_the_first_frame_however_long() -> None:
    bench = Bench()
    assert bench.ask(BoxRequest("parameter init_box", BOX, patient=True)) is None
    bench.now = 100 * PENDING_S
    replies, _ = bench.frame(0)
    assert replies[0].taken


def test_the_init_box_parameter_waits_past_broken_frames_and_other_requests_do_not() -> None:
    bench = Bench()

    def broken() -> MultiModalFrame:
        raise FrameError("no usable image")

    first = SourceFrame(0, PERIOD_NS, "optical", 0.0, 0.0, broken)
    bench.history.append(first)
    refusal = bench.ask(BoxRequest("init_roi", BOX))
    assert refusal is not None
    assert refusal.text == "init_roi refused: no usable image"
    assert bench.ask(BoxRequest("parameter init_box", BOX, patient=True)) is None
    with pytest.raises(TrackingError, match="no usable image"):
        bench.session.on_frame(first)
    replies, _ = bench.frame(1)
    assert [reply.text for reply in replies] == [f"parameter init_box taken: target 1 at {text_of(BOX)}"]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (BoundingBox(math.nan, 0, 10, 10), "not finite"),
        (BoundingBox(0, 0, 10, 2), "smaller than"),
        (BoundingBox(700, 0, 10, 10), "centre outside"),
        (BoundingBox(-1000, -1000, 2600, 2500), "twice as large"),
    ],
)
def test_impossible_boxes_are_refused_and_the_target_stays(box: BoundingBox, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        checked_box(box, SIZE)
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    reply = bench.ask(BoxRequest("init_roi", box))
    assert not reply.taken
    assert reason in reply.text
    assert bench.session.target_id == "1"


def test_a_click_takes_the_extent_of_the_surface_under_it() -> None:
    box = box_at_pixel(scene(), SIZE, PixelRequest("init_pixel", 230, 200), (64, 64))
    assert box == pytest.approx((200, 180, 60, 40), abs=2)


@pytest.mark.parametrize("spoil", ["no depth", "hole", "everything"])
def test_a_click_takes_the_default_size_where_depth_does_not_tell(spoil: str) -> None:
    frame = scene()
    depth = frame.aux.copy()
    if spoil == "hole":
        depth[150:250, 150:300] = 0
    elif spoil == "everything":
        depth[:] = 1500
    frame = replace(frame, aux=None if spoil == "no depth" else depth)
    box = box_at_pixel(frame, SIZE, PixelRequest("init_pixel", 230, 200), (64, 32))
    assert box == BoundingBox(198, 184, 64, 32)


def test_a_pixel_of_a_calibration_of_another_size_is_found_in_the_image() -> None:
    near = PixelRequest("init_point", 460.5, 400.5, (1280, 960))
    assert box_at_pixel(scene(), SIZE, near, (64, 64)) == pytest.approx((200, 180, 60, 40), abs=2)
    frame = replace(scene(), aux=None)
    assert box_at_pixel(frame, SIZE, near, (64, 32)) == BoundingBox(198, 184, 64, 32)
    outside = PixelRequest("init_point", 639.9, 5.0, (320, 240))
    with pytest.raises(TargetError, match=r"pixel \(1280, 10\) is outside the 640 x 480 image"):
        box_at_pixel(frame, SIZE, outside, (64, 32))


@pytest.mark.parametrize("pixel", [(-1.0, 5.0), (640.0, 5.0), (math.nan, 5.0), (5.0, math.inf)])
def test_a_click_beside_the_image_is_refused(pixel: tuple[float, float]) -> None:
    bench = Bench()
    bench.frame(0)
    reply = bench.ask(PixelRequest("init_pixel", *pixel))
    assert not reply.taken
    assert "init_pixel refused" in reply.text


def test_the_best_candidate_of_the_class_is_adopted_only_when_asked_for() -> None:
    other = BoundingBox(10, 10, 30, 30)
    request = CandidatesRequest(
        "candidates", (Candidate(other, "cup", 0.6), Candidate(BOX, "cup", 0.8), Candidate(other, "dog", 0.99))
    )
    bench = Bench()
    bench.frame(0)
    assert "adopt_candidates is false" in bench.ask(request).text
    bench.settings = replace(bench.settings, adopt_candidates=True, candidate_class="cup")
    reply = bench.ask(request)
    assert reply.answer.result.box == BOX
    assert "cup, score 0.80" in reply.text
    assert bench.ask(request) is None, "a target is being tracked"


def test_weak_candidates_are_refused_with_the_reason() -> None:
    bench = Bench(adopt_candidates=True, candidate_min_score=0.9)
    bench.frame(0)
    reply = bench.ask(CandidatesRequest("candidates", (Candidate(BOX, "cup", 0.8),)))
    assert "score of at least 0.9" in reply.text


def test_a_candidate_takes_over_after_the_target_was_lost_for_long_enough() -> None:
    bench = Bench(adopt_candidates=True, readopt_after_s=1.0)
    request = CandidatesRequest("candidates", (Candidate(BOX, "cup", 0.8),))
    bench.frame(0)
    bench.ask(request)
    bench.tracker.state = TrackState.LOST
    bench.frame(1)
    assert bench.ask(request) is None
    bench.now = 1.5
    bench.frame(2)
    assert bench.ask(request).taken
    assert bench.session.target_id == "2"


def test_reset_forgets_the_target() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    assert bench.ask(ResetRequest("reset")).text == "reset taken: target forgotten"
    assert bench.session.state == "NONE"
    assert bench.frame(1)[1].result is None
    assert "there was no target" in bench.ask(ResetRequest("reset")).text


def test_a_frame_that_the_tracker_refuses_leaves_the_state_and_ten_end_the_target() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    bench.tracker.error = TrackingError("another size")
    for index in range(1, GIVE_UP_AFTER_FRAMES):
        with pytest.raises(TrackingError, match="another size"):
            bench.frame(index)
        assert bench.session.state == "TRACKING"
    replies, answer = bench.frame(GIVE_UP_AFTER_FRAMES)
    assert "target forgotten" in replies[0].text
    assert answer.result is None
    assert bench.session.state == "NONE"


def test_history_is_bounded_and_finds_the_nearest_stamp() -> None:
    history = History(5)
    for index in range(20):
        history.append(SourceFrame(index, index * PERIOD_NS, "", 0.0, 0.0, scene))
    assert history.span_ns() == (15 * PERIOD_NS, 19 * PERIOD_NS)
    assert [f.sequence for f in history.since(17 * PERIOD_NS + 1000, 2000)] == [17, 18, 19]
    assert history.since(17 * PERIOD_NS + 3000, 2000) == ()


@pytest.mark.parametrize(("count", "limit"), [(0, 3), (2, 3), (3, 3), (10, 3), (29, 8), (300, 1)])
def test_spread_keeps_the_last_and_the_order(count: int, limit: int) -> None:
    frames = tuple(SourceFrame(index, index, "", 0.0, 0.0, scene) for index in range(count))
    chosen = [frame.sequence for frame in spread(frames, limit)]
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen))
    assert not count or chosen[-1] == count - 1


def test_a_decoded_frame_lets_go_of_what_it_was_decoded_from() -> None:
    class Messages:
        def decode(self) -> MultiModalFrame:
            return scene()

    messages = Messages()
    held = weakref.ref(messages)
    source = SourceFrame(0, PERIOD_NS, "", 0.0, 0.0, messages.decode)
    del messages
    assert held() is not None
    images = source.images()
    assert held() is None
    assert source.images() is images
