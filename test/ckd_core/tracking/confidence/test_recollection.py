"""A claim of another size that was the target in the last sure frame need not wait."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from ckd_core.frame import BoundingBox, Modality
from ckd_core.tracking.confidence import recollection
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.evidence import Evidence
from ckd_core.tracking.confidence.observe import observe
from ckd_core.tracking.confidence.recollection import AHEAD, ALIKE, is_alike, is_the_target, may_settle
from ckd_core.tracking.confidence.search import observe_lost
from ckd_core.tracking.confidence.state import Confidence
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.multi import MultiTracker
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.witnesses.distance import Sighting

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.frame import MultiModalFrame
    from ckd_core.tracking.looks import Look

    Wait = Callable[..., tuple[int, list[Look]]]

LIMITS = Thresholds(doubt=0.3, unseen=0.1, confirm=0.4, rival=0.9, history=0.45, regain=0.75)
CONFIG = ConfidenceConfig(lost_after=8, recover_after=2, confirm_frames=3, claim_after=6)
HOME = BoundingBox(100, 100, 80, 80)
SMALLER = BoundingBox(190, 110, 55, 55)


def look(box: BoundingBox = SMALLER, score: float = 0.8, **said: Any) -> Evidence:
    return Evidence(box, score, 0.0, **said)


def known(*later: Evidence) -> Confidence:
    """A target that has been TRACKING under a score of 0.8, and what came then."""
    state = Confidence.begin(HOME)
    for evidence in (*[look(HOME)] * 10, *later):
        state = observe(state, evidence, LIMITS, CONFIG)
    return state


def lost() -> Confidence:
    """The same, LOST, and about to be found."""
    state = known(*[look(HOME, 0.05)] * CONFIG.lost_after)
    for _ in range(CONFIG.confirm_frames - 1):
        state = observe_lost(state, look(), LIMITS, CONFIG)
    return state


def test_what_is_due_but_for_its_size_is_asked_about() -> None:
    jumped = known(look(HOME, 0.05), look())
    assert jumped.state is TrackState.UNCERTAIN
    assert may_settle(jumped, look(), LIMITS, CONFIG)
    assert not may_settle(known(look(HOME, 0.05)), look(), LIMITS, CONFIG), "its first frame would not do anyway"
    assert not may_settle(jumped, look(SMALLER._replace(w=78, h=78)), LIMITS, CONFIG), "of the usual size"
    assert not may_settle(jumped, look(score=0.2), LIMITS, CONFIG), "doubtful"
    assert not may_settle(jumped, look(sighting=Sighting(elsewhere=True)), LIMITS, CONFIG), "contradicted"
    assert not may_settle(replace(jumped, history=(0.8,) * 4), look(), LIMITS, CONFIG), "too little is known of it"
    assert not may_settle(known(), look(), LIMITS, CONFIG), "TRACKING follows a jump"
    stayed = known(look(HOME, 0.05), look(HOME))
    assert not may_settle(stayed, look(HOME._replace(w=55, h=55)), LIMITS, CONFIG), "nothing has jumped"
    assert may_settle(lost(), look(), LIMITS, CONFIG)
    assert not may_settle(replace(lost(), confirmed_frames=1), look(), LIMITS, CONFIG)
    assert not may_settle(lost(), look(score=0.39), LIMITS, CONFIG)


def test_the_target_of_then_answers_as_usual_and_nothing_beside_it_does() -> None:
    state, usual = known(), 0.8
    assert is_alike(state, ALIKE * usual + 0.001)
    assert not is_alike(state, ALIKE * usual - 0.001)
    assert is_the_target(state, usual, (1 - AHEAD) * usual - 0.001)
    assert not is_the_target(state, usual, (1 - AHEAD) * usual + 0.001)


@pytest.mark.parametrize("recollected", [True, False])
def test_a_recollected_claim_counts_at_once_and_is_not_on_trial(recollected: bool) -> None:
    seen = look(recollected=recollected)
    jumped = observe(known(look(HOME, 0.05), look()), seen, LIMITS, CONFIG)
    found = observe_lost(lost(), seen, LIMITS, CONFIG)
    for state in (jumped, found):
        assert (state.state is TrackState.TRACKING) is recollected
        assert state.trial is None
        assert state.trusted_box == SMALLER
    assert observe(jumped, look(), LIMITS, CONFIG).state is jumped.state


STATES = ConfidenceConfig(lost_after=4, confirm_frames=3, claim_after=8, look_back=True)
CORRELATION = Thresholds(doubt=0.5, unseen=0.4, confirm=0.5, rival=0.95, history=0.5)
HERE, THERE, SIDE = (125, 100), (172, 106), 27


def smaller_at(scene: Any, step: int, place: tuple[int, int], clear: float) -> MultiModalFrame:
    """The target has come back smaller, a share of it in the place of something else."""
    frame, (x, y) = scene.frame(step, {}), place
    target, other = scene.frame(step, {"a": HERE}), scene.frame(step, {"b": HERE})
    for image, one, two in ((frame.rgb, target.rgb, other.rgb), (frame.aux, target.aux, other.aux)):
        u, v = HERE
        mixed = cv2.addWeighted(one[v : v + 40, u : u + 40], clear, two[v : v + 40, u : u + 40], 1 - clear, 0)
        image[y : y + SIDE, x : x + SIDE] = cv2.resize(mixed, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return frame


@pytest.fixture
def wait(scene, correlation, monkeypatch) -> Wait:
    """Frames until a target that jumps to a smaller one of its like is TRACKING, and what was asked of an older frame.

    The limits are a correlation's, which is lower for what is blurred, and higher for what is not the target.
    """
    monkeypatch.setattr(recollection, "ALIKE", 0.88)
    monkeypatch.setattr(recollection, "AHEAD", 0.45)

    def wait(clear: float = 1.0, rgb: bool = True, **changes: Any) -> tuple[int, list[Look]]:
        asked: list[Look] = []
        config = TrackerConfig(confidence=replace(STATES, **changes))
        tracker = MultiTracker(correlation, Modality.THERMAL, config, CORRELATION)
        predict = tracker._predict

        def watched(frame: Any, memory: Any, looks: list[Look]) -> Any:
            home = tracker._search_window(scene.box(*HERE))  # what is followed back is looked for where it is now
            recollections = [look for look in looks if look.sought is not None and look.window == home]
            assert not recollections or frame.stamp == 14.0, "the last one that showed it for sure"
            asked.extend(recollections)
            return predict(frame, memory, looks)

        monkeypatch.setattr(tracker, "_predict", watched)
        tracker.start(scene.frame(0, {"a": HERE}), {0: scene.box(*HERE)})
        for step in range(1, 16):
            tracker.update(scene.frame(step, {"a": HERE} if step < 15 else {}))
        for step in range(16, 40):
            frame = smaller_at(scene, step, THERE, clear)
            if tracker.update(frame if rgb else replace(frame, rgb=None))[0].state is TrackState.TRACKING:
                return step - 15, asked
        pytest.fail("it is never TRACKING again")

    return wait


def test_a_target_that_returns_smaller_is_known_by_the_frame_of_then(wait: Wait, scene) -> None:
    frames, (then, painted) = wait()
    assert frames == STATES.recover_after
    assert (then.hidden, painted.hidden) == (None, scene.box(*HERE))
    assert then.sought == painted.sought
    stamp, box = then.sought
    assert stamp == 17.0, "its first frame would not do anyway"
    assert box.w == pytest.approx(SIDE, abs=2)
    assert wait(look_back=False) == (STATES.claim_after, [])


def test_what_only_resembles_it_has_to_stay_and_is_not_asked_about_twice_a_frame(wait: Wait) -> None:
    frames, asked = wait(clear=0.7)
    assert frames >= STATES.claim_after
    assert 0 < len(asked) < frames
    assert all(look.hidden is None for look in asked)


def test_a_frame_with_other_cameras_than_that_one_tells_nothing(wait: Wait) -> None:
    frames, asked = wait(rgb=False)
    assert frames >= STATES.claim_after
    assert asked == []
