from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.frame import BoundingBox
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.evidence import Evidence
from ckd_core.tracking.confidence.observe import observe
from ckd_core.tracking.confidence.search import observe_lost, tile_centers
from ckd_core.tracking.confidence.state import Confidence, growth_of, predicted_box
from ckd_core.tracking.confidence.thresholds import ConfidenceError, Thresholds
from ckd_core.tracking.result import TrackState

LIMITS = Thresholds(doubt=0.4, unseen=0.2, confirm=0.5, rival=0.8, history=0.5)
CONFIG = ConfidenceConfig(lost_after=4, recover_after=2, confirm_frames=3)
BOX = BoundingBox(100, 100, 40, 40)


def look(score: float, x: float = 100, rival: float = 0.2, w: float = 40) -> Evidence:
    return Evidence(BoundingBox(x, 100, w, w), score, rival)


def run(state: Confidence, *looks: Evidence, config: ConfidenceConfig = CONFIG, bounded: bool = False) -> Confidence:
    for evidence in looks:
        state = observe(state, evidence, LIMITS, config, bounded)
    return state


def test_good_frames_keep_tracking_and_fill_the_history() -> None:
    state = run(Confidence.begin(BOX), look(0.8, 101), look(0.7, 103))
    assert (state.state, state.history, state.trusted_box.x) == (TrackState.TRACKING, (0.8, 0.7), 103)


@pytest.mark.parametrize(
    "bad",
    [look(0.3), look(0.9, rival=0.9), look(0.9, x=300), look(0.9, w=120), look(0.1)],
    ids=["low score", "second peak", "jump", "sudden size", "unseen"],
)
def test_each_kind_of_doubt_ends_tracking_for_recover_after_frames(bad: Evidence) -> None:
    state = run(Confidence.begin(BOX), look(0.8), bad)
    assert state.state is TrackState.UNCERTAIN
    state = run(state, look(0.8))
    assert state.state is TrackState.UNCERTAIN
    assert run(state, look(0.8)).state is TrackState.TRACKING


def test_what_is_seen_again_has_to_look_as_usual_or_to_stay() -> None:
    limits = replace(LIMITS, regain=0.75)
    config = replace(CONFIG, believe_after=5)
    state = run(Confidence.begin(BOX), *[look(0.8)] * 6, look(0.3))
    for _ in range(4):  # 0.5 is no doubt, and no 0.6
        state = observe(state, look(0.5), limits, config)
        assert (state.state, state.doubt_weight) == (TrackState.UNCERTAIN, 1)
    assert observe(state, look(0.7), limits, config).state is TrackState.TRACKING
    assert observe(state, look(0.5), limits, config).state is TrackState.TRACKING, "it looks different now"
    assert observe(run(state, look(0.3)), look(0.7), limits, config).state is TrackState.UNCERTAIN, "one frame"


def test_a_lost_target_that_looks_different_is_confirmed_for_longer() -> None:
    limits, config = replace(LIMITS, regain=0.75), replace(CONFIG, believe_after=5)
    lost = replace(run(Confidence.begin(BOX), *[look(0.8)] * 6), state=TrackState.LOST)

    def frames_until_found(score: float) -> int:
        state, frames = lost, 0
        while state.state is TrackState.LOST:
            state, frames = observe_lost(state, look(score, x=300), limits, config), frames + 1
        return frames

    assert [frames_until_found(score) for score in (0.61, 0.59)] == [CONFIG.confirm_frames, 5]
    with pytest.raises(ConfidenceError, match=r"believe_after is 2; expected at least recover_after \(2\) and"):
        replace(CONFIG, believe_after=2)


def test_a_box_that_swallows_a_neighbour_is_doubted_and_bounded_around_the_target() -> None:
    state = run(Confidence.begin(BOX), look(0.8))
    wide = Evidence(BoundingBox(90, 102, 60, 34), 0.9, 0.2)  # 1.8 times the shape at 1.13 times the size
    assert run(state, wide).state is TrackState.UNCERTAIN
    assert run(state, wide).trusted_box == state.trusted_box
    followed = run(state, wide, bounded=True).trusted_box
    assert followed.w / followed.h == pytest.approx(CONFIG.max_shape)
    assert followed.w * followed.h == pytest.approx(60 * 34), "the size was usual"
    assert wide.box.x <= followed.x
    assert followed.x + followed.w <= wide.box.x + wide.box.w
    assert followed.center[0] == pytest.approx(state.trusted_box.center[0]), "the part that is nearest to the target"
    far = Evidence(BoundingBox(300, 102, 60, 34), 0.9, 0.2)
    assert run(state, far, bounded=True).trusted_box == state.trusted_box
    unseen = replace(wide, score=0.01)
    assert run(state, unseen, bounded=True).trusted_box == state.trusted_box
    assert run(state, wide, config=replace(CONFIG, max_shape=2.0)).state is TrackState.TRACKING
    turning = [Evidence(BoundingBox(100, 100, 40 + step, 40 - step / 2), 0.9, 0.2) for step in range(0, 20, 2)]
    assert run(state, *turning).state is TrackState.TRACKING


def test_a_score_far_below_the_usual_is_doubtful_even_above_the_threshold() -> None:
    state = run(Confidence.begin(BOX), *[look(0.95)] * 6)
    assert run(state, look(0.45)).state is TrackState.UNCERTAIN
    assert run(Confidence.begin(BOX), look(0.45)).state is TrackState.TRACKING


def test_lost_after_as_many_doubtful_frames_as_configured() -> None:
    states = []
    state = Confidence.begin(BOX)
    for _ in range(4):
        state = run(state, look(0.3))
        states.append(state.state)
    assert states == [TrackState.UNCERTAIN] * 3 + [TrackState.LOST]


def test_an_unseen_target_keeps_its_last_trusted_box() -> None:
    assert run(Confidence.begin(BOX), look(0.1, x=130)).trusted_box == BOX
    assert run(Confidence.begin(BOX), look(0.3, x=130)).trusted_box.x == 130


def test_a_target_that_stays_where_it_jumped_to_has_moved() -> None:
    state = run(Confidence.begin(BOX), look(0.8), look(0.9, x=300))
    assert state.trusted_box.x == 100
    assert run(state, look(0.9, x=302)).trusted_box.x == 302


def test_the_velocity_of_good_frames_predicts_the_next_place_and_fades_in_doubt() -> None:
    state = Confidence.begin(BOX)
    for x in (106, 112, 118, 124, 130, 136, 142, 148):
        state = run(state, look(0.8, x=x))
    assert predicted_box(state, 0.0) == state.trusted_box
    assert predicted_box(state, 1.0).x == pytest.approx(154, abs=0.3)
    assert predicted_box(state, 0.5).x == pytest.approx(151, abs=0.3)
    doubted = run(state, look(0.25, x=148), look(0.25, x=148))
    assert doubted.state is TrackState.UNCERTAIN
    assert 148 < predicted_box(doubted, 1.0).x < 152
    for wrong_x in (148, 148, 148, 148, 148, 148):
        state = run(state, look(0.8, x=wrong_x))
    assert predicted_box(state, 1.0).x == pytest.approx(148, abs=0.5)  # it has stopped


def test_search_grows_step_by_step_up_to_its_limit() -> None:
    config = replace(CONFIG, growth=1.3, max_growth=1.6, lost_after=9)
    state, growth = Confidence.begin(BOX), []
    for _ in range(4):
        growth.append(growth_of(state, config))
        state = run(state, look(0.3), config=config)
    assert growth == pytest.approx([1, 1.3, 1.6, 1.6])
    assert growth_of(run(state, look(0.9), look(0.9), config=config), config) == 1


def test_growth_stays_finite_however_long_a_target_is_away() -> None:
    assert growth_of(replace(Confidence.begin(BOX), blur_weight=1_000_000), CONFIG) == CONFIG.max_growth
    assert growth_of(replace(Confidence.begin(BOX), blur_weight=3), replace(CONFIG, growth=1.0)) == 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-500, 500), st.floats(0, 1)), max_size=20))
def test_without_the_state_machine_every_box_is_trusted(frames: list[tuple[float, float, float]]) -> None:
    off = replace(CONFIG, enabled=False)
    state = Confidence.begin(BOX)
    for score, x, rival in frames:
        state = run(state, look(score, x, rival), config=off)
        assert (state.state, state.trusted_box.x) == (TrackState.TRACKING, x)
        assert growth_of(state, off) == 1


def test_lost_confirms_before_it_claims_tracking() -> None:
    state = run(Confidence.begin(BOX), *[look(0.3)] * 4)
    for _ in range(2):
        state = observe_lost(state, look(0.7, x=250), LIMITS, CONFIG)
        assert (state.state, state.trusted_box) == (TrackState.LOST, run(Confidence.begin(BOX), look(0.3)).trusted_box)
    state = observe_lost(state, look(0.7, x=252), LIMITS, CONFIG)
    assert (state.state, state.trusted_box.x) == (TrackState.TRACKING, 252)


def test_a_candidate_that_does_not_stay_is_dropped() -> None:
    state = run(Confidence.begin(BOX), *[look(0.3)] * 4)
    state = observe_lost(state, look(0.7, x=250), LIMITS, CONFIG)
    dropped = observe_lost(state, look(0.4, x=250), LIMITS, CONFIG)
    assert (dropped.candidate, dropped.confirmed_frames, dropped.state) == (None, 0, TrackState.LOST)
    elsewhere = observe_lost(state, look(0.7, x=900), LIMITS, CONFIG)
    assert (elsewhere.confirmed_frames, elsewhere.candidate.x) == (1, 900)
    ambiguous = observe_lost(state, look(0.7, x=250, rival=0.95), LIMITS, CONFIG)
    assert ambiguous.candidate is None


def test_scanning_advances_only_while_there_is_no_candidate() -> None:
    state = run(Confidence.begin(BOX), *[look(0.3)] * 4)
    assert observe_lost(state, look(0.1), LIMITS, CONFIG).scan == 1
    again = observe_lost(state, look(0.7), LIMITS, CONFIG)
    assert observe_lost(again, look(0.7), LIMITS, CONFIG).scan == again.scan


@given(st.integers(20, 2000), st.integers(20, 2000), st.floats(10, 800))
def test_tiles_cover_the_frame_half_overlapping(height: int, width: int, side: float) -> None:
    centers = tile_centers((height, width), side)
    for axis, length in ((0, width), (1, height)):
        places = sorted({center[axis] for center in centers})
        assert places[0] - side / 2 <= 1e-6 or places == [length / 2]
        assert places[-1] + side / 2 >= length - 1e-6
        assert all(after - before <= side / 2 + 1e-6 for before, after in itertools.pairwise(places))


def test_thresholds_travel_as_a_mapping() -> None:
    assert Thresholds.from_mapping(LIMITS.as_mapping()) == LIMITS
    assert Thresholds.from_mapping({"rival": "0.7"}).rival == 0.7
    for wrong, message in (
        ({"reval": 0.5}, "unknown threshold reval"),
        ({"rival": 1.5}, "rival is 1.5; expected 0 to 1"),
        ({"rival": "much"}, "rival is 'much'; expected a number"),
        ({"unseen": 0.5, "doubt": 0.4}, "unseen is 0.5; expected at most doubt"),
    ):
        with pytest.raises(ConfidenceError, match=message):
            Thresholds.from_mapping(wrong)


@pytest.mark.parametrize("wrong", [{"lost_after": 0}, {"growth": 0.9}, {"max_jump": 0}, {"tiles_per_frame": 0}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfidenceError, match=next(iter(wrong))):
        ConfidenceConfig(**wrong)
