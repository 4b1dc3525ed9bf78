"""Play a recording through tracker_node, on the recording's clock.

ros2 launch sdstrack_ros replay.launch.py bag:=recording config:=realsense rviz:=true
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    TimerAction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from rclpy.utilities import get_rmw_implementation_identifier

from launch import LaunchContext, LaunchDescription
from sdstrack_ros.parameters.launch_arguments import positive, profile_environment, switch

if TYPE_CHECKING:
    from launch.action import Action

CLOCK_HZ = "100"


def generate_launch_description() -> LaunchDescription:
    """Include tracker.launch.py with use_sim_time, and play the recording."""
    launch = Path(get_package_share_directory("sdstrack_ros")) / "launch" / "tracker.launch.py"
    actions = [
        DeclareLaunchArgument("bag", description="recording: rosbag2 folder or file"),
        DeclareLaunchArgument("rate", default_value="1.0", description="playback speed; 2 is twice as fast"),
        DeclareLaunchArgument("loop", default_value="false", description="start again at the end"),
        DeclareLaunchArgument(
            "delay", default_value="5.0", description="seconds to wait for the node to load its model"
        ),
        # Before the node: an error in these arguments must find nothing running.
        OpaqueFunction(function=play),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(launch)), launch_arguments={"use_sim_time": "true"}.items()
        ),
    ]
    return LaunchDescription([GroupAction(actions)])


def play(context: LaunchContext) -> list[Action]:
    """Build the player's command line from the values of the arguments.

    Raises:
        ParameterError: an argument cannot be used; nothing has been started.
    """
    value = {name: LaunchConfiguration(name).perform(context) for name in ("bag", "rate", "loop", "delay")}
    rate, delay_s = positive("rate", value["rate"]), positive("delay", value["delay"], zero=True)
    command = ["ros2", "bag", "play", value["bag"], "--clock", CLOCK_HZ, "--rate", str(rate)]
    if switch("loop", value["loop"]):
        command.append("--loop")
    environment = profile_environment(
        Path(get_package_share_directory("sdstrack_ros")),
        os.environ,
        os.environ.get("RMW_IMPLEMENTATION") or get_rmw_implementation_identifier(),
    )
    player = ExecuteProcess(cmd=command, additional_env=environment, output="screen")
    return [TimerAction(period=delay_s, actions=[player])]
