"""The outputs that say where targets are in space: `~/target_pose` and its kin, and their frames on /tf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TwistStamped

from sdstrack_ros.node.outputs import pose_messages
from sdstrack_ros.node.outputs.transforms import BROADCAST_QOS, tf_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rclpy.lifecycle import LifecycleNode
    from rclpy.qos import QoSProfile

    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.tracking.target_poses import TargetPose

TARGET_FRAME = "target"


class TargetOutputs:
    """`~/target_pose`, `~/target_pose_cov`, `~/target_twist` of the oldest target, and a frame of every target.

    Attributes:
        tf_refusal: why there are no frames on /tf although they were asked for; '' when there are, or were not.
    """

    def __init__(self, node: LifecycleNode, settings: Settings, qos: QoSProfile) -> None:
        """Create the topics; /tf only when `publish_tf` asks for it."""
        self._node = node
        self._pose = node.create_lifecycle_publisher(PoseStamped, "~/target_pose", qos)
        self._pose_cov = node.create_lifecycle_publisher(PoseWithCovarianceStamped, "~/target_pose_cov", qos)
        self._twist = node.create_lifecycle_publisher(TwistStamped, "~/target_twist", qos)
        self._message = tf_message() if settings.publish_tf else None
        self._tf = None
        if self._message is not None:
            self._tf = node.create_lifecycle_publisher(self._message, "/tf", BROADCAST_QOS)
        missing = settings.publish_tf and self._tf is None
        self.tf_refusal = "publish_tf needs tf2_msgs (apt: ros-$ROS_DISTRO-tf2-msgs)" if missing else ""

    def destroy(self) -> None:
        """Remove the topics; the mirror image of creation."""
        for publisher in (self._tf, self._twist, self._pose_cov, self._pose):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def publish(self, poses: Sequence[TargetPose], oldest: int | None) -> None:
        """Publish the poses of a frame; those of the oldest target on the topics, of all on /tf.

        Args:
            poses: of the targets that have one.
            oldest: number of the oldest target; when it has no pose, the topics are silent rather than of another one.
        """
        for pose in poses:
            if pose.number == oldest:
                self._pose.publish(pose_messages.pose_stamped(pose))
                self._pose_cov.publish(pose_messages.pose_with_covariance(pose))
                self._twist.publish(pose_messages.twist_stamped(pose))
        if self._tf is None or self._message is None or not poses:
            return
        frames = [pose_messages.transform_stamped(p, pose_messages.target_frame_of(p.target_id)) for p in poses]
        frames += [pose_messages.transform_stamped(p, TARGET_FRAME) for p in poses if p.number == oldest]
        self._tf.publish(self._message(transforms=frames))
