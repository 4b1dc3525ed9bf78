from __future__ import annotations

import math
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from std_msgs.msg import Header

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.messages.event_window import EventSlice
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.sync.frame_builder import FrameBuilder, Rejection
from sdstrack_ros.sync.types import Sample, SyncedSet
from sdstrack_ros.tracking.results import Ending, FrameResult
from sdstrack_ros.tracking.session import GIVE_UP_AFTER_FRAMES, PENDING_S, Session
from sdstrack_ros.tracking.source_frame import History, SourceFrame, spread
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    Candidate,
    CandidatesRequest,
    PixelRequest,
    RequestOutcome,
    ResetRequest,
    TargetError,
    TargetRequest,
    box_at_pixel,
    checked_box,
)
from testkit.ros_camera import OPTICAL_FRAME, image_message

SIZE = (640, 480)
PERIOD_NS = 33_000_000
BOX = BoundingBox(200.0, 180.0, 60.0, 40.0)


def text_of(box: BoundingBox) -> str:
    return f"({', '.join(f'{value:.1f}' for value in box)})"


COLOR = np.zeros((480, 640, 3), np.uint8)
DEPTH = np.full((480, 640), 4000, np.uint16)
DEPTH[180:220, 200:260] = 1500
COLOR_MESSAGE, DEPTH_MESSAGE = image_message(COLOR, "rgb8", 0), image_message(DEPTH, "16UC1", 0)
BROKEN_MESSAGE = image_message(COLOR, "no_such_encoding", 0)


def scene() -> MultiModalFrame:
    return MultiModalFrame(0.0, COLOR, DEPTH, Modality.DEPTH)


def source_frame(index: int, color: Any = COLOR_MESSAGE, aux: Any = DEPTH_MESSAGE, now: float = 0.0) -> SourceFrame:
    """Frame `index` of a stream, released at `now` seconds; None where a camera sent nothing."""
    stamp_ns, now_ns = (index + 1) * PERIOD_NS, round(now * 1e9)
    samples = (None if message is None else Sample(stamp_ns, now_ns, message) for message in (color, aux))
    return SourceFrame(index, SyncedSet(stamp_ns, *samples, False, 0, 0, now_ns), FrameBuilder(Modality.DEPTH))


def broken_frame(index: int) -> SourceFrame:
    return source_frame(index, BROKEN_MESSAGE, None)


NO_IMAGE = "the frame of stamp 0.033 has no usable image"
INIT_BOX_PARAMETER = BoxRequest("parameter", BOX, patient=True, detail="init_box")


class Script:
    """What a tracker and its forks record, and the states and errors that the test sets; by the number of the target.

    Attributes:
        state: of every target that `states` does not name.
        error: raised by `update`.
        refusal: raised by `start`.

    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.seen: list[tuple[int, tuple[int, ...]]] = []  # frame and targets of each `update`
        self.state = TrackState.TRACKING
        self.states: dict[int, TrackState] = {}
        self.boxes: dict[int, BoundingBox] = {}
        self.error: Exception | None = None
        self.refusal: Exception | None = None


class Recorder:
    """A tracker that records which frames it receives and returns what the script says."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.targets: dict[int, BoundingBox] = {}

    def fork(self) -> Recorder:
        return Recorder(self.script)

    def start(self, frame: MultiModalFrame, boxes: dict[int, BoundingBox]) -> None:
        if self.script.refusal is not None:
            raise self.script.refusal
        self.script.calls.append(("start", index_of(frame)))
        self.targets = dict(boxes)

    def join(self, fork: Recorder) -> None:
        self.targets |= fork.targets

    def remove(self, target: int) -> None:
        del self.targets[target]

    def update(self, frame: MultiModalFrame) -> dict[int, TrackResult]:
        script = self.script
        if script.error is not None:
            raise script.error
        script.calls.append(("update", index_of(frame)))
        script.seen.append((index_of(frame), tuple(self.targets)))
        return {
            number: TrackResult(
                frame.stamp, script.boxes.get(number, box), 0.9, script.states.get(number, script.state)
            )
            for number, box in self.targets.items()
        }

    def reset(self) -> None:
        self.script.calls.append(("reset", -1))
        self.targets = {}


def id_of(result: FrameResult) -> str:
    """Id of the only target."""
    (target,) = result.targets
    return target.target_id


def index_of(frame: MultiModalFrame) -> int:
    return round(frame.stamp * 1e9 / PERIOD_NS) - 1


class Bench:
    """A session, its history, a clock that the test moves, and frames."""

    def __init__(self, **settings: object) -> None:
        self.tracker = Script()
        self.history = History(30)
        self.settings = replace(Settings(), **settings)  # type: ignore[arg-type]  # names and types are the test's
        self.now = 0.0
        self.session = Session(Recorder(self.tracker), self.history, lambda: self.settings, lambda: self.now)

    def arrive(self, source: SourceFrame | int) -> SourceFrame:
        """A frame leaves the synchronizer; the tracking thread has not served it yet."""
        if isinstance(source, int):
            source = source_frame(source, now=self.now)
        self.history.append(source)
        return source

    def frame(self, source: SourceFrame | int) -> tuple[list[str], Any]:
        """A frame arrives and is served; returns the outcomes of the requests that waited, and the frame's result."""
        arrived = self.arrive(source)
        outcomes = [str(served.outcome) for served in self.session.on_waiting()]
        return outcomes, self.session.on_frame(arrived)

    def serve(self, request: TargetRequest) -> list[str]:
        """Outcomes of a request and of the one that it replaced."""
        return [str(served.outcome) for served in self.session.on_request(request)]

    def ask(self, request: TargetRequest) -> str:
        """Outcome of a request; '' while it waits, or when it needs none."""
        outcomes = self.serve(request)
        assert len(outcomes) <= 1
        return outcomes[0] if outcomes else ""

    def started(self, request: TargetRequest) -> Any:
        """The result of the frame that a target started on, or caught up to."""
        (served,) = self.session.on_request(request)
        assert served.outcome.accepted, str(served.outcome)
        return served.frame_result


def test_a_box_in_colour_pixels_does_not_start_on_a_smaller_auxiliary_image() -> None:
    bench = Bench()
    bench.frame(0)
    bench.frame(source_frame(1, None, image_message(np.ascontiguousarray(DEPTH[::2, ::2]), "16UC1", 0)))
    assert bench.ask(BoxRequest("init_roi", BOX)).startswith("init_roi refused: colour is missing, and a box in its")


def test_without_a_target_frames_have_empty_results() -> None:
    bench = Bench()
    outcomes, result = bench.frame(0)
    assert not outcomes
    assert result.targets == ()
    assert bench.session.state == "NONE"


def test_a_box_starts_on_the_newest_frame_and_keeps_its_id() -> None:
    bench = Bench()
    bench.frame(0)
    (served,) = bench.session.on_request(BoxRequest("init_roi", BOX))
    assert served.outcome == RequestOutcome("init_roi", "", accepted=True, reason=f"target 1 at {text_of(BOX)}")
    assert served.frame_result is not None
    assert [target.box for target in served.frame_result.targets] == [BOX]
    ids = [id_of(bench.frame(index)[1]) for index in range(1, 4)]
    assert ids == ["1", "1", "1"]
    assert id_of(bench.started(BoxRequest("init_roi", BOX))) == "2"


@pytest.mark.parametrize(
    "ask",
    [
        BoxRequest("init_roi", BOX),
        BoxRequest("init_box", BOX, 4 * PERIOD_NS),
        INIT_BOX_PARAMETER,
        PixelRequest("init_pixel", 230.0, 200.0),
        CandidatesRequest("candidates", (Candidate(BOX, "", 0.9),), 9 * PERIOD_NS),
    ],
    ids=lambda request: request.origin,
)
def test_no_target_starts_in_the_picture_that_a_dead_camera_left_behind(ask: TargetRequest) -> None:
    bench = Bench(stale_after_s=2.0, adopt_candidates=True)
    for index in range(10):
        bench.frame(index)
    bench.now = 50.0
    assert bench.ask(ask).endswith(
        "refused: the newest frame is 50.0 s old; expected at most 2 s (stale_after_s): images have stopped"
    )
    assert not bench.tracker.calls
    assert bench.session.state == "NONE"
    bench.now = 2.0
    assert " accepted: target 1 " in bench.ask(ask)


def test_a_box_for_a_frame_to_come_still_waits_while_images_pause() -> None:
    bench = Bench(stale_after_s=2.0)
    bench.frame(0)
    bench.now = 50.0
    assert bench.ask(BoxRequest("init_box", BOX, 4 * PERIOD_NS)) == ""
    outcomes, _ = bench.frame(3)
    assert outcomes == [f"init_box accepted: target 1 at {text_of(BOX)}"]


def test_a_box_on_a_past_frame_starts_there_and_catches_up() -> None:
    bench = Bench(catch_up_frames=100)
    for index in range(10):
        bench.frame(index)
    (served,) = bench.session.on_request(BoxRequest("init_box", BOX, 4 * PERIOD_NS))
    assert bench.tracker.calls == [("start", 3), *(("update", i) for i in range(4, 10))]
    assert "caught up through 6 frames" in served.outcome.reason
    assert served.frame_result is not None
    assert served.frame_result.source.sequence == 9
    _, result = bench.frame(10)
    assert result.source.sequence == 10


def test_catching_up_is_bounded_and_ends_on_the_newest_frame() -> None:
    bench = Bench(catch_up_frames=4)
    for index in range(30):
        bench.frame(index)
    assert bench.started(BoxRequest("init_box", BOX, PERIOD_NS)).source.sequence == 29
    updates = [index for name, index in bench.tracker.calls if name == "update"]
    assert len(updates) == 4
    assert updates[-1] == 29


def test_a_frame_that_served_to_catch_up_is_not_tracked_twice() -> None:
    bench = Bench()
    bench.frame(0)
    waiting = bench.arrive(1)
    assert bench.started(BoxRequest("init_box", BOX, PERIOD_NS)).source is waiting
    assert bench.session.on_frame(waiting) is None


def test_a_box_on_a_forgotten_frame_is_refused_with_the_reach_of_the_history() -> None:
    bench = Bench()
    for index in range(40):
        bench.frame(index)
    outcome = bench.ask(BoxRequest("init_box", BOX, PERIOD_NS))
    assert outcome.startswith("init_box refused")
    assert "history reaches 0.96 s back" in outcome
    assert bench.session.state == "NONE"


def test_a_box_that_comes_before_its_frame_waits_for_it() -> None:
    bench = Bench()
    bench.frame(0)
    assert bench.ask(BoxRequest("init_box", BOX, 3 * PERIOD_NS)) == ""
    assert bench.frame(1)[0] == []
    assert bench.frame(2)[0] == [f"init_box accepted: target 1 at {text_of(BOX)}"]
    assert bench.tracker.calls[-1] == ("start", 2)


def test_a_box_whose_frame_never_comes_is_refused_after_a_second() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_box", BOX, 300 * PERIOD_NS))
    bench.now = PENDING_S + 0.1
    assert bench.frame(1)[0] == ["init_box refused: no frame of stamp 9.900 came within 1 s"]


def test_a_request_without_any_frame_is_refused_in_time_and_never_served_by_a_later_frame() -> None:
    bench = Bench()
    refusal = "init_roi refused: no frame came within 1 s"
    assert bench.ask(BoxRequest("init_roi", BOX)) == ""
    assert bench.session.on_waiting() == []
    bench.now = PENDING_S + 0.1
    assert [str(served.outcome) for served in bench.session.on_waiting()] == [refusal]
    assert bench.ask(BoxRequest("init_roi", BOX)) == ""
    bench.now = 600.0
    outcomes, result = bench.frame(0)
    assert outcomes == [refusal]
    assert result.targets == ()


def test_a_request_that_waits_learns_which_one_took_its_place() -> None:
    bench = Bench()
    replaced = "init_box refused: a newer request ({}) took its place before its frame came"
    bench.frame(0)
    assert bench.ask(BoxRequest("init_box", BOX, 5 * PERIOD_NS)) == ""
    assert bench.ask(BoxRequest("init_box", BOX, 6 * PERIOD_NS)) == replaced.format("init_box")
    impossible = bench.ask(BoxRequest("init_roi", BoundingBox(0, 0, 1, 1)))
    assert impossible.startswith("init_roi refused"), "which takes no other request's place"
    outcomes = bench.serve(BoxRequest("init_roi", BOX))
    assert outcomes == [replaced.format("init_roi"), f"init_roi accepted: target 1 at {text_of(BOX)}"]
    assert bench.ask(BoxRequest("init_box", BOX, 5 * PERIOD_NS)) == ""
    assert bench.serve(ResetRequest("reset"))[0] == replaced.format("reset")
    assert bench.ask(BoxRequest("init_box", BOX, 5 * PERIOD_NS)) == ""
    jump = ResetRequest("jump back in time", detail="by 3.00 s")
    assert bench.serve(jump)[0] == replaced.format("jump back in time by 3.00 s")
    assert all(not bench.frame(index)[0] for index in range(1, 9))


def test_candidates_never_take_the_place_of_what_a_user_asked_for() -> None:
    bench = Bench(adopt_candidates=True)
    other = (Candidate(BoundingBox(10, 10, 30, 30), "cup", 0.9),)
    bench.frame(0)
    assert bench.ask(CandidatesRequest("candidates", other, 2 * PERIOD_NS)) == ""
    assert bench.ask(BoxRequest("init_box", BOX, 2 * PERIOD_NS)) == "", "candidates give way without a word"
    assert bench.ask(CandidatesRequest("candidates", other)) == ""
    assert bench.ask(CandidatesRequest("candidates", other, 2 * PERIOD_NS)) == ""
    assert bench.frame(1)[0] == [f"init_box accepted: target 1 at {text_of(BOX)}"]


def test_a_request_that_waits_outlives_the_target_that_is_given_up() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    assert bench.ask(BoxRequest("init_box", BOX, (GIVE_UP_AFTER_FRAMES + 2) * PERIOD_NS)) == ""
    bench.tracker.error = TrackingError("another size")
    for index in range(1, GIVE_UP_AFTER_FRAMES):
        with pytest.raises(TrackingError, match="another size"):
            bench.frame(index)
    assert bench.frame(GIVE_UP_AFTER_FRAMES)[1].endings
    assert bench.frame(GIVE_UP_AFTER_FRAMES + 1)[0] == [f"init_box accepted: target 2 at {text_of(BOX)}"]


def test_a_broken_frame_while_catching_up_does_not_undo_the_start() -> None:
    bench = Bench()
    bench.arrive(0)
    bench.arrive(broken_frame(1))
    last = bench.arrive(2)
    (served,) = bench.session.on_request(BoxRequest("init_box", BOX, PERIOD_NS))
    assert "caught up through 2 frames, 1 skipped: the frame of stamp 0.066" in served.outcome.reason
    assert bench.session.state == "TRACKING"
    assert served.frame_result is not None
    assert served.frame_result.source is last


def test_a_tracker_that_fails_while_catching_up_does_not_undo_the_start() -> None:
    bench = Bench()
    for index in range(3):
        bench.arrive(index)
    bench.tracker.error = RuntimeError("out of memory")
    (served,) = bench.session.on_request(BoxRequest("init_box", BOX, PERIOD_NS))
    assert served.outcome.accepted
    assert served.outcome.reason.endswith("caught up through 2 frames, 2 skipped: out of memory")
    assert bench.session.state == "TRACKING"
    assert served.frame_result is not None
    assert served.frame_result.source.sequence == 0


def test_a_request_that_fails_for_whatever_reason_has_an_outcome() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    bench.tracker.refusal = RuntimeError("out of memory")
    assert bench.ask(BoxRequest("init_roi", BOX)) == "init_roi refused: RuntimeError: out of memory"
    assert (bench.session.state, bench.session.target_id) == ("TRACKING", "1")


def test_the_init_box_parameter_waits_for_the_first_frame_however_long() -> None:
    bench = Bench()
    assert bench.ask(INIT_BOX_PARAMETER) == ""
    bench.now = 100 * PENDING_S
    assert bench.frame(0)[0] == [f"parameter init_box accepted: target 1 at {text_of(BOX)}"]


def test_the_init_box_parameter_waits_past_broken_frames_and_other_requests_do_not() -> None:
    bench = Bench()
    first = bench.arrive(broken_frame(0))
    assert bench.ask(BoxRequest("init_roi", BOX)) == f"init_roi refused: {NO_IMAGE}"
    assert bench.ask(INIT_BOX_PARAMETER) == ""
    with pytest.raises(TrackingError, match=NO_IMAGE):
        bench.session.on_frame(first)
    assert bench.frame(1)[0] == [f"parameter init_box accepted: target 1 at {text_of(BOX)}"]


def test_a_refusal_is_counted_under_its_origin_alone() -> None:
    outcome = INIT_BOX_PARAMETER.refused("no image")
    assert (outcome.origin, outcome.verdict) == ("parameter", "init_box refused: no image")
    assert str(outcome) == "parameter init_box refused: no image"


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
    outcome = bench.ask(BoxRequest("init_roi", box))
    assert outcome.startswith("init_roi refused")
    assert reason in outcome
    assert bench.session.target_id == "1"


def test_a_click_selects_the_extent_of_the_surface_under_it() -> None:
    box = box_at_pixel(scene(), SIZE, PixelRequest("init_pixel", 230, 200), (64, 64))
    assert box == pytest.approx((200, 180, 60, 40), abs=2)


@pytest.mark.parametrize("spoil", ["no depth", "hole", "everything"])
def test_a_click_selects_the_default_size_where_depth_shows_no_surface(spoil: str) -> None:
    frame = scene()
    depth = DEPTH.copy()
    if spoil == "hole":
        depth[150:250, 150:300] = 0
    elif spoil == "everything":
        depth[:] = 1500
    frame = replace(frame, aux=None if spoil == "no depth" else depth)
    box = box_at_pixel(frame, SIZE, PixelRequest("init_pixel", 230, 200), (64, 32))
    assert box == BoundingBox(198, 184, 64, 32)


def test_a_pixel_of_a_calibration_of_another_size_is_scaled_to_the_image() -> None:
    near = PixelRequest("init_point", 460.5, 400.5, (1280, 960))
    assert box_at_pixel(scene(), SIZE, near, (64, 64)) == pytest.approx((200, 180, 60, 40), abs=2)
    frame = replace(scene(), aux=None)
    assert box_at_pixel(frame, SIZE, near, (64, 32)) == BoundingBox(198, 184, 64, 32)
    outside = PixelRequest("init_point", 639.9, 5.0, (320, 240))
    with pytest.raises(TargetError, match=r"pixel \(1280, 10\) is outside the 640 x 480 image"):
        box_at_pixel(frame, SIZE, outside, (64, 32))


@pytest.mark.parametrize("pixel", [(-1.0, 5.0), (640.0, 5.0), (math.nan, 5.0), (5.0, math.inf)])
def test_a_click_outside_the_image_is_refused(pixel: tuple[float, float]) -> None:
    bench = Bench()
    bench.frame(0)
    assert bench.ask(PixelRequest("init_pixel", *pixel)).startswith("init_pixel refused: pixel (")


def test_the_best_candidate_of_the_class_is_adopted_only_when_asked_for() -> None:
    other = BoundingBox(10, 10, 30, 30)
    request = CandidatesRequest(
        "candidates", (Candidate(other, "cup", 0.6), Candidate(BOX, "cup", 0.8), Candidate(other, "dog", 0.99))
    )
    bench = Bench()
    bench.frame(0)
    assert "adopt_candidates is false" in bench.ask(request)
    bench.settings = replace(bench.settings, adopt_candidates=True, candidate_class="cup")
    assert bench.ask(request) == f"candidates (cup, score 0.80) accepted: target 1 at {text_of(BOX)}"
    assert bench.frame(1)[1].targets[0].box == BOX
    assert bench.ask(request) == "", "a target is being tracked"


def test_weak_candidates_are_refused_with_the_reason() -> None:
    bench = Bench(adopt_candidates=True, candidate_min_score=0.9)
    bench.frame(0)
    outcome = bench.ask(CandidatesRequest("candidates", (Candidate(BOX, "cup", 0.8),)))
    assert outcome == "candidates refused: none of 1 candidates is with a score of at least 0.9"


def test_a_candidate_takes_over_after_the_target_was_lost_for_long_enough() -> None:
    bench = Bench(adopt_candidates=True, readopt_after_s=1.0)
    request = CandidatesRequest("candidates", (Candidate(BOX, "cup", 0.8),))
    bench.frame(0)
    bench.ask(request)
    bench.tracker.state = TrackState.LOST
    bench.frame(1)
    assert bench.ask(request) == ""
    bench.now = 1.5
    bench.frame(2)
    assert "accepted: target 2" in bench.ask(request)
    assert bench.session.target_id == "2"


def test_reset_forgets_the_target() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    assert bench.ask(ResetRequest("reset")) == "reset accepted: target forgotten"
    assert bench.session.state == "NONE"
    assert bench.frame(1)[1].targets == ()
    assert bench.ask(ResetRequest("reset")) == "reset accepted: there was no target"


def test_a_frame_that_the_tracker_refuses_leaves_the_state_and_ten_end_the_target() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    bench.tracker.error = TrackingError("another size")
    for index in range(1, GIVE_UP_AFTER_FRAMES):
        with pytest.raises(TrackingError, match="another size"):
            bench.frame(index)
        assert bench.session.state == "TRACKING"
    _, result = bench.frame(GIVE_UP_AFTER_FRAMES)
    assert result.endings == (Ending("1", "10 frames in a row could not be used, the last because another size"),)
    assert result.targets == ()
    assert bench.session.state == "NONE"


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
