"""Targets in space, on the tracking thread: from a frame's result to poses, frames, markers and predicted boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core.frame import Modality
from ckd_core.text import shown
from ckd_core.tracking.prediction import MAX_AHEAD_S, BoxPredictor, seen_box
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.witnesses.box_depth import target_depth
from sdstrack_ros.messages.metric_box import metric_point
from sdstrack_ros.messages.stamps import NS_PER_S, set_ns
from sdstrack_ros.node.outputs import detections
from sdstrack_ros.node.outputs.pose_messages import TrackLines, pose_markers, ray_marker
from sdstrack_ros.tracking.target_poses import SightedTarget, TargetPoses

if TYPE_CHECKING:
    from visualization_msgs.msg import Marker

    from sdstrack_ros.messages.camera import PinholeCamera
    from sdstrack_ros.messages.metric_box import MetricPoint
    from sdstrack_ros.node.faults import FaultLog
    from sdstrack_ros.node.outputs.detections import FrameOutput
    from sdstrack_ros.node.outputs.publishers import Publishers
    from sdstrack_ros.node.outputs.transforms import Transforms
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.tracking.results import TargetResult
    from sdstrack_ros.tracking.target_poses import TargetPose

# A calibration whose image has another shape is that of another camera, or of another stream of it.
MAX_SHAPE_DIFFERENCE = 0.05


class TargetSpace:
    """Follows all targets of an activation in space.

    Attributes:
        faults: receives what is missing.
    """

    def __init__(self, outputs: Publishers, transforms: Transforms, faults: FaultLog) -> None:
        self.faults = faults
        self._outputs = outputs
        self._transforms = transforms
        self._poses = TargetPoses(transforms.lookup, lambda reason: faults.record("target pose", reason))
        self._lines = TrackLines()
        self._predictors: dict[int, BoxPredictor] = {}
        self._last_stamp_ns: int | None = None
        self._frame_id = ""

    def facts(self, settings: Settings) -> dict[str, str]:
        """What the status says about it."""
        return {
            "transforms": self._transforms.source,
            "target_frame": self._frame_id or self._frame(settings, "the camera's"),
            "pose_restarts": str(self._poses.restarts),
        }

    def serve(
        self, output: FrameOutput, settings: Settings, camera: PinholeCamera | None, markers: bool
    ) -> list[Marker]:
        """Publish what a frame says of targets in space; return their markers if these are asked for.

        A frame that is not newer than the last one says nothing.
        """
        stamp_ns = output.result.source.stamp_ns
        if self._last_stamp_ns is not None and stamp_ns == self._last_stamp_ns:
            return []  # a start answers its frame once more
        if self._last_stamp_ns is not None and stamp_ns < self._last_stamp_ns:
            self._poses.reset()
        self._last_stamp_ns = stamp_ns
        targets = output.result.targets
        camera_frame = output.header.frame_id
        fitting = self._fitting(output, camera)
        poses: tuple[TargetPose, ...] = ()
        if settings.publish_pose:
            self._frame_id = self._frame(settings, camera_frame)
            sighted = [
                SightedTarget(
                    target.number, target.target_id, target.state, self._point(output, target, fitting, settings)
                )
                for target in targets
            ]
            poses = self._poses.update(stamp_ns, camera_frame, sighted, self._frame_id, settings.coast_s)
            self._outputs.targets.publish(poses, targets[0].number if targets else None)
        self._lines.follow(poses, [target.number for target in targets])
        return self._markers(output, poses, fitting) if markers else []

    def predict(self, output: FrameOutput, now_ns: int) -> None:
        """Publish the visible boxes moved on to `now_ns`, on the node's clock."""
        targets = output.result.targets
        numbers = {target.target_id: target.number for target in targets}
        self._predictors = {target.number: self._predictors.get(target.number, BoxPredictor()) for target in targets}
        for target in targets:
            self._predictors[target.number].observe(target.track.stamp, seen_box(target.track))
        message = detections.detections(output)
        kept = []
        for detection in message.detections:
            box = self._predictors[numbers[detection.id]].at(now_ns / NS_PER_S)
            if box is None:
                continue
            cx, cy = box.center
            detection.bbox.center.position.x, detection.bbox.center.position.y = float(cx), float(cy)
            kept.append(detection)
        age_s = (now_ns - output.result.source.stamp_ns) / NS_PER_S
        if not 0 <= age_s <= MAX_AHEAD_S:
            self.faults.record("prediction", f"the frame is {age_s:.3f} s old; expected 0 to {MAX_AHEAD_S:g} s")
        set_ns(message.header.stamp, now_ns)
        for detection in kept:
            detection.header = message.header
        message.detections = kept
        self._outputs.publish_predicted(message)

    def _frame(self, settings: Settings, camera_frame: str) -> str:
        """The frame in which targets are followed."""
        if not settings.target_frame:
            return camera_frame
        if not self._transforms.available:
            self.faults.record(
                "target_frame",
                f"poses stay in the camera's frame '{shown(camera_frame)}': transforms to"
                f" '{shown(settings.target_frame)}' need tf2_ros (apt: ros-$ROS_DISTRO-tf2-ros)",
            )
            return camera_frame
        return settings.target_frame

    def _fitting(self, output: FrameOutput, camera: PinholeCamera | None) -> PinholeCamera | None:
        """The calibration at the size of the image; None without one, or with that of another image."""
        size = _reference_size(output)
        if camera is None or size is None:
            return None
        width, height = size
        if abs(camera.width * height / (camera.height * width) - 1) > MAX_SHAPE_DIFFERENCE:
            self.faults.record(
                "camera_info",
                f"it is of a {camera.width} x {camera.height} image, but images have {width} x {height}; expected the"
                " same shape: no poses",
            )
            return None
        return camera.scaled(width, height)

    def _point(
        self, output: FrameOutput, target: TargetResult, camera: PinholeCamera | None, settings: Settings
    ) -> MetricPoint | None:
        images, size = output.result.images, _reference_size(output)
        if camera is None or size is None or images.aux is None or images.modality is not Modality.DEPTH:
            return None
        if target.state is not TrackState.TRACKING or not target.visible:
            return None  # a box that is not trusted measures nothing
        depth = target_depth(
            images, target.box, size, settings.min_depth_m, settings.max_depth_m, target.track.distance
        )
        if depth is None:
            self.faults.record("target depth", "too few valid readings in the box: no measurement of its place")
            return None
        return metric_point(target.box, depth, camera)

    def _markers(
        self, output: FrameOutput, poses: tuple[TargetPose, ...], camera: PinholeCamera | None
    ) -> list[Marker]:
        markers = [marker for pose in poses for marker in pose_markers(pose, self._lines)]
        placed = {pose.number for pose in poses}
        if camera is not None:
            markers += [
                ray_marker(output.header, target.number, target.box.center, camera)
                for target in output.visible
                if target.number not in placed
            ]
        return markers


def _reference_size(output: FrameOutput) -> tuple[int, int] | None:
    """Width and height of the image in whose pixels the boxes are; None without a target."""
    size = output.result.targets[0].track.reference_size if output.result.targets else None
    return None if size is None else (size[1], size[0])
