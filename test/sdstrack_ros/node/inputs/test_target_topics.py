"""Points of other frames go through the node's transforms."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from geometry_msgs.msg import PointStamped, TransformStamped
from std_msgs.msg import String
from vision_msgs.msg import Detection2D

from sdstrack_ros.messages.camera import PinholeCamera
from sdstrack_ros.messages.transforms import TransformTree
from sdstrack_ros.node.faults import FaultLog
from sdstrack_ros.node.inputs.target_topics import TargetTopics
from sdstrack_ros.tracking.target_requests import PixelRequest

if TYPE_CHECKING:
    from sdstrack_ros.tracking.target_requests import RequestOutcome


def map_to_camera() -> TransformStamped:
    """A quarter turn about z, then a metre forward: (x, y, z) becomes (-y, x, z + 1)."""
    transform = TransformStamped(child_frame_id="map")
    transform.header.frame_id = "camera"
    transform.transform.rotation.z = transform.transform.rotation.w = math.sqrt(0.5)
    transform.transform.translation.z = 1.0
    return transform


def point_in(frame_id: str) -> PointStamped:
    message = PointStamped()
    message.header.frame_id = frame_id
    message.point.x, message.point.z = 0.5, 2.0
    return message


class Topics:
    """The topics of a node whose camera has this calibration."""

    def __init__(self, camera: PinholeCamera) -> None:
        self.requests: list[Any] = []
        self.outcomes: list[RequestOutcome] = []
        tree = TransformTree()
        tree.add(map_to_camera(), 0, fixed=True)
        node = SimpleNamespace(create_subscription=lambda *_, **__: None)
        self.topics = TargetTopics(
            node,  # type: ignore[arg-type]  # it only has to hand out subscriptions
            FaultLog(print),
            lambda: camera,
            tree,  # type: ignore[arg-type]  # looked up as the node's are
            self.requests.append,
            self.outcomes.append,
        )


def test_a_point_of_another_frame_is_taken_to_the_cameras() -> None:
    topics = Topics(PinholeCamera(640, 480, 300.0, 300.0, 320.0, 240.0, frame_id="camera"))
    topics.topics._on_point(point_in("map"))
    topics.topics._on_point(point_in("camera"))
    topics.topics._on_point(point_in(""))
    assert [(request.x, request.y) for request in topics.requests] == [
        pytest.approx((320.0, 290.0)), pytest.approx((395.0, 240.0)), pytest.approx((395.0, 240.0)),
    ]  # fmt: skip


def test_a_point_of_an_unknown_frame_is_refused_with_the_reason() -> None:
    topics = Topics(PinholeCamera(640, 480, 300.0, 300.0, 320.0, 240.0, frame_id="camera"))
    topics.topics._on_point(point_in("odom"))
    assert not topics.requests
    (outcome,) = topics.outcomes
    assert not outcome.accepted
    assert "no transform from 'odom' to 'camera'" in outcome.reason


def test_the_pixel_of_a_point_says_which_size_of_image_it_refers_to() -> None:
    topics = Topics(PinholeCamera(1280, 960, 1000.0, 1000.0, 640.0, 480.0, frame_id="camera"))
    topics.topics._on_point(point_in("camera"))
    assert topics.requests == [PixelRequest("init_point", 890.0, 480.0, (1280, 960))]


def test_an_id_of_megabytes_does_not_wait_for_the_tracking_thread() -> None:
    topics = Topics(PinholeCamera(640, 480, 300.0, 300.0, 320.0, 240.0))
    topics.topics._on_box(Detection2D(id="A" * 10_000_000))
    topics.topics._on_remove(String(data="B" * 10_000_000))
    assert not topics.requests
    assert [outcome.origin for outcome in topics.outcomes] == ["init_box", "remove"]
    for outcome in topics.outcomes:
        assert "has 10000000 characters; expected at most 40" in outcome.reason
        assert len(str(outcome)) < 500
