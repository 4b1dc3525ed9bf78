"""Several targets in one session: whose place a request takes, and how the others go on. No ROS graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from ckd_core.tracking.result import TrackState
from sdstrack_ros.tracking.merging import MERGE_FRAMES, Merging
from sdstrack_ros.tracking.results import Ending, changed_states
from sdstrack_ros.tracking.session import GIVE_UP_AFTER_FRAMES, PENDING_S
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    Candidate,
    CandidatesRequest,
    PixelRequest,
    RemoveRequest,
    ResetRequest,
)
from testkit.ros.camera import image_message
from testkit.session_bench import (
    BOX,
    COLOR,
    DEPTH,
    PERIOD_NS,
    PLACES,
    box_request,
    broken_frame,
    ids,
    several,
    source_frame,
    text_of,
)


def test_every_target_is_in_the_results_with_its_id_and_label_at_one_call_per_frame() -> None:
    bench = several("a", "b")
    labelled = BoxRequest("init_box", PLACES["c"], target_id="c", label="person")
    assert ids(bench.started(labelled)) == ["a", "b", "c"]
    assert ids(bench.started(BoxRequest("init_roi", PLACES["d"]))) == ["a", "b", "c", "1"]
    bench.tracker.seen.clear()
    for index in range(1, 4):
        _, result = bench.frame(index)
        assert [(t.target_id, t.label, t.box) for t in result.targets] == [
            ("a", "target", PLACES["a"]),
            ("b", "target", PLACES["b"]),
            ("c", "person", PLACES["c"]),
            ("1", "target", PLACES["d"]),
        ]
    assert [frame for frame, _ in bench.tracker.seen] == [1, 2, 3]
    bench.settings = replace(bench.settings, label="cup")
    assert [t.label for t in bench.frame(4)[1].targets] == ["cup", "cup", "person", "cup"]


def test_an_id_that_comes_again_replaces_its_target_and_no_other() -> None:
    bench = several("a", "b")
    before = {t.target_id: t.number for t in bench.session.targets}
    result = bench.started(box_request("a", box=PLACES["c"]))
    after = {t.target_id: (t.number, t.box) for t in result.targets}
    assert after["b"] == (before["b"], PLACES["b"])
    assert after["a"][1] == PLACES["c"]
    assert after["a"][0] > max(before.values()), "another target, whatever it is called"
    bench.frame(1)
    assert bench.tracker.seen[-1][1] == (before["b"], after["a"][0])


def test_a_request_without_an_id_replaces_the_target_that_has_none() -> None:
    bench = several("a")
    bench.ask(BoxRequest("init_roi", PLACES["b"]))
    result = bench.started(BoxRequest("init_roi", PLACES["c"]))
    assert [(t.target_id, t.box) for t in result.targets] == [("a", PLACES["a"]), ("2", PLACES["c"])]
    assert (bench.session.target_id, bench.session.state) == ("2", "TRACKING"), "the one without an id comes first"
    assert ids(bench.started(box_request("2", box=PLACES["d"]))) == ["a", "2"]
    assert ids(bench.started(BoxRequest("init_roi", PLACES["e"]))) == ["a", "3"], "naming it has not made it another"


def test_numbers_that_were_ids_are_never_given_again() -> None:
    bench = several()
    bench.started(box_request("7", box=PLACES["a"]))
    bench.ask(RemoveRequest("remove", "7"))
    assert ids(bench.started(BoxRequest("init_roi", PLACES["b"]))) == ["8"]
    bench.ask(ResetRequest("reset"))
    assert ids(bench.started(BoxRequest("init_roi", PLACES["b"]))) == ["9"]


def test_where_one_target_is_the_limit_every_request_replaces_it() -> None:
    bench = several("a", max_targets=1)
    assert ids(bench.started(box_request("b"))) == ["b"]
    assert ids(bench.started(BoxRequest("init_roi", BOX))) == ["1"]
    assert ids(bench.started(box_request("a"))) == ["a"]


def test_more_than_max_targets_are_refused_and_the_others_go_on() -> None:
    bench = several("a", "b", max_targets=2)
    for name in "cdefgh":
        refusal = bench.ask(box_request(name))
        assert refusal == f"init_box '{name}' refused: max_targets is 2, and so many are followed: a, b"
    assert "max_targets is 2" in bench.ask(BoxRequest("init_roi", BOX))
    assert ids(bench.frame(1)[1]) == ["a", "b"]
    assert ids(bench.started(box_request("a", box=PLACES["d"]))) == ["b", "a"], "one that is followed needs no place"


@pytest.mark.parametrize(
    ("target_id", "reason"),
    [
        ("x" * 41, "has 41 characters; expected at most 40"),
        ("x" * 2_000_000, "has 2000000 characters; expected at most 40"),
        ("two words", "is unusable; expected ASCII letters, digits and signs, no blanks"),
        ("\x1b[2J", r"id '\x1b[2J' is unusable"),
        ("änna", "is unusable"),
    ],
)
def test_an_unusable_id_is_refused_everywhere_and_the_others_go_on(target_id: str, reason: str) -> None:
    bench = several("a", adopt_candidates=True)
    for request in (
        BoxRequest("init_box", PLACES["b"], target_id=target_id),
        PixelRequest("init_box", 230.0, 200.0, target_id=target_id),
        CandidatesRequest("candidates", (Candidate(PLACES["b"], "cup", 0.9, target_id),)),
        RemoveRequest("remove", target_id),
    ):
        outcome = bench.ask(request)
        assert outcome.startswith(f"{request.origin} refused: id '")
        assert reason in outcome
        assert len(outcome) < 300
    assert ids(bench.frame(1)[1]) == ["a"]


def test_an_impossible_box_for_an_id_leaves_its_target_and_all_others() -> None:
    bench = several("a", "b")
    before = bench.session.targets
    assert "smaller than" in bench.ask(box_request("a", box=BoundingBox(10, 10, 1, 1)))
    bench.tracker.refusal = RuntimeError("out of memory")
    assert bench.ask(box_request("b")) == "init_box 'b' refused: RuntimeError: out of memory"
    assert bench.session.targets == before


def test_a_removed_target_is_gone_and_an_unknown_one_is_refused() -> None:
    bench = several("a", "b")
    assert bench.ask(RemoveRequest("remove", "x")) == "remove refused: there is no target 'x'; there is: a, b"
    assert bench.ask(RemoveRequest("remove", "")) == "remove refused: the id is empty; expected one of: a, b"
    assert bench.ask(RemoveRequest("remove", "a")) == "remove accepted: target a forgotten"
    assert ids(bench.frame(1)[1]) == ["b"]
    assert bench.ask(RemoveRequest("remove", "b")) == "remove accepted: target b forgotten"
    assert bench.frame(2)[1].targets == ()
    assert bench.ask(RemoveRequest("remove", "b")) == "remove refused: there is no target 'b'; there is: none"
    assert bench.ask(box_request("b")).startswith("init_box 'b' accepted"), "a user may use a name again"


def test_a_newcomer_catches_up_alone_and_joins_the_others_in_the_newest_frame() -> None:
    bench = several("a", catch_up_frames=100)
    (old,) = (target.number for target in bench.session.targets)
    for index in range(1, 6):
        bench.frame(index)
    bench.tracker.seen.clear()
    result = bench.started(box_request("b", 3 * PERIOD_NS))
    assert result.source.sequence == 5
    assert ids(result) == ["a", "b"]
    new = result.targets[1].number
    assert bench.tracker.seen == [(index, (new,)) for index in (3, 4, 5)]
    bench.frame(6)
    assert bench.tracker.seen[-1] == (6, (old, new))


def test_a_frame_that_a_newcomer_takes_from_the_mailbox_is_tracked_for_the_others_too() -> None:
    bench = several("a")
    waiting = bench.arrive(1)
    result = bench.started(box_request("b"))
    assert result.source is waiting
    assert bench.tracker.seen == [(1, (result.targets[0].number,))]
    assert bench.session.on_frame(waiting) is None
    assert ids(bench.frame(2)[1]) == ["a", "b"]


def test_a_start_is_not_undone_by_a_frame_that_the_others_cannot_use() -> None:
    bench = several("a")
    bench.arrive(1)
    bench.tracker.error = TrackingError("another size")
    assert ids(bench.started(box_request("b"))) == ["a", "b"]
    bench.arrive(broken_frame(2))
    refused = bench.ask(box_request("c"))
    assert "no usable image" in refused
    bench.tracker.error = None
    assert ids(bench.frame(3)[1]) == ["a", "b"]


def test_a_newcomer_in_images_of_another_size_is_refused_while_others_are_followed() -> None:
    bench = several("a")
    for target in bench.session._targets._targets.values():
        assert target.track.reference_size == (480, 640)
    small = image_message(np.ascontiguousarray(COLOR[::2, ::2]), "rgb8", 0)
    bench.arrive(source_frame(1, small, image_message(np.ascontiguousarray(DEPTH[::2, ::2]), "16UC1", 0)))
    box = BoundingBox(50, 50, 30, 30)
    refusal = bench.ask(box_request("b", box=box))
    assert refusal.startswith("init_box 'b' refused: the image is 320 x 240, but target a is followed in 640 x 480")
    assert bench.ask(box_request("a", box=box)).startswith("init_box 'a' accepted"), "nothing else is followed"


def test_requests_wait_for_their_frames_each_for_itself() -> None:
    bench = several("a", max_targets=3)
    assert bench.ask(box_request("b", 3 * PERIOD_NS)) == ""
    assert bench.ask(box_request("c", 4 * PERIOD_NS)) == ""
    assert "max_targets is 3" in bench.ask(box_request("d", 4 * PERIOD_NS)), "those that wait have a place each"
    assert bench.ask(box_request("b", 2 * PERIOD_NS, PLACES["e"])).endswith(
        "refused: a newer request (init_box 'b') took its place before its frame came"
    )
    assert bench.frame(1)[0] == [f"init_box 'b' accepted: target b at {text_of(PLACES['e'])}"]
    assert bench.frame(2)[0] == []
    assert bench.frame(3)[0] == [f"init_box 'c' accepted: target c at {text_of(PLACES['c'])}"]
    bench.ask(RemoveRequest("remove", "c"))
    bench.ask(box_request("c", 300 * PERIOD_NS))
    assert bench.serve(RemoveRequest("remove", "c", detail="'c'")) == [
        "init_box 'c' refused: a newer request (remove 'c') took its place before its frame came",
        "remove 'c' accepted: target c forgotten",
    ]
    bench.ask(box_request("d", 300 * PERIOD_NS))
    bench.now = PENDING_S + 0.1
    assert bench.frame(4)[0] == ["init_box 'd' refused: no frame of stamp 9.900 came within 1 s"]
    assert ids(bench.frame(5)[1]) == ["a", "b"]


def test_a_click_may_name_its_target_and_its_frame() -> None:
    bench = several("a")
    bench.frame(1)
    (served,) = bench.session.on_request(PixelRequest("init_box", 230.0, 200.0, None, PERIOD_NS, target_id="b"))
    assert served.outcome.reason.startswith("target b at (200.0, 180.0, 60.0, 40.0), caught up through 1 frames")
    assert bench.tracker.calls[-2:] == [("start", 0), ("update", 1)]


def test_reset_forgets_all_targets() -> None:
    bench = several("a", "b", "c")
    bench.ask(box_request("d", 300 * PERIOD_NS))
    assert bench.serve(ResetRequest("reset")) == [
        "init_box 'd' refused: a newer request (reset) took its place before its frame came",
        "reset accepted: 3 targets forgotten",
    ]
    assert bench.frame(1)[1].targets == ()


def test_ten_refused_frames_end_every_target() -> None:
    bench = several("a", "b")
    bench.tracker.error = TrackingError("another size")
    for index in range(1, GIVE_UP_AFTER_FRAMES):
        with pytest.raises(TrackingError, match="another size"):
            bench.frame(index)
    _, result = bench.frame(GIVE_UP_AFTER_FRAMES)
    reason = "10 frames in a row could not be used, the last because another size"
    assert result.endings == (Ending("a", reason), Ending("b", reason))
    assert bench.session.targets == ()


def test_two_tracks_of_one_target_are_noticed_and_the_younger_is_given_up() -> None:
    bench = several("b", "a", "c")
    numbers = {target.target_id: target.number for target in bench.session.targets}
    bench.tracker.boxes[numbers["b"]] = BoundingBox(*(value + 3 for value in PLACES["a"]))
    for index in range(1, MERGE_FRAMES):
        assert bench.frame(index)[1].endings == ()
    _, result = bench.frame(MERGE_FRAMES)
    (ending,) = result.endings
    assert ending.target_id == "a"
    assert ending.reason == (
        f"it has become one with target b, which is older: their boxes have coincided for {MERGE_FRAMES} frames"
    )
    assert ids(result) == ["b", "c"]
    assert bench.frame(MERGE_FRAMES + 1)[1].endings == ()


def test_targets_that_pass_each_other_or_are_lost_do_not_merge() -> None:
    bench = several("a", "b")
    numbers = {target.target_id: target.number for target in bench.session.targets}
    for index in range(1, 3 * MERGE_FRAMES):
        apart = index % MERGE_FRAMES == 0
        bench.tracker.boxes[numbers["b"]] = PLACES["c"] if apart else PLACES["a"]
        assert bench.frame(index)[1].endings == ()
    bench.tracker.boxes[numbers["b"]] = PLACES["a"]
    bench.tracker.states[numbers["b"]] = TrackState.LOST
    for index in range(3 * MERGE_FRAMES, 5 * MERGE_FRAMES):
        assert bench.frame(index)[1].endings == ()


def test_of_three_tracks_of_one_target_only_the_oldest_stays() -> None:
    merging = Merging()
    boxes = {3: BOX, 5: BOX, 9: BOX, 11: PLACES["h"]}
    for _ in range(MERGE_FRAMES - 1):
        assert merging.observe(boxes) == {}
    assert merging.observe(boxes) == {5: 3, 9: 3}


def test_changes_of_state_are_named_by_target() -> None:
    bench = several("a", "b")
    before = bench.session.targets
    bench.tracker.states[before[1].number] = TrackState.LOST
    bench.frame(1)
    bench.ask(box_request("c"))
    assert changed_states(before, bench.session.targets) == "target b: TRACKING -> LOST; target c: NONE -> TRACKING"
    assert changed_states(bench.session.targets, ()) == (
        "target a: TRACKING -> NONE; target b: LOST -> NONE; target c: TRACKING -> NONE"
    )
