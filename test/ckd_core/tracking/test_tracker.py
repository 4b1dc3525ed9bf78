from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckd_core.frame import BoundingBox, FrameError, Modality, MultiModalFrame
from ckd_core.tracking.config import (
    PUBLISHED_MOTION,
    SQUARE_MOTION,
    MissingPolicy,
    MotionConfig,
    TrackerConfig,
)
from ckd_core.tracking.multi import MultiTracker, TrackerError
from ckd_core.tracking.result import TrackResult, TrackState
from ckd_core.tracking.tracker import Tracker
from testkit.small_trackers import LIMITS, STATES, overlap, path, tracker_of, without_timing

if TYPE_CHECKING:
    pass


def test_a_moving_target_is_followed(scene, correlation) -> None:
    tracker = tracker_of(correlation)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    for step in range(1, 15):
        result = tracker.update(scene.frame(step / 30, {"a": path(step)}))
        assert result.state is TrackState.TRACKING
        assert overlap(result.box, scene.box(*path(step))) > 0.75
        assert result.timing.total > 0
        assert (result.stamp, result.rgb_present, result.aux_present) == (step / 30, True, True)


def test_a_target_that_leaves_is_lost_and_found_elsewhere(scene, correlation) -> None:
    tracker = tracker_of(correlation)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    for step in range(1, 6):
        last = tracker.update(scene.frame(step, {"a": path(step)}))
    states = []
    for step in range(6, 30):
        result = tracker.update(scene.frame(step, {}))
        states.append(result.state)
    assert states[0] is TrackState.UNCERTAIN
    assert set(states[1:]) == {TrackState.LOST}  # a frame without any sight of the target counts twice: 2 x 2 = 4
    assert overlap(result.box, last.box) > 0.5  # the last believed place, not where the search looked
    came_back = (20, 180)  # far outside the search region of the last place
    states = [tracker.update(scene.frame(step, {"a": came_back})) for step in range(30, 70)]
    first = next(index for index, result in enumerate(states) if result.state is TrackState.TRACKING)
    assert first >= STATES.confirm_frames - 1
    assert overlap(states[first].box, scene.box(*came_back)) > 0.6
    assert all(result.state is TrackState.TRACKING for result in states[first + 2 :])


def test_without_reacquisition_a_lost_target_is_searched_where_it_was(scene, correlation) -> None:
    config = TrackerConfig(confidence=replace(STATES, reacquire=False, growth=1.0))
    tracker = tracker_of(correlation, config)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    for step in range(1, 10):
        lost = tracker.update(scene.frame(step, {}))
    assert lost.state is TrackState.LOST
    elsewhere = [tracker.update(scene.frame(step, {"a": (20, 190)})).state for step in range(10, 30)]
    assert set(elsewhere) == {TrackState.LOST}


def test_the_grown_search_region_catches_a_target_that_ran(scene, correlation) -> None:
    jumped = (100 + 78, 90)  # outside the usual search region of 160 px
    for growth, expected in ((1.0, False), (1.4, True)):
        config = TrackerConfig(confidence=replace(STATES, growth=growth, lost_after=30, max_jump=5))
        tracker = tracker_of(correlation, config)
        tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
        for step in range(1, 4):
            tracker.update(scene.frame(step, {}))
        for step in range(4, 10):
            result = tracker.update(scene.frame(step, {"a": jumped}))
        assert (overlap(result.box, scene.box(*jumped)) > 0.6) is expected


@pytest.mark.parametrize("policy", list(MissingPolicy))
def test_one_camera_may_go_and_come_back(scene, correlation, policy: MissingPolicy) -> None:
    tracker = tracker_of(correlation, TrackerConfig(missing=policy, confidence=replace(STATES, enabled=False)))
    tracker.start(scene.frame(0, {"a": (100, 90)}), scene.box(100, 90))
    for step in range(1, 16):
        rgb, aux = not 5 <= step < 8, not 10 <= step < 13
        result = tracker.update(scene.frame(step, {"a": (100 + step, 90)}, rgb=rgb, aux=aux))
        assert (result.rgb_present, result.aux_present) == (rgb, aux)
    assert overlap(result.box, scene.box(115, 90)) > 0.6


def test_results_keep_the_size_of_the_reference_image_while_colour_is_missing(scene, correlation) -> None:
    tracker = tracker_of(correlation)
    first = scene.frame(0, {"a": path(0)})
    halved = replace(scene.frame(2, {"a": path(2)}, rgb=False), aux=first.aux[::2, ::2].copy())
    tracker.start(replace(first, aux=first.aux[::2, ::2].copy()), scene.box(*path(0)))
    both = tracker.update(replace(first, stamp=1.0, aux=halved.aux))
    alone = tracker.update(halved)
    assert both.reference_size == alone.reference_size == (240, 320)
    tracker.start(halved, BoundingBox(50, 45, 20, 20))  # the auxiliary image is the reference where there is no other
    assert tracker.update(replace(halved, stamp=3.0)).reference_size == (120, 160)


def test_missing_policies_show_the_network_what_they_promise(scene, tiny) -> None:
    whole, half = scene.frame(0, {"a": path(0)}), scene.frame(1, {"a": path(1)}, aux=False)
    crops = {}
    for policy in MissingPolicy:
        tracker = Tracker(tiny(), Modality.THERMAL, TrackerConfig(missing=policy))
        tracker.start(whole, scene.box(*path(0)))
        tracker.update(half)
        crops[policy] = tracker.engine.search_crops(1)[0].copy()
    assert crops[MissingPolicy.ZEROS][1].max() == 0
    np.testing.assert_array_equal(crops[MissingPolicy.DUPLICATE][1], crops[MissingPolicy.DUPLICATE][0])
    tracker = Tracker(tiny(), Modality.THERMAL)
    tracker.start(whole, scene.box(*path(0)))
    tracker.update(replace(half, aux=whole.aux))
    np.testing.assert_array_equal(crops[MissingPolicy.LAST], tracker.engine.search_crops(1)[0])


@pytest.mark.parametrize("rgb", [True, False])
def test_alone_compares_a_camera_with_its_own_template(scene, tiny, rgb: bool) -> None:
    """The same answer as that of a tracker that never had the other camera; back to both when it returns."""

    def answers(policy: MissingPolicy, *shown: tuple[bool, bool]) -> list[TrackResult]:
        tracker = Tracker(tiny(), Modality.THERMAL, TrackerConfig(missing=policy).as_published())
        frames = [scene.frame(step, {"a": path(step)}, rgb=c, aux=a) for step, (c, a) in enumerate(shown)]
        tracker.start(frames[0], scene.box(*path(0)))
        return [tracker.update(frame) for frame in frames[1:]]

    both, one = (True, True), (rgb, not rgb)
    result = answers(MissingPolicy.ALONE, both, one)[0]
    never = answers(MissingPolicy.DUPLICATE, one, one)[0]
    assert (result.box, result.score) == (never.box, never.score)
    assert result.score != answers(MissingPolicy.DUPLICATE, both, one)[0].score
    back, kept = (answers(policy, both, both)[-1] for policy in (MissingPolicy.ALONE, MissingPolicy.DUPLICATE))
    assert (back.box, back.score) == (kept.box, kept.score)


def test_a_tracker_can_start_with_either_camera_alone(scene, correlation) -> None:
    for rgb in (True, False):
        tracker = tracker_of(correlation)
        tracker.start(scene.frame(0, {"a": path(0)}, rgb=rgb, aux=not rgb), scene.box(*path(0)))
        result = tracker.update(scene.frame(1, {"a": path(1)}, rgb=rgb, aux=not rgb))
        assert overlap(result.box, scene.box(*path(1))) > 0.75


def test_start_and_reset_leave_no_state_behind(scene, tiny) -> None:
    used, fresh = tracker_of(tiny()), tracker_of(tiny())
    used.start(scene.frame(100, {"b": (30, 30)}, aux=False), scene.box(30, 30))
    for step in range(12):
        used.update(scene.frame(101 + step, {"b": (30 + step, 30)}, rgb=step % 2 == 0))
    used.reset()
    for tracker in (used, fresh):
        tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    for step in range(1, 5):
        frame = scene.frame(step, {"a": path(step)})
        assert without_timing(used.update(frame)) == without_timing(fresh.update(frame))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(BoundingBox, st.floats(-30, 300), st.floats(-30, 220), st.floats(31, 200), st.floats(31, 200)),
    st.booleans(),
    st.booleans(),
)
def test_boxes_stay_in_the_frame_and_equal_frames_give_equal_results(
    scene, tiny, box: BoundingBox, published: bool, enabled: bool
) -> None:
    config = TrackerConfig(published_geometry=published, confidence=replace(STATES, enabled=enabled))
    trackers = [tracker_of(tiny(), config) for _ in range(2)]
    for tracker in trackers:
        tracker.start(scene.frame(0, {"a": path(0)}), box)
    for step in range(1, 4):
        frame = scene.frame(step, {"a": path(step)})
        first, second = (tracker.update(frame) for tracker in trackers)
        assert without_timing(first) == without_timing(second)
        if enabled and first.box == box:
            continue  # nothing was believed yet: the user's own box stands
        x, y, w, h = first.box
        assert x >= 0
        assert y >= 0
        assert x + w <= 320 + 1e-9
        assert y + h <= 240 + 1e-9
        assert min(w, h) >= 10 - 1e-9


def test_an_auxiliary_camera_of_another_resolution(scene, correlation) -> None:
    def halved(frame: MultiModalFrame) -> MultiModalFrame:
        return replace(frame, aux=np.ascontiguousarray(frame.aux[::2, ::2]))

    tracker = tracker_of(correlation)
    tracker.start(halved(scene.frame(0, {"a": path(0)})), scene.box(*path(0)))
    for step in range(1, 8):
        result = tracker.update(halved(scene.frame(step, {"a": path(step)})))
        assert overlap(result.box, scene.box(*path(step))) > 0.7
    aux_only = tracker.update(halved(scene.frame(9, {"a": path(8)}, rgb=True)))
    assert overlap(aux_only.box, scene.box(*path(8))) > 0.7


def test_without_colour_no_target_starts_in_the_pixels_of_another_camera(scene, tiny) -> None:
    """The box would be one of the smaller image, and stay one when colour comes back."""
    frame = replace(scene.frame(0, {"a": path(0)}), rgb=None, aux_from_reference=np.diag((0.5, 0.5, 1.0)))
    with pytest.raises(FrameError, match="no target can start without the colour image"):
        tracker_of(tiny()).start(frame, scene.box(*path(0)))


def test_several_targets_are_tracked_like_each_alone(scene, tiny) -> None:
    places = {"a": (60, 60), "b": (160, 120), "c": (230, 40)}
    boxes = {index: scene.box(*place) for index, place in enumerate(places.values())}
    config = TrackerConfig(confidence=STATES)
    together = MultiTracker(tiny(), Modality.THERMAL, config, LIMITS)
    together.start(scene.frame(0, places), boxes)
    alone = {index: tracker_of(tiny(), config) for index in boxes}
    for index, box in boxes.items():
        alone[index].start(scene.frame(0, places), box)
    for step in range(1, 4):
        frame = scene.frame(step, {name: (x + 2 * step, y) for name, (x, y) in places.items()})
        results = together.update(frame)
        for index, tracker in alone.items():
            single = tracker.update(frame)
            np.testing.assert_allclose(results[index].box, single.box, atol=1e-3)
            assert results[index].state is single.state


def test_targets_come_and_go(scene, correlation) -> None:
    places = {"a": (60, 60), "b": (180, 140)}
    tracker = MultiTracker(correlation, Modality.THERMAL, TrackerConfig(confidence=STATES), LIMITS)
    with pytest.raises(TrackerError, match="at least one box"):
        tracker.start(scene.frame(0, places), {})
    tracker.start(scene.frame(0, places), {7: scene.box(60, 60)})
    tracker.add(scene.frame(1, places), 9, scene.box(180, 140))
    results = tracker.update(scene.frame(2, places))
    assert overlap(results[7].box, scene.box(60, 60)) > 0.8
    assert overlap(results[9].box, scene.box(180, 140)) > 0.8
    only_a = [tracker.update(scene.frame(3 + step, {"a": (60, 60)})) for step in range(5)][-1]
    assert (only_a[7].state, only_a[9].state) == (TrackState.TRACKING, TrackState.LOST)
    tracker.remove(9)
    assert tracker.targets == (7,)
    with pytest.raises(TrackerError, match="unknown target 9; expected one of"):
        tracker.remove(9)
    assert set(tracker.update(scene.frame(9, places))) == {7}


def test_a_size_goes_only_part_of_the_way_to_the_predicted_one(scene, tiny) -> None:
    boxes = {}
    for rate in (1.0, 0.5):
        motion = MotionConfig(size_rate=rate)
        tracker = tracker_of(tiny(), TrackerConfig(confidence=replace(STATES, enabled=False), motion=motion))
        tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
        boxes[rate] = tracker.update(scene.frame(1, {"a": path(1)})).box
    start, whole, half = scene.box(*path(0)), boxes[1.0], boxes[0.5]
    assert half.center == pytest.approx(whole.center, abs=1e-6)
    assert half.w == pytest.approx(math.sqrt(start.w * whole.w))
    assert half.h == pytest.approx(math.sqrt(start.h * whole.h))
    assert TrackerConfig(motion=SQUARE_MOTION).as_published().motion == PUBLISHED_MOTION
