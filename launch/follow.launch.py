"""Start tracker.launch.py for a robot that follows: colour + depth, poses in a fixed frame; the same arguments.

ros2 launch sdstrack_ros follow.launch.py config:=realsense pose_topic:=/goal_update
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription

# Other defaults than those of tracker.launch.py, which declares and checks these arguments.
DEFAULTS = {
    "target_frame": ("odom", "frame in which the target is followed: one that does not move with the robot"),
    "publish_tf": ("true", "publish the frames of the targets on /tf"),
    "ego_motion": ("tf", "none, image or tf: where the camera's own motion is known from"),
}


def generate_launch_description() -> LaunchDescription:
    """Include tracker.launch.py with other defaults."""
    launch = Path(get_package_share_directory("sdstrack_ros")) / "launch" / "tracker.launch.py"
    defaults = [
        DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in DEFAULTS.items()
    ]
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch)), launch_arguments={"modality": "depth"}.items()
    )
    # In a group, or all of this would stay set for whatever the including file starts next.
    return LaunchDescription([GroupAction([*defaults, include])])
