"""What to leave out when frames come faster than they can be served.

First the overlay, then markers, then 3-D boxes, then whole frames: only the newest is tracked, and that one only while
it is fresh. 2-D boxes always come.
"""

from __future__ import annotations

import statistics
import threading
from collections import deque
from dataclasses import dataclass

# Shed above the first share of the frame period, restore below the second; the gap keeps the plan from oscillating.
SHED_ABOVE = 0.9
RESTORE_BELOW = 0.7
RESTORE_AFTER_FRAMES = 30
_SMOOTHING = 0.1
# A box is to be no older than this many frame periods and the network's own time.
FRESH_PERIODS = 2.0
NEXT_PERIODS = 2.0  # after the newest frame the next one is expected within these
HELD_PERIODS = 3.0  # what may wait longer for its partner than this will not be fresh either
MAX_PASSED = 3  # frames in a row that may give way to the next one
RECENT_FRAMES, MIN_FRAMES = 30, 10
MAX_PERIOD_S = 5.0  # a longer pause is none
MAX_CLOCK_AGE_S = 1.0  # an image that seems older on arrival, or to come from the future, is stamped by another clock


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


class Freshness:
    """Decides whether a frame has waited too long to be answered: where the next one will do better, it gives way.

    Images of both cameras give way together, and only if the rule (`FRESH_PERIODS`) can be kept at all: not where they
    come too late or the node's own work takes too long, nor after the last frame of a stream. Safe to use from several
    threads; times are in seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._periods: deque[float] = deque(maxlen=RECENT_FRAMES)
        self._ages: deque[float] = deque(maxlen=RECENT_FRAMES)  # on arrival
        self._overheads: deque[float] = deque(maxlen=RECENT_FRAMES)
        self._last_stamp: float | None = None
        self._newest = 0.0
        self._passed = 0

    def came(self, stamp: float, now: float, age: float) -> float:
        """Note a frame.

        Args:
            stamp: Its stamp.
            now: By a steady clock.
            age: On arrival, by its stamp.

        Returns:
            That age, or 0 where the stamp is of another clock.
        """
        age = age if 0 <= age <= MAX_CLOCK_AGE_S else 0.0
        with self._lock:
            if self._last_stamp is not None and 0 < stamp - self._last_stamp < MAX_PERIOD_S:
                self._periods.append(stamp - self._last_stamp)
            self._last_stamp, self._newest = stamp, now
            self._ages.append(age)
        return age

    def answered(self, overhead: float) -> None:
        """Note what the node itself took for a frame, from its beginning to the box, without the network."""
        with self._lock:
            self._overheads.append(overhead)

    def patience(self, age: float, now: float, held_until: float = 0.0) -> float:
        """How long a frame is to wait for a newer one before it is answered; 0: not at all.

        Args:
            age: Of the frame.
            now: By a steady clock.
            held_until: By that clock, until when a newer one waits for its partner at the longest; past: none does.
        """
        with self._lock:
            if min(len(self._periods), len(self._overheads)) < MIN_FRAMES:
                return 0.0
            period = statistics.median(self._periods)
            overhead = sorted(self._overheads)[-2]  # one odd frame does not count
            limit = FRESH_PERIODS * period - overhead
            held = held_until if held_until <= now + HELD_PERIODS * period else 0.0
            wait = max(self._newest + NEXT_PERIODS * period, held) - now
            stays = age <= limit or statistics.median(self._ages) > limit or wait <= 0
            if stays or self._passed >= MAX_PASSED:
                self._passed = 0
                return 0.0
            self._passed += 1
            return wait
