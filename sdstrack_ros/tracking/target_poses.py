"""Targets in space: from what a frame says of each to where it is in a fixed frame, and how fast. No ROS import."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckd_core.tracking.result import TrackState
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.messages.transforms import RigidTransform, TransformError
from sdstrack_ros.tracking.target_filter import PointMeasurement, TargetFilter, TargetFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sdstrack_ros.messages.metric_box import MetricPoint
    from sdstrack_ros.tracking.target_filter import Estimate

# How long a measurement waits for the transform of its stamp: odometry comes after the image, maps later still.
MAX_TRANSFORM_WAIT_NS = NS_PER_S // 2
MAX_WAITING = 60  # measurements of one target that wait for their transform


@dataclass(frozen=True, slots=True)
class SightedTarget:
    """What a frame says of a target.

    Attributes:
        number: of the target; never used twice.
        target_id: its name.
        state: whether its box can be trusted; only TRACKING is a measurement.
        point: where it is in the frame's own coordinates; None where depth does not tell.
    """

    number: int
    target_id: str
    state: TrackState
    point: MetricPoint | None


@dataclass(frozen=True, slots=True)
class TargetPose:
    """A target in space.

    Attributes:
        number, target_id, state: as in `SightedTarget`.
        frame_id: the frame of its coordinates.
        stamp_ns: the moment.
        estimate: position and velocity in that frame at that moment.
    """

    number: int
    target_id: str
    state: TrackState
    frame_id: str
    stamp_ns: int
    estimate: Estimate


@dataclass(slots=True)
class _Target:
    filter: TargetFilter
    waiting: deque[tuple[int, str, MetricPoint]] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))


class TargetPoses:
    """A filter for each target."""

    def __init__(
        self,
        lookup: Callable[[str, str, int], RigidTransform],
        complain: Callable[[str], object],
    ) -> None:
        """Begin without targets.

        Args:
            lookup: returns for a target frame, a source frame and a stamp the transform of coordinates from the source
                to the target frame; raises TransformError.
            complain: receives why a measurement could not be used.
        """
        self._lookup = lookup
        self._complain = complain
        self._frame_id = ""
        self._targets: dict[int, _Target] = {}

    @property
    def restarts(self) -> int:
        """How often a jump has made the filters of the present targets begin anew; any thread may ask."""
        return sum(target.filter.restarts for target in tuple(self._targets.values()))

    def reset(self) -> None:
        """Forget all targets."""
        self._targets.clear()

    def update(
        self, stamp_ns: int, camera_frame: str, targets: Sequence[SightedTarget], target_frame: str, coast_s: float
    ) -> tuple[TargetPose, ...]:
        """Take a frame in; targets that it does not name are forgotten.

        Args:
            stamp_ns: of the frame.
            camera_frame: the frame of the points.
            targets: all targets, the lost ones as well.
            target_frame: the frame to follow them in; '' takes the camera's.
            coast_s: how long after its last measurement a target has a pose.

        Returns:
            A pose of every target that has been measured within `coast_s`, in the order of `targets`.
        """
        frame_id = target_frame or camera_frame
        if frame_id != self._frame_id:
            self.reset()  # coordinates of another frame mean other places
            self._frame_id = frame_id
        numbers = {target.number for target in targets}
        self._targets = {number: kept for number, kept in self._targets.items() if number in numbers}
        poses = []
        for sighted in targets:
            target = self._targets.setdefault(sighted.number, _Target(TargetFilter(coast_s)))
            target.filter.coast_s = coast_s
            if sighted.state is TrackState.TRACKING and sighted.point is not None:
                target.waiting.append((stamp_ns, camera_frame, sighted.point))
            self._measure(target, stamp_ns)
            estimate = target.filter.at(stamp_ns / NS_PER_S)
            if estimate is not None:
                poses.append(TargetPose(sighted.number, sighted.target_id, sighted.state, frame_id, stamp_ns, estimate))
        return tuple(poses)

    def _measure(self, target: _Target, now_ns: int) -> None:
        """Give the filter the measurements whose transforms are known, in the order of their stamps."""
        while target.waiting:
            stamp_ns, camera_frame, point = target.waiting[0]
            try:
                transform = self._to_frame(camera_frame, stamp_ns)
            except TransformError as error:
                if 0 <= now_ns - stamp_ns < MAX_TRANSFORM_WAIT_NS:
                    return
                self._complain(str(error))
                target.waiting.popleft()
                continue
            target.waiting.popleft()
            covariance = transform.rotation @ point.covariance @ transform.rotation.T
            try:
                target.filter.observe(
                    PointMeasurement(stamp_ns / NS_PER_S, transform.apply(point.position), covariance)
                )
            except TargetFilterError as error:
                self._complain(str(error))

    def _to_frame(self, camera_frame: str, stamp_ns: int) -> RigidTransform:
        if camera_frame == self._frame_id:
            return RigidTransform()
        return self._lookup(self._frame_id, camera_frame, stamp_ns)
