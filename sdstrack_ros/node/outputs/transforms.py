"""TF as the node sees it: the one place that imports tf2_ros and tf2_msgs, neither of which it needs to run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time

from ckd_core.text import shown
from sdstrack_ros.messages.transforms import RigidTransform, TransformError, TransformTree
from sdstrack_ros.node.faults import FaultLog, guarded

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

QUEUE = 100  # as tf2_ros has it
BROADCAST_QOS = QoSProfile(depth=QUEUE, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=QUEUE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

BY_TF2 = "tf2"
BY_TREE = "own buffer (tf2_ros is not installed)"
NONE = "none (neither tf2_ros nor tf2_msgs is installed)"


def tf_message() -> Any:
    """The class tf2_msgs/TFMessage; None where the package is not installed."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    return TFMessage


class Transforms:
    """Transforms between frames: from tf2's buffer, else from our own, else none.

    Attributes:
        source: which of them, in words.
        faults: receives messages that are no transforms.
    """

    def __init__(self, node: LifecycleNode, faults: FaultLog) -> None:
        """Listen to /tf and /tf_static."""
        self.faults = faults
        self._node = node
        self._buffer: Any = None
        self._listener: Any = None
        self._tree = TransformTree()
        self._subscriptions: list[Any] = []
        try:
            import tf2_ros
        except ImportError:
            self.source = self._listen()
            return
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self.source = BY_TF2

    @property
    def available(self) -> bool:
        """Whether there is any way to know transforms."""
        return self.source != NONE

    def destroy(self) -> None:
        """Stop listening; the mirror image of creation."""
        if self._listener is not None:
            self._listener.unregister()
        self._buffer = self._listener = None
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def lookup(self, target: str, source: str, stamp_ns: int | None) -> RigidTransform:
        """Return the transform that takes coordinates in `source` to those in `target`; any thread may call it.

        Args:
            target: name of a frame.
            source: name of a frame.
            stamp_ns: when; None takes the newest.

        Raises:
            TransformError: it is not known at that time, or not at all.
        """
        if self._buffer is None:
            if not self.available:
                raise TransformError(
                    f"no transform from '{shown(source)}' to '{shown(target)}': neither tf2_ros nor tf2_msgs is"
                    f" installed (apt: ros-$ROS_DISTRO-tf2-ros); give coordinates in '{shown(target)}'"
                )
            return self._tree.lookup(target, source, stamp_ns)
        import tf2_ros

        try:
            message = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns or 0))
        except tf2_ros.TransformException as error:
            raise TransformError(f"no transform from '{shown(source)}' to '{shown(target)}': {shown(error)}") from error
        return RigidTransform.from_message(message.transform)

    def _listen(self) -> str:
        kind = tf_message()
        if kind is None:
            return NONE
        self._subscriptions = [
            self._node.create_subscription(kind, "/tf", self._on_moving, QUEUE),
            self._node.create_subscription(kind, "/tf_static", self._on_fixed, _LATCHED),
        ]
        return BY_TREE

    @guarded("tf")
    def _on_moving(self, message: Any) -> None:
        self._store(message, fixed=False)

    @guarded("tf_static")
    def _on_fixed(self, message: Any) -> None:
        self._store(message, fixed=True)

    def _store(self, message: Any, fixed: bool) -> None:
        for transform in message.transforms:
            try:
                self._tree.add(transform, time.monotonic_ns(), fixed)
            except TransformError as error:
                self.faults.record("tf_static" if fixed else "tf", str(error))
