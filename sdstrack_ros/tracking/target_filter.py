"""Where a target is in space and how fast it moves: a Kalman filter of one point. No ROS import.

People walk straight on for a while, then turn or stop. So two constant-velocity filters run beside one another: one
smooths much, for the straight parts, one little, for the others; which of them explains the measurements better has
more weight in the estimate (interacting multiple models: Bar-Shalom, Li and Kirubarajan, "Estimation with
Applications to Tracking and Navigation", sections 6.2.2 and 11.6). One filter alone is either late in every turn, or
follows the jitter of boxes and the swing of limbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# [m^2/s^3] density of the white noise of the acceleration: straight on, and turning. Their square roots are what a
# velocity changes by in a second [m/s].
DENSITIES = np.array((0.005, 0.5))
TURNS_PER_S, ENDS_PER_S = 0.5, 2.0  # a turn begins every two seconds, and lasts half a second
SETTLED = np.array((ENDS_PER_S, TURNS_PER_S)) / (TURNS_PER_S + ENDS_PER_S)  # how likely either is, nothing being known
START_SPEED = 1.0  # [m/s] standard deviation of each axis of a velocity that nothing is known of
# A measurement outside this squared Mahalanobis distance (chi-square, 3 degrees of freedom, one in 1000) is an outlier.
GATE = 16.27
MIN_WEIGHT = 1e-6  # of a filter: none is ever ruled out
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


@dataclass(frozen=True, slots=True, eq=False)
class _Motions:
    """What the two filters believe.

    Attributes:
        weights: [2], how likely each of them is; they add up to 1.
        means: [2, 6].
        covariances: [2, 6, 6].
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def predicted(self, dt: float) -> _Motions:
        """Both after `dt` seconds, in which a turn may have begun or ended."""
        stay = np.exp(-(TURNS_PER_S + ENDS_PER_S) * dt)
        went = stay * np.eye(2) + (1 - stay) * SETTLED  # [from, to]: a Markov chain of two states
        weights = self.weights @ went
        shares = went * self.weights[:, None] / weights
        mixed = [self._mixed(share) for share in shares.T]
        motion = np.eye(6)
        motion[:3, 3:] = dt * np.eye(3)
        shape = np.kron(np.array(((dt**3 / 3, dt**2 / 2), (dt**2 / 2, dt))), np.eye(3))
        return _Motions(
            weights,
            np.stack([motion @ mean for mean, _ in mixed]),
            np.stack(
                [motion @ own @ motion.T + q * shape for (_, own), q in zip(mixed, DENSITIES, strict=True)],
            ),
        )

    def corrected(self, measurement: PointMeasurement) -> _Motions:
        """Both with a measurement of their moment."""
        means, covariances, fits = [], [], []
        for mean, own in zip(self.means, self.covariances, strict=True):
            innovation, spread = measurement.position - mean[:3], own[:3, :3] + measurement.covariance
            gain = np.linalg.solve(spread, own[:3]).T  # [6, 3]
            keep = np.eye(6)
            keep[:, :3] -= gain
            means.append(mean + gain @ innovation)
            # Joseph's form stays positive definite whatever is rounded.
            covariance = keep @ own @ keep.T + gain @ measurement.covariance @ gain.T
            covariances.append((covariance + covariance.T) / 2)
            fits.append(-0.5 * (innovation @ np.linalg.solve(spread, innovation) + np.linalg.slogdet(spread)[1]))
        weights = self.weights * np.exp(np.array(fits) - max(fits))
        weights = np.maximum(weights / weights.sum(), MIN_WEIGHT)
        return _Motions(weights / weights.sum(), np.stack(means), np.stack(covariances))

    def mixed(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [6] and covariance [6, 6] of both together."""
        return self._mixed(self.weights)

    def _mixed(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = weights @ self.means
        apart = self.means - mean
        return mean, np.einsum("i,ijk->jk", weights, self.covariances) + np.einsum("i,ij,ik", weights, apart, apart)


class TargetFilter:
    """Follows one target from measurement to measurement, and across gaps of up to `coast_s` seconds.

    Attributes:
        coast_s: how long after the last measurement there still is an estimate.
        restarts: how often a jump of the target or of time has made it begin anew.
    """

    def __init__(self, coast_s: float) -> None:
        self.coast_s = coast_s
        self.restarts = 0
        self._motions: _Motions | None = None
        self._measured = 0.0
        self._outliers = 0

    def reset(self) -> None:
        """Forget the target."""
        self._motions, self._outliers = None, 0

    def at(self, stamp: float) -> Estimate | None:
        """Return the estimate at a moment; None without measurement within `coast_s` before it."""
        predicted = self._predicted(stamp)
        return None if predicted is None else Estimate(stamp, self._measured, *predicted.mixed())

    def observe(self, measurement: PointMeasurement) -> bool:
        """Take a measurement in; return whether it counts (a single outlier does not).

        It begins anew after a jump back in time, a gap of more than `coast_s`, and `RESTART_AFTER` outliers in a row.

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
            self._outliers += 1
            if self._outliers < RESTART_AFTER:
                return False
            self.restarts += 1
            self._begin(measurement)
            return True
        self._motions, self._measured, self._outliers = predicted.corrected(measurement), measurement.stamp, 0
        return True

    def _predicted(self, stamp: float) -> _Motions | None:
        ahead = stamp - self._measured
        return None if self._motions is None or not 0 <= ahead <= self.coast_s else self._motions.predicted(ahead)

    def _begin(self, measurement: PointMeasurement) -> None:
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = measurement.covariance
        covariance[3:, 3:] = START_SPEED**2 * np.eye(3)
        mean = np.concatenate((measurement.position, np.zeros(3)))
        self._motions = _Motions(SETTLED, np.stack((mean, mean)), np.stack((covariance, covariance)))
        self._measured, self._outliers = measurement.stamp, 0


def _check(measurement: PointMeasurement) -> None:
    values = (measurement.stamp, *measurement.position, *measurement.covariance.ravel())
    if not np.all(np.isfinite(values)):
        raise TargetFilterError(f"position {measurement.position} at {measurement.stamp} s; expected finite numbers")
    covariance = measurement.covariance
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise TargetFilterError(f"covariance {covariance.tolist()}; expected a symmetric, positive definite 3x3 matrix")
