"""How far away a target is, as a witness of whether its box is still on it.

A box slips from a target to its likeness beside it without the network noticing. Depth notices: a body does not leap
towards or away from the camera, it changes its course by what legs and wheels can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.tracking.witnesses.box_depth import Expected, target_depth

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox, MultiModalFrame

GAIN, RATE_GAIN = 0.5, 0.15  # of a filter that is soon right about a distance, and later about how it changes
MIN_READING_M = 1e-3  # nearer is 0, which means no reading
MAX_COASTED_S = 1.0  # for so long a course is taken to go on as it was


class DistanceError(TrackingError):
    """Options of the watch over distances outside their range."""


@dataclass(frozen=True, slots=True)
class DistanceConfig:
    """When a box has left its target.

    Attributes:
        enabled: False: depth says nothing about boxes.
        leap_m: a distance that differs from the course by no more than this [m] is the target's: its thickness, its
            limbs.
        leap_share: the same as a share of the distance, for the noise of depth cameras; the larger counts.
        acceleration: by how much a target and a camera may change their course [m/s^2].
        settled_after: readings that agree before they may contradict the network.
        min_m, max_m: readings outside count as none [m].
    """

    enabled: bool = True
    leap_m: float = 0.2
    leap_share: float = 0.06
    acceleration: float = 3.0
    settled_after: int = 3
    min_m: float = 0.1
    max_m: float = 20.0

    def __post_init__(self) -> None:
        for name in ("leap_m", "leap_share", "acceleration", "min_m"):
            if not 0 < getattr(self, name) < float("inf"):
                raise DistanceError(f"{name} is {getattr(self, name)}; expected more than 0")
        if self.settled_after < 1 or self.max_m <= self.min_m:
            raise DistanceError(
                f"settled_after is {self.settled_after}, max_m {self.max_m}; expected at least 1, and more than"
                f" min_m ({self.min_m})"
            )

    def leap(self, z: float) -> float:
        """By how much a reading around `z` may differ from the course [m]."""
        return max(self.leap_m, self.leap_share * z)


@dataclass(frozen=True, slots=True)
class Course:
    """A target's distance and how it changes, by a filter with fixed gains.

    Attributes:
        stamp: of the last reading [s].
        z: the distance along the optical axis [m].
        rate: its change [m/s].
        readings: how many in a row have agreed.
    """

    stamp: float
    z: float
    rate: float = 0.0
    readings: int = 1

    def at(self, stamp: float, config: DistanceConfig) -> Expected:
        """Where the target should be at a time, and how far it may be from there."""
        ahead = max(stamp - self.stamp, 0.0)
        z = max(self.z + self.rate * min(ahead, MAX_COASTED_S), config.min_m)
        return Expected(z, config.leap(z) + config.acceleration / 2 * ahead**2)

    def after(self, stamp: float, z: float, config: DistanceConfig) -> Course:
        """The course with one more reading; it begins anew where the reading is not on it, or long after the last."""
        ahead = stamp - self.stamp
        if ahead <= 0:
            return self
        missed = z - (self.z + self.rate * ahead)
        if ahead > MAX_COASTED_S or abs(missed) > config.leap(z):
            return Course(stamp, z)
        return Course(stamp, z - (1 - GAIN) * missed, self.rate + RATE_GAIN * missed / ahead, self.readings + 1)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What depth says of a box.

    Attributes:
        course: of the target, if it is in the box.
        elsewhere: whether the box is on something else.
    """

    course: Course | None = None
    elsewhere: bool = False


def sighted(
    frame: MultiModalFrame, box: BoundingBox, size: tuple[int, int], before: Course | None, config: DistanceConfig
) -> Sighting:
    """Compare the depth in a box with the course of the target.

    Args:
        frame: with depth in metres or millimetres; another or none says nothing.
        box: in pixels of the reference image.
        size: (height, width) of the reference image.
        before: the course so far; None where depth has said nothing yet.
        config: when a box has left its target.
    """
    expected = None if before is None else before.at(frame.stamp, config)
    found = target_depth(frame, box, (size[1], size[0]), config.min_m, config.max_m, expected)
    if found is None:
        return Sighting(before)
    z = found.z
    if before is None or expected is None:
        return Sighting(Course(frame.stamp, z))
    if z in expected:
        return Sighting(before.after(frame.stamp, z, config))
    if before.readings < config.settled_after:
        return Sighting(Course(frame.stamp, z))  # which of both was wrong is not known
    return Sighting(before, elsewhere=True)
