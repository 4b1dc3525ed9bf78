"""Results as messages. Every header is the source frame's; a LOST target is an empty array, never an old box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)
from visualization_msgs.msg import Marker, MarkerArray

from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.messages.stamps import NS_PER_S, set_ns

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox
    from sdstrack_ros.messages.box_depth import MetricBox
    from sdstrack_ros.messages.camera import PinholeCamera
    from sdstrack_ros.tracking.session import FrameResult

MARKER_NAMESPACE = "sdstrack"
MARKER_LIFETIME_S = 0.5
# Where the frustum ends when the distance is unknown.
FRUSTUM_DEPTH_M = 1.0
_STATE_COLORS = {TrackState.TRACKING: (0.2, 0.9, 0.3), TrackState.UNCERTAIN: (1.0, 0.75, 0.1)}


@dataclass(frozen=True, slots=True)
class FrameOutput:
    """A frame's result with what all of its messages share.

    Attributes:
        result: what the tracking thread produced.
        header: of the source frame.
        target: the track when its box may be shown: there is a target, and it is not LOST.
    """

    result: FrameResult
    header: Header
    target: TrackResult | None

    @classmethod
    def of(cls, result: FrameResult) -> FrameOutput:
        """Build the header and decide visibility, once per frame."""
        header = Header(frame_id=result.source.frame_id)
        set_ns(header.stamp, result.source.stamp_ns)
        track = result.track
        shown = track is not None and track.state is not TrackState.LOST and track.box.is_finite()
        return cls(result, header, track if shown else None)


def _hypothesis(label: str, score: float) -> ObjectHypothesisWithPose:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = label
    result.hypothesis.score = float(score)
    return result


def detections(output: FrameOutput, label: str) -> Detection2DArray:
    """Return one detection, or none without a visible target."""
    message = Detection2DArray(header=output.header)
    target = output.target
    if target is None:
        return message
    detection = Detection2D(header=output.header, id=output.result.target_id)
    detection.results = [_hypothesis(label, target.score)]
    cx, cy = target.box.center
    detection.bbox.center.position.x, detection.bbox.center.position.y = float(cx), float(cy)
    detection.bbox.size_x, detection.bbox.size_y = float(target.box.w), float(target.box.h)
    message.detections = [detection]
    return message


def detections_3d(output: FrameOutput, label: str, box: MetricBox | None) -> Detection3DArray:
    """Return one detection in metres in the camera's optical frame, or none without a target or distance."""
    message = Detection3DArray(header=output.header)
    if output.target is None or box is None:
        return message
    detection = Detection3D(header=output.header, id=output.result.target_id)
    hypothesis = _hypothesis(label, output.target.score)
    for pose in (hypothesis.pose.pose, detection.bbox.center):
        pose.position.x, pose.position.y, pose.position.z = box.center
        pose.orientation.w = 1.0
    detection.results = [hypothesis]
    detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z = box.size
    message.detections = [detection]
    return message


def markers(output: FrameOutput, label: str, box: MetricBox | None, camera: PinholeCamera | None) -> MarkerArray:
    """Return a box where the distance is known, else the frustum behind the 2-D box; a deletion without a target."""
    target = output.target
    if target is None or (box is None and camera is None):
        return MarkerArray(markers=[Marker(header=output.header, ns=MARKER_NAMESPACE, action=Marker.DELETEALL)])
    r, g, b = _STATE_COLORS[target.state]
    if box is not None:
        shape = _marker(output.header, 0, Marker.CUBE, ColorRGBA(r=r, g=g, b=b, a=0.45))
        shape.pose.position.x, shape.pose.position.y, shape.pose.position.z = box.center
        shape.scale.x, shape.scale.y, shape.scale.z = box.size
        at = box.center
    else:
        assert camera is not None  # noqa: S101  # the early return above leaves no other case
        shape = _marker(output.header, 0, Marker.LINE_LIST, ColorRGBA(r=r, g=g, b=b, a=1.0))
        shape.scale.x = 0.005
        shape.points = _frustum(target.box, camera)
        x, y = camera.ray(*target.box.center)
        at = (x * FRUSTUM_DEPTH_M, y * FRUSTUM_DEPTH_M, FRUSTUM_DEPTH_M)
    text = _marker(output.header, 1, Marker.TEXT_VIEW_FACING, ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0))
    text.text = f"{label} {target.score:.2f}" + (f"\n{box.center[2]:.2f} m" if box is not None else "")
    above = (box.size[1] / 2 if box is not None else 0.0) + 0.08
    text.pose.position.x, text.pose.position.y, text.pose.position.z = at[0], at[1] - above, at[2]
    text.scale.z = 0.08
    return MarkerArray(markers=[shape, text])


def _marker(header: Header, number: int, kind: int, color: ColorRGBA) -> Marker:
    marker = Marker(header=header, ns=MARKER_NAMESPACE, id=number, type=kind, action=Marker.ADD, color=color)
    marker.pose.orientation.w = 1.0
    set_ns(marker.lifetime, round(MARKER_LIFETIME_S * NS_PER_S))
    return marker


def _frustum(box: BoundingBox, camera: PinholeCamera) -> list[Point]:
    corners = [(box.x, box.y), (box.x + box.w, box.y), (box.x + box.w, box.y + box.h), (box.x, box.y + box.h)]
    rays = [camera.ray(x, y) for x, y in corners]
    ends = [Point(x=x * FRUSTUM_DEPTH_M, y=y * FRUSTUM_DEPTH_M, z=FRUSTUM_DEPTH_M) for x, y in rays]
    lines = []
    for index, end in enumerate(ends):
        lines += [Point(), end, end, ends[(index + 1) % 4]]
    return lines
