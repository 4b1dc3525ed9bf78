from __future__ import annotations

import numpy as np
import pytest

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from ckd_core.tracking.engines import EngineFailedError
from sdstrack_ros.tracking.results import Ending
from sdstrack_ros.tracking.session import GIVE_UP_AFTER_FRAMES, PENDING_S
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    Candidate,
    CandidatesRequest,
    PixelRequest,
    RequestOutcome,
    ResetRequest,
    TargetRequest,
)
from testkit.ros.camera import image_message
from testkit.session_bench import BOX, DEPTH, PERIOD_NS, Bench, broken_frame, id_of, source_frame, text_of

NO_IMAGE = "the frame of stamp 0.033 has no usable image"
INIT_BOX_PARAMETER = BoxRequest("parameter", BOX, patient=True, detail="init_box")


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


def test_a_box_that_the_tracker_fits_is_what_is_published_and_said() -> None:
    bench = Bench()
    bench.tracker.fitted = fitted = BoundingBox(*(value + 2 for value in BOX))
    bench.frame(0)
    (served,) = bench.session.on_request(BoxRequest("init_roi", BOX))
    assert served.outcome.reason == f"target 1 at {text_of(fitted)}, fitted from {text_of(BOX)}"
    assert served.frame_result is not None
    assert [target.box for target in served.frame_result.targets] == [fitted]


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


def test_an_engine_that_fails_does_not_cost_the_target() -> None:
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    bench.tracker.error = EngineFailedError("cudagraph/fp16 on cuda failed")
    for index in range(1, 3 * GIVE_UP_AFTER_FRAMES):
        with pytest.raises(TrackingError, match="on cuda failed"):
            bench.frame(index)
    bench.tracker.error = None
    assert id_of(bench.frame(3 * GIVE_UP_AFTER_FRAMES)[1]) == "1"


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
