"""Claims that may be a lookalike's: one of another size has to stay, and the second peak gets a look of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ckd_core.frame import BoundingBox
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.evidence import Evidence
from ckd_core.tracking.confidence.observe import observe
from ckd_core.tracking.confidence.rivals import chosen, rival_of
from ckd_core.tracking.confidence.search import observe_lost
from ckd_core.tracking.confidence.state import Confidence, Trial
from ckd_core.tracking.confidence.thresholds import ConfidenceError, Thresholds
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.witnesses.colours import Recognition
from ckd_core.tracking.witnesses.distance import Sighting
from ckd_core.tracking.witnesses.features import Resemblance

LIMITS = Thresholds(doubt=0.3, unseen=0.1, confirm=0.4, rival=0.9, history=0.45, regain=0.75)
CONFIG = ConfidenceConfig(lost_after=8, recover_after=2, confirm_frames=3, claim_after=6)
HOME = BoundingBox(100, 100, 80, 80)
BESIDE = (180, 110)  # the corner of something a side away


def look(
    score: float, corner: tuple[float, float] = (100, 100), side: float = 80, rival: float = 0.0,
    rival_box: BoundingBox | None = None,
) -> Evidence:  # fmt: skip
    return Evidence(BoundingBox(*corner, side, side), score, rival, rival_box=rival_box)


def after(*looks: Evidence, state: Confidence | None = None, config: ConfidenceConfig = CONFIG) -> Confidence:
    state = state or Confidence.begin(HOME)
    for evidence in looks:
        state = observe(state, evidence, LIMITS, config)
    return state


def covered() -> Confidence:
    """A target that was TRACKING for ten frames under 0.9, and has been covered since."""
    return after(*[look(0.9)] * 10, look(0.05))


def test_a_claim_of_another_size_after_a_jump_has_to_stay_before_it_counts() -> None:
    smaller = look(0.85, BESIDE, 55)
    state = after(*[smaller] * (CONFIG.claim_after - 1), state=covered())
    assert (state.state, state.usual_size) == (TrackState.UNCERTAIN, 80), "and its size is not the usual one"
    assert state.trusted_box == smaller.box, "it is followed meanwhile"
    state = after(smaller, state=state)
    assert state.state is TrackState.TRACKING
    assert after(*[smaller] * 9, state=state).usual_size == 55


def test_a_doubtful_frame_between_does_not_begin_the_wait_anew_and_another_jump_does() -> None:
    smaller, dim = look(0.85, BESIDE, 55), look(0.2, BESIDE, 55)
    waited = after(*[smaller] * (CONFIG.claim_after - 1), state=covered())
    assert after(dim, smaller, state=waited).state is TrackState.UNCERTAIN, "two in a row, as after any doubt"
    assert after(dim, smaller, smaller, state=waited).state is TrackState.TRACKING
    further = look(0.85, (210, 110), 55)
    assert after(*[further] * (CONFIG.claim_after - 1), state=waited).state is TrackState.UNCERTAIN
    assert after(*[further] * CONFIG.claim_after, state=waited).state is TrackState.TRACKING


def test_where_nothing_is_seen_the_best_place_is_no_jump() -> None:
    nowhere = look(0.05, (190, 190))
    assert not after(nowhere, state=covered()).jumped
    assert after(look(0.2, (150, 130)), state=covered()).jumped


def test_a_jump_across_frames_without_any_sign_is_one() -> None:
    state = after(look(0.05, BESIDE, 55), look(0.05, BESIDE, 55), state=covered())
    seen = after(*[look(0.85, BESIDE, 55)] * 3, state=state)
    assert (seen.state, seen.jumped) == (TrackState.UNCERTAIN, True)


def test_a_claim_that_jumps_to_and_fro_is_believed_in_the_end() -> None:
    """A shaking camera and a small target."""
    state = covered()
    for frame in range(CONFIG.believe_after):
        state = after(look(0.85, (180 + 22 * (frame % 2), 110), 55), state=state)
        assert (state.state is TrackState.TRACKING) is (frame == CONFIG.believe_after - 1)


def test_a_claim_on_trial_does_not_say_what_size_the_target_has() -> None:
    state = after(*[look(0.85, BESIDE, 55)] * 9, state=claimed())
    assert (state.usual_size, state.expected_size) == (55, 80)
    lost = after(*[look(0.05)] * 4, state=state)
    assert (lost.state, lost.expected_size) == (TrackState.LOST, 80)
    target, other = look(0.85, (300, 100), 80), look(0.85, (300, 100), 56)
    for _ in range(CONFIG.confirm_frames):
        lost = observe_lost(lost, target, LIMITS, CONFIG)
    assert (lost.state, lost.trial) == (TrackState.TRACKING, None), "the size is the old one"
    again = after(*[look(0.05)] * 4, state=state)
    for _ in range(CONFIG.claim_after):
        searched = again.state is TrackState.LOST
        again = observe_lost(again, other, LIMITS, CONFIG) if searched else after(other, state=again)
    assert again.trial == Trial(80, CONFIG.trial_frames)


@pytest.mark.parametrize(
    "claim",
    [look(0.85, BESIDE, 70), look(0.85, (110, 110), 60)],
    ids=["of the usual size, elsewhere", "of another size, where it was"],
)
def test_other_claims_count_after_recover_after_frames(claim: Evidence) -> None:
    assert after(*[claim] * CONFIG.recover_after, state=covered()).state is TrackState.TRACKING


def test_what_moves_on_as_before_has_not_jumped() -> None:
    """A fast target, 0.4 sides per frame, grows behind something narrow."""
    fast = [look(0.9, (100 + 32 * step, 100)) for step in range(12)]
    state = after(*fast, look(0.2, (100 + 32 * 12, 100)))
    assert state.state is TrackState.UNCERTAIN
    assert not state.jumped
    assert after(look(0.9, (550, 100), 40)).jumped


def test_a_jump_is_forgotten_when_the_target_is_tracking_again() -> None:
    state = after(look(0.85, BESIDE, 75), state=covered())
    assert state.jumped
    assert not after(*[look(0.85, BESIDE, 75)] * 3, state=state).jumped


@pytest.mark.parametrize(("side", "frames"), [(80, 3), (55, 6)], ids=["usual size", "another size"])
def test_a_lost_target_of_another_size_has_to_stay_too(side: float, frames: int) -> None:
    state = after(*[look(0.05)] * 4, state=covered())
    assert (state.state, state.jumped) == (TrackState.LOST, True)
    seen, taken = look(0.85, (300, 100), side), 0
    while state.state is not TrackState.TRACKING:
        taken += 1
        searched = state.state is TrackState.LOST
        state = observe_lost(state, seen, LIMITS, CONFIG) if searched else observe(state, seen, LIMITS, CONFIG)
    assert taken == frames


def test_the_second_peak_of_a_frame_in_doubt_is_looked_at_next() -> None:
    home = BoundingBox(105, 100, 76, 76)
    smaller = look(0.6, BESIDE, 55, rival=0.3, rival_box=home)
    before = covered()
    state = after(smaller, state=before)
    assert rival_of(before, state, [smaller], smaller, CONFIG) == home
    assert rival_of(before, state, [smaller], smaller, replace(CONFIG, second_look=False)) is None
    assert rival_of(before, replace(state, jumped=False), [smaller], smaller, CONFIG) is None, "it is where it was"
    assert rival_of(before, replace(state, state=TrackState.LOST), [smaller], smaller, CONFIG) is None
    assert rival_of(before, replace(state, state=TrackState.TRACKING), [smaller], smaller, CONFIG) is None


@pytest.mark.parametrize(
    ("rival", "box"),
    [
        (0.04, BoundingBox(105, 100, 76, 76)),
        (0.3, BoundingBox(105, 100, 40, 40)),
        (0.3, BoundingBox(190, 110, 70, 70)),
        (0.3, BoundingBox(0, 0, 76, 76)),
        (0.3, None),
    ],
    ids=["low", "of another size", "the same thing", "out of reach", "unknown"],
)
def test_a_peak_that_cannot_be_the_target_is_not(rival: float, box: BoundingBox | None) -> None:
    smaller = look(0.6, BESIDE, 55, rival=rival, rival_box=box)
    before = covered()
    assert rival_of(before, after(smaller, state=before), [smaller], smaller, CONFIG) is None


def claimed() -> Confidence:
    """A target that is TRACKING since something smaller beside it has stayed for long."""
    return after(*[look(0.85, BESIDE, 55)] * CONFIG.claim_after, state=covered())


def test_what_counts_although_its_size_is_another_is_on_trial() -> None:
    state = claimed()
    assert (state.state, state.trial, state.expected_size) == (TrackState.TRACKING, Trial(80, CONFIG.trial_frames), 80)
    home = BoundingBox(105, 100, 76, 76)
    smaller = look(0.6, BESIDE, 55, rival=0.3, rival_box=home)
    later = after(*[smaller] * 9, state=state)
    assert (later.usual_size, later.expected_size) == (55, 80)
    assert rival_of(state, later, [smaller], smaller, CONFIG) == home
    first, second = look(0.85, BESIDE, 55), look(0.8)
    assert chosen(later, [first, second], LIMITS) is second


def test_a_trial_ends_after_a_while_or_when_the_size_is_the_old_one_again() -> None:
    smaller = look(0.85, BESIDE, 55)
    state = after(*[smaller] * (CONFIG.trial_frames - 1), state=claimed())
    assert state.trial == Trial(80, 1)
    state = after(smaller, state=state)
    assert (state.trial, state.expected_size) == (None, 55)
    assert rival_of(state, state, [smaller], replace(smaller, rival=0.5, rival_box=HOME), CONFIG) is None
    assert after(look(0.85, (170, 105), 70), state=claimed()).trial is None


def test_of_two_looks_the_one_of_the_usual_size_is_believed() -> None:
    first, second = look(0.85, BESIDE, 55), look(0.8)
    assert chosen(covered(), [first, second], LIMITS) is second
    assert chosen(covered(), [second, first], LIMITS) is second


def test_a_second_look_below_a_target_seen_again_is_not_believed() -> None:
    first, second = look(0.3, BESIDE, 55), look(0.6)
    assert chosen(covered(), [first, second], LIMITS) is first


@pytest.mark.parametrize(
    "said",
    [
        {"sighting": Sighting(elsewhere=True)},
        {"recognition": Recognition(otherwise=True)},
        {"resemblance": Resemblance(denied=True)},
        {"bystander": True},
    ],
    ids=lambda said: next(iter(said)),
)
def test_a_second_look_that_a_witness_contradicts_is_not_believed(said: dict[str, Any]) -> None:
    first, second = look(0.85, BESIDE, 55), look(0.8)
    assert chosen(covered(), [first, second], LIMITS) is second
    assert chosen(covered(), [first, replace(second, **said)], LIMITS) is first
    contradicted, worse = replace(look(0.9), **said), look(0.75, BESIDE)
    assert chosen(covered(), [contradicted, worse], LIMITS) is worse, "nor is the first, if there is another"
    assert chosen(covered(), [contradicted, look(0.2, BESIDE)], LIMITS) is contradicted


def test_a_bystander_in_the_first_look_leaves_the_second_peak_to_be_looked_at() -> None:
    home = BoundingBox(102, 100, 78, 78)
    for state in (TrackState.UNCERTAIN, TrackState.LOST):
        before = replace(covered(), state=state, jumped=True)
        other = look(0.8, BESIDE, 78, rival=0.3, rival_box=home)
        assert rival_of(before, before, [other], other, CONFIG) is None, "the first look goes there"
        denied = replace(other, bystander=True)
        assert rival_of(before, before, [denied], denied, CONFIG) == home


def test_of_the_windows_of_a_search_one_that_nothing_contradicts_counts() -> None:
    lost = replace(covered(), state=TrackState.LOST)
    first, second = replace(look(0.9), bystander=True), look(0.6, (300, 100))
    assert chosen(lost, [first, second], LIMITS) is second
    assert chosen(lost, [first], LIMITS) is first


def test_of_the_windows_of_a_search_the_highest_score_counts() -> None:
    lost = replace(covered(), state=TrackState.LOST)
    first, second = look(0.3), look(0.6, BESIDE, 55)
    assert chosen(lost, [first, second], LIMITS) is second


def test_the_place_that_lost_is_looked_at_again_while_it_was_nearly_as_good() -> None:
    first, second = look(0.7, BESIDE, 70), look(0.8)
    before = after(look(0.25, BESIDE, 70), state=covered())
    state = after(second, state=before)
    assert state.state is TrackState.UNCERTAIN
    assert rival_of(before, state, [first, second], second, CONFIG) == first.box
    other = replace(first, bystander=True)
    assert rival_of(before, state, [other, second], second, CONFIG) is None
    poor = replace(first, score=0.2)
    assert rival_of(before, state, [poor, second], second, CONFIG) is None


@pytest.mark.parametrize("wrong", [{"claim_jump": 0.0}, {"claim_scale": 0.9}])
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfidenceError, match=f"{name} is {wrong[name]}; expected"):
        replace(CONFIG, **wrong)
