from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.frame import BoundingBox
from ckd_core.tracking.prediction import MAX_AHEAD_S, BoxPredictor, seen_box
from ckd_core.tracking.result import TrackResult, TrackState


def box_at(stamp: float, jitter: float = 0.0) -> BoundingBox:
    return BoundingBox(100 + 60 * stamp + jitter, 50 - 30 * stamp, 20.0, 40.0)


def test_a_box_goes_on_along_its_course() -> None:
    predictor = BoxPredictor()
    random = np.random.default_rng(1)
    for index in range(15):
        predictor.observe(index / 15, box_at(index / 15, float(random.normal(0, 0.3))))
    predicted = predictor.at(14 / 15 + 0.2)
    assert predicted is not None
    late = abs(box_at(14 / 15).x - box_at(14 / 15 + 0.2).x)
    assert abs(predicted.x - box_at(14 / 15 + 0.2).x) < 0.3 * late
    assert predicted[2:] == (20.0, 40.0)


def swinging(stamp: float) -> BoundingBox:
    """What a camera that pans to and fro by 15 degrees, at up to 60 degrees a second, sees of somebody who stands."""
    return BoundingBox(140 - 73 * math.sin(4 * stamp), 100.0, 40.0, 70.0)


@pytest.mark.parametrize(("rate_hz", "late_s", "left"), [(30.0, 0.05, 0.5), (30.0, 0.1, 0.8), (15.0, 0.1, 0.95)])
def test_a_camera_that_swings_to_and_fro_is_followed_through_its_turns(
    rate_hz: float, late_s: float, left: float
) -> None:
    predictor, random = BoxPredictor(), np.random.default_rng(2)
    errors, lateness = [], []
    for index in range(int(4 * rate_hz)):
        stamp = index / rate_hz
        box = swinging(stamp)
        predictor.observe(stamp, box._replace(x=box.x + random.normal(0, 1), y=box.y + random.normal(0, 1)))
        predicted, true = predictor.at(stamp + late_s), swinging(stamp + late_s)
        assert predicted is not None
        errors.append(predicted.x - true.x)
        lateness.append(box.x - true.x)
    assert np.sqrt(np.mean(np.square(errors))) < left * np.sqrt(np.mean(np.square(lateness)))


def test_there_is_no_prediction_of_the_past_nor_of_a_far_future() -> None:
    predictor = BoxPredictor()
    assert predictor.at(0.0) is None
    predictor.observe(1.0, box_at(1.0))
    assert predictor.at(1.0) == box_at(1.0)
    assert predictor.at(1.0 + MAX_AHEAD_S) == box_at(1.0), "one box has no velocity"
    assert predictor.at(1.1 + MAX_AHEAD_S) is None
    assert predictor.at(0.9) is None


@pytest.mark.parametrize(("stamp", "box"), [(2.1, None), (0.5, box_at(0.5))])
def test_an_unseen_target_and_a_jump_back_in_time_forget_the_course(stamp: float, box: BoundingBox | None) -> None:
    predictor = BoxPredictor()
    for seconds in (1.9, 2.0):
        predictor.observe(seconds, box_at(seconds))
    predictor.observe(stamp, box)
    assert predictor.at(stamp + 0.1) == box


@pytest.mark.parametrize("state", list(TrackState))
def test_only_a_trusted_box_tells_a_course(state: TrackState) -> None:
    seen = seen_box(TrackResult(0.0, box_at(0), 1.0, state))
    assert (seen is not None) is (state is TrackState.TRACKING)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=20))
def test_predictions_are_finite(steps: list[tuple[float, float, float]]) -> None:
    predictor, stamp = BoxPredictor(), 0.0
    for gap, x, y in steps:
        stamp += gap
        predictor.observe(stamp, BoundingBox(x, y, 10.0, 10.0))
        predicted = predictor.at(stamp + 0.3)
        assert predicted is not None
        assert predicted.is_finite()
