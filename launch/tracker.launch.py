"""Start tracker_node, configure and activate it, and show its output in RViz.

ros2 launch sdstrack_ros tracker.launch.py config:=realsense rviz:=true
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription

if TYPE_CHECKING:
    from launch.action import Action

CONFIG_OF_MODALITY = {"depth": "rgbd", "thermal": "rgbt", "event": "rgbe"}
# Arguments that are not empty become parameters of the same name, and override the config file.
PARAMETER_ARGUMENTS = {
    "modality": "auxiliary camera: depth, thermal or event; empty: as in the config file",
    "model": "network, for example sdstrack_m256",
    "weights": "weights file; empty: the one shipped with the model",
    "device": "device of the network: auto, cpu, cuda, ...",
    "rgb_topic": "topic of the colour images",
    "aux_topic": "topic of the depth, thermal or event images",
    "events_topic": "topic of the event packets",
    "camera_info_topic": "topic of the colour camera's calibration",
    "transport": "raw or compressed",
}
# Humble and Jazzy read the first, Kilted and later the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; everything that depends on their values is built in `start`."""
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=text) for name, text in PARAMETER_ARGUMENTS.items()
    ]
    return LaunchDescription(
        [
            *arguments,
            DeclareLaunchArgument(
                "config",
                default_value="",
                description="parameter file: a path, or the name of one in this package's config/",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
            DeclareLaunchArgument("lifecycle", default_value="true", description="configure and activate the node"),
            DeclareLaunchArgument("rviz", default_value="false", description="start RViz"),
            DeclareLaunchArgument(
                "fixed_frame", default_value="", description="fixed frame of RViz; empty: camera_color_optical_frame"
            ),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[Action]:
    """Build the node, its transitions, RViz and the Fast DDS profile from the values of the arguments."""
    share = Path(get_package_share_directory("sdstrack_ros"))
    arguments = {name: LaunchConfiguration(name).perform(context) for name in PARAMETER_ARGUMENTS}
    overrides = {name: value for name, value in arguments.items() if value}
    # The node declares all of them as strings, even if the text looks like a number.
    parameters: dict[str, Any] = {name: ParameterValue(value, value_type=str) for name, value in overrides.items()}
    sim_time = is_true(LaunchConfiguration("use_sim_time").perform(context))
    parameters["use_sim_time"] = sim_time
    config = config_file(share, LaunchConfiguration("config").perform(context), arguments["modality"])
    namespace, frame = (LaunchConfiguration(name).perform(context) for name in ("namespace", "fixed_frame"))
    node = LifecycleNode(
        package="sdstrack_ros",
        executable="tracker_node",
        name="tracker",
        namespace=namespace,
        parameters=[str(config), parameters],
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["-d", str(share / "config" / "sdstrack.rviz"), *(["-f", frame] if frame else [])],
        parameters=[{"use_sim_time": sim_time}],
        remappings=rviz_remappings(namespace, settings_in(config) | overrides),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    transitions = lifecycle_transitions(node) if is_true(LaunchConfiguration("lifecycle").perform(context)) else []
    return [*profile_variables(share), *transitions, node, rviz]


def config_file(share: Path, config: str, modality: str) -> Path:
    """Return the parameter file: by path or name, else the one of the modality (empty: depth).

    Args:
        share: the package's share folder.
        config: path of a parameter file, or the name of one in config/, with or without .yaml; may be empty.
        modality: depth, thermal, event, or empty.

    Raises:
        FileNotFoundError: there is no such file; the message lists the shipped names.
    """
    name = config or CONFIG_OF_MODALITY.get(modality, "rgbd")
    shipped = share / "config" / f"{name.removesuffix('.yaml')}.yaml"
    path = shipped if shipped.is_file() else Path(name).expanduser()
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in (share / "config").glob("*.yaml")))
        raise FileNotFoundError(f"config '{config}' is neither a file nor one of: {names}")
    return path


def settings_in(config: Path) -> dict[str, Any]:
    """Return the parameters that a parameter file sets."""
    sections = yaml.safe_load(config.read_text()) or {}
    return {name: value for section in sections.values() for name, value in section["ros__parameters"].items()}


def rviz_remappings(namespace: str, settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Map the topic names in sdstrack.rviz, and those that RViz derives from them, to the topics in use."""
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""

    def resolved(parameter: str, default: str) -> str:
        name = settings.get(parameter) or default
        return name if name.startswith("/") else f"{prefix}/{name}"

    calibration = resolved("camera_info_topic", "camera_info")
    names = [(f"/tracker/{name}", f"{prefix}/tracker/{name}") for name in ("overlay", "markers", "init_point")]
    names += [("/rgb/image_raw", resolved("rgb_topic", "rgb/image_raw")), ("/rgb/camera_info", calibration)]
    if settings.get("modality", "depth") == "depth":  # depth is registered to colour, so it shares its calibration
        names += [("/aux/image_raw", resolved("aux_topic", "aux/image_raw")), ("/aux/camera_info", calibration)]
    return names


def lifecycle_transitions(node: LifecycleNode) -> list[Action]:
    """Configure the node when its process has started, and activate it when it is configured."""
    configure = EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_CONFIGURE)
    )
    activate = EmitEvent(
        event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_ACTIVATE)
    )
    return [
        RegisterEventHandler(OnProcessStart(target_action=node, on_start=[configure])),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node, start_state="configuring", goal_state="inactive", entities=[activate]
            )
        ),
    ]


def profile_variables(share: Path) -> list[Action]:
    """Point Fast DDS to the profile for images, unless the user has set one."""
    if any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return []
    profile = str(share / "config" / "fastdds.xml")
    return [SetEnvironmentVariable(name, profile) for name in PROFILE_VARIABLES]


def is_true(text: str) -> bool:
    """Whether the text of an argument means yes."""
    return text.strip().lower() in {"true", "1", "yes", "on"}
