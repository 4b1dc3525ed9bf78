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

from ckd_core.tracking.result import TrackState
from sdstrack_ros.messages.stamps import NS_PER_S, set_ns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckd_core.frame import BoundingBox
    from sdstrack_ros.messages.camera import PinholeCamera
    from sdstrack_ros.messages.metric_box import MetricBox
    from sdstrack_ros.tracking.results import FrameResult, TargetResult

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
        visible: the targets whose boxes may be shown: those that are not LOST.
    """

    result: FrameResult
    header: Header
    visible: tuple[TargetResult, ...]

    @classmethod
    def of(cls, result: FrameResult) -> FrameOutput:
        """Build the header and decide visibility, once per frame."""
        header = Header(frame_id=result.source.frame_id)
        set_ns(header.stamp, result.source.stamp_ns)
        return cls(result, header, tuple(target for target in result.targets if target.visible))


def _hypothesis(target: TargetResult) -> ObjectHypothesisWithPose:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = target.label
    result.hypothesis.score = float(target.score)
    return result


def detections(output: FrameOutput) -> Detection2DArray:
    """Return one detection for each visible target."""
    return Detection2DArray(
        header=output.header, detections=[_detection(output.header, target) for target in output.visible]
    )


def _detection(header: Header, target: TargetResult) -> Detection2D:
    detection = Detection2D(header=header, id=target.target_id)
    detection.results = [_hypothesis(target)]
    cx, cy = target.box.center
    detection.bbox.center.position.x, detection.bbox.center.position.y = float(cx), float(cy)
    detection.bbox.size_x, detection.bbox.size_y = float(target.box.w), float(target.box.h)
    return detection


def detections_3d(output: FrameOutput, boxes: Mapping[int, MetricBox]) -> Detection3DArray:
    """Return one detection in metres in the camera's optical frame for each visible target whose distance is known.

    Args:
        output: the frame.
        boxes: in metres, by the number of the target.
    """
    found = [(target, boxes[target.number]) for target in output.visible if target.number in boxes]
    return Detection3DArray(
        header=output.header, detections=[_detection_3d(output.header, target, box) for target, box in found]
    )


def _detection_3d(header: Header, target: TargetResult, box: MetricBox) -> Detection3D:
    detection = Detection3D(header=header, id=target.target_id)
    hypothesis = _hypothesis(target)
    for pose in (hypothesis.pose.pose, detection.bbox.center):
        pose.position.x, pose.position.y, pose.position.z = box.center
        pose.orientation.w = 1.0
    detection.results = [hypothesis]
    detection.bbox.size.x, detection.bbox.size.y, detection.bbox.size.z = box.size
    return detection


def markers(output: FrameOutput, boxes: Mapping[int, MetricBox], camera: PinholeCamera | None) -> MarkerArray:
    """Return boxes where the distance is known, else the frustums behind the 2-D boxes.

    Args:
        output: the frame.
        boxes: in metres, by the number of the target.
        camera: None before the first calibration.

    Returns:
        Two markers for each target, with ids that follow from its place among all; a deletion where none can be shown.
    """
    found = [
        marker
        for place, target in enumerate(output.result.targets)
        if target.visible and (target.number in boxes or camera is not None)
        for marker in _target_markers(output.header, 2 * place, target, boxes.get(target.number), camera)
    ]
    return MarkerArray(markers=found or [Marker(header=output.header, ns=MARKER_NAMESPACE, action=Marker.DELETEALL)])


def _target_markers(
    header: Header, number: int, target: TargetResult, box: MetricBox | None, camera: PinholeCamera | None
) -> list[Marker]:
    r, g, b = _STATE_COLORS[target.state]
    if box is not None:
        shape = _marker(header, number, Marker.CUBE, ColorRGBA(r=r, g=g, b=b, a=0.45))
        shape.pose.position.x, shape.pose.position.y, shape.pose.position.z = box.center
        shape.scale.x, shape.scale.y, shape.scale.z = box.size
        at = box.center
    else:
        assert camera is not None  # noqa: S101  # the caller leaves no other case
        shape = _marker(header, number, Marker.LINE_LIST, ColorRGBA(r=r, g=g, b=b, a=1.0))
        shape.scale.x = 0.005
        shape.points = _frustum(target.box, camera)
        x, y = camera.box_ray(*target.box.center)
        at = (x * FRUSTUM_DEPTH_M, y * FRUSTUM_DEPTH_M, FRUSTUM_DEPTH_M)
    text = _marker(header, number + 1, Marker.TEXT_VIEW_FACING, ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0))
    text.text = f"{target.name} {target.score:.2f}" + (f"\n{box.center[2]:.2f} m" if box is not None else "")
    above = (box.size[1] / 2 if box is not None else 0.0) + 0.08
    text.pose.position.x, text.pose.position.y, text.pose.position.z = at[0], at[1] - above, at[2]
    text.scale.z = 0.08
    return [shape, text]


def _marker(header: Header, number: int, kind: int, color: ColorRGBA) -> Marker:
    marker = Marker(header=header, ns=MARKER_NAMESPACE, id=number, type=kind, action=Marker.ADD, color=color)
    marker.pose.orientation.w = 1.0
    set_ns(marker.lifetime, round(MARKER_LIFETIME_S * NS_PER_S))
    return marker


def _frustum(box: BoundingBox, camera: PinholeCamera) -> list[Point]:
    corners = [(box.x, box.y), (box.x + box.w, box.y), (box.x + box.w, box.y + box.h), (box.x, box.y + box.h)]
    rays = [camera.box_ray(x, y) for x, y in corners]
    ends = [Point(x=x * FRUSTUM_DEPTH_M, y=y * FRUSTUM_DEPTH_M, z=FRUSTUM_DEPTH_M) for x, y in rays]
    lines = []
    for index, end in enumerate(ends):
        lines += [Point(), end, end, ends[(index + 1) % 4]]
    return lines
