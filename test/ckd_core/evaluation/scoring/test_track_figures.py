"""Figures of hand-made tracks, each computed by hand, and the bounds that hold for any track."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.evaluation.scoring.metrics import MetricError
from ckd_core.evaluation.scoring.track_figures import (
    MAX_SEARCH_FRAMES,
    StateFigures,
    TrackFrames,
    box_figures,
    state_figures,
    sum_states,
)

TARGET = (100.0, 100.0, 20.0, 40.0)
GOOD = TARGET  # overlap 1
HALF = (100.0, 100.0, 20.0, 16.0)  # overlap 0.4: neither off nor on
BESIDE = (300.0, 100.0, 20.0, 40.0)  # overlap 0
GONE = (math.nan,) * 4
NEVER = math.inf


def track(*frames: tuple[tuple[float, ...], str, bool]) -> TrackFrames:
    """Frames after the given one: box, first letter of the state (T, U, L), target in view."""
    boxes = [TARGET, *(box for box, _, _ in frames)]
    truth = [TARGET, *(TARGET if here else GONE for *_, here in frames)]
    states = np.array(["T", *(state for _, state, _ in frames)])
    return TrackFrames(
        np.array(boxes), np.array(truth), states == "T", states == "L", np.ones(len(boxes), dtype=np.bool_)
    )


def test_boxes_are_taken_apart_into_place_and_size() -> None:
    """Frame 1: 10 px right of the target (20 x 40). Frame 2: twice as wide around the true centre. Frame 3: both."""
    boxes = [(110.0, 100.0, 20.0, 40.0), (90.0, 100.0, 40.0, 40.0), (100.0, 100.0, 40.0, 40.0)]
    found = box_figures(track(*((box, "T", True) for box in boxes)))
    # Success AUC of one overlap v: the share of the thresholds 0, 0.05 .. 1 below v.
    # Overlaps: 10 / 30 -> 7 of 21; 20 / 40 -> 10 of 21; 20 / 40 -> 10 of 21.
    assert found.auc == pytest.approx((7 + 10 + 10) / 3 / 21)
    # True size around our centres (10 px off, none, 10 px off): 1/3, 1, 1/3 -> 7, 20, 7.
    assert found.auc_true_size == pytest.approx((7 + 20 + 7) / 3 / 21)
    # Our sizes around the true centre: 1, 1/2, 1/2 -> 20, 10, 10.
    assert found.auc_true_center == pytest.approx((20 + 10 + 10) / 3 / 21)
    assert (found.frames, found.width_ratio, found.height_ratio) == (3, 2.0, 1.0)


def test_frames_without_the_target_and_without_a_box_do_not_move_the_ratios() -> None:
    found = box_figures(track((GOOD, "T", True), (GONE, "T", True), (BESIDE, "T", False)))
    assert found.frames == 2
    assert found.auc == found.auc_true_size == found.auc_true_center == pytest.approx(10 / 21)
    assert (found.width_ratio, found.height_ratio) == (1.0, 1.0)
    nothing = box_figures(track((GOOD, "T", False)))
    assert nothing.frames == 0
    assert all(math.isnan(value) for value in (nothing.auc, nothing.auc_true_size, nothing.width_ratio))


def test_states_are_held_against_the_boxes() -> None:
    found = state_figures(
        track(
            (GOOD, "T", True),  # right
            (HALF, "T", True),  # TRACKING, neither right nor wrong
            (BESIDE, "T", True),  # false TRACKING, and the first failure: two frames before it
            (GOOD, "U", True),  # shy
            (GOOD, "L", True),  # shy
            (HALF, "U", True),  # neither
            (BESIDE, "T", False),  # false TRACKING while absent
            (BESIDE, "L", False),
        )
    )
    assert (found.frames, found.absent, found.tracking) == (6, 2, 4)
    assert (found.false_tracking, found.absent_tracking, found.shy) == (2, 1, 2)
    assert (found.false_tracking_share, found.absent_tracking_share, found.shyness) == (0.5, 0.5, pytest.approx(1 / 3))
    assert (found.failed, found.before_failure) == (1, 2)


def test_a_search_lasts_from_the_lost_box_to_true_tracking() -> None:
    beside, good = (BESIDE, "U", True), (GOOD, "T", True)
    assert state_figures(track(good, beside, beside, good)).waits == (2.0,)
    assert state_figures(track(good, (BESIDE, "T", True), (GOOD, "U", True), good)).waits == (2.0,), "not UNCERTAIN"
    assert state_figures(track(good, (GOOD, "L", True), (HALF, "T", True), good)).waits == (2.0,), "not half a box"
    assert state_figures(track(beside, good, beside, beside, good)).waits == (1.0, 2.0)
    assert state_figures(track(good, good)).waits == ()


def test_a_search_begins_when_the_target_returns_and_ends_when_it_leaves() -> None:
    away, good, beside = (BESIDE, "L", False), (GOOD, "T", True), (BESIDE, "L", True)
    assert state_figures(track(good, away, away, good)).waits == (0.0,)
    assert state_figures(track(good, away, away, beside, beside, good)).waits == (2.0,)
    left = state_figures(track(good, beside, beside, away, beside, good))
    assert (left.waits, left.undecided) == ((1.0,), 1)


@pytest.mark.parametrize(("frames", "waits", "undecided"), [(30, (), 1), (31, (NEVER,), 0)])
def test_a_search_is_lost_after_thirty_frames_in_view_and_undecided_before(
    frames: int, waits: tuple[float, ...], undecided: int
) -> None:
    for rest in ([], [(BESIDE, "L", False)]):
        found = state_figures(track(*[(BESIDE, "L", True)] * frames, *rest))
        assert (found.waits, found.undecided) == (waits, undecided)


def test_a_late_find_counts_as_late_and_not_as_never() -> None:
    found = state_figures(track(*[(BESIDE, "L", True)] * (MAX_SEARCH_FRAMES + 1), (GOOD, "T", True)))
    assert found.waits == (31.0,)
    assert found.found_share == 0.0
    in_time = state_figures(track(*[(BESIDE, "L", True)] * MAX_SEARCH_FRAMES, (GOOD, "T", True)))
    assert (in_time.waits, in_time.found_share) == ((30.0,), 1.0)


def test_frames_without_annotation_and_the_given_frame_do_not_count() -> None:
    whole = track((BESIDE, "T", True), (GOOD, "T", True), (BESIDE, "T", False))
    hidden = replace(whole, labelled=np.array([True, False, True, False]))
    found = state_figures(hidden)
    assert (found.frames, found.absent, found.tracking, found.false_tracking) == (1, 0, 1, 0)
    assert (found.failed, found.before_failure, found.waits) == (0, 3, ())
    assert box_figures(hidden).frames == 1
    assert state_figures(track()) == StateFigures(sequences=1)


def test_figures_of_several_tracks_add_up() -> None:
    first = state_figures(track((BESIDE, "U", True), (GOOD, "T", True), (GOOD, "T", True)))
    second = state_figures(track((GOOD, "T", True), (BESIDE, "T", False), *[(BESIDE, "L", True)] * 40))
    total = sum_states([first, second])
    assert (total.sequences, total.failed, total.frames, total.absent) == (2, 2, 3 + 41, 1)
    assert total.waits == (1.0, NEVER)
    assert total.found_share == 0.5
    assert total.median_wait == NEVER
    assert (total.tracking, total.false_tracking) == (4, 1)
    assert total.mean_before_failure == (0 + 2) / 2
    assert math.isnan(sum_states([]).found_share)


def test_tracks_of_different_lengths_are_refused() -> None:
    whole = track((GOOD, "T", True))
    with pytest.raises(MetricError, match=r"boxes, truth, and three flags of \[2, 2, 3, 2, 2\] frames; must be equal"):
        replace(whole, tracking=np.ones(3, dtype=np.bool_))
    with pytest.raises(MetricError, match=r"result boxes have shape \(2, 5\)"):
        replace(whole, boxes=np.ones((2, 5)))


# Whole, even numbers: centres, intersections and areas are exact, so that no overlap misses a threshold by rounding.
_EVEN = st.integers(0, 100).map(lambda value: 2.0 * value)
_SIDE = st.integers(1, 50).map(lambda value: 2.0 * value)
_FRAME = st.tuples(
    st.tuples(_EVEN, _EVEN, _SIDE, _SIDE),
    st.one_of(st.just(GONE), st.tuples(_EVEN, _EVEN, _SIDE, _SIDE)),
    st.sampled_from("TUL"),
    st.booleans(),
)


@st.composite
def tracks(draw: st.DrawFn) -> TrackFrames:
    drawn = draw(st.lists(_FRAME, min_size=1, max_size=80))
    states = np.array([state for *_, state, _ in drawn])
    return TrackFrames(
        np.array([box for box, *_ in drawn]),
        np.array([truth for _, truth, *_ in drawn]),
        states == "T",
        states == "L",
        np.array([known for *_, known in drawn]),
    )


@settings(max_examples=200, deadline=None)
@given(tracks())
def test_figures_keep_their_bounds(found: TrackFrames) -> None:
    boxes, states = box_figures(found), state_figures(found)
    if boxes.frames:
        best = 20 / 21
        assert 0 <= boxes.auc <= boxes.auc_true_center <= best + 1e-9, "a shared centre is the best place for any size"
        assert 0 <= boxes.auc_true_size <= best + 1e-9
        assert boxes.width_ratio > 0
        assert boxes.height_ratio > 0
    assert boxes.frames == states.frames <= len(found.boxes) - 1
    assert states.frames + states.absent == int(found.labelled[1:].sum())
    assert states.absent_tracking <= states.false_tracking <= states.tracking <= states.frames + states.absent
    assert states.absent_tracking <= states.absent
    assert states.shy + states.tracking <= states.frames + states.absent
    assert 0 <= states.before_failure <= len(found.boxes) - 1
    assert states.failed == int(states.before_failure < len(found.boxes) - 1)
    assert all(0 <= wait < len(found.boxes) or wait == NEVER for wait in states.waits)
    assert len(states.waits) + states.undecided <= states.frames
    assert bool(states.waits) or states.undecided > 0 or not states.failed, "a failure always starts a search"


@settings(max_examples=100, deadline=None)
@given(tracks())
def test_a_tracker_that_always_claims_is_never_shy_and_one_that_never_claims_is_never_false(found: TrackFrames) -> None:
    always = replace(found, tracking=np.ones(len(found.boxes), dtype=np.bool_), lost=np.zeros(len(found.boxes), bool))
    never = replace(found, tracking=np.zeros(len(found.boxes), dtype=np.bool_))
    bold, mute = state_figures(always), state_figures(never)
    assert bold.shy == 0
    assert bold.absent_tracking == bold.absent
    assert mute.false_tracking == mute.tracking == 0
    assert not [wait for wait in mute.waits if wait != NEVER], "nothing is found that is not claimed"
    assert bold.false_tracking >= state_figures(found).false_tracking
