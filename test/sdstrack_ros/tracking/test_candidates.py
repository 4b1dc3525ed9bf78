"""Detections that become targets: which are wanted, and whose place they take. No ROS graph."""

from __future__ import annotations

from ckd_core.frame import BoundingBox
from ckd_core.tracking.result import TrackState
from sdstrack_ros.tracking.target_requests import (
    Candidate,
    CandidatesRequest,
)
from testkit.session_bench import (
    PLACES,
    ids,
    several,
    text_of,
)


def candidates(*found: tuple[str, BoundingBox, float], label: str = "person") -> CandidatesRequest:
    return CandidatesRequest("candidates", tuple(Candidate(box, label, score, name) for name, box, score in found))


def test_a_detector_that_tells_objects_apart_starts_one_target_for_each() -> None:
    bench = several(adopt_candidates=True, max_targets=8)
    bench.frame(1)
    request = candidates(*((name, PLACES[name], 0.9 - 0.1 * index) for index, name in enumerate("abc")))
    served = bench.session.on_request(request)
    assert [str(one.outcome) for one in served] == [
        f"candidates '{name}' (person, score {score}) accepted: target {name} at {text_of(PLACES[name])}"
        for name, score in (("a", "0.90"), ("b", "0.80"), ("c", "0.70"))
    ]
    assert [one.frame_result is not None for one in served] == [False, False, True], "one result for one frame"
    assert bench.tracker.calls.count(("start", 1)) == 1, "one call embeds and follows them together"
    assert [(t.target_id, t.label) for t in bench.frame(2)[1].targets] == [(name, "person") for name in "abc"]
    assert bench.serve(request) == [], "they are followed"


def test_a_detection_of_a_target_under_another_id_is_not_a_second_target() -> None:
    bench = several("a", adopt_candidates=True)
    near = BoundingBox(*(value + 2 for value in PLACES["a"]))
    assert bench.serve(candidates(("17", near, 0.9))) == []
    assert bench.serve(candidates(("17", PLACES["b"], 0.9), ("18", PLACES["b"], 0.8)))[0].endswith(
        f"accepted: target 17 at {text_of(PLACES['b'])}"
    )
    assert ids(bench.frame(1)[1]) == ["a", "17"]


def test_a_loose_detection_of_a_target_that_was_fitted_from_one_is_not_a_second_target() -> None:
    """Also after the target has moved and grown; the box of another thing is."""
    bench = several(adopt_candidates=True, max_targets=8)
    loose, bench.tracker.fitted = BoundingBox(100, 100, 50, 50), BoundingBox(105, 105, 40, 40)  # IoU 0.64
    bench.frame(1)
    assert len(bench.serve(candidates(("7", loose, 0.9)))) == 1
    assert bench.serve(candidates(("8", loose, 0.9))) == []
    bench.tracker.boxes[bench.tracker.seen[-1][1][0] if bench.tracker.seen else 1] = BoundingBox(160, 105, 80, 80)
    bench.frame(2)
    assert bench.serve(candidates(("9", BoundingBox(150, 95, 100, 100), 0.9))) == []
    bench.tracker.fitted = None
    assert len(bench.serve(candidates(("10", loose, 0.9)))) == 1, "it has gone from there"


def test_an_id_twice_in_one_message_is_refused_and_the_other_detections_count() -> None:
    bench = several(adopt_candidates=True)
    twice = candidates(("a", PLACES["a"], 0.9), ("a", PLACES["b"], 0.8), ("c", PLACES["c"], 0.7))
    assert bench.serve(twice) == [
        f"candidates 'c' (person, score 0.70) accepted: target c at {text_of(PLACES['c'])}",
        "candidates refused: id 'a' comes 2 times in one message; expected once",
    ]
    two_classes = (Candidate(PLACES["d"], "dog", 0.6, "d"), Candidate(PLACES["d"], "cat", 0.7, "d"))
    assert bench.ask(CandidatesRequest("candidates", two_classes)).startswith(
        "candidates 'd' (cat, score 0.70) accepted"
    )


def test_more_detections_than_places_are_refused_in_one_line_and_the_best_are_followed() -> None:
    bench = several(adopt_candidates=True, max_targets=2)
    crowd = [
        (f"p{index}", BoundingBox(5.0 * index, 6.0 * (index % 60), 4.0, 4.0), index / 100) for index in range(60, 100)
    ]
    outcomes = bench.serve(candidates(*crowd))
    assert [outcome.split(" accepted")[0] for outcome in outcomes[:2]] == [
        "candidates 'p99' (person, score 0.99)",
        "candidates 'p98' (person, score 0.98)",
    ]
    assert outcomes[2:] == ["candidates refused: max_targets is 2, and so many are followed: p99, p98"]
    assert bench.serve(candidates(*crowd)) == [
        "candidates refused: max_targets is 2, and so many are followed: p99, p98"
    ]


def test_a_detection_takes_the_place_of_the_target_that_is_lost_the_longest() -> None:
    bench = several("a", "b", adopt_candidates=True, max_targets=2, readopt_after_s=1.0)
    numbers = {target.target_id: target.number for target in bench.session.targets}
    bench.tracker.states = {numbers["b"]: TrackState.LOST}
    bench.frame(1)
    bench.now = 0.5
    bench.tracker.states[numbers["a"]] = TrackState.LOST
    bench.frame(2)
    assert "max_targets is 2" in bench.ask(candidates(("c", PLACES["c"], 0.9))), "not before its time"
    bench.now = 1.8
    bench.frame(3)
    (outcome,) = bench.serve(candidates(("c", PLACES["c"], 0.9)))
    assert outcome.endswith(f"accepted: target c at {text_of(PLACES['c'])}, in place of target b")
    assert ids(bench.frame(4)[1]) == ["a", "c"]
    (outcome,) = bench.serve(candidates(("a", PLACES["e"], 0.9)))
    assert outcome.endswith(f"accepted: target a at {text_of(PLACES['e'])}"), "its own detector knows where it is"
    assert ids(bench.frame(5)[1]) == ["c", "a"]


def test_where_one_target_is_the_limit_the_best_detection_is_adopted_whatever_its_id() -> None:
    bench = several(adopt_candidates=True, max_targets=1, readopt_after_s=1.0)
    crowd = candidates(("7", PLACES["a"], 0.8), ("8", PLACES["b"], 0.9))
    assert bench.ask(crowd).startswith("candidates '8' (person, score 0.90) accepted: target 8")
    assert bench.serve(crowd) == []
    bench.tracker.state = TrackState.LOST
    bench.frame(1)
    bench.now = 1.5
    bench.frame(2)
    assert bench.ask(candidates(("9", PLACES["c"], 0.7))).startswith("candidates '9' (person, score 0.70) accepted")


def test_a_detection_with_an_impossible_box_does_not_keep_the_others_from_starting() -> None:
    bench = several(adopt_candidates=True)
    outcomes = bench.serve(candidates(("a", BoundingBox(900, 0, 30, 30), 0.9), ("b", PLACES["b"], 0.8)))
    assert outcomes == [
        f"candidates 'b' (person, score 0.80) accepted: target b at {text_of(PLACES['b'])}",
        "candidates refused: box (900.0, 0.0, 30.0, 30.0) has its centre outside the 640 x 480 image",
    ]
