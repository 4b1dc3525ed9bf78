"""Points of other frames: through tf2_ros, which has no wheels; a strict stand-in has its documented calls."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PointStamped, Transform
from hypothesis import given
from hypothesis import strategies as st

from sdstrack_ros.messages.camera import PinholeCamera
from sdstrack_ros.node.faults import FaultLog
from sdstrack_ros.node.target_topics import TargetTopics, _transformed, _Transforms
from sdstrack_ros.tracking.target_requests import PixelRequest, TargetError

FINITE = st.floats(-50, 50)
VECTOR = st.tuples(FINITE, FINITE, FINITE)


def transform_of(axis_angle: tuple[float, float, float], shift: tuple[float, float, float]) -> Transform:
    """A transform whose quaternion is written down from the angle, independently of how it is applied."""
    angle = float(np.linalg.norm(axis_angle))
    axis = np.array(axis_angle) / angle if angle > 1e-9 else np.zeros(3)
    result = Transform()
    q = result.rotation
    (q.x, q.y, q.z), q.w = (float(v) for v in axis * np.sin(angle / 2)), float(np.cos(angle / 2))
    result.translation.x, result.translation.y, result.translation.z = shift
    return result


@given(VECTOR, VECTOR, VECTOR)
def test_a_point_is_rotated_and_shifted_as_opencv_does(point: Any, axis_angle: Any, shift: Any) -> None:
    matrix, _ = cv2.Rodrigues(np.array(axis_angle, dtype=np.float64))
    expected = matrix @ np.array(point) + np.array(shift)
    assert _transformed(point, transform_of(axis_angle, shift)) == pytest.approx(expected.tolist(), abs=1e-6)


class Buffer:
    """tf2_ros.Buffer with one transform: from `map` to `camera`, a metre forward."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any) -> Any:
        assert time.nanoseconds == 0, "the newest transform"
        if (target_frame, source_frame) != ("camera", "map"):
            raise sys.modules["tf2_ros"].TransformException(f'"{source_frame}" does not exist')
        return SimpleNamespace(transform=transform_of((0.0, 0.0, 0.0), (0.0, 0.0, 1.0)))


class TransformListener:
    def __init__(self, buffer: Buffer, node: Any) -> None:
        self.registered = True

    def unregister(self) -> None:
        self.registered = False


def point_in(frame_id: str) -> PointStamped:
    message = PointStamped()
    message.header.frame_id = frame_id
    message.point.x, message.point.z = 0.5, 2.0
    return message


def test_other_frames_go_through_tf2_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("tf2_ros")
    known = {
        "Buffer": Buffer,
        "TransformListener": TransformListener,
        "TransformException": type("T", (Exception,), {}),
    }
    for name, thing in known.items():
        setattr(module, name, thing)
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    transforms = _Transforms(SimpleNamespace())  # type: ignore[arg-type]  # the node is only handed on
    assert transforms.in_camera(point_in("map"), "camera") == (0.5, 0.0, 3.0)
    assert transforms.in_camera(point_in("camera"), "camera") == (0.5, 0.0, 2.0)
    with pytest.raises(TargetError, match="no transform from 'odom' to 'camera': \"odom\" does not exist"):
        transforms.in_camera(point_in("odom"), "camera")
    listener = transforms._listener
    transforms.destroy()
    assert not listener.registered


def test_without_tf2_only_the_cameras_own_frame_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    transforms = _Transforms(SimpleNamespace())  # type: ignore[arg-type]  # not touched
    assert transforms.in_camera(point_in(""), "camera") == (0.5, 0.0, 2.0)
    with pytest.raises(TargetError, match=r"the point is in frame 'map'.*tf2_ros is not installed"):
        transforms.in_camera(point_in("map"), "camera")


def test_a_points_pixel_says_which_size_of_image_it_counts_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    camera = PinholeCamera(1280, 960, 1000.0, 1000.0, 640.0, 480.0, frame_id="camera")
    taken: list[Any] = []
    node = SimpleNamespace(create_subscription=lambda *_, **__: None)
    inputs = TargetTopics(node, FaultLog(print), lambda: camera, taken.append, pytest.fail)
    inputs._on_point(point_in("camera"))
    assert taken == [PixelRequest("init_point", 890.0, 480.0, (1280, 960))]
