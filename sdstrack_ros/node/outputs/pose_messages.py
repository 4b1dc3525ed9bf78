"""Targets in space as messages, in the frame in which they are followed."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, PoseWithCovarianceStamped, TransformStamped, TwistStamped
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from ckd_core.tracking.result import TrackState
from sdstrack_ros.messages.stamps import NS_PER_S, set_ns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sdstrack_ros.messages.camera import PinholeCamera
    from sdstrack_ros.tracking.target_poses import TargetPose

# Variance [rad^2] of an angle of which nothing is known: a point has no orientation.
UNKNOWN_ANGLE = math.pi**2
VELOCITY_NAMESPACE, TRACK_NAMESPACE, RAY_NAMESPACE = "velocity", "track", "ray"
MARKER_LIFETIME_S = 0.5
TRACK_STEP_M = 0.05  # a track line gets a point when its target has moved this far
TRACK_POINTS = 400
RAY_LENGTH_M = 10.0  # a ray means a direction; no length of it is a distance
MIN_ARROW_SPEED = 0.05  # [m/s] below it there is no arrow
_COLORS = {
    TrackState.TRACKING: (0.2, 0.9, 0.3),
    TrackState.UNCERTAIN: (1.0, 0.75, 0.1),
    TrackState.LOST: (0.9, 0.3, 0.2),
}


def pose_header(pose: TargetPose) -> Header:
    """Frame and stamp of a pose."""
    header = Header(frame_id=pose.frame_id)
    set_ns(header.stamp, pose.stamp_ns)
    return header


def pose_stamped(pose: TargetPose) -> PoseStamped:
    """Position of a target; the orientation is the frame's own, because a point has none."""
    message = PoseStamped(header=pose_header(pose))
    _place(message.pose, pose)
    return message


def pose_with_covariance(pose: TargetPose) -> PoseWithCovarianceStamped:
    """The same, with the covariance of x, y, z; the three angles have the variance of what is not known."""
    message = PoseWithCovarianceStamped(header=pose_header(pose))
    _place(message.pose.pose, pose)
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = pose.estimate.covariance[:3, :3]
    covariance[3:, 3:] = UNKNOWN_ANGLE * np.eye(3)
    message.pose.covariance = covariance.ravel()
    return message


def twist_stamped(pose: TargetPose) -> TwistStamped:
    """Velocity of a target, along the axes of the pose's frame."""
    message = TwistStamped(header=pose_header(pose))
    linear = message.twist.linear
    linear.x, linear.y, linear.z = pose.estimate.velocity.tolist()
    return message


def transform_stamped(pose: TargetPose, child_frame: str) -> TransformStamped:
    """The frame of a target."""
    message = TransformStamped(header=pose_header(pose), child_frame_id=child_frame)
    place, turn = message.transform.translation, message.transform.rotation
    place.x, place.y, place.z = pose.estimate.position.tolist()
    turn.w = 1.0
    return message


def target_frame_of(target_id: str) -> str:
    """Name of a target's frame, in which tf2 allows no slash at the front."""
    return f"target_{target_id.replace('/', '_')}"


class TrackLines:
    """Where each target has been."""

    def __init__(self) -> None:
        self._frame_id = ""
        self._lines: dict[int, deque[Any]] = {}

    def follow(self, poses: Iterable[TargetPose], numbers: Iterable[int]) -> None:
        """Lengthen the lines; forget those of targets that are not among `numbers`, and all in another frame."""
        alive = set(numbers)
        self._lines = {number: line for number, line in self._lines.items() if number in alive}
        for pose in poses:
            if pose.frame_id != self._frame_id:
                self._lines.clear()
                self._frame_id = pose.frame_id
            line = self._lines.setdefault(pose.number, deque(maxlen=TRACK_POINTS))
            place = pose.estimate.position
            if pose.state is TrackState.TRACKING and (not line or np.linalg.norm(place - line[-1]) >= TRACK_STEP_M):
                line.append(place)

    def points(self, number: int) -> list[Point]:
        """The line of a target."""
        return [_point(place) for place in self._lines.get(number, ())]


def pose_markers(pose: TargetPose, lines: TrackLines) -> list[Marker]:
    """An arrow of the way of one second, and the line of where the target has been."""
    markers = []
    r, g, b = _COLORS[pose.state]
    place, velocity = pose.estimate.position, pose.estimate.velocity
    if float(np.linalg.norm(velocity)) >= MIN_ARROW_SPEED:
        arrow = _marker(pose_header(pose), VELOCITY_NAMESPACE, pose.number, Marker.ARROW, (r, g, b, 1.0))
        arrow.points = [_point(place), _point(place + velocity)]
        arrow.scale.x, arrow.scale.y, arrow.scale.z = 0.04, 0.1, 0.15
        markers.append(arrow)
    points = lines.points(pose.number)
    if len(points) > 1:
        line = _marker(pose_header(pose), TRACK_NAMESPACE, pose.number, Marker.LINE_STRIP, (r, g, b, 0.7))
        line.points, line.scale.x = points, 0.03
        markers.append(line)
    return markers


def ray_marker(header: Header, number: int, center: tuple[float, float], camera: PinholeCamera) -> Marker:
    """The direction in which a target is whose distance is not known, in the camera's frame."""
    x, y = camera.box_ray(*center)
    end = np.array((x, y, 1.0)) * RAY_LENGTH_M / math.sqrt(x * x + y * y + 1)
    ray = _marker(header, RAY_NAMESPACE, number, Marker.LINE_STRIP, (0.4, 0.7, 1.0, 0.9))
    ray.points, ray.scale.x = [Point(), _point(end)], 0.01
    return ray


def _marker(header: Header, namespace: str, number: int, kind: int, color: tuple[float, ...]) -> Marker:
    r, g, b, a = color
    marker = Marker(header=header, ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.color = ColorRGBA(r=r, g=g, b=b, a=a)
    marker.pose.orientation.w = 1.0
    set_ns(marker.lifetime, round(MARKER_LIFETIME_S * NS_PER_S))
    return marker


def _place(message: Any, pose: TargetPose) -> None:
    message.position.x, message.position.y, message.position.z = pose.estimate.position.tolist()
    message.orientation.w = 1.0


def _point(place: Any) -> Point:
    x, y, z = place.tolist()
    return Point(x=x, y=y, z=z)
