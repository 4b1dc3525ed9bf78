"""Play a recording through tracker_node, on the recording's clock.

ros2 launch sdstrack_ros replay.launch.py bag:=recording config:=realsense rviz:=true
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction, TimerAction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext, LaunchDescription

if TYPE_CHECKING:
    from launch.action import Action

CLOCK_HZ = "100"


def generate_launch_description() -> LaunchDescription:
    """Include tracker.launch.py with use_sim_time, and play the recording."""
    launch = Path(get_package_share_directory("sdstrack_ros")) / "launch" / "tracker.launch.py"
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="recording: rosbag2 folder or file"),
            DeclareLaunchArgument("rate", default_value="1.0", description="playback speed; 2 is twice as fast"),
            DeclareLaunchArgument("loop", default_value="false", description="start again at the end"),
            DeclareLaunchArgument(
                "delay", default_value="5.0", description="seconds to wait for the node to load its model"
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(launch)), launch_arguments={"use_sim_time": "true"}.items()
            ),
            OpaqueFunction(function=play),
        ]
    )


def play(context: LaunchContext) -> list[Action]:
    """Build the player's command line from the values of the arguments."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ("bag", "rate", "loop", "delay")}
    command = ["ros2", "bag", "play", value["bag"], "--clock", CLOCK_HZ, "--rate", value["rate"]]
    if value["loop"].strip().lower() in {"true", "1", "yes", "on"}:
        command.append("--loop")
    return [TimerAction(period=float(value["delay"]), actions=[ExecuteProcess(cmd=command, output="screen")])]
