"""Every field of what is said of a target in space; tf2's own buffer reads the frames where it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovariance,
    PoseWithCovarianceStamped,
    Quaternion,
    Transform,
    TransformStamped,
    Twist,
    TwistStamped,
    Vector3,
)
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from ckd_core.tracking.result import TrackState
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.messages.transforms import TransformTree
from sdstrack_ros.node.outputs import pose_messages
from sdstrack_ros.tracking.target_filter import Estimate
from sdstrack_ros.tracking.target_poses import TargetPose

pytestmark = pytest.mark.ros

STAMP_NS = 1_700_000_000_250_000_001
HEADER = Header(stamp=Time(sec=1_700_000_000, nanosec=250_000_001), frame_id="odom")
UPRIGHT = Quaternion(x=0.0, y=0.0, z=0.0, w=1.0)
COVARIANCE = np.diag((0.01, 0.02, 0.03, 0.1, 0.2, 0.3)) + 0.001
POSE = TargetPose(
    number=3,
    target_id="hall/anna",
    state=TrackState.TRACKING,
    frame_id="odom",
    stamp_ns=STAMP_NS,
    estimate=Estimate(STAMP_NS / NS_PER_S, STAMP_NS / NS_PER_S, np.array((1.0, -2.0, 0.5, 0.3, -0.2, 0.1)), COVARIANCE),
)


def test_every_field_of_the_pose() -> None:
    expected = PoseStamped(header=HEADER, pose=Pose(position=Point(x=1.0, y=-2.0, z=0.5), orientation=UPRIGHT))
    assert pose_messages.pose_stamped(POSE) == expected


def test_every_field_of_the_pose_with_covariance() -> None:
    angles = np.pi**2 * np.eye(3)
    block = np.block([[COVARIANCE[:3, :3], np.zeros((3, 3))], [np.zeros((3, 3)), angles]])
    pose = PoseWithCovariance(pose=pose_messages.pose_stamped(POSE).pose, covariance=block.ravel())
    message = pose_messages.pose_with_covariance(POSE)
    assert message.header == HEADER
    assert message.pose.pose == pose.pose
    np.testing.assert_array_equal(message.pose.covariance, pose.covariance)
    assert message.get_fields_and_field_types() == PoseWithCovarianceStamped.get_fields_and_field_types()


def test_every_field_of_the_twist() -> None:
    twist = Twist(linear=Vector3(x=0.3, y=-0.2, z=0.1), angular=Vector3(x=0.0, y=0.0, z=0.0))
    assert pose_messages.twist_stamped(POSE) == TwistStamped(header=HEADER, twist=twist)


def frame() -> TransformStamped:
    return pose_messages.transform_stamped(POSE, pose_messages.target_frame_of(POSE.target_id))


def test_every_field_of_the_frame_on_tf_and_after_the_wire() -> None:
    from tf2_msgs.msg import TFMessage

    place = Transform(translation=Vector3(x=1.0, y=-2.0, z=0.5), rotation=UPRIGHT)
    expected = TransformStamped(header=HEADER, child_frame_id="target_hall_anna", transform=place)
    assert frame() == expected
    received = deserialize_message(serialize_message(TFMessage(transforms=[frame()])), TFMessage)
    assert received == TFMessage(transforms=[expected])
    tree = TransformTree()
    tree.add(received.transforms[0], 0)
    seen = tree.lookup("odom", "target_hall_anna", STAMP_NS)
    np.testing.assert_array_equal(seen.translation, (1.0, -2.0, 0.5))
    np.testing.assert_array_equal(seen.rotation, np.eye(3))


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is None, reason="tf2_ros is not installed here")
def test_tf2s_own_buffer_gives_the_frame_back_at_its_stamp_alone() -> None:
    import tf2_ros
    from rclpy.time import Time as RclpyTime

    buffer: Any = tf2_ros.Buffer()
    buffer.set_transform(frame(), "test")
    found = buffer.lookup_transform("odom", "target_hall_anna", RclpyTime(nanoseconds=STAMP_NS))
    assert (found.header.frame_id, found.child_frame_id) == ("odom", "target_hall_anna")
    assert found.header.stamp == HEADER.stamp
    assert found.transform == frame().transform
    with pytest.raises(tf2_ros.TransformException):
        buffer.lookup_transform("odom", "target_hall_anna", RclpyTime(nanoseconds=STAMP_NS + NS_PER_S))
