"""A point that moves straight on for a while, then turns: two constant-velocity Kalman filters beside one another.

One smooths much, for the straight parts, one little, for the turns; which of them explains the measurements better has
more weight in the estimate (interacting multiple models: Bar-Shalom, Li and Kirubarajan, "Estimation with Applications
to Tracking and Navigation", sections 6.2.2 and 11.6). One filter alone is either late in every turn, or follows the
jitter of boxes and the swing of limbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

TURNS_PER_S, ENDS_PER_S = 0.5, 2.0  # a turn begins every two seconds, and lasts half a second
SETTLED = np.array((ENDS_PER_S, TURNS_PER_S)) / (TURNS_PER_S + ENDS_PER_S)  # how likely either is, nothing being known
MIN_WEIGHT = 1e-6  # of a filter: none is ever ruled out


@dataclass(frozen=True, slots=True, eq=False)
class Motions:
    """What the two filters believe of a point in D dimensions; a state is a place, then a velocity.

    Attributes:
        weights: [2], how likely each of them is; they add up to 1.
        means: [2, 2 D].
        covariances: [2, 2 D, 2 D].
    """

    weights: Array
    means: Array
    covariances: Array

    @classmethod
    def begin(cls, place: Array, covariance: Array, speed: float) -> Motions:
        """Both after a first measurement.

        Args:
            place: [D].
            covariance: [D, D] of the place.
            speed: standard deviation of each axis of the velocity, of which nothing is known.
        """
        size = len(place)
        state = np.zeros((2 * size, 2 * size))
        state[:size, :size] = covariance
        state[size:, size:] = speed**2 * np.eye(size)
        mean = np.concatenate((place, np.zeros(size)))
        return cls(SETTLED, np.stack((mean, mean)), np.stack((state, state)))

    def predicted(self, dt: float, densities: Array) -> Motions:
        """Both after `dt` seconds, in which a turn may have begun or ended.

        Args:
            dt: from 0.
            densities: [2] of the white noise of the acceleration, straight on and in a turn; their square roots are
                what a velocity changes by in a second.
        """
        size = self.means.shape[1] // 2
        stay = np.exp(-(TURNS_PER_S + ENDS_PER_S) * dt)
        went = stay * np.eye(2) + (1 - stay) * SETTLED  # [from, to]: a Markov chain of two states
        weights = self.weights @ went
        origins = [self._mixed(share) for share in (went * self.weights[:, None] / weights).T]
        motion = np.eye(2 * size)
        motion[:size, size:] = dt * np.eye(size)
        noise = np.kron(np.array(((dt**3 / 3, dt**2 / 2), (dt**2 / 2, dt))), np.eye(size))
        return Motions(
            weights,
            np.stack([motion @ mean for mean, _ in origins]),
            np.stack([motion @ own @ motion.T + q * noise for (_, own), q in zip(origins, densities, strict=True)]),
        )

    def corrected(self, place: Array, noise: Array) -> Motions:
        """Both with a measurement of their moment: a place [D] and its covariance [D, D]."""
        size = len(place)
        means, covariances, fits = [], [], []
        for mean, own in zip(self.means, self.covariances, strict=True):
            innovation, spread = place - mean[:size], own[:size, :size] + noise
            gain = np.linalg.solve(spread, own[:size]).T  # [2 D, D]
            keep = np.eye(2 * size)
            keep[:, :size] -= gain
            means.append(mean + gain @ innovation)
            # Joseph's form stays positive definite whatever is rounded.
            covariance = keep @ own @ keep.T + gain @ noise @ gain.T
            covariances.append((covariance + covariance.T) / 2)
            fits.append(-0.5 * (innovation @ np.linalg.solve(spread, innovation) + np.linalg.slogdet(spread)[1]))
        weights = self.weights * np.exp(np.array(fits) - max(fits))
        weights = np.maximum(weights / weights.sum(), MIN_WEIGHT)
        return Motions(weights / weights.sum(), np.stack(means), np.stack(covariances))

    def mixed(self) -> tuple[Array, Array]:
        """Mean [2 D] and covariance [2 D, 2 D] of both together."""
        return self._mixed(self.weights)

    def _mixed(self, weights: Array) -> tuple[Array, Array]:
        mean = weights @ self.means
        apart = self.means - mean
        return mean, np.einsum("i,ijk->jk", weights, self.covariances) + np.einsum("i,ij,ik", weights, apart, apart)
