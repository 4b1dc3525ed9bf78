"""Play a recording through tracker_node, on the recording's clock, from the moment that the node is active.

ros2 launch sdstrack_ros replay.launch.py bag:=recording config:=realsense rviz:=true
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import StateTransition
from rclpy.utilities import get_rmw_implementation_identifier

from launch import LaunchContext, LaunchDescription
from sdstrack_ros.bags.replay_command import check_topics, player_command, recorded_topics
from sdstrack_ros.parameters.launch_arguments import (
    REPLAY_ARGUMENTS,
    image_topics,
    positive,
    profile_environment,
    switch,
    tracker_arguments,
)
from sdstrack_ros.parameters.spec import ParameterError

if TYPE_CHECKING:
    from launch.action import Action


def generate_launch_description() -> LaunchDescription:
    """Include tracker.launch.py with use_sim_time, and play the recording."""
    tracker = Path(get_package_share_directory("sdstrack_ros")) / "launch" / "tracker.launch.py"
    actions = [
        *(
            DeclareLaunchArgument(name, default_value=default, description=text)
            for name, (default, text) in REPLAY_ARGUMENTS.items()
        ),
        # Before the node: an error in these arguments must find nothing running.
        OpaqueFunction(function=play),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(tracker)), launch_arguments={"use_sim_time": "true"}.items()
        ),
    ]
    return LaunchDescription([GroupAction(actions)])


def play(context: LaunchContext) -> list[Action]:
    """Build the player from the values of the arguments, and what starts and ends it.

    Raises:
        ParameterError: an argument cannot be used, or the recording has no topic of the node's; nothing has been
            started.
    """
    value = {name: LaunchConfiguration(name).perform(context) for name in REPLAY_ARGUMENTS}
    if not value["bag"]:
        raise ParameterError("argument 'bag' is empty; expected a rosbag2 folder, .mcap or .db3 file")
    bag = Path(value["bag"]).expanduser()
    rate, delay_s = positive("rate", value["rate"]), positive("delay", value["delay"], zero=True)
    loop = switch("loop", value["loop"])
    share = Path(get_package_share_directory("sdstrack_ros"))
    given = context.launch_configurations
    tracker = tracker_arguments(share, given, given.get("ros_namespace", ""))
    images, recorded, remark = image_topics(tracker.name, tracker.settings), recorded_topics(bag), ""
    # A remapping by the including file (SetRemap) renames the topics; then only the node itself can tell.
    if recorded is not None and "ros_remaps" not in given:
        remark = check_topics(bag, recorded, images)
    awaited = [name for name in images if name in (recorded or ())]
    player = ExecuteProcess(
        cmd=player_command(value["player"], bag, rate, loop, awaited, sdstrack()),
        additional_env=profile_environment(
            share, os.environ, os.environ.get("RMW_IMPLEMENTATION") or get_rmw_implementation_identifier()
        ),
        output="screen",
    )

    def tracker_is_active(event: Any) -> bool:
        return (
            isinstance(event, StateTransition)
            and event.goal_state == "active"
            and event.action.node_name == tracker.name
        )

    def on_end(event: Any, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:
            return []
        if event.returncode == 0:
            return [LogInfo(msg=f"{bag} has been played; {tracker.name} is still running, Ctrl-C ends it")]
        reason = f"{bag} cannot be played: the player ended with status {event.returncode}, see its lines above"
        return [LogInfo(msg=reason), Shutdown(reason=reason)]

    begin = [TimerAction(period=delay_s, actions=[player])] if delay_s else [player]
    return [
        *([LogInfo(msg=remark)] if remark else []),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=on_end)),
        RegisterEventHandler(
            OnStateTransition(
                matcher=tracker_is_active,
                entities=[LogInfo(msg=f"{tracker.name} is active: playing {bag}"), *begin],
                handle_once=True,
            )
        ),
    ]


def sdstrack() -> list[str]:
    """Return how the command is started: by its script, with the python of an active environment, else by ours."""
    try:
        script = Path(get_package_prefix("sdstrack_ros")) / "lib" / "sdstrack_ros" / "sdstrack"
    except (LookupError, OSError):  # no colcon build is sourced
        return [sys.executable, "-m", "sdstrack_ros.cli"]
    return [str(script)]
