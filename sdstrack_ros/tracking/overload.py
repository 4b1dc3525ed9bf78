"""Which outputs to leave out when frames come faster than they can be served.

First the overlay, then markers, then 3-D boxes, then whole frames (only the newest is tracked). 2-D boxes always come.
"""

from __future__ import annotations

from dataclasses import dataclass

# Shed above the first share of the frame period, restore below the second; the gap keeps the plan from oscillating.
SHED_ABOVE = 0.9
RESTORE_BELOW = 0.7
RESTORE_AFTER_FRAMES = 30
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class FrameCost:
    """Seconds that one frame took, by output; 0 for an output that was left out."""

    tracking: float
    detections_3d: float = 0.0
    markers: float = 0.0
    overlay: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Which optional outputs the next frame gets."""

    detections_3d: bool = True
    markers: bool = True
    overlay: bool = True

    @property
    def shed(self) -> tuple[str, ...]:
        """Names of the outputs that are left out."""
        named = (("overlay", self.overlay), ("markers", self.markers), ("detections_3d", self.detections_3d))
        return tuple(name for name, kept in named if not kept)


_PLANS = (
    OutputPlan(),
    OutputPlan(overlay=False),
    OutputPlan(overlay=False, markers=False),
    OutputPlan(overlay=False, markers=False, detections_3d=False),
)


class OverloadPolicy:
    """Compares the cost of a frame with the frame period, and changes the plan one step at a time."""

    def __init__(self) -> None:
        self._level = 0
        self._calm_frames = 0
        self._period = 0.0
        self._last_stamp: float | None = None
        # Last known cost of each output, also while it is left out.
        self._costs = {"tracking": 0.0, "detections_3d": 0.0, "markers": 0.0, "overlay": 0.0}

    @property
    def plan(self) -> OutputPlan:
        """Outputs of the next frame."""
        return _PLANS[self._level]

    def arrived(self, now: float) -> None:
        """Note that a frame arrived, `now` in seconds of a steady clock."""
        if self._last_stamp is not None and 0 < now - self._last_stamp < 5.0:
            self._period = self._smooth(self._period, now - self._last_stamp)
        self._last_stamp = now

    def spent(self, cost: FrameCost) -> OutputPlan:
        """Note the cost of a frame; return the plan for the next one."""
        for name in self._costs:
            value = getattr(cost, name)
            if value > 0:
                self._costs[name] = self._smooth(self._costs[name], value)
        if self._period <= 0:
            return self.plan
        if self._load(self._level) > SHED_ABOVE:
            self._calm_frames = 0
            self._level = min(self._level + 1, len(_PLANS) - 1)
        elif self._level and self._load(self._level - 1) < RESTORE_BELOW:
            self._calm_frames += 1
            if self._calm_frames >= RESTORE_AFTER_FRAMES:
                self._calm_frames = 0
                self._level -= 1
        else:
            self._calm_frames = 0
        return self.plan

    def _load(self, level: int) -> float:
        plan = _PLANS[level]
        costs = self._costs
        optional = (
            plan.detections_3d * costs["detections_3d"]
            + plan.markers * costs["markers"]
            + plan.overlay * costs["overlay"]
        )
        return (costs["tracking"] + optional) / self._period

    @staticmethod
    def _smooth(old: float, new: float) -> float:
        return new if old == 0 else old + _SMOOTHING * (new - old)
