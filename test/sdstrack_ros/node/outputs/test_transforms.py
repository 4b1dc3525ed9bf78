"""TF as the node sees it. tf2_ros has no wheels: a stand-in has its documented calls; where it is installed, the real
one is asked. Without it, the plain messages go through the node's own buffer.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped

from sdstrack_ros.messages.transforms import TransformError
from sdstrack_ros.node.faults import FaultLog
from sdstrack_ros.node.outputs import transforms as node_transforms
from sdstrack_ros.node.outputs.transforms import BY_TF2, BY_TREE, NONE, Transforms

if TYPE_CHECKING:
    from testkit.ros.camera import RosTest

HAVE_TF2 = importlib.util.find_spec("tf2_ros") is not None
STAMP_NS = 1_700_000_000_250_000_000


def odom_from_camera(stamp_ns: int = STAMP_NS) -> TransformStamped:
    """A quarter turn about z, then a metre along z: (x, y, z) becomes (-y, x, z + 1)."""
    transform = TransformStamped(child_frame_id="camera")
    transform.header.frame_id = "odom"
    transform.header.stamp.sec, transform.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    transform.transform.rotation.z = transform.transform.rotation.w = math.sqrt(0.5)
    transform.transform.translation.z = 1.0
    return transform


def moved(transforms: Transforms, stamp_ns: int | None = STAMP_NS) -> list[float]:
    point = transforms.lookup("odom", "camera", stamp_ns).apply(np.array((0.5, 0.0, 2.0)))
    return [round(value, 6) for value in point.tolist()]


class Buffer:
    """tf2_ros.Buffer that knows `odom_from_camera` only."""

    asked: list[int]

    def __init__(self) -> None:
        Buffer.asked = []

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any) -> TransformStamped:
        Buffer.asked.append(time.nanoseconds)
        if (target_frame, source_frame) != ("odom", "camera"):
            raise sys.modules["tf2_ros"].TransformException(f'"{source_frame}" does not exist')
        return odom_from_camera()


class TransformListener:
    def __init__(self, buffer: Buffer, node: Any) -> None:
        self.registered = True

    def unregister(self) -> None:
        self.registered = False


def test_tf2_is_asked_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    ros = types.ModuleType("tf2_ros")
    ros.Buffer, ros.TransformListener = Buffer, TransformListener  # type: ignore[attr-defined]  # built here
    ros.TransformException = type("TransformException", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tf2_ros", ros)
    transforms = Transforms(SimpleNamespace(), FaultLog(print))  # type: ignore[arg-type]  # the node is only handed on
    assert (transforms.source, transforms.available) == (BY_TF2, True)
    assert moved(transforms) == moved(transforms, None) == [0.0, 0.5, 3.0]
    assert Buffer.asked == [STAMP_NS, 0], "0 asks tf2 for the newest"
    with pytest.raises(TransformError, match="no transform from 'lidar' to 'odom': \"lidar\" does not exist"):
        transforms.lookup("odom", "lidar", STAMP_NS)
    listener = transforms._listener
    transforms.destroy()
    assert not listener.registered


@pytest.mark.skipif(not HAVE_TF2, reason="tf2_ros is not installed here")
def test_the_installed_tf2_answers_alike(ros: RosTest) -> None:
    transforms = Transforms(ros.node, FaultLog(print))
    transforms._buffer.set_transform(odom_from_camera(), "test")
    assert moved(transforms) == [0.0, 0.5, 3.0]
    transforms.destroy()


class Node:
    """Hands out subscriptions, and lets messages come."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Any] = {}

    def create_subscription(self, kind: Any, topic: str, callback: Any, qos: Any) -> str:
        self.callbacks[topic] = callback
        return topic

    def destroy_subscription(self, topic: str) -> None:
        del self.callbacks[topic]


def test_without_tf2_the_messages_go_through_the_nodes_own_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    from tf2_msgs.msg import TFMessage

    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    node, faults = Node(), FaultLog(print)
    transforms = Transforms(node, faults)  # type: ignore[arg-type]
    assert transforms.source == BY_TREE
    broken = odom_from_camera()
    broken.transform.rotation.z = 0.9
    node.callbacks["/tf"](TFMessage(transforms=[broken, odom_from_camera()]))
    assert moved(transforms) == [0.0, 0.5, 3.0]
    (fault,) = faults.faults()
    assert fault.cause == "tf"
    assert "expected finite numbers and a rotation" in fault.message
    with pytest.raises(TransformError, match=r"known only until 0\.100 s before"):
        moved(transforms, STAMP_NS + 100_000_000)
    transforms.destroy()
    assert not node.callbacks


def test_without_tf2_and_its_messages_there_are_no_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
    transforms = Transforms(Node(), FaultLog(print))  # type: ignore[arg-type]
    assert (transforms.source, transforms.available) == (NONE, False)
    assert node_transforms.tf_message() is None
    with pytest.raises(TransformError, match=r"neither tf2_ros nor tf2_msgs is installed.*give coordinates in 'odom'"):
        moved(transforms)
