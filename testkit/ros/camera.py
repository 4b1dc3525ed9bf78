"""The test's own side of the DDS wire: two cameras that film a moving square, and a record of what the node says."""

from __future__ import annotations

import contextlib
import os
import time
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Empty
from vision_msgs.msg import Detection2DArray

from testkit.ros.processes import ChildProcessFailure, RosProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NODE = "/tracker"
WIDTH, HEIGHT = 640, 480
FOCAL_PX = 500.0
REPEAT_S = 10.0
# On an idle machine each step takes a second or two; a busy one may be twenty times slower. The first step of a node
# imports torch, which takes longer.
PATIENCE_S = 60.0
START_PATIENCE_S = 240.0
OPTICAL_FRAME = "camera_color_optical_frame"


@dataclass
class MessagesByTopic:
    """Messages by topic, in order of arrival."""

    messages: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def __getitem__(self, topic: str) -> list[Any]:
        return self.messages[topic]

    def clear(self) -> None:
        """Forget all messages."""
        self.messages.clear()


class RosTest:
    """A node of the test's own in the test's domain. `spin` gives it time; nothing else runs it."""

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("test", context=self.context, enable_rosout=False)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.messages = MessagesByTopic()
        self._publishers: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}

    def close(self) -> None:
        """Leave the domain."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin(self, seconds: float = 0.01) -> None:
        """Handle callbacks for that many seconds."""
        until = time.monotonic() + seconds
        while (remaining_s := until - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=remaining_s)

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str, process: RosProcess) -> None:
        """Handle callbacks until `condition()`; see `wait_until`. A failure names the newest status."""
        try:
            wait_until(condition, timeout_s, what, self.spin, process)
        except ChildProcessFailure as error:
            values = {pair.key: pair.value for pair in self.status.values} if self.status is not None else {}
            message = repr(self.status.message) if self.status is not None else "none"
            raise ChildProcessFailure(f"{error}\nnewest status: {message} {values}") from error

    def listen(self, kind: Any, topic: str, qos: Any = 100) -> None:
        """Collect the messages of a topic in `messages`."""
        self.node.create_subscription(kind, topic, lambda message: self.messages[topic].append(message), qos)

    def publisher(self, kind: Any, topic: str, qos: Any = 10) -> Any:
        """The publisher of a topic, created when first asked for."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        return self._publishers[topic]

    def name_nodes_again(self) -> None:
        """Have this participant send the names of its nodes again, which a new publisher does.

        A node to which this participant was gone for longer than its lease (Fast DDS: 20 s) finds the publishers again
        without the names of their nodes, and names none until these are sent again.
        """
        self.node.destroy_publisher(self.node.create_publisher(Empty, "names_again", 1))

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = PATIENCE_S) -> Any:
        """Call a service and return its response; repeats the call every `REPEAT_S`, so calling twice must do no harm.

        Fast DDS loses a response when the node has not yet discovered this client's reader and does not within 100 ms
        (ros2/rmw_fastrtps#842), which happens to the first call on a busy machine.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            response = self._ask(kind, name, request, min(REPEAT_S, timeout_s))
            if response is not None:
                return response
        raise ChildProcessFailure(f"no response from {name} within {timeout_s} s")

    def _ask(self, kind: Any, name: str, request: Any, patience_s: float) -> Any:
        """Send one request and return the response, None when none came."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        wait_until(client.service_is_ready, START_PATIENCE_S, f"service {name}", self.spin)
        future = client.call_async(request)
        # In one go and not in slices of time: the response itself wakes the executor.
        self.executor.spin_until_future_complete(future, timeout_sec=patience_s)
        if not future.done():
            client.remove_pending_request(future)
        return future.result()

    def transition(self, transition: int, timeout_s: float = START_PATIENCE_S) -> bool:
        """Request a lifecycle transition; returns whether it succeeded."""
        before = self.lifecycle()
        request = ChangeState.Request(transition=Transition(id=transition))
        response = self._ask(ChangeState, f"{NODE}/change_state", request, min(REPEAT_S, timeout_s))
        if response is None:
            # The response is lost (see `call`), or the node is still busy; either way it responds to the next request.
            return self.lifecycle(timeout_s) != before
        return bool(response.success)

    def lifecycle(self, timeout_s: float = PATIENCE_S) -> str:
        """Name of the node's lifecycle state."""
        return str(self.call(GetState, f"{NODE}/get_state", GetState.Request(), timeout_s).current_state.label)

    def set_parameters(self, **values: Any) -> Any:
        """Set parameters of the node; returns the result with `successful` and `reason`."""
        parameters = [Parameter(name=name, value=_value(value)) for name, value in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        return self.call(SetParametersAtomically, f"{NODE}/set_parameters_atomically", request).result

    # What the node says.

    def listen_to_node(self) -> None:
        """Collect detections and status."""
        self.listen(Detection2DArray, f"{NODE}/detections")
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.listen(DiagnosticStatus, f"{NODE}/status", latched)

    @property
    def detections(self) -> list[Any]:
        """Messages on the node's ~/detections so far."""
        return self.messages[f"{NODE}/detections"]

    @property
    def status(self) -> Any:
        """The newest status message, None before the first."""
        messages = self.messages[f"{NODE}/status"]
        return messages[-1] if messages else None

    def value(self, key: str) -> str:
        """A value of the newest status, '' when there is none."""
        values = self.status.values if self.status is not None else ()
        return next((pair.value for pair in values if pair.key == key), "")

    def count(self, what: str) -> int:
        """A counter of the newest status."""
        return int(self.value(f"frames.{what}") or 0)


def _value(value: Any) -> ParameterValue:
    if isinstance(value, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    if isinstance(value, int):
        return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
    if isinstance(value, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    if isinstance(value, str):
        return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
    return ParameterValue(type=ParameterType.PARAMETER_DOUBLE_ARRAY, double_array_value=[float(v) for v in value])


class Cameras:
    """A colour and a depth camera that see a textured square move over a textured ground."""

    TARGET_SIZE = 60
    TARGET_DEPTH_MM, GROUND_DEPTH_MM = 1500, 4000

    def __init__(self, ros: RosTest, reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE) -> None:
        qos = QoSProfile(depth=10, reliability=reliability)
        self.ros = ros
        self.rgb = ros.publisher(Image, "/rgb/image_raw", qos)
        self.aux = ros.publisher(Image, "/aux/image_raw", qos)
        self.info = ros.publisher(CameraInfo, "/camera_info", qos)
        random = np.random.default_rng(7)
        self._ground = random.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        self._square = random.integers(130, 256, (self.TARGET_SIZE, self.TARGET_SIZE, 3), dtype=np.uint8)
        self.index = 0
        self.stamps: list[int] = []

    def box(self, index: int) -> tuple[int, int, int, int]:
        """Box of the square in a frame: x, y, w, h."""
        return 200 + (3 * index) % 200, 180 + index % 60, self.TARGET_SIZE, self.TARGET_SIZE

    def images(self, index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """(colour [H, W, 3] uint8, depth [H, W] uint16 millimetres)."""
        x, y, w, h = self.box(index)
        rgb = self._ground.copy()
        rgb[y : y + h, x : x + w] = self._square
        depth = np.full((HEIGHT, WIDTH), self.GROUND_DEPTH_MM, np.uint16)
        depth[y : y + h, x : x + w] = self.TARGET_DEPTH_MM
        return rgb, depth

    def shoot(self, rgb: bool = True, aux: bool = True, stamp_ns: int | None = None, aux_late_ns: int = 0) -> int:
        """Publish the next frame; returns its stamp in nanoseconds."""
        stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
        color, depth = self.images(self.index)
        self.index += 1
        if rgb:
            self.rgb.publish(image_message(color, "rgb8", stamp_ns))
            self.stamps.append(stamp_ns)
        if aux:
            self.aux.publish(image_message(depth, "16UC1", stamp_ns + aux_late_ns))
        return stamp_ns

    def film(self, frames: int, rate_hz: float = 30.0, **options: Any) -> list[int]:
        """Publish frames at a rate while callbacks are handled; returns their stamps."""
        stamps = []
        due = time.monotonic()
        for _ in range(frames):
            stamps.append(self.shoot(**options))
            due += 1 / rate_hz
            self.ros.spin(max(due - time.monotonic(), 0.001))
        return stamps

    def calibrate(self) -> None:
        """Publish the calibration."""
        info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5)
        info.header.frame_id = OPTICAL_FRAME
        info.k = [FOCAL_PX, 0.0, WIDTH / 2, 0.0, FOCAL_PX, HEIGHT / 2, 0.0, 0.0, 1.0]
        self.info.publish(info)


def image_message(pixels: np.ndarray[Any, Any], encoding: str, stamp_ns: int) -> Image:
    """Image message of an array, built without the package's codec, which is under test."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=pixels.strides[0])
    message.header.frame_id = OPTICAL_FRAME
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    data = array("B")
    data.frombytes(np.ascontiguousarray(pixels).tobytes())
    message.data = data
    return message


def stamp_of(message: Any) -> int:
    """Stamp of a message's header in nanoseconds."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


@contextlib.contextmanager
def ros_test(domain: int, environment: dict[str, str]) -> Iterator[RosTest]:
    """A `RosTest` whose middleware sees the same settings as the node's process."""
    for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOG_DIR"):
        os.environ[name] = environment[name]
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        if name in environment:
            os.environ[name] = environment[name]
        else:
            os.environ.pop(name, None)
    test = RosTest(domain)
    try:
        yield test
    finally:
        test.close()


def node_command(
    arguments: dict[str, Any], python: Callable[..., list[str]], remaps: tuple[str, ...] = ()
) -> list[str]:
    """Command line of the node with parameters."""
    options = [f"-p {name}:={value}" for name, value in arguments.items()]
    words = [word for option in options for word in option.split(" ", 1)]
    words += [word for remap in remaps for word in ("-r", remap)]
    return python("sdstrack_ros.node.tracker_node", "--ros-args", *words)
