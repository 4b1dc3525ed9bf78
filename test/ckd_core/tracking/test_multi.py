"""Several targets: the LOST ones share one search, and a fork catches up with a newcomer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ckd_core.boxes import iou_xywh
from ckd_core.frame import BoundingBox, FrameError, Modality
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import MissingPolicy, TemplateRefresh, TrackerConfig
from ckd_core.tracking.multi import MultiTracker, TrackerError
from ckd_core.tracking.result import TrackState
from testkit.tracker_looks import looks_per_frame

LIMITS = Thresholds(doubt=0.6, unseen=0.5, confirm=0.6, rival=0.85, history=0.5)
STATES = ConfidenceConfig(lost_after=4, confirm_frames=3)
PLACES = {"a": (60, 60), "b": (180, 140), "c": (250, 40)}


def tracker_of(engine, **options) -> MultiTracker:
    return MultiTracker(engine, Modality.THERMAL, TrackerConfig(confidence=STATES, **options), LIMITS)


def overlap(a: BoundingBox, b: BoundingBox) -> float:
    return float(iou_xywh(np.array(a), np.array(b)))


def looked_for(tracker: MultiTracker, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The targets that each later frame looks for, one entry per row of the batch."""
    return looks_per_frame(tracker, monkeypatch, lambda look: look.target)


def test_lost_targets_are_searched_for_in_turn_at_the_cost_of_one(scene, correlation, monkeypatch) -> None:
    tracker = tracker_of(correlation)
    boxes = {number: scene.box(*place) for number, place in zip((3, 5, 9), PLACES.values(), strict=True)}
    tracker.start(scene.frame(0, PLACES), boxes)
    only_c = {"c": PLACES["c"]}
    for step in range(1, 6):
        results = tracker.update(scene.frame(step, only_c))
    assert [results[number].state for number in (3, 5, 9)] == [TrackState.LOST, TrackState.LOST, TrackState.TRACKING]
    looks = looked_for(tracker, monkeypatch)
    for step in range(6, 12):
        results = tracker.update(scene.frame(step, only_c))
    assert sorted(map(sorted, looks[:2])) == [[3, 9], [5, 9]]
    assert all(first != second for first, second in pairwise(looks))
    assert results[3].score < LIMITS.confirm, "the score is that of the last look"


def test_every_lost_target_is_found_although_they_share_the_search(scene, correlation) -> None:
    tracker = tracker_of(correlation)
    boxes = {number: scene.box(*place) for number, place in enumerate(PLACES.values())}
    tracker.start(scene.frame(0, PLACES), boxes)
    for step in range(1, 6):
        results = tracker.update(scene.frame(step, {}))
    assert {result.state for result in results.values()} == {TrackState.LOST}
    moved = {"a": (200, 40), "b": (40, 160), "c": (130, 100)}
    for step in range(6, 200):
        results = tracker.update(scene.frame(step, moved))
        if {result.state for result in results.values()} == {TrackState.TRACKING}:
            break
    for number, place in enumerate(moved.values()):
        assert results[number].state is TrackState.TRACKING
        assert overlap(results[number].box, scene.box(*place)) > 0.6


def test_a_target_that_waits_for_confirmation_keeps_its_turn_but_not_for_ever(scene, correlation) -> None:
    tracker = tracker_of(correlation)
    tracker.start(scene.frame(0, PLACES), {1: scene.box(*PLACES["a"]), 2: scene.box(*PLACES["b"])})
    for step in range(1, 6):
        tracker.update(scene.frame(step, {}))

    def pretend(candidate: BoundingBox | None) -> None:
        """As though each look at target 1 found a candidate, and never where the last one was."""
        state = tracker._targets[1]
        tracker._targets[1] = replace(state, confidence=replace(state.confidence, candidate=candidate))

    turns = []
    for step in range(6, 18):
        pretend(scene.box(60, 60))
        tracker.update(scene.frame(step, {}))
        turns.append(tracker._turn.target)
    assert max(len(run) for run in "".join(map(str, turns)).split("2")) == STATES.confirm_frames
    assert turns.count(2) >= 3


def test_a_lost_target_is_not_found_where_another_is_followed(scene, correlation) -> None:
    """A twin, pixel by pixel: without the others' boxes nothing could tell them apart."""
    tracker = tracker_of(correlation)
    tracker.start(scene.frame(0, {"a": (60, 60)}), {1: scene.box(60, 60)})
    fork = tracker.fork()
    fork.start(scene.frame(0, {"a": (200, 150)}), {2: scene.box(200, 150)})
    tracker.join(fork)
    for step in range(1, 60):
        results = tracker.update(scene.frame(step, {"a": (60, 60)}))
    assert (results[1].state, results[2].state) == (TrackState.TRACKING, TrackState.LOST)
    tracker.remove(1)
    for step in range(60, 120):
        results = tracker.update(scene.frame(step, {"a": (60, 60)}))
    assert results[2].state is TrackState.TRACKING
    assert overlap(results[2].box, scene.box(60, 60)) > 0.6


def test_a_target_in_doubt_is_looked_for_in_two_places_but_not_where_another_is_followed(
    scene, correlation, monkeypatch
) -> None:
    tracker = tracker_of(correlation)
    shown = {"a": (60, 60), "b": (230, 170)}
    tracker.start(scene.frame(0, shown), {1: scene.box(60, 60), 2: scene.box(230, 170)})
    gone = {"a": (60, 60)}
    tracker.update(scene.frame(1, gone))

    def pretend(rival: BoundingBox) -> None:
        """As though the last frame had shown a second peak there."""
        state = tracker._targets[2]
        tracker._targets[2] = replace(state, confidence=replace(state.confidence, rival=rival))

    looks = looks_per_frame(tracker, monkeypatch, lambda look: look.target * (-1 if look.second else 1))
    pretend(scene.box(150, 120))
    found = tracker.update(scene.frame(2, {"a": (60, 60), "b": (150, 120)}))[2]
    assert looks[-1] == [1, 2, -2]
    assert found.score > LIMITS.doubt
    pretend(scene.box(60, 60))
    twin = replace(tracker._targets[2], template=tracker._targets[1].template)
    tracker._targets[2] = twin
    found = tracker.update(scene.frame(3, gone))[2]
    assert looks[-1] == [1, 2, -2]
    assert found.score < LIMITS.doubt


def test_a_second_look_may_find_the_target_where_it_is_believed_to_be(scene, correlation) -> None:
    """Only what other targets are followed on is taken."""
    tracker = tracker_of(correlation)
    tracker.start(scene.frame(0, {"a": (60, 60)}), {1: scene.box(60, 60)})
    state = tracker._targets[1]
    tracker._targets[1] = replace(state, confidence=replace(state.confidence, rival=scene.box(62, 60)))
    told = []
    advance = tracker._advance
    tracker._advance = lambda target, looks, *rest: told.append(looks) or advance(target, looks, *rest)
    assert tracker.update(scene.frame(1, {"a": (60, 60)}))[1].score > LIMITS.doubt
    first, second = told[0]
    assert second.score == pytest.approx(first.score, abs=0.1)


def test_one_lost_target_is_searched_for_in_every_frame(scene, correlation, monkeypatch) -> None:
    tracker = tracker_of(correlation)
    tracker.start(scene.frame(0, PLACES), {4: scene.box(*PLACES["a"])})
    looks = looked_for(tracker, monkeypatch)
    for step in range(1, 12):
        result = tracker.update(scene.frame(step, {}))[4]
    assert result.state is TrackState.LOST
    assert looks == [[4]] * 11


def test_no_frame_pays_for_the_templates_of_several_targets(scene, correlation, monkeypatch) -> None:
    tracker = tracker_of(correlation, template_refresh=TemplateRefresh.BLEND, template_every=4)
    boxes = [scene.box(*place) for place in PLACES.values()]
    tracker.start(scene.frame(0, PLACES), {0: boxes[0], 1: boxes[1]})
    tracker.update(scene.frame(1, PLACES))
    tracker.add(scene.frame(1, PLACES), 2, boxes[2])
    crops_of, made = correlation.embed_template, []
    monkeypatch.setattr(correlation, "embed_template", lambda crops: made.append(1) or crops_of(crops))
    per_frame = []
    for step in range(2, 22):
        made.clear()
        tracker.update(scene.frame(step, PLACES))
        per_frame.append(len(made))
    assert sum(per_frame) >= 6, "two each after the tenth frame"
    assert max(per_frame) == 1


def test_a_fork_catches_up_through_frames_that_the_others_have_seen(scene, correlation) -> None:
    tracker = tracker_of(correlation)
    frames = [scene.frame(step, {"a": (60 + 3 * step, 60), "b": (180, 140 + 2 * step)}) for step in range(9)]
    tracker.start(frames[0], {1: scene.box(60, 60)})
    for frame in frames[1:8]:
        tracker.update(frame)
    fork = tracker.fork()
    fork.start(frames[2], {2: scene.box(180, 144)})
    for frame in frames[3:8]:
        fork.update(frame)
    assert tracker.targets == (1,), "a fork leaves the others alone"
    tracker.join(fork)
    assert tracker.targets == (1, 2)
    results = tracker.update(frames[8])
    assert overlap(results[1].box, scene.box(84, 60)) > 0.75
    assert overlap(results[2].box, scene.box(180, 156)) > 0.75
    with pytest.raises(FrameError, match="before the last one"):
        tracker.update(frames[7])


def test_a_fork_has_the_thresholds_in_force(scene, correlation) -> None:
    tracker = tracker_of(correlation)
    tracker.thresholds = replace(LIMITS, doubt=0.9)
    assert tracker.fork().thresholds.doubt == 0.9


def test_without_other_targets_a_tracker_begins_where_the_fork_is(scene, tiny) -> None:
    before, after = scene.frame(5, PLACES), scene.frame(1, PLACES)
    used, fresh = tracker_of(tiny()), tracker_of(tiny())
    used.start(before, {1: scene.box(*PLACES["a"])})
    used.remove(1)
    fork = used.fork()
    fork.start(after, {2: scene.box(*PLACES["b"])})
    used.join(fork)
    fresh.start(after, {2: scene.box(*PLACES["b"])})
    following = scene.frame(2, PLACES)
    assert replace(used.update(following)[2], timing=None) == replace(fresh.update(following)[2], timing=None)


def test_a_fork_of_another_stream_or_without_target_is_refused_and_nothing_changes(scene, tiny) -> None:
    tracker = tracker_of(tiny())
    with pytest.raises(TrackerError, match="the fork has no target"):
        tracker.join(tracker.fork())
    tracker.start(scene.frame(0, PLACES), {1: scene.box(*PLACES["a"])})
    frame = scene.frame(1, PLACES)
    small = replace(frame, rgb=np.ascontiguousarray(frame.rgb[::2, ::2]), aux=np.ascontiguousarray(frame.aux[::2, ::2]))
    fork = tracker.fork()
    fork.start(small, {2: BoundingBox(30, 30, 20, 20)})
    with pytest.raises(FrameError, match="changed its size from 320 x 240 to 160 x 120"):
        tracker.join(fork)
    assert tracker.targets == (1,)
    assert set(tracker.update(frame)) == {1}


def test_the_last_images_of_the_newer_frames_serve_all_after_a_join(scene, tiny) -> None:
    tracker = tracker_of(tiny(), missing=MissingPolicy.LAST)
    tracker.start(scene.frame(0, PLACES), {1: scene.box(*PLACES["a"])})
    newest = scene.frame(3, PLACES)
    fork = tracker.fork()
    fork.start(newest, {2: scene.box(*PLACES["b"])})
    tracker.join(fork)
    assert tracker._memory is not None
    assert tracker._memory.last_aux is newest.aux
    assert tracker._memory.stamp == 3
