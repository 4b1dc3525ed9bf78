from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckd_core.boxes import iou_xywh
from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, FrameError, Modality, MultiModalFrame
from ckd_core.tracking.confidence.bystanders import STEADY_FRAMES
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import (
    PUBLISHED_MOTION,
    SQUARE_MOTION,
    MissingPolicy,
    MotionConfig,
    TemplateRefresh,
    TrackerConfig,
    TrackerConfigError,
)
from ckd_core.tracking.multi import MultiTracker, TrackerError
from ckd_core.tracking.result import TrackResult, TrackState
from ckd_core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = Thresholds(doubt=0.6, unseen=0.5, confirm=0.6, rival=0.85, history=0.5)
STATES = ConfidenceConfig(lost_after=4, confirm_frames=3)


def tracker_of(engine, config: TrackerConfig | None = None) -> Tracker:
    return Tracker(engine, Modality.THERMAL, config or TrackerConfig(confidence=STATES), LIMITS)


def overlap(a: BoundingBox, b: BoundingBox) -> float:
    return float(iou_xywh(np.array(a), np.array(b)))


def path(step: int) -> tuple[int, int]:
    return 100 + 4 * step, 90 + 2 * step


def without_timing(result):
    return result.stamp, result.box, result.score, result.state, result.rgb_present, result.aux_present


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


BAD_BOXES = [
    (BoundingBox(10, 10, 0, 5), "more than 1 px"),
    (BoundingBox(10, 10, 1, 1), "more than 1 px"),
    (BoundingBox(10, 10, -5, 5), "more than 1 px"),
    (BoundingBox(float("nan"), 10, 5, 5), "expected finite numbers"),
    (BoundingBox(10, 10, float("inf"), 5), "expected finite numbers"),
    (BoundingBox(320, 10, 5, 5), "expected an overlap with the 320 x 240 frame"),
    (BoundingBox(10, -30, 5, 5), "expected an overlap with the 320 x 240 frame"),
    (("10", 10, 5, 5), "four numbers"),
    ((10, 10, 5), "four numbers"),
]


@pytest.mark.parametrize(("box", "message"), BAD_BOXES)
def test_a_bad_box_is_refused_and_the_old_target_kept(scene, tiny, box, message: str) -> None:
    used, untouched = tracker_of(tiny()), tracker_of(tiny())
    for tracker in (used, untouched):
        tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    with pytest.raises(TrackerError, match=message):
        used.start(scene.frame(9, {"b": path(0)}), box)
    after = [tracker.update(scene.frame(1, {"a": path(1)})) for tracker in (used, untouched)]
    assert without_timing(after[0]) == without_timing(after[1])


def bad_frames(scene) -> dict[str, tuple[object, str]]:
    good = scene.frame(2, {"a": path(2)})
    return {
        "no image": (replace(good, rgb=None, aux=None), "neither"),
        "nan stamp": (replace(good, stamp=float("nan")), "finite number of seconds"),
        "stamp back": (replace(good, stamp=0.5), "before the last one at 1"),
        "other colour size": (replace(good, rgb=np.zeros((100, 100, 3), np.uint8)), "320 x 240 to 100 x 100"),
        "other thermal size": (replace(good, aux=np.zeros((9, 9, 3), np.uint8)), "thermal image changed its size"),
        "non-contiguous": (replace(good, rgb=good.rgb[..., ::-1]), "ascontiguousarray"),
        "wrong dtype": (replace(good, rgb=good.rgb.astype(np.float32)), "uint8, got float32"),
        "wrong channels": (replace(good, rgb=good.rgb[..., :2]), "3 channels, got 2"),
        "other modality": (replace(good, modality=Modality.EVENT), "modality is event; expected thermal"),
        "no frame": (good.rgb, "expected a MultiModalFrame"),
    }


BAD_FRAMES = (
    "no image",
    "nan stamp",
    "stamp back",
    "other colour size",
    "other thermal size",
    "non-contiguous",
    "wrong dtype",
    "wrong channels",
    "other modality",
    "no frame",
)


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_refused_and_leaves_the_state_as_before(scene, tiny, name: str) -> None:
    frame, message = bad_frames(scene)[name]
    used, untouched = tracker_of(tiny()), tracker_of(tiny())
    for tracker in (used, untouched):
        tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
        tracker.update(scene.frame(1, {"a": path(1)}))
    with pytest.raises(FrameError, match=message):
        used.update(frame)
    after = [tracker.update(scene.frame(3, {"a": path(3)})) for tracker in (used, untouched)]
    assert without_timing(after[0]) == without_timing(after[1])


@pytest.mark.parametrize("name", [name for name in BAD_FRAMES if name not in ("stamp back", "other colour size")])
def test_a_bad_first_frame_is_refused_and_the_old_target_kept(scene, tiny, name: str) -> None:
    frame, message = bad_frames(scene)[name]
    if name == "other thermal size":  # a new start may bring images of another size
        frame, message = replace(frame, aux=frame.aux[:1]), "at least 2 x 2 pixels"
    used, untouched = tracker_of(tiny()), tracker_of(tiny())
    for tracker in (used, untouched):
        tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    with pytest.raises(FrameError, match=message):
        used.start(frame, scene.box(*path(1)))
    after = [tracker.update(scene.frame(1, {"a": path(1)})) for tracker in (used, untouched)]
    assert without_timing(after[0]) == without_timing(after[1])


@pytest.mark.parametrize(("box", "message"), BAD_BOXES[:6])
def test_a_bad_added_target_leaves_the_others_as_before(scene, tiny, box, message: str) -> None:
    used, untouched = (MultiTracker(tiny(), Modality.THERMAL, TrackerConfig(confidence=STATES), LIMITS) for _ in "ab")
    for tracker in (used, untouched):
        tracker.start(scene.frame(0, {"a": path(0)}), {4: scene.box(*path(0))})
    with pytest.raises(TrackerError, match=f"target 5 .*{message}"):
        used.add(scene.frame(1, {"a": path(1)}), 5, box)
    assert used.targets == (4,)
    frame = scene.frame(0.5, {"a": path(1)})  # also the stamp of the refused frame is forgotten
    assert without_timing(used.update(frame)[4]) == without_timing(untouched.update(frame)[4])


def test_update_is_refused_before_start_and_after_reset(scene, tiny) -> None:
    tracker = tracker_of(tiny())
    with pytest.raises(TrackerError, match="update was called before start"):
        tracker.update(scene.frame(0, {}))
    tracker.start(scene.frame(5, {"a": path(0)}), scene.box(*path(0)))
    assert tracker.started
    tracker.reset()
    assert not tracker.started
    with pytest.raises(TrackerError, match="update was called before start"):
        tracker.update(scene.frame(6, {}))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"score": math.nan}, "NaN or infinity"),
        ({"rival_cx": math.inf}, "NaN or infinity"),
        ({"w": -0.25}, "a box of negative size"),
        ({"rival_h": -0.25}, "a box of negative size"),
    ],
)
def test_a_network_that_returns_no_box_leaves_the_state_as_before(scene, correlation, wrong, reason) -> None:
    tracker = tracker_of(correlation)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    answer = correlation._answer
    correlation._answer = lambda *values: answer(*values)._replace(**wrong)
    with pytest.raises(TrackerError, match=reason):
        tracker.update(scene.frame(1, {"a": path(1)}))
    correlation._answer = answer
    assert overlap(tracker.update(scene.frame(1, {"a": path(1)})).box, scene.box(*path(1))) > 0.75


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


@pytest.fixture
def fading(scene) -> Callable[..., MultiModalFrame]:
    """Frames of a target that fades into another texture within 24 of them."""

    def frame(step: int, rgb: bool = True, aux: bool = True) -> MultiModalFrame:
        first, second = (scene.frame(step, {name: path(step)}) for name in ("a", "b"))
        share = min(1.0, step / 24)
        mixed = [
            np.rint((1 - share) * p + share * q).astype(np.uint8)
            for p, q in zip((first.rgb, first.aux), (second.rgb, second.aux), strict=True)
        ]
        return MultiModalFrame(float(step), mixed[0] if rgb else None, mixed[1] if aux else None, Modality.THERMAL)

    return frame


@pytest.mark.parametrize("cameras", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_template_that_is_refreshed_follows_a_target_that_changes(
    scene, correlation, fading, cameras: tuple[bool, bool], share: float
) -> None:
    """The first template alone loses it; with one camera it is refreshed as with two."""
    scores = {}
    for refresh in TemplateRefresh:
        config = TrackerConfig(
            confidence=replace(STATES, enabled=False),
            template_refresh=refresh,
            template_every=3,
            template_score=0.0,
            template_share=share,
        )
        tracker = tracker_of(correlation, config)
        tracker.start(fading(0, *cameras), scene.box(*path(0)))
        scores[refresh] = [tracker.update(fading(step, *cameras)).score for step in range(1, 26)][-1]
    assert scores[TemplateRefresh.BLEND] > scores[TemplateRefresh.NEVER] + 0.1


def test_a_template_is_refreshed_by_sure_looks_with_its_own_cameras_alone(scene, correlation) -> None:
    config = TrackerConfig(template_refresh=TemplateRefresh.BLEND, template_every=1, template_score=0.0)
    tracker = tracker_of(correlation, config)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    first = tracker.multi._targets[0].template
    for step in range(1, STEADY_FRAMES):
        tracker.update(scene.frame(step, {"a": path(step)}))
        assert tracker.multi._targets[0].template is first, "soon after a start or a jump it may be something else"
    tracker.update(scene.frame(STEADY_FRAMES, {"a": path(STEADY_FRAMES)}, aux=False))
    assert tracker.multi._targets[0].template is first, "half of it would be another camera's"
    tracker.update(scene.frame(STEADY_FRAMES + 1, {"a": path(STEADY_FRAMES + 1)}))
    assert tracker.multi._targets[0].template is not first
    assert tracker.multi._targets[0].first is first


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_template_is_not_refreshed_by_a_look_below_its_share_of_the_usual_score(
    scene, correlation, fading, share: float
) -> None:
    config = TrackerConfig(
        template_refresh=TemplateRefresh.BLEND, template_every=STEADY_FRAMES, template_score=share, confidence=STATES
    )
    tracker = tracker_of(correlation, config)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    first = tracker.multi._targets[0].template
    for step in range(1, STEADY_FRAMES):
        tracker.update(scene.frame(step, {"a": path(step)}))
    result = tracker.update(fading(STEADY_FRAMES))
    assert result.state is TrackState.TRACKING
    assert (tracker.multi._targets[0].template is first) == (share == 1.0)


@pytest.mark.parametrize(
    ("refresh", "enabled", "square", "renewed"),
    [
        (None, True, True, True),
        (None, True, False, False),
        (None, False, True, False),
        (TemplateRefresh.BLEND, False, False, True),
        (TemplateRefresh.NEVER, True, True, False),
    ],
)
def test_templates_are_renewed_by_default_where_boxes_are_square_and_states_are_on(
    refresh: TemplateRefresh | None, enabled: bool, square: bool, renewed: bool
) -> None:
    config = TrackerConfig(template_refresh=refresh, confidence=replace(STATES, enabled=enabled))
    assert config.refreshes(square) is renewed
    assert not config.as_published().refreshes(square)


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


@pytest.mark.parametrize(
    "wrong", [{"template_every": 0}, {"template_score": 2}, {"template_share": -1}, {"clip_margin": 0}, {"kept_mb": -1}]
)
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrackerConfigError, match=next(iter(wrong))):
        TrackerConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"size_rate": 0}, {"size_rate": 1.5}, {"prediction": -0.1}, {"place_weight": 2}])
def test_impossible_motions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrackerConfigError, match=next(iter(wrong))):
        MotionConfig(**wrong)


def test_all_errors_are_tracking_errors() -> None:
    assert issubclass(TrackerError, TrackingError)
    assert issubclass(TrackerConfigError, TrackingError)
