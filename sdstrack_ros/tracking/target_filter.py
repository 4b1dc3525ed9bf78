"""Where a target is in space and how fast it moves: a Kalman filter of one point. No ROS import.

The motion is a constant velocity that white noise of the acceleration disturbs (Bar-Shalom, Li and Kirubarajan,
"Estimation with Applications to Tracking and Navigation", section 6.2.2), so that it is the same at any frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# [m^2/s^3]: a velocity changes by 0.5 m/s in a second. Twice as much follows a turn sooner, and knows a straight
# walker's velocity no longer to 0.2 m/s after one second.
ACCELERATION_DENSITY = 0.25
START_SPEED = 1.0  # [m/s] standard deviation of each axis of a velocity that nothing is known of
# A measurement outside this squared Mahalanobis distance (chi-square, 3 degrees of freedom, one in 1000) is an outlier.
GATE = 16.27
RESTART_AFTER = 3  # outliers in a row: the target, or the frame that it is measured in, has jumped


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

    def predicted(self, stamp: float) -> Estimate:
        """The estimate at a moment that is not earlier; its covariance grows with the time between."""
        dt = max(stamp - self.stamp, 0.0)
        motion = np.eye(6)
        motion[:3, 3:] = dt * np.eye(3)
        noise = np.kron(np.array(((dt**3 / 3, dt**2 / 2), (dt**2 / 2, dt))), ACCELERATION_DENSITY * np.eye(3))
        return replace(
            self,
            stamp=max(stamp, self.stamp),
            mean=motion @ self.mean,
            covariance=motion @ self.covariance @ motion.T + noise,
        )


class TargetFilter:
    """Follows one target from measurement to measurement, and across gaps of up to `coast_s` seconds.

    Attributes:
        coast_s: how long after the last measurement there still is an estimate.
        restarts: how often a jump of the target or of time has made it begin anew.
    """

    def __init__(self, coast_s: float) -> None:
        self.coast_s = coast_s
        self.restarts = 0
        self._estimate: Estimate | None = None
        self._outliers = 0

    def reset(self) -> None:
        """Forget the target."""
        self._estimate, self._outliers = None, 0

    def at(self, stamp: float) -> Estimate | None:
        """Return the estimate at a moment; None without measurement within `coast_s` before it."""
        if self._estimate is None or not 0 <= stamp - self._estimate.measured <= self.coast_s:
            return None
        return self._estimate.predicted(stamp)

    def observe(self, measurement: PointMeasurement) -> bool:
        """Take a measurement in; return whether it counts (a single outlier does not).

        It begins anew after a jump back in time, a gap of more than `coast_s`, and `RESTART_AFTER` outliers in a row.

        Raises:
            TargetFilterError: the measurement is not finite, or its covariance not positive definite.
        """
        _check(measurement)
        predicted = self.at(measurement.stamp)
        if predicted is None:
            self.restarts += self._estimate is not None
            self._begin(measurement)
            return True
        innovation = measurement.position - predicted.position
        spread = predicted.covariance[:3, :3] + measurement.covariance
        if innovation @ np.linalg.solve(spread, innovation) > GATE:
            self._outliers += 1
            if self._outliers < RESTART_AFTER:
                return False
            self.restarts += 1
            self._begin(measurement)
            return True
        gain = np.linalg.solve(spread, predicted.covariance[:3]).T  # [6, 3]
        keep = np.eye(6)
        keep[:, :3] -= gain
        # Joseph's form stays positive definite whatever is rounded.
        covariance = keep @ predicted.covariance @ keep.T + gain @ measurement.covariance @ gain.T
        self._outliers = 0
        self._estimate = Estimate(
            measurement.stamp,
            measurement.stamp,
            predicted.mean + gain @ innovation,
            (covariance + covariance.T) / 2,
        )
        return True

    def _begin(self, measurement: PointMeasurement) -> None:
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = measurement.covariance
        covariance[3:, 3:] = START_SPEED**2 * np.eye(3)
        mean = np.concatenate((measurement.position, np.zeros(3)))
        self._estimate = Estimate(measurement.stamp, measurement.stamp, mean, covariance)
        self._outliers = 0


def _check(measurement: PointMeasurement) -> None:
    values = (measurement.stamp, *measurement.position, *measurement.covariance.ravel())
    if not np.all(np.isfinite(values)):
        raise TargetFilterError(f"position {measurement.position} at {measurement.stamp} s; expected finite numbers")
    covariance = measurement.covariance
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise TargetFilterError(f"covariance {covariance.tolist()}; expected a symmetric, positive definite 3x3 matrix")
