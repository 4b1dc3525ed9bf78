"""What a tracker refuses, by name and with the value, without losing what it follows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, FrameError, Modality
from ckd_core.tracking.config import (
    MotionConfig,
    TrackerConfig,
    TrackerConfigError,
)
from ckd_core.tracking.multi import MultiTracker, TrackerError
from testkit.small_trackers import LIMITS, STATES, overlap, path, tracker_of, without_timing

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
