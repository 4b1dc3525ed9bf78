from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.tracking.motion_filter import ENDS_PER_S, TURNS_PER_S
from sdstrack_ros.tracking.target_filter import (
    DENSITIES,
    LASTING_NOISE,
    RESTART_AFTER,
    Estimate,
    PointMeasurement,
    TargetFilter,
    TargetFilterError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Path3D = Callable[[float], NDArray[np.float64]]

INSIDE_95 = 7.815  # chi-square, 3 degrees of freedom
RATES_HZ = (15.0, 30.0)


def noise_at(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a depth camera says of a person: 2 % along the ray, 2.5 cm across."""
    ray = position / np.linalg.norm(position)
    along = 0.02 * np.linalg.norm(position)
    return 0.025**2 * np.eye(3) + along**2 * np.outer(ray, ray)


def measured(
    path: Path3D, rate_hz: float, until_s: float, seed: int, lasting: float = 0.0
) -> Iterator[PointMeasurement]:
    """Measurements of a path; the share `lasting` of their variance is an error that goes over within a second."""
    random = np.random.default_rng(seed)
    off = random.normal(0, math.sqrt(lasting), 3)  # in standard deviations
    for index in range(round(until_s * rate_hz) + 1):
        true = path(index / rate_hz)
        covariance = noise_at(true)
        kept = math.exp(-1 / rate_hz)
        off = kept * off + math.sqrt(1 - kept**2) * random.normal(0, math.sqrt(lasting), 3)
        values, axes = np.linalg.eigh(covariance)
        lasting_error = axes * np.sqrt(values) @ axes.T @ off
        place = random.multivariate_normal(true + lasting_error, (1 - lasting) * covariance)
        yield PointMeasurement(index / rate_hz, place, covariance)


def walk(seed: int) -> Path3D:
    """A straight line from 2 to 5 m away, at up to 1.6 m/s."""
    random = np.random.default_rng((seed, 1))
    heading, speed = random.uniform(0, 2 * math.pi), random.uniform(0.2, 1.6)
    start = np.array((random.uniform(-1, 1), random.uniform(-0.3, 0.3), random.uniform(2, 5)))
    velocity = speed * np.array((math.cos(heading), 0.0, math.sin(heading)))
    return lambda seconds: start + velocity * seconds


def wander(seed: int) -> Path3D:
    """Straight parts and turns that come by chance, as the filter assumes, at 100 Hz for ten seconds."""
    random = np.random.default_rng((seed, 2))
    turning, steps = 0, np.empty((1000, 3))
    for index in range(1000):
        if random.random() < (ENDS_PER_S if turning else TURNS_PER_S) / 100:
            turning = 1 - turning
        steps[index] = random.normal(0, math.sqrt(DENSITIES[turning] / 100), 3)
    velocity = np.cumsum(steps, axis=0)
    place = np.array((0.0, 0.0, 6.0)) + np.cumsum(velocity, axis=0) / 100
    return lambda seconds: place[round(seconds * 100)]


def stop(seed: int) -> Path3D:
    """Two seconds at 1.2 m/s in some direction, then a halt within half a second."""
    heading = np.random.default_rng((seed, 3)).uniform(0, 2 * math.pi)
    ahead = np.array((math.cos(heading), 0.0, math.sin(heading)))

    def path(seconds: float) -> NDArray[np.float64]:
        braked = min(max(seconds - 2, 0.0), 0.5)
        return np.array((0.0, 0.0, 4.0)) + (1.2 * (min(seconds, 2) + braked) - 1.2 * braked**2) * ahead

    return path


def turn(seed: int) -> Path3D:
    """Two seconds at 1.2 m/s in some direction, then to the left by a right angle within a second."""
    heading = np.random.default_rng((seed, 4)).uniform(0, 2 * math.pi)
    times = np.arange(0, 5, 0.01)
    headings = heading + np.clip(times - 2, 0, 1) * math.pi / 2
    velocity = 1.2 * np.stack((np.cos(headings), np.zeros(500), np.sin(headings)), axis=1)
    place = np.array((0.0, 0.0, 5.0)) + np.concatenate((np.zeros((1, 3)), np.cumsum(velocity, axis=0))) / 100
    return lambda seconds: np.stack([np.interp(100 * seconds, np.arange(501), place[:, axis]) for axis in range(3)])


def distance2(estimate: Estimate, true: NDArray[np.float64]) -> float:
    error = estimate.position - true
    return float(error @ np.linalg.solve(estimate.covariance[:3, :3], error))


def velocity_errors(path_of: Callable[[int], Path3D], rate_hz: float, after_s: float, runs: int) -> NDArray[np.float64]:
    """[runs] m/s, that long after the first measurement."""
    errors = []
    for seed in range(runs):
        path, target = path_of(seed), TargetFilter(1.0)
        for measurement in measured(path, rate_hz, after_s, seed):
            target.observe(measurement)
        estimate = target.at(after_s)
        assert estimate is not None
        true = (path(after_s) - path(after_s - 0.02)) / 0.02
        errors.append(np.linalg.norm(estimate.velocity - true))
    return np.array(errors)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_velocity_is_known_to_a_fifth_of_a_metre_per_second_after_one_second(rate_hz: float) -> None:
    errors = velocity_errors(walk, rate_hz, 1.0, 60)
    assert np.sqrt(np.mean(np.square(errors))) < 0.12
    assert np.mean(errors < 0.2) >= 0.95


@pytest.mark.parametrize(("path", "after_s"), [(stop, 3.5), (turn, 4.0)])
def test_a_second_after_a_halt_or_a_turn_it_is_known_again(path: Callable[[int], Path3D], after_s: float) -> None:
    errors = velocity_errors(path, 15.0, after_s, 25)
    assert np.sqrt(np.mean(np.square(errors))) < 0.16
    assert np.mean(errors < 0.25) >= 0.9


@pytest.mark.parametrize("rate_hz", [10.0, 25.0])
def test_at_least_nine_of_ten_true_places_are_inside_the_ellipse_that_holds_95_percent(rate_hz: float) -> None:
    inside = []
    for seed in range(16):
        path, target = wander(seed), TargetFilter(3.0)
        for measurement in measured(path, rate_hz, 9.0, seed, LASTING_NOISE):
            occluded = 3.0 < measurement.stamp < 5.0  # predictions count as well
            if not occluded:
                target.observe(measurement)
            estimate = target.at(measurement.stamp)
            assert estimate is not None
            inside.append(distance2(estimate, path(measurement.stamp)) <= INSIDE_95)
    assert 0.9 <= np.mean(inside) <= 0.99, "neither too sure nor too unsure of itself"


@pytest.mark.parametrize(("occluded_s", "limit_m"), [(0.5, 0.2), (1.0, 0.3), (2.0, 0.5)])
def test_a_target_that_walks_on_is_found_where_it_is_predicted(occluded_s: float, limit_m: float) -> None:
    errors = []
    for seed in range(50):
        path, target = walk(seed), TargetFilter(2.5)
        for measurement in measured(path, 15.0, 2.0, seed):
            target.observe(measurement)
        estimate = target.at(2.0 + occluded_s)
        assert estimate is not None
        errors.append(np.linalg.norm(estimate.position - path(2.0 + occluded_s)))
        assert np.trace(estimate.covariance[:3, :3]) > np.trace(target.at(2.0).covariance[:3, :3])  # type: ignore[union-attr]
    assert np.sqrt(np.mean(np.square(errors))) < limit_m


def test_there_is_no_estimate_before_a_measurement_nor_longer_than_the_limit_after_one() -> None:
    target = TargetFilter(0.5)
    assert target.at(0.0) is None
    target.observe(PointMeasurement(1.0, np.ones(3), np.eye(3)))
    assert target.at(1.5) is not None
    assert target.at(1.51) is None
    assert target.at(0.9) is None
    target.reset()
    assert target.at(1.0) is None


def test_one_outlier_is_left_out_and_a_jump_begins_anew() -> None:
    target = TargetFilter(1.0)
    exact = 1e-4 * np.eye(3)
    for index in range(10):
        target.observe(PointMeasurement(index / 10, np.array((0.0, 0.0, 2.0)), exact))
    far = np.array((0.0, 0.0, 6.0))
    assert not target.observe(PointMeasurement(1.0, far, exact))
    assert target.at(1.0).position[2] == pytest.approx(2.0, abs=0.05)  # type: ignore[union-attr]
    for index in range(RESTART_AFTER - 1):
        counted = target.observe(PointMeasurement(1.1 + index / 10, far, exact))
    assert counted
    assert target.restarts == 1
    np.testing.assert_allclose(target.at(1.25).mean, (*far, 0, 0, 0))  # type: ignore[union-attr]


def test_outliers_that_contradict_one_another_are_no_jump() -> None:
    target = TargetFilter(5.0)
    exact = 1e-4 * np.eye(3)
    for index in range(10):
        target.observe(PointMeasurement(index / 10, np.array((0.0, 0.0, 2.0)), exact))
    for index in range(10):
        far = np.array((0.0, 0.0, 6.0 if index % 2 else 4.0))
        assert not target.observe(PointMeasurement(1.0 + index / 100, far, exact))
    assert target.restarts == 0
    assert target.at(1.1).position[2] == pytest.approx(2.0, abs=0.05)  # type: ignore[union-attr]


@pytest.mark.parametrize("stamp", [0.5, 4.0])
def test_a_jump_of_time_begins_anew(stamp: float) -> None:
    target = TargetFilter(1.0)
    for seconds in (1.0, 1.1):
        target.observe(PointMeasurement(seconds, np.full(3, seconds), np.eye(3)))
    assert target.observe(PointMeasurement(stamp, np.zeros(3), np.eye(3)))
    assert target.restarts == 1
    np.testing.assert_array_equal(target.at(stamp).mean, np.zeros(6))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "measurement",
    [
        PointMeasurement(0.0, np.array((math.nan, 0, 1)), np.eye(3)),
        PointMeasurement(math.inf, np.ones(3), np.eye(3)),
        PointMeasurement(0.0, np.ones(3), np.diag((1.0, 1.0, 0.0))),
        PointMeasurement(0.0, np.ones(3), np.array(((1.0, 0.5, 0), (0, 1, 0), (0, 0, 1)))),
    ],
)
def test_what_is_no_measurement_is_refused_and_changes_nothing(measurement: PointMeasurement) -> None:
    target = TargetFilter(1.0)
    target.observe(PointMeasurement(0.0, np.ones(3), np.eye(3)))
    before = target.at(0.0)
    with pytest.raises(TargetFilterError, match="expected"):
        target.observe(measurement)
    np.testing.assert_array_equal(target.at(0.0).mean, before.mean)  # type: ignore[union-attr]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 3), st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), st.floats(1e-3, 30), st.booleans()
        ),
        min_size=1,
        max_size=30,
    )
)
def test_whatever_is_measured_the_estimate_is_finite_and_its_covariance_symmetric_and_positive(
    steps: list[tuple[float, list[float], float, bool]],
) -> None:
    target, stamp = TargetFilter(2.0), 0.0
    for gap, position, deviation, visible in steps:
        stamp += gap
        if visible:
            flat = np.diag((1.0, 1e-2, 1e-4)) * deviation**2
            target.observe(PointMeasurement(stamp, np.array(position), flat))
        estimate = target.at(stamp)
        if estimate is None:
            continue
        assert np.all(np.isfinite(estimate.mean))
        np.testing.assert_allclose(estimate.covariance, estimate.covariance.T, rtol=1e-9)
        assert np.linalg.eigvalsh(estimate.covariance)[0] > 0
