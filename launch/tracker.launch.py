"""Start tracker_node, configure and activate it, and show its output in RViz.

ros2 launch sdstrack_ros tracker.launch.py config:=realsense rviz:=true
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import DeclareLaunchArgument, EmitEvent, GroupAction, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition
from rclpy.utilities import get_rmw_implementation_identifier

from launch import LaunchContext, LaunchDescription
from sdstrack_ros.parameters.launch_arguments import (
    NODE_NAME,
    OTHER_ARGUMENTS,
    PARAMETER_ARGUMENTS,
    check_argument_names,
    profile_environment,
    rviz_remappings,
    switch,
    topic,
    tracker_arguments,
)
from sdstrack_ros.parameters.spec import ParameterError

if TYPE_CHECKING:
    from launch.action import Action

RESPAWN_DELAY_S = 1.0


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; everything that depends on their values is built in `start`."""
    arguments = [
        *(
            DeclareLaunchArgument(name, default_value="", description=text)
            for name, text in PARAMETER_ARGUMENTS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value=default, description=text)
            for name, (default, text) in OTHER_ARGUMENTS.items()
        ),
    ]
    # Without the group, our arguments and their defaults would stay set for whatever the including file starts next.
    return LaunchDescription([GroupAction([*arguments, OpaqueFunction(function=start)])])


def start(context: LaunchContext) -> list[Action]:
    """Build the node, its transitions and RViz from the values of the arguments.

    Raises:
        ParameterError: an argument or the config file cannot be used; nothing has been started.
    """
    share = Path(get_package_share_directory("sdstrack_ros"))
    check_argument_names(sys.argv, share / "launch")
    value = {name: LaunchConfiguration(name).perform(context) for name in (*PARAMETER_ARGUMENTS, *OTHER_ARGUMENTS)}
    tracker = tracker_arguments(share, value, context.launch_configurations.get("ros_namespace", ""))
    lifecycle, respawn, rviz, sim_time = (
        switch(name, value[name]) for name in ("lifecycle", "respawn", "rviz", "use_sim_time")
    )
    itself = starts_itself(value["autostart"], lifecycle, respawn, tracker.settings)
    pose_topic = topic("pose_topic", value["pose_topic"])
    overrides = {**tracker.overrides, **({"autostart": itself} if value["autostart"] or respawn else {})}
    if rviz:
        check_rviz()
    environment = profile_environment(
        share, os.environ, os.environ.get("RMW_IMPLEMENTATION") or get_rmw_implementation_identifier()
    )
    node = LifecycleNode(
        package="sdstrack_ros",
        executable="tracker_node",
        name=NODE_NAME,
        namespace=value["namespace"].rstrip("/") or value["namespace"],
        parameters=[str(tracker.config), {**launch_parameters(overrides), "use_sim_time": sim_time}],
        remappings=[("~/target_pose", pose_topic)] if pose_topic else [],
        additional_env=environment,
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY_S,
        output="screen",
    )
    actions = [*(lifecycle_transitions(node) if lifecycle and not itself else []), node]
    if rviz:
        fixed = value["fixed_frame"] or tracker.settings.get("target_frame", "")
        frame = ["-f", fixed] if fixed else []
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz2",
                arguments=["-d", str(share / "config" / "sdstrack.rviz"), *frame],
                parameters=[{"use_sim_time": sim_time}],
                remappings=rviz_remappings(tracker.name, tracker.settings),
                additional_env=environment,
            )
        )
    return actions


def check_rviz() -> None:
    """Look for RViz now: launch would find out after it has started the node, and leave that behind.

    Raises:
        ParameterError: it is not installed.
    """
    try:
        get_package_share_directory("rviz2")
    except PackageNotFoundError as error:
        raise ParameterError(
            "rviz:=true needs the package rviz2, which is not installed (apt: ros-$ROS_DISTRO-rviz2)"
        ) from error


def launch_parameters(values: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as launch_ros takes them; a text without a type may become a number there."""

    def converted(value: Any) -> Any:
        if isinstance(value, str):
            return ParameterValue(value, value_type=str)
        return list(value) if isinstance(value, tuple) else value

    return {name: converted(value) for name, value in values.items()}


def starts_itself(autostart: str, lifecycle: bool, respawn: bool, settings: dict[str, Any]) -> bool:
    """Whether the node configures and activates itself.

    A restarted node has to: launch would send its request to the process that has died.

    Raises:
        ParameterError: the arguments contradict each other.
    """
    if not autostart:
        return (respawn and lifecycle) or settings.get("autostart") is True
    itself = switch("autostart", autostart)
    if itself and not lifecycle:
        raise ParameterError("autostart:=true contradicts lifecycle:=false: the node or a lifecycle manager, not both")
    if respawn and lifecycle and not itself:
        raise ParameterError("respawn:=true needs autostart:=true, or lifecycle:=false and a lifecycle manager")
    return itself


def lifecycle_transitions(node: LifecycleNode) -> list[Action]:
    """Configure the node when its process has started, and activate it when that configure has succeeded.

    Only then: whoever configures the node later, after a failure or a cleanup, wants to find it inactive.
    """

    def request(transition: int) -> Action:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    def activate(context: LaunchContext) -> list[Action]:
        configured = context.locals.event.goal_state == "inactive"
        return [request(Transition.TRANSITION_ACTIVATE)] if configured else []

    return [
        RegisterEventHandler(OnProcessStart(target_action=node, on_start=[request(Transition.TRANSITION_CONFIGURE)])),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                entities=[OpaqueFunction(function=activate)],
                handle_once=True,
            )
        ),
    ]
