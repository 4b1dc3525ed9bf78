"""The topics by which a target is chosen; each message becomes one request for the tracking thread."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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
from sdstrack_ros.node.qos import sensor_qos, subscribe
from sdstrack_ros.tracking.target_requests import (
    MAX_ID_CHARACTERS,
    BoxRequest,
    Candidate,
    CandidatesRequest,
    PixelRequest,
    RemoveRequest,
    RequestOutcome,
    TargetError,
    detection_box,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.messages.camera import PinholeCamera
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
        submit: Callable[[TargetRequest], object],
        conclude: Callable[[RequestOutcome], object],
    ) -> None:
        """Subscribe.

        Args:
            node: owner of the subscriptions.
            faults: receives what goes wrong in a callback.
            camera: the colour camera's calibration; None before the first camera_info.
            submit: receives each request.
            conclude: receives the outcome of a message that cannot become a request.

        """
        self.faults = faults
        self._node = node
        self._camera = camera
        self._submit = submit
        self._conclude = conclude
        self._transforms = _Transforms(node)
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
        self._transforms.destroy()

    @guarded("init_box")
    def _on_box(self, message: Detection2D) -> None:
        target_id, box, stamp_ns = str(message.id), detection_box(message), _stamp_ns(message)
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
        self._submit(RemoveRequest("remove", str(message.data), detail=_quoted(message.data)))

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
            x, y, z = self._transforms.in_camera(message, camera.frame_id)
            column, row = camera.pixel((x, y, z))
        except TrackingError as error:
            self._refuse("init_point", str(error))
            return
        self._submit(PixelRequest("init_point", column, row, (camera.width, camera.height)))

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

    def _refuse(self, topic: str, reason: str) -> None:
        self._conclude(RequestOutcome(topic, "", accepted=False, reason=reason))


class _Transforms:
    """Transforms points into the camera's frame: by tf2 where it is installed, else only from that frame itself."""

    def __init__(self, node: LifecycleNode) -> None:
        self._buffer: Any = None
        self._listener: Any = None
        try:
            import tf2_geometry_msgs  # noqa: F401  # needed later; both come with a desktop installation of ROS
            import tf2_ros
        except ImportError:
            return
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def destroy(self) -> None:
        if self._listener is not None:
            self._listener.unregister()
        self._buffer = self._listener = None

    def in_camera(self, message: PointStamped, frame_id: str) -> tuple[float, float, float]:
        """Coordinates [m] in the camera's optical frame.

        Raises:
            TargetError: no transform is known, or tf2 is not installed.

        """
        if message.header.frame_id not in {"", frame_id}:
            message = self._transformed(message, frame_id)
        return message.point.x, message.point.y, message.point.z

    def _transformed(self, message: PointStamped, frame_id: str) -> PointStamped:
        source = message.header.frame_id
        if self._buffer is None:
            raise TargetError(
                f"the point is in frame '{shown(source)}', the camera's is '{shown(frame_id)}', and tf2_ros and"
                " tf2_geometry_msgs are not installed; give the point in the camera's frame"
            )
        import tf2_geometry_msgs
        import tf2_ros
        from rclpy.time import Time

        try:
            transform = self._buffer.lookup_transform(frame_id, source, Time())
        except tf2_ros.TransformException as error:
            raise TargetError(f"no transform from '{shown(source)}' to '{shown(frame_id)}': {shown(error)}") from error
        return tf2_geometry_msgs.do_transform_point(message, transform)


def _quoted(target_id: str) -> str:
    return f"'{shown(target_id, MAX_ID_CHARACTERS)}'" if target_id else ""


def _stamp_ns(message: Any) -> int | None:
    """Stamp of the frame that a message refers to; None for a stamp of 0, which means the newest."""
    return stamp_of(message) or None
