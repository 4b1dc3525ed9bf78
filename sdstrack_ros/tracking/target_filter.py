"""Where a target is in space and how fast it moves: `Motions` of a point. No ROS import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.tracking.motion_filter import Motions

if TYPE_CHECKING:
    from numpy.typing import NDArray

# [m^2/s^3] of the acceleration's noise on a person's way, and where that turns or ends.
DENSITIES = np.array((0.005, 0.5))
# Share of a measurement's variance that does not average out from frame to frame, because boxes are off to one side for
# a while, and limbs swing. It stays in the covariance of the place, however many frames there are.
LASTING_NOISE = 0.5
START_SPEED = 1.0  # [m/s] standard deviation of each axis of a velocity that nothing is known of
# A measurement outside this squared Mahalanobis distance (chi-square, 3 degrees of freedom, one in 1000) is an outlier.
GATE = 16.27
# Outliers in a row that agree with one another: the target, or the frame that it is measured in, has jumped.
RESTART_AFTER = 3


class TargetFilterError(TrackingError):
    """A measurement that is not finite or whose covariance is none."""


@dataclass(frozen=True, slots=True, eq=False)
class PointMeasurement:
    """A target's position.

    Attributes:
        stamp: [s].
        position: [3] m.
        covariance: [3, 3] m^2, symmetric and positive definite.
    """

    stamp: float
    position: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What is believed about a target at a moment.

    Attributes:
        stamp: the moment [s].
        measured: stamp of the last measurement in it [s]; later than that it is a prediction.
        mean: [6], position in m and velocity in m/s.
        covariance: [6, 6].
    """

    stamp: float
    measured: float
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def position(self) -> NDArray[np.float64]:
        """[3] m."""
        return self.mean[:3]

    @property
    def velocity(self) -> NDArray[np.float64]:
        """[3] m/s."""
        return self.mean[3:]


class TargetFilter:
    """Follows one target from measurement to measurement, and across gaps of up to `coast_s` seconds.

    Attributes:
        coast_s: how long after the last measurement there still is an estimate.
        restarts: how often a jump of the target or of time has made it begin anew.
    """

    def __init__(self, coast_s: float) -> None:
        self.coast_s = coast_s
        self.restarts = 0
        self._motions: Motions | None = None
        self._measured = 0.0
        self._noise = np.zeros((3, 3))
        self._outliers: list[PointMeasurement] = []  # in a row, all of them where one body may have been

    def reset(self) -> None:
        """Forget the target."""
        self._motions, self._outliers = None, []

    def at(self, stamp: float) -> Estimate | None:
        """Return the estimate at a moment; None without measurement within `coast_s` before it."""
        predicted = self._predicted(stamp)
        if predicted is None:
            return None
        mean, covariance = predicted.mixed()
        covariance[:3, :3] += LASTING_NOISE * self._noise
        return Estimate(stamp, self._measured, mean, covariance)

    def observe(self, measurement: PointMeasurement) -> bool:
        """Take a measurement in; return whether it counts (a single outlier does not).

        It begins anew after a jump back in time, a gap of more than `coast_s`, and `RESTART_AFTER` outliers in a row
        that agree with one another.

        Raises:
            TargetFilterError: the measurement is not finite, or its covariance not positive definite.
        """
        _check(measurement)
        predicted = self._predicted(measurement.stamp)
        if predicted is None:
            self.restarts += self._motions is not None
            self._begin(measurement)
            return True
        mean, covariance = predicted.mixed()
        innovation = measurement.position - mean[:3]
        if innovation @ np.linalg.solve(covariance[:3, :3] + measurement.covariance, innovation) > GATE:
            if self._outliers and not _agree(self._outliers[-1], measurement):
                self._outliers = []
            self._outliers.append(measurement)
            if len(self._outliers) < RESTART_AFTER:
                return False
            self.restarts += 1
            self._begin(measurement)
            return True
        self._take(measurement, predicted.corrected(measurement.position, measurement.covariance))
        return True

    def _predicted(self, stamp: float) -> Motions | None:
        ahead = stamp - self._measured
        return (
            None
            if self._motions is None or not 0 <= ahead <= self.coast_s
            else self._motions.predicted(ahead, DENSITIES)
        )

    def _begin(self, measurement: PointMeasurement) -> None:
        self._take(measurement, Motions.begin(measurement.position, measurement.covariance, START_SPEED))

    def _take(self, measurement: PointMeasurement, motions: Motions) -> None:
        self._motions, self._outliers = motions, []
        self._measured, self._noise = measurement.stamp, measurement.covariance


def _agree(before: PointMeasurement, after: PointMeasurement) -> bool:
    """Whether one body of which nothing else is known may have been at both places."""
    went = START_SPEED * (after.stamp - before.stamp)
    covariance = before.covariance + after.covariance + went**2 * np.eye(3)
    apart = after.position - before.position
    return bool(apart @ np.linalg.solve(covariance, apart) <= GATE)


def _check(measurement: PointMeasurement) -> None:
    values = (measurement.stamp, *measurement.position, *measurement.covariance.ravel())
    if not np.all(np.isfinite(values)):
        raise TargetFilterError(f"position {measurement.position} at {measurement.stamp} s; expected finite numbers")
    covariance = measurement.covariance
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise TargetFilterError(f"covariance {covariance.tolist()}; expected a symmetric, positive definite 3x3 matrix")
