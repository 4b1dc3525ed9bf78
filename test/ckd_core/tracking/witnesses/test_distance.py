"""Depth as a witness of whether a box is still on its target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.evidence import Evidence
from ckd_core.tracking.confidence.observe import observe
from ckd_core.tracking.confidence.search import observe_lost
from ckd_core.tracking.confidence.state import Confidence
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.witnesses.distance import Course, DistanceConfig, DistanceError, Sighting, sighted

CONFIG = DistanceConfig()
SIZE = (48, 64)
BOX = BoundingBox(20, 10, 20, 30)
FPS = 15.0


def frame(index: int, metres: float | None, dtype: type = np.uint16) -> MultiModalFrame:
    """A frame whose depth is the same everywhere; None: no reading."""
    depth = np.full(SIZE, 0 if metres is None else metres * (1000 if dtype is np.uint16 else 1), dtype)
    return MultiModalFrame(index / FPS, np.zeros((*SIZE, 3), np.uint8), depth, Modality.DEPTH)


def watch(distances: list[float | None], config: DistanceConfig = CONFIG) -> list[Sighting]:
    """What depth says of a box in each frame; where it is elsewhere the course stays, as it does in the tracker."""
    sightings, course = [], None
    for index, metres in enumerate(distances):
        sightings.append(sighted(frame(index, metres), BOX, SIZE, course, config))
        course = sightings[-1].course
    return sightings


def test_a_walk_towards_the_camera_is_no_leap() -> None:
    sightings = watch([6.0 - 2.0 * index / FPS for index in range(30)])
    assert not any(sighting.elsewhere for sighting in sightings)
    course = sightings[-1].course
    assert course is not None
    assert course.rate == pytest.approx(-2.0, abs=0.1)


@pytest.mark.parametrize("leap", [-1.0, -0.4, 0.4, 2.0])
def test_a_leap_is_not_the_target_and_its_return_is(leap: float) -> None:
    sightings = watch([2.5] * 10 + [2.5 + leap] * 2 + [2.5] * 3)
    assert [sighting.elsewhere for sighting in sightings] == [False] * 10 + [True] * 2 + [False] * 3


def test_what_stays_elsewhere_may_be_the_target_after_a_while() -> None:
    elsewhere = [sighting.elsewhere for sighting in watch([2.5] * 10 + [3.5] * 20)]
    until = elsewhere.index(False, 10)
    # a body that accelerates by 3 m/s^2 gets (1.0 - 0.25) m away in 0.7 s
    assert (until - 9) / FPS == pytest.approx(0.7, abs=0.1)
    assert not any(elsewhere[until:])


def test_a_camera_without_readings_says_nothing() -> None:
    sightings = watch([2.5] * 8 + [None] * 4 + [2.5])
    assert not any(sighting.elsewhere for sighting in sightings)
    assert sightings[11].course == sightings[7].course


def test_readings_contradict_the_network_only_when_they_have_agreed_before() -> None:
    assert not any(sighting.elsewhere for sighting in watch([2.5, 4.0, 2.5, 4.0, 2.5, 4.0]))
    assert watch([2.5] * CONFIG.settled_after + [4.0])[-1].elsewhere


def test_depth_in_float_metres_says_the_same() -> None:
    course = watch([2.5] * 10)[-1].course
    assert sighted(frame(10, 3.5, np.float32), BOX, SIZE, course, CONFIG).elsewhere


def test_a_depth_picture_in_colours_says_nothing() -> None:
    picture = MultiModalFrame(0.0, None, np.full((*SIZE, 3), 90, np.uint8), Modality.DEPTH)
    assert sighted(picture, BOX, SIZE, Course(0.0, 2.5, readings=9), CONFIG) == Sighting(Course(0.0, 2.5, readings=9))


@pytest.mark.parametrize(
    "wrong", [{"leap_m": 0.0}, {"acceleration": float("nan")}, {"settled_after": 0}, {"max_m": 0.1}]
)
def test_options_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DistanceError, match="expected"):
        DistanceConfig(**wrong)  # type: ignore[arg-type]


def test_a_box_that_is_elsewhere_is_not_believed_however_high_its_score() -> None:
    before = replace(Confidence.begin(BOX), course=Course(0.0, 2.5, readings=9))
    there = Evidence(BoundingBox(24, 10, 20, 30), 0.9, 0.1, Sighting(before.course, elsewhere=True))
    after = before
    for _ in range(ConfidenceConfig().lost_after):
        after = observe(after, there, Thresholds(), ConfidenceConfig())
        assert after.trusted_box == BOX
        assert after.state is not TrackState.TRACKING
    assert after.state is TrackState.LOST
    again = after
    for _ in range(5):
        again = observe_lost(again, there, Thresholds(), ConfidenceConfig())
    assert again.state is TrackState.LOST
    found = Evidence(BOX, 0.9, 0.1, Sighting(Course(1.0, 2.4)))
    for _ in range(ConfidenceConfig().confirm_frames):
        again = observe_lost(again, found, Thresholds(), ConfidenceConfig())
    assert (again.state, again.course) == (TrackState.TRACKING, Course(1.0, 2.4))
