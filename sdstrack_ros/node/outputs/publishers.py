"""The node's output topics: created by configure, silent until activate, fed by the tracking thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from ckd_core.frame import Modality
from ckd_core.tracking.witnesses.box_depth import target_depth
from sdstrack_ros.messages.image_codec import encode
from sdstrack_ros.messages.metric_box import metric_box
from sdstrack_ros.messages.overlay import Caption, draw_overlay
from sdstrack_ros.node.outputs import detections
from sdstrack_ros.node.outputs.target_outputs import TargetOutputs
from sdstrack_ros.tracking.overload import FrameCost, OutputPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.messages.camera import PinholeCamera
    from sdstrack_ros.messages.metric_box import MetricBox
    from sdstrack_ros.node.outputs.detections import FrameOutput
    from sdstrack_ros.parameters.table import Settings

QUEUE = 10


class Publishers:
    """`~/detections`, `~/detections_3d`, `~/markers`, `~/overlay`, `~/detections_predicted`.

    Attributes:
        targets: the outputs in space.
    """

    def __init__(self, node: LifecycleNode, settings: Settings) -> None:
        reliable = settings.output_reliability == "reliable"
        qos = QoSProfile(
            depth=QUEUE, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        )
        self._node = node
        self._detections = node.create_lifecycle_publisher(Detection2DArray, "~/detections", qos)
        self._detections_3d = node.create_lifecycle_publisher(Detection3DArray, "~/detections_3d", qos)
        self._markers = node.create_lifecycle_publisher(MarkerArray, "~/markers", qos)
        self._overlay = node.create_lifecycle_publisher(Image, "~/overlay", qos)
        self._predicted = node.create_lifecycle_publisher(Detection2DArray, "~/detections_predicted", qos)
        self.targets = TargetOutputs(node, settings, qos)

    def destroy(self) -> None:
        """Remove the topics; the mirror image of creation."""
        self.targets.destroy()
        for publisher in (self._predicted, self._overlay, self._markers, self._detections_3d, self._detections):
            self._node.destroy_lifecycle_publisher(publisher)

    def publish_boxes(self, output: FrameOutput) -> None:
        """Publish the 2-D boxes, before all other outputs."""
        self._detections.publish(detections.detections(output))

    def publish_predicted(self, message: Detection2DArray) -> None:
        """Publish boxes that were moved on to the time of publishing."""
        self._predicted.publish(message)

    def wants_markers(self, settings: Settings, plan: OutputPlan) -> bool:
        """Whether the settings, the plan and a subscriber ask for markers."""
        return settings.publish_markers and plan.markers and self._markers.get_subscription_count() > 0

    def publish_extras(
        self,
        output: FrameOutput,
        settings: Settings,
        camera: PinholeCamera | None,
        plan: OutputPlan,
        latency_ms: float,
        more_markers: Sequence[Marker] = (),
    ) -> FrameCost:
        """Publish what the settings, the plan and the subscribers ask for; return what it cost, without tracking.

        Args:
            output: the frame's result.
            settings: the values of all parameters.
            camera: the colour camera's calibration; None without one.
            plan: what overload leaves out.
            latency_ms: of the frame, for the overlay.
            more_markers: published with the markers, after them because those may delete all.
        """
        begin = time.perf_counter()
        wanted = self._wants_metric_boxes(settings, plan)
        boxes = _metric_boxes(output, settings, camera) if wanted else {}
        depth = output.result.images.aux is not None and output.result.images.modality is Modality.DEPTH
        if settings.publish_3d and plan.detections_3d and camera is not None and depth:
            self._detections_3d.publish(detections.detections_3d(output, boxes))
        after_3d = time.perf_counter()
        markers = self.wants_markers(settings, plan)
        if markers:
            fitting = camera and _fitting(camera, output)
            message = detections.markers(output, boxes, fitting)
            message.markers = [*message.markers, *more_markers]
            self._markers.publish(message)
        after_markers = time.perf_counter()
        overlay = settings.publish_overlay and plan.overlay and self._overlay.get_subscription_count() > 0
        if overlay:
            self._publish_overlay(output, settings, latency_ms)
        done = time.perf_counter()
        return FrameCost(
            0.0,
            after_3d - begin if boxes else 0.0,
            after_markers - after_3d if markers else 0.0,
            done - after_markers if overlay else 0.0,
        )

    def _wants_metric_boxes(self, settings: Settings, plan: OutputPlan) -> bool:
        wanted_3d = settings.publish_3d and self._detections_3d.get_subscription_count() > 0
        return plan.detections_3d and (wanted_3d or self.wants_markers(settings, plan))

    def _publish_overlay(self, output: FrameOutput, settings: Settings, latency_ms: float) -> None:
        caption = Caption(settings.label, latency_ms, output.result.images.aux_held)
        picture = draw_overlay(
            output.result.images,
            [(target.name, target.track) for target in output.result.targets],
            caption,
            settings.overlay_side_by_side,
            _reference_size(output),
        )
        if picture is None:
            return
        message = Image(header=output.header)
        self._overlay.publish(encode(picture, "rgb8", message))


def _metric_boxes(output: FrameOutput, settings: Settings, camera: PinholeCamera | None) -> dict[int, MetricBox]:
    """Boxes in metres of the visible targets whose distance depth shows, by the number of the target."""
    images = output.result.images
    if camera is None:
        return {}
    size = _reference_size(output) or (camera.width, camera.height)
    boxes = {}
    for target in output.visible:
        depth = target_depth(
            images, target.box, size, settings.min_depth_m, settings.max_depth_m, target.track.distance
        )
        if depth is not None:
            boxes[target.number] = metric_box(target.box, depth, camera.scaled(*size))
    return boxes


def _reference_size(output: FrameOutput) -> tuple[int, int] | None:
    """Width and height of the image in whose pixels all boxes are; None without a target."""
    size = output.result.targets[0].track.reference_size if output.result.targets else None
    return None if size is None else (size[1], size[0])


def _fitting(camera: PinholeCamera, output: FrameOutput) -> PinholeCamera:
    size = _reference_size(output)
    return camera if size is None else camera.scaled(*size)
