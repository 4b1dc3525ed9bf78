"""What stood beside the target when it was last seen for sure is something else, wherever the target is now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ckd_core.boxes import iou_xywh
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking import build_tracker
from ckd_core.tracking.confidence.bystanders import (
    MOST_UNSEEN,
    STEADY_FRAMES,
    bystander_after,
    is_known,
    is_sure_of,
    is_worth_following,
    may_stand_by,
    steady_frames,
)
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.evidence import Evidence
from ckd_core.tracking.confidence.observe import observe
from ckd_core.tracking.confidence.search import observe_lost
from ckd_core.tracking.confidence.state import Bystander, Confidence, Trial
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.confidence.trail import EVERY, LONGEST, Sight
from ckd_core.tracking.config import MissingPolicy, TrackerConfig
from ckd_core.tracking.multi import MultiTracker
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.view import StreamMemory
from ckd_core.tracking.witnesses.distance import Sighting
from testkit.tracker_looks import looks_per_frame

LIMITS = Thresholds(doubt=0.3, unseen=0.1, confirm=0.4, rival=0.9, history=0.45, regain=0.75)
CONFIG = ConfidenceConfig(bystander_frames=6)
HOME, BESIDE = BoundingBox(100, 100, 40, 40), BoundingBox(180, 100, 40, 40)


def seen_at(box: BoundingBox) -> Sight:
    image = np.zeros((240, 320, 3), np.uint8)
    frame = MultiModalFrame(0.0, image, image[..., 0], Modality.THERMAL)
    return Sight.now(frame, StreamMemory((240, 320), 0.0), box, 10)


def look(box: BoundingBox, score: float = 0.8, **said: object) -> Evidence:
    return Evidence(box, score, 0.0, **said)  # type: ignore[arg-type] - passed on


def known() -> Confidence:
    """A target that has been TRACKING under a score of 0.8."""
    state = Confidence.begin(HOME)
    for _ in range(10):
        state = observe(state, look(HOME), LIMITS, CONFIG)
    return state


def test_only_what_has_jumped_away_from_where_the_target_was_is_asked_about() -> None:
    state, seen = known(), seen_at(HOME)
    assert may_stand_by(state, seen, look(BESIDE), LIMITS, CONFIG)
    near = HOME._replace(x=115)
    assert not may_stand_by(state, seen, look(near), LIMITS, CONFIG), "0.375 sides"
    assert not may_stand_by(state, seen, look(BESIDE, 0.05), LIMITS, CONFIG), "nothing is there"
    denied = look(BESIDE, sighting=Sighting(elsewhere=True))
    assert not may_stand_by(state, seen, denied, LIMITS, CONFIG), "nothing is left to be asked"
    gone = replace(state, state=TrackState.LOST, jumped=True, last_box=BESIDE, trusted_box=BESIDE)
    assert may_stand_by(gone, seen, look(BESIDE), LIMITS, CONFIG), "a LOST target may have gone there unseen"


def test_a_target_that_moves_on_is_not_asked_about() -> None:
    state = Confidence.begin(HOME)
    for step in range(1, 13):
        state = observe(state, look(HOME._replace(x=100 + 16 * step)), LIMITS, CONFIG)
    assert not may_stand_by(state, seen_at(HOME), look(HOME._replace(x=100 + 16 * 13)), LIMITS, CONFIG)


def test_it_is_followed_back_when_it_jumps_and_when_it_is_due_to_count() -> None:
    state = known()
    assert is_worth_following(state, look(BESIDE), LIMITS, CONFIG), "it has just jumped"
    assert not is_worth_following(state, look(BESIDE, 0.25), LIMITS, CONFIG), "and may be anything"
    there = observe(state, look(HOME, 0.05), LIMITS, CONFIG)
    for _ in range(2):  # a jump that far is implausible once
        there = observe(there, look(BESIDE), LIMITS, CONFIG)
    assert (there.state, there.good_frames) == (TrackState.UNCERTAIN, 1)
    assert is_worth_following(there, look(BESIDE), LIMITS, CONFIG), "due"
    assert not is_worth_following(there, look(BESIDE, 0.35), LIMITS, CONFIG), "below half of its usual score"
    assert not is_worth_following(replace(there, good_frames=0), look(BESIDE), LIMITS, CONFIG)
    assert not is_worth_following(replace(there, state=TrackState.TRACKING), look(BESIDE), LIMITS, CONFIG)
    waits = replace(state, state=TrackState.LOST, jumped=True, candidate=BESIDE)
    for frames in range(1, CONFIG.confirm_frames):
        due = frames == CONFIG.confirm_frames - 1
        assert is_worth_following(replace(waits, confirmed_frames=frames), look(BESIDE), LIMITS, CONFIG) is due
    waits = replace(waits, confirmed_frames=CONFIG.confirm_frames - 1)
    assert not is_worth_following(waits, look(BESIDE, 0.39), LIMITS, CONFIG)
    assert not is_worth_following(replace(waits, candidate=None), look(BESIDE), LIMITS, CONFIG)


def test_a_frame_is_for_sure_a_while_after_the_last_jump() -> None:
    state, steady = known(), 0
    for _ in range(STEADY_FRAMES - 1):
        steady = steady_frames(steady, state)
        assert not is_sure_of(state, look(HOME), steady, LIMITS)
    steady = steady_frames(steady, state)
    assert is_sure_of(state, look(HOME), steady, LIMITS)
    assert not is_sure_of(state, look(HOME, 0.5), steady, LIMITS), "below `regain`"
    assert not is_sure_of(replace(state, trial=Trial(40, 9)), look(HOME), steady, LIMITS)
    jumped = observe(state, look(HOME._replace(x=140)), LIMITS, CONFIG)
    assert (jumped.state, steady_frames(steady, jumped)) == (TrackState.TRACKING, 0)
    assert steady_frames(steady, observe(state, look(HOME, 0.05), LIMITS, CONFIG)) == 0


def test_a_bystander_is_known_while_it_is_seen_and_not_for_ever() -> None:
    one = bystander_after(None, [look(BESIDE, bystander=True)], CONFIG)
    assert one == Bystander(BESIDE, CONFIG.bystander_frames)
    moved = BESIDE._replace(x=192)
    assert is_known(one, moved)
    assert not is_known(one, BESIDE._replace(x=196))
    assert not is_known(one, BoundingBox(185, 105, 26, 26))
    assert not is_known(None, BESIDE)
    assert bystander_after(one, [look(moved, bystander=True)], CONFIG) == Bystander(moved, CONFIG.bystander_frames - 1)
    unseen, frames = one, 0
    while unseen is not None:
        unseen, frames = bystander_after(unseen, [look(HOME)], CONFIG), frames + 1
    assert frames == MOST_UNSEEN + 1
    seen, frames = one, 0
    while seen is not None:
        seen, frames = bystander_after(seen, [look(BESIDE, bystander=True)], CONFIG), frames + 1
    assert frames == CONFIG.bystander_frames, "then it is asked about again"


def test_the_belief_stays_where_it_was_and_the_target_is_lost() -> None:
    state = known()
    for frame in range(CONFIG.lost_after):
        state = observe(state, look(BESIDE, bystander=True), LIMITS, CONFIG, bounded=True)
        assert state.trusted_box == HOME
        assert state.state is (TrackState.LOST if frame == CONFIG.lost_after - 1 else TrackState.UNCERTAIN)
    for _ in range(CONFIG.believe_after):
        state = observe_lost(state, look(BESIDE, bystander=True), LIMITS, CONFIG)
    assert (state.state, state.candidate) == (TrackState.LOST, None)
    for _ in range(CONFIG.confirm_frames):
        state = observe_lost(state, look(BESIDE), LIMITS, CONFIG)
    assert state.state is TrackState.TRACKING


TWIN = (168, 106)
STATES = ConfidenceConfig(lost_after=4, confirm_frames=3, look_back=True)
CORRELATION = Thresholds(doubt=0.6, unseen=0.5, confirm=0.6, rival=0.95, history=0.5)


def with_twin(
    scene, step: int, home: tuple[int, int] | None, place: tuple[int, int] = TWIN, rgb: bool = True
) -> MultiModalFrame:
    """Two squares of the same texture; the target's may be away."""
    side, (x, y) = 40, place
    twin, ground = scene.frame(step, {"a": place}), scene.frame(step, {} if home is None else {"a": home})
    for image, source in ((ground.rgb, twin.rgb), (ground.aux, twin.aux)):
        image[y : y + side, x : x + side] = source[y : y + side, x : x + side]
    return ground if rgb else replace(ground, rgb=None)


@pytest.mark.parametrize("looks_back", [True, False])
@pytest.mark.parametrize("speed", [0, -1], ids=["standing", "walking"])
def test_a_twin_is_not_taken_for_a_target_that_has_gone(scene, correlation, looks_back: bool, speed: int) -> None:
    config = TrackerConfig(confidence=replace(STATES, look_back=looks_back))
    tracker = MultiTracker(correlation, Modality.THERMAL, config, CORRELATION)
    home, (x, y) = (125, 100), TWIN

    def shown(step: int, home: tuple[int, int] | None) -> MultiModalFrame:
        return with_twin(scene, step, home, (x, y + speed * max(step - 20, 0)))

    tracker.start(shown(0, home), {0: scene.box(*home)})
    for step in range(1, 20):
        assert tracker.update(shown(step, home))[0].state is TrackState.TRACKING
    states = [tracker.update(shown(step, None))[0].state for step in range(20, 70)]
    assert (TrackState.TRACKING in states) is not looks_back
    if looks_back:
        assert states[-1] is TrackState.LOST
        for step in range(70, 80):
            result = tracker.update(shown(step, home))[0]
        assert result.state is TrackState.TRACKING
        assert float(iou_xywh(np.array(result.box), np.array(scene.box(*home)))) > 0.6


def test_a_target_that_jumps_to_where_nothing_was_is_followed(scene, correlation) -> None:
    tracker = MultiTracker(correlation, Modality.THERMAL, TrackerConfig(confidence=STATES), CORRELATION)
    tracker.start(scene.frame(0, {"a": (125, 100)}), {0: scene.box(125, 100)})
    for step in range(1, 15):
        tracker.update(scene.frame(step, {"a": (125, 100)}))
    states = [tracker.update(scene.frame(step, {"a": TWIN}))[0].state for step in range(15, 20)]
    assert states[-1] is TrackState.TRACKING


def test_older_frames_are_looked_at_in_doubt_alone(scene, correlation, monkeypatch) -> None:
    tracker = MultiTracker(correlation, Modality.THERMAL, TrackerConfig(confidence=STATES), CORRELATION)
    home, back, predict = (125, 100), [], tracker._predict

    def watched(frame, memory, looks):
        back.extend(frame.stamp for look in looks if look.sought is not None)
        return predict(frame, memory, looks)

    monkeypatch.setattr(tracker, "_predict", watched)
    tracker.start(with_twin(scene, 0, home), {0: scene.box(*home)})
    for step in range(1, 15):
        tracker.update(with_twin(scene, step, home))
    assert back == []
    for step in range(15, 18):
        tracker.update(with_twin(scene, step, None))
    assert back == [14.0], "a bystander that is known is not asked about again"


def test_a_target_is_not_followed_through_frames_with_another_camera(scene, correlation, monkeypatch) -> None:
    tracker = MultiTracker(correlation, Modality.THERMAL, TrackerConfig(confidence=STATES), CORRELATION)
    home, sought, predict = (125, 100), [], tracker._predict

    def watched(frame, memory, looks):
        sought.extend(look for look in looks if look.sought is not None)
        return predict(frame, memory, looks)

    monkeypatch.setattr(tracker, "_predict", watched)
    tracker.start(with_twin(scene, 0, home), {0: scene.box(*home)})
    for step in range(1, 15):
        tracker.update(with_twin(scene, step, home))
    states = [tracker.update(with_twin(scene, step, None, rgb=False))[0].state for step in range(15, 40)]
    assert sought == []
    assert TrackState.TRACKING in states


def test_frames_are_kept_while_a_target_is_not_seen_for_sure_and_shared_images_count_once(scene, correlation) -> None:
    tracker = MultiTracker(correlation, Modality.THERMAL, TrackerConfig(confidence=STATES), CORRELATION)
    both = {"a": (60, 60), "b": (230, 170)}
    first = scene.frame(0, both)
    pair = first.rgb.nbytes + first.aux.nbytes
    tracker.start(first, {1: scene.box(60, 60), 2: scene.box(230, 170)})
    assert tracker.kept_bytes == pair
    for step in range(1, STEADY_FRAMES):
        tracker.update(scene.frame(step, both))
    assert tracker.kept_bytes == (1 + 2) * pair, "the first frame, and two since then"
    for step in range(STEADY_FRAMES, 15):
        tracker.update(scene.frame(step, both))
        assert tracker.kept_bytes == pair
    for step in range(15, 15 + LONGEST):
        tracker.update(scene.frame(step, {"b": (230, 170)}))
        since = (step - 1) // EVERY - 13 // EVERY  # of the one that is gone
        newest = 1 - ((step - 1) % EVERY == 0)  # of the other one; it is the same frame
        assert tracker.kept_bytes == (1 + since + newest) * pair, step
    tracker.update(scene.frame(15 + LONGEST, {"b": (230, 170)}))
    assert tracker.kept_bytes == 2 * pair, "too long ago"
    tracker.remove(1)
    assert tracker.kept_bytes == pair


@pytest.mark.parametrize("joined", [False, True])
def test_which_frames_are_kept_does_not_depend_on_what_was_followed_before(scene, correlation, joined: bool) -> None:
    tracker = MultiTracker(correlation, Modality.THERMAL, TrackerConfig(confidence=STATES), CORRELATION)
    kept: list[list[int]] = []
    for frames in (STEADY_FRAMES - 1, STEADY_FRAMES - 1, 5, STEADY_FRAMES - 1):
        begin = tracker
        if joined:
            tracker.reset()
            begin = tracker.fork()
        begin.start(scene.frame(0, {"a": (60, 60)}), {0: scene.box(60, 60)})
        if joined:
            tracker.join(begin)
        kept.append([])
        for step in range(1, frames + 1):
            tracker.update(scene.frame(step, {"a": (60, 60)}))
            kept[-1].append(tracker.kept_bytes)
    assert kept[0] == kept[1] == kept[3]
    assert len(set(kept[0])) == 2


def test_a_fork_keeps_what_there_is_still_room_for(scene, correlation) -> None:
    first = scene.frame(0, {"a": (60, 60)})
    pair = first.rgb.nbytes + first.aux.nbytes
    config = TrackerConfig(confidence=STATES, kept_mb=3 * pair / 1e6)
    tracker = MultiTracker(correlation, Modality.THERMAL, config, CORRELATION)
    tracker.start(first, {0: scene.box(60, 60)})
    for step in range(1, 5):
        tracker.update(scene.frame(step, {}))
    assert tracker.kept_bytes == 2 * pair
    fork = tracker.fork()
    fork.start(scene.frame(0, {"a": (60, 60)}), {1: scene.box(60, 60)})
    for step in range(1, 20):
        fork.update(scene.frame(step, {}))
    assert fork.kept_bytes == pair
    tracker.join(fork)
    assert tracker.kept_bytes == 3 * pair


def test_no_more_frames_are_kept_than_there_is_room_for(scene, correlation) -> None:
    first = scene.frame(0, {"a": (60, 60)})
    pair = first.rgb.nbytes + first.aux.nbytes
    config = TrackerConfig(confidence=STATES, kept_mb=3 * pair / 1e6)
    tracker = MultiTracker(correlation, Modality.THERMAL, config, CORRELATION)
    tracker.start(first, {0: scene.box(60, 60)})
    kept = []
    for step in range(1, 60):
        tracker.update(scene.frame(step, {"a": (60, 60)} if step < 15 else {}))
        kept.append(tracker.kept_bytes)
    assert max(kept) == kept[-1] == 3 * pair


def test_images_of_before_count_where_they_stand_in_for_missing_ones(scene, correlation) -> None:
    config = TrackerConfig(confidence=STATES, missing=MissingPolicy.LAST)
    tracker = MultiTracker(correlation, Modality.THERMAL, config, CORRELATION)
    first = scene.frame(0, {"a": (60, 60)})
    tracker.start(first, {0: scene.box(60, 60)})
    for step in range(1, 15):
        tracker.update(scene.frame(step, {"a": (60, 60)}, rgb=step < 12))
        if step >= STEADY_FRAMES:
            assert tracker.kept_bytes == first.rgb.nbytes + first.aux.nbytes


def test_frames_are_kept_by_default_for_networks_that_see_every_box_as_a_square() -> None:
    for model, square in (("sdstrack_m256", True), ("sdstrack_s128", False)):
        tracker = build_tracker(model, modality=Modality.THERMAL, engine="torch/fp32")
        frame = MultiModalFrame(
            0.0, np.zeros((240, 320, 3), np.uint8), np.zeros((240, 320), np.uint8), Modality.THERMAL
        )
        tracker.start(frame, HOME)
        assert (tracker.multi.kept_bytes > 0) is square


def test_published_behaviour_keeps_and_asks_nothing(scene, correlation, monkeypatch) -> None:
    boxes = []
    for config in (TrackerConfig(confidence=replace(STATES, look_back=False)), TrackerConfig(confidence=STATES)):
        tracker = MultiTracker(correlation, Modality.THERMAL, config.as_published(), CORRELATION)
        asked = looks_per_frame(tracker, monkeypatch, lambda one: int(one.second))
        tracker.start(with_twin(scene, 0, (125, 100)), {0: scene.box(125, 100)})
        frames = [with_twin(scene, step, (125, 100) if step < 15 else None) for step in range(1, 20)]
        boxes.append([tracker.update(frame)[0].box for frame in frames])
        assert (asked, tracker.kept_bytes) == ([[0]] * 19, 0)
    assert boxes[0] == boxes[1]


class Panning:
    """A camera that is known to turn by some pixels in every frame from `since` on."""

    def __init__(self, pixels: int, since: int) -> None:
        self.pixels, self.since = pixels, since

    def shift(self, step: float) -> int:
        return self.pixels * max(int(step) - self.since, 0)

    def seen(self, frame: MultiModalFrame) -> MultiModalFrame:
        images = (
            None if image is None else np.roll(image, self.shift(frame.stamp), 1) for image in (frame.rgb, frame.aux)
        )
        return replace(frame, **dict(zip(("rgb", "aux"), images, strict=True)))

    def view(self, frame: MultiModalFrame, size: tuple[int, int]) -> float:
        return frame.stamp

    def between(self, before: float, now: float, boxes: object) -> np.ndarray:
        moved = np.eye(3)
        moved[0, 2] = self.shift(now) - self.shift(before)
        return moved


@pytest.mark.parametrize(
    ("pixels", "speed", "blind", "way"),
    [(0, 0, (), [25.0, 19.0]), (0, -2, (), [25.0, 19.0]), (6, 0, (), [25.0, 19.0]), (0, 0, (25,), [19.0])],
    ids=["standing", "walking", "the camera turns", "a kept frame without colour"],
)
def test_a_twin_is_followed_back_through_the_frames_since(
    scene, correlation, monkeypatch, pixels: int, speed: int, blind: tuple[int, ...], way: list[float]
) -> None:
    """The twin is out of sight while it could be asked about at once, but for one frame that is kept."""
    camera, home, (x, y) = Panning(pixels, 20), (125, 100), TWIN

    def shown(step: int) -> MultiModalFrame:
        place = (x, y + speed * max(step - 20, 0))
        if step < 20 or step == 25 or step >= 29:
            frame = with_twin(scene, step, home if step < 20 else None, place, rgb=step not in blind)
        else:
            frame = scene.frame(step, {})
        return camera.seen(frame)

    tracker = MultiTracker(correlation, Modality.THERMAL, TrackerConfig(confidence=STATES), CORRELATION)
    if pixels:
        tracker.camera_motion = camera
    asked, predict = [], tracker._predict

    def watched(frame, memory, looks):
        asked.extend((look.sought[0], frame.stamp) for look in looks if look.sought is not None)
        return predict(frame, memory, looks)

    monkeypatch.setattr(tracker, "_predict", watched)
    tracker.start(shown(0), {0: scene.box(*home)})
    states = [tracker.update(shown(step))[0].state for step in range(1, 40)]
    assert TrackState.TRACKING not in states[20:]
    first = asked[0][0]
    assert first > 28
    assert [stamp for now, stamp in asked if now == first] == way
