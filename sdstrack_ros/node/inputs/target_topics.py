"""The topics by which a target is chosen; each message becomes one request for the tracking thread."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import Point, PointStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import String
from vision_msgs.msg import Detection2D, Detection2DArray

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from ckd_core.text import shown
from sdstrack_ros.messages.stamps import stamp_of
from sdstrack_ros.node.faults import FaultLog, guarded
from sdstrack_ros.node.inputs.qos import sensor_qos, subscribe
from sdstrack_ros.tracking.target_requests import (
    MAX_ID_CHARACTERS,
    BoxRequest,
    Candidate,
    CandidatesRequest,
    PixelRequest,
    RemoveRequest,
    RequestOutcome,
    TargetError,
    checked_id,
    detection_box,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.messages.camera import PinholeCamera
    from sdstrack_ros.node.outputs.transforms import Transforms
    from sdstrack_ros.tracking.target_requests import TargetRequest

QUEUE = 10
# Requests must not get lost, and several targets may be requested at once.
REQUEST_QUEUE = 100


class TargetTopics:
    """`~/init_box`, `~/init_roi`, `~/init_pixel`, `~/init_point`, `~/candidates`, `~/remove`.

    `~/remove` is a topic as the others are: no service of ROS's common interfaces takes a text.
    """

    def __init__(
        self,
        node: LifecycleNode,
        faults: FaultLog,
        camera: Callable[[], PinholeCamera | None],
        transforms: Transforms,
        submit: Callable[[TargetRequest], object],
        conclude: Callable[[RequestOutcome], object],
    ) -> None:
        """Subscribe.

        Args:
            node: owner of the subscriptions.
            faults: receives what goes wrong in a callback.
            camera: the colour camera's calibration; None before the first camera_info.
            transforms: take points of other frames to the camera's.
            submit: receives each request.
            conclude: receives the outcome of a message that cannot become a request.

        """
        self.faults = faults
        self._node = node
        self._camera = camera
        self._submit = submit
        self._conclude = conclude
        self._transforms = transforms
        self._subscriptions = [
            self._subscribe(Detection2D, "init_box", self._on_box),
            self._subscribe(RegionOfInterest, "init_roi", self._on_roi),
            self._subscribe(Point, "init_pixel", self._on_pixel),
            self._subscribe(PointStamped, "init_point", self._on_point),
            self._subscribe(String, "remove", self._on_remove),
            # A stream, as images are: the next message makes up for a lost one.
            node.create_subscription(
                Detection2DArray, "~/candidates", self._on_candidates, sensor_qos("best_effort", QUEUE)
            ),
        ]

    def _subscribe(self, kind: Any, name: str, callback: Callable[[Any], None]) -> Any:
        """Subscribe reliably, because a single request must not get lost; report a publisher that does not offer it."""
        unfit = f"a publisher offers best effort; one request must not get lost, publish ~/{name} reliably"
        qos = QoSProfile(depth=REQUEST_QUEUE)
        return subscribe(
            self._node, kind, f"~/{name}", callback, qos, lambda: self.faults.record(f"QoS of {name}", unfit)
        )

    def destroy(self) -> None:
        """Remove the topics; the mirror image of creation."""
        for subscription in reversed(self._subscriptions):
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    @guarded("init_box")
    def _on_box(self, message: Detection2D) -> None:
        target_id, box, stamp_ns = str(message.id), detection_box(message), _stamp_ns(message)
        if not self._is_usable("init_box", target_id):
            return
        label = shown(message.results[0].hypothesis.class_id) if target_id and message.results else ""
        request: TargetRequest
        if target_id and box.w == box.h == 0:
            # A click that names its target; a click of rqt or RViz cannot.
            request = PixelRequest("init_box", box.x, box.y, None, stamp_ns)
        else:
            request = BoxRequest("init_box", box, stamp_ns)
        self._submit(replace(request, target_id=target_id, label=label, detail=_quoted(target_id)))

    @guarded("remove")
    def _on_remove(self, message: String) -> None:
        target_id = str(message.data)
        if self._is_usable("remove", target_id):
            self._submit(RemoveRequest("remove", target_id, detail=_quoted(target_id)))

    @guarded("init_roi")
    def _on_roi(self, message: RegionOfInterest) -> None:
        box = BoundingBox(*map(float, (message.x_offset, message.y_offset, message.width, message.height)))
        self._submit(BoxRequest("init_roi", box))

    @guarded("init_pixel")
    def _on_pixel(self, message: Point) -> None:
        self._submit(PixelRequest("init_pixel", message.x, message.y))

    @guarded("init_point")
    def _on_point(self, message: PointStamped) -> None:
        camera = self._camera()
        if camera is None:
            self._refuse("init_point", "no camera_info has come yet, so the point has no pixel")
            return
        try:
            column, row = camera.pixel(self._in_camera(message, camera.frame_id))
        except TrackingError as error:
            self._refuse("init_point", str(error))
            return
        self._submit(PixelRequest("init_point", column, row, (camera.width, camera.height)))

    def _in_camera(self, message: PointStamped, frame_id: str) -> tuple[float, float, float]:
        """Coordinates [m] in the camera's optical frame.

        Raises:
            TransformError: the newest transform is not known, or none can be.

        """
        point, source = message.point, str(message.header.frame_id)
        if source in {"", frame_id}:
            return point.x, point.y, point.z
        x, y, z = self._transforms.lookup(frame_id, source, None).apply(np.array((point.x, point.y, point.z)))
        return float(x), float(y), float(z)

    @guarded("candidates")
    def _on_candidates(self, message: Detection2DArray) -> None:
        candidates = tuple(
            Candidate(
                detection_box(detection),
                str(result.hypothesis.class_id),
                float(result.hypothesis.score),
                str(detection.id),
            )
            for detection in message.detections
            for result in detection.results
        )
        if candidates:
            self._submit(CandidatesRequest("candidates", candidates, _stamp_ns(message)))
        elif message.detections:
            self._refuse("candidates", f"{len(message.detections)} detections without a class and a score")

    def _is_usable(self, topic: str, target_id: str) -> bool:
        """Whether an id may wait with its request for the tracking thread; refuses it otherwise."""
        try:
            checked_id(target_id)
        except TargetError as error:
            self._conclude(RequestOutcome(topic, _quoted(target_id), accepted=False, reason=str(error)))
            return False
        return True

    def _refuse(self, topic: str, reason: str) -> None:
        self._conclude(RequestOutcome(topic, "", accepted=False, reason=reason))


def _quoted(target_id: str) -> str:
    return f"'{shown(target_id, MAX_ID_CHARACTERS)}'" if target_id else ""


def _stamp_ns(message: Any) -> int | None:
    """Stamp of the frame that a message refers to; None for a stamp of 0, which means the newest."""
    return stamp_of(message) or None
