"""Points of other frames go through tf2, which has no wheels: a stand-in has its documented calls, and where tf2 is
installed the real one is asked.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from geometry_msgs.msg import PointStamped, TransformStamped

from sdstrack_ros.messages.camera import PinholeCamera
from sdstrack_ros.node.faults import FaultLog
from sdstrack_ros.node.target_topics import TargetTopics, _Transforms
from sdstrack_ros.tracking.target_requests import PixelRequest, TargetError

if TYPE_CHECKING:
    from testkit.ros_camera import RosTest

HAVE_TF2 = all(importlib.util.find_spec(name) is not None for name in ("tf2_ros", "tf2_geometry_msgs"))


def map_to_camera() -> TransformStamped:
    """A quarter turn about z, then a metre forward: (x, y, z) becomes (-y, x, z + 1)."""
    transform = TransformStamped(child_frame_id="map")
    transform.header.frame_id = "camera"
    transform.transform.rotation.z = transform.transform.rotation.w = math.sqrt(0.5)
    transform.transform.translation.z = 1.0
    return transform


class Buffer:
    """tf2_ros.Buffer that knows `map_to_camera` only."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any) -> TransformStamped:
        assert time.nanoseconds == 0, "the newest transform"
        if (target_frame, source_frame) != ("camera", "map"):
            raise sys.modules["tf2_ros"].TransformException(f'"{source_frame}" does not exist')
        return map_to_camera()


class TransformListener:
    def __init__(self, buffer: Buffer, node: Any) -> None:
        self.registered = True

    def unregister(self) -> None:
        self.registered = False


def do_transform_point(point: PointStamped, transform: TransformStamped) -> PointStamped:
    """Stand-in for the one transform of this test."""
    assert transform == map_to_camera()
    moved = PointStamped(header=transform.header)
    moved.point.x, moved.point.y, moved.point.z = -point.point.y, point.point.x, point.point.z + 1.0
    return moved


def point_in(frame_id: str) -> PointStamped:
    message = PointStamped()
    message.header.frame_id = frame_id
    message.point.x, message.point.z = 0.5, 2.0
    return message


def test_points_of_other_frames_go_through_tf2(monkeypatch: pytest.MonkeyPatch) -> None:
    ros, geometry = types.ModuleType("tf2_ros"), types.ModuleType("tf2_geometry_msgs")
    ros.Buffer, ros.TransformListener = Buffer, TransformListener  # type: ignore[attr-defined]  # built here
    ros.TransformException = type("TransformException", (Exception,), {})  # type: ignore[attr-defined]
    geometry.do_transform_point = do_transform_point  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tf2_ros", ros)
    monkeypatch.setitem(sys.modules, "tf2_geometry_msgs", geometry)
    transforms = _Transforms(SimpleNamespace())  # type: ignore[arg-type]  # the node is only handed on
    assert transforms.in_camera(point_in("map"), "camera") == (0.0, 0.5, 3.0)
    assert transforms.in_camera(point_in("camera"), "camera") == (0.5, 0.0, 2.0)
    with pytest.raises(TargetError, match="no transform from 'odom' to 'camera': \"odom\" does not exist"):
        transforms.in_camera(point_in("odom"), "camera")
    listener = transforms._listener
    transforms.destroy()
    assert not listener.registered


@pytest.mark.skipif(not HAVE_TF2, reason="tf2_ros and tf2_geometry_msgs are not installed here")
def test_the_installed_tf2_turns_and_shifts_points(ros: RosTest) -> None:
    transforms = _Transforms(ros.node)
    transforms._buffer.set_transform(map_to_camera(), "test")
    assert transforms.in_camera(point_in("map"), "camera") == pytest.approx((0.0, 0.5, 3.0))
    transforms.destroy()


@pytest.mark.parametrize("absent", ["tf2_ros", "tf2_geometry_msgs"])
def test_without_tf2_only_points_of_the_cameras_own_frame_are_accepted(
    monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    transforms = _Transforms(SimpleNamespace())  # type: ignore[arg-type]  # not touched
    assert transforms.in_camera(point_in(""), "camera") == (0.5, 0.0, 2.0)
    with pytest.raises(TargetError, match=r"the point is in frame 'map'.*tf2_geometry_msgs are not installed"):
        transforms.in_camera(point_in("map"), "camera")


def test_the_pixel_of_a_point_says_which_size_of_image_it_refers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    camera = PinholeCamera(1280, 960, 1000.0, 1000.0, 640.0, 480.0, frame_id="camera")
    requests: list[Any] = []
    node = SimpleNamespace(create_subscription=lambda *_, **__: None)
    topics = TargetTopics(node, FaultLog(print), lambda: camera, requests.append, pytest.fail)
    topics._on_point(point_in("camera"))
    assert requests == [PixelRequest("init_point", 890.0, 480.0, (1280, 960))]
