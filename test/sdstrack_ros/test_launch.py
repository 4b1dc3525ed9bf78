"""The launch files, alone and inside a bringup. Each case runs on launch itself, too, where that is installed."""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from lifecycle_msgs.msg import Transition

from sdstrack_ros.parameters.launch_arguments import PROFILE_VARIABLES
from sdstrack_ros.parameters.spec import ParameterError
from sdstrack_ros.parameters.table import TABLE, settings_from_yaml
from testkit.launch.stand_in import fake_launch
from testkit.launch.system import LaunchSystem, launch_system

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
LAUNCH = ROOT / "launch"
TRACKER = LAUNCH / "tracker.launch.py"
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
YES, NO = ("true", "True", "yes", "on", "1"), ("false", "no", "OFF", "0")


@pytest.fixture(params=["stand-in", "launch"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LaunchSystem]:
    for name in (*PROFILE_VARIABLES, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("ament_index_python.packages.get_package_share_directory", lambda package: str(ROOT))
    if request.param == "stand-in":
        with fake_launch():
            yield launch_system(monkeypatch)
        return
    for module in ("launch.actions", "launch_ros"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(
                f"{module.partition('.')[0]} is not installed: it has no wheels, only ROS distributions have it"
            )
    yield launch_system(monkeypatch)


def recording(folder: Path, **topics: str) -> Path:
    """A recording as far as launch looks at it: topics (with _ for /) and their types."""
    folder.mkdir()
    entries = [
        {
            "topic_metadata": {"name": f"/{name.replace('__', '/')}", "type": f"sensor_msgs/msg/{kind}"},
            "message_count": 9,
        }
        for name, kind in topics.items()
    ]
    about = {"relative_file_paths": [f"{folder.name}.mcap"], "topics_with_message_count": entries}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": about}))
    return folder


@pytest.fixture
def walk(tmp_path: Path) -> str:
    """A recording under the names of the default config."""
    return str(recording(tmp_path / "walk", rgb__image_raw="Image", aux__image_raw="Image", imu="Imu"))


def test_arguments_become_parameters_and_the_config_keeps_the_rest(system: LaunchSystem) -> None:
    arguments = {"config": "realsense", "model": "1", "namespace": "arm", "use_sim_time": "true", "init_box": "2,1,6,8"}
    system.include(TRACKER, arguments)
    node = system.tracker
    assert node.name == "/arm/tracker"
    assert node.parameter_files[0] == ROOT / "config" / "realsense.yaml"
    assert node.overrides == {"model": "1", "use_sim_time": True, "init_box": [2.0, 1.0, 6.0, 8.0]}
    assert not node.respawn


def test_every_argument_that_becomes_a_parameter_is_in_the_table(system: LaunchSystem) -> None:
    own = {"config", "namespace", "lifecycle", "respawn", "pose_topic", "rviz", "fixed_frame", "use_sim_time"}
    assert set(system.declared(TRACKER)) - own <= set(TABLE)


@pytest.mark.parametrize(
    ("name", "modality"), [("rgbd", "depth"), ("rgbt", "thermal"), ("rgbe", "event")], ids=lambda value: value
)
def test_modality_launch_files_choose_modality_and_config(system: LaunchSystem, name: str, modality: str) -> None:
    path = LAUNCH / f"{name}.launch.py"
    assert system.declared(path) == system.declared(TRACKER)
    system.include(path, {"device": "cpu", "sync_policy": "exact"})
    node = system.tracker
    assert node.parameter_files[0].stem == name
    assert node.overrides == {"modality": modality, "device": "cpu", "sync_policy": "exact", "use_sim_time": False}
    assert settings_from_yaml(node.parameter_files[0]).modality == modality


def test_a_robot_that_follows_gets_poses_in_a_fixed_frame(system: LaunchSystem) -> None:
    path = LAUNCH / "follow.launch.py"
    assert set(system.declared(path)) == set(system.declared(TRACKER))
    system.include(path, {"config": "realsense", "pose_topic": "/goal_update"})
    node = system.tracker
    assert node.parameter_files[0].stem == "realsense"
    following = {"modality": "depth", "target_frame": "odom", "publish_tf": True, "ego_motion": "tf"}
    assert node.overrides == {**following, "use_sim_time": False}
    assert node.remappings["~/target_pose"] == "/goal_update"
    system.include(path, {"rviz": "true"})
    (rviz,) = system.of("rviz2")
    assert rviz.words[rviz.words.index("-f") + 1] == "odom", "the frame in which the target is followed"


def test_what_a_robot_that_follows_does_can_be_changed(system: LaunchSystem) -> None:
    system.include(LAUNCH / "follow.launch.py", {"target_frame": "map", "publish_tf": "no", "bond": "yes"})
    overrides = system.tracker.overrides
    assert (overrides["target_frame"], overrides["publish_tf"], overrides["bond"]) == ("map", False, True)
    assert "~/target_pose" not in system.tracker.remappings


# Inside a bringup


def test_nothing_leaks_into_the_including_file(system: LaunchSystem, walk: str) -> None:
    from launch.actions import DeclareLaunchArgument, ExecuteProcess

    system.context.launch_configurations["map"] = "hall"
    robot_model = DeclareLaunchArgument("model", default_value="lite", choices=["standard", "lite"])
    for name in ("tracker", "rgbd", "rgbt", "rgbe", "follow"):
        system.visit(system.inclusion(LAUNCH / f"{name}.launch.py", {}))
        assert dict(system.context.launch_configurations) == {"map": "hall"}
    system.visit(system.inclusion(LAUNCH / "replay.launch.py", {"bag": walk}))
    assert dict(system.context.launch_configurations) == {"map": "hall", "bag": walk}
    system.visit(robot_model, ExecuteProcess(cmd=["camera"]))
    assert system.context.launch_configurations["model"] == "lite"
    assert not set(PROFILE_VARIABLES) & set(system.processes[-1].environment)
    assert all(set(PROFILE_VARIABLES) <= set(node.environment) for node in system.of("tracker_node"))


def test_two_trackers_of_one_bringup_keep_their_own_topics_and_parameters(system: LaunchSystem) -> None:
    from launch.actions import GroupAction

    front = {"namespace": "front", "config": "realsense", "rgb_topic": "/front/color", "aux_topic": "/front/depth"}
    front |= {"init_box": "2,1,6,8", "autostart": "true", "transport": "compressed"}
    rear = {"namespace": "rear"}
    system.visit(
        GroupAction([system.inclusion(LAUNCH / "rgbd.launch.py", front)]),
        GroupAction([system.inclusion(LAUNCH / "rgbt.launch.py", rear)]),
    )
    first, second = system.of("tracker_node")
    assert (first.name, second.name) == ("/front/tracker", "/rear/tracker")
    assert first.overrides["rgb_topic"] == "/front/color"
    assert second.parameter_files[0].stem == "rgbt"
    assert second.overrides == {"modality": "thermal", "use_sim_time": False}


def test_a_config_that_an_earlier_include_has_left_set_is_refused_before_a_process_starts(system: LaunchSystem) -> None:
    system.visit(system.inclusion(LAUNCH / "rgbd.launch.py", {"namespace": "front", "config": "realsense"}))
    with pytest.raises(ParameterError, match=r"'thermal' contradicts config .*realsense.yaml, which is for 'depth'"):
        system.visit(system.inclusion(LAUNCH / "rgbt.launch.py", {"namespace": "rear"}))
    assert len(system.processes) == 1


def test_arguments_of_the_bringup_stay_out_of_a_group_that_forwards_none(system: LaunchSystem) -> None:
    from launch.actions import GroupAction

    system.context.launch_configurations.update(device="/dev/video0", model="ur5e", rviz="true")
    tracker = system.inclusion(LAUNCH / "rgbd.launch.py", {"namespace": "front"})
    system.visit(GroupAction([tracker], forwarding=False))
    assert system.tracker.overrides == {"modality": "depth", "use_sim_time": False}
    assert system.processes == [system.tracker]
    assert system.context.launch_configurations["device"] == "/dev/video0"
    with pytest.raises(ParameterError, match="argument 'device' cannot be '/dev/video0'"):
        system.visit(tracker)


def test_the_bringup_in_the_documentation_does_what_it_says(system: LaunchSystem, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "robots.md").read_text(), re.DOTALL)
    bringup = tmp_path / "bringup.launch.py"
    bringup.write_text(code)
    system.include(bringup, {})
    front, rear = system.of("tracker_node")
    assert (front.name, front.parameter_files[0].stem, front.overrides["modality"]) == (
        "/front/tracker",
        "realsense",
        "depth",
    )
    assert (rear.name, rear.parameter_files[0].stem, rear.overrides["modality"]) == (
        "/rear/tracker",
        "flir_rgbt",
        "thermal",
    )


@pytest.mark.parametrize("name", ["lifecycle", "respawn", "rviz", "use_sim_time"])
def test_switches_take_every_usual_word(system: LaunchSystem, name: str) -> None:
    def outcome(text: str) -> tuple[Any, ...]:
        system.processes.clear()
        system.include(TRACKER, {name: text})
        process = system.tracker
        return (len(system.processes), process.respawn, process.overrides, bool(system.process_started(process)))

    yes, no = outcome("true"), outcome("false")
    assert yes != no
    assert [outcome(text) for text in YES] == [yes] * len(YES)
    assert [outcome(text) for text in NO] == [no] * len(NO)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"rviz": "maybe"}, "argument 'rviz' cannot be 'maybe'; expected one of true, yes"),
        ({"lifecycle": ""}, "argument 'lifecycle' cannot be ''"),
        ({"respawn": "2"}, "argument 'respawn' cannot be '2'"),
        ({"use_sim_time": "sim"}, "argument 'use_sim_time'"),
        ({"autostart": "later"}, "argument 'autostart'"),
        ({"autostart": "true", "lifecycle": "false"}, "autostart:=true contradicts lifecycle:=false"),
        ({"autostart": "false", "respawn": "true"}, "respawn:=true needs autostart:=true"),
        ({"modality": "radar"}, "'modality' cannot be 'radar': expected string, depth, thermal, event"),
        ({"sync_policy": "loose"}, "'sync_policy' cannot be 'loose'"),
        ({"transport": "zip"}, "'transport' cannot be 'zip'"),
        ({"init_box": "200,150,60"}, "argument 'init_box' cannot be '200,150,60'; expected x,y,width,height"),
        ({"init_box": "200,150,0,80"}, "argument 'init_box' cannot be '200,150,0,80'"),
        ({"init_box": "nan,150,60,80"}, "'init_box' cannot be"),
        ({"namespace": "robot 1"}, "argument 'namespace' cannot be 'robot 1'; expected names like"),
        ({"namespace": "a//b"}, "argument 'namespace' cannot be 'a//b'"),
        ({"namespace": "~/a"}, "argument 'namespace' cannot be '~/a'"),
        ({"namespace": "1st"}, "argument 'namespace' cannot be '1st'"),
        ({"config": "realsens"}, "config 'realsens' is neither a file nor one of: .*realsense"),
        ({"config": "flir_rgbt", "modality": "depth"}, "which is for 'thermal'"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_before_a_process_starts(
    system: LaunchSystem, arguments: dict[str, str], reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        system.include(TRACKER, arguments)
    assert not system.processes


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["sdstrack_ros", "tracker.launch.py", "confg:=zed"],
            "unknown argument 'confg' of tracker.launch.py; did you mean 'config'",
        ),
        (["sdstrack_ros", "rgbd.launch.py", "bag:=walk"], "unknown argument 'bag' of rgbd.launch.py; "),
        ([str(TRACKER), "camera:=zed"], "unknown argument 'camera' of tracker.launch.py; --show-args lists them"),
        (["sdstrack_ros", "rgbd.launch.py", "config:=zed", "sigterm_timeout:=9"], ""),
        (["my_robot", "bringup.launch.py", "confg:=zed"], ""),
        (["my_robot", "tracker.launch.py", "confg:=zed"], ""),
    ],
)
def test_an_argument_that_no_file_has_is_refused_on_our_own_command_line(
    system: LaunchSystem, monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", *words])
    if reason:
        with pytest.raises(ParameterError, match=reason):
            system.include(TRACKER, {})
        assert not system.processes
    else:
        system.include(TRACKER, {})


@pytest.mark.parametrize("config", ["realsense", "realsense.yaml", str(ROOT / "config" / "realsense.yaml")])
def test_a_config_is_named_with_or_without_its_ending_or_by_path(system: LaunchSystem, config: str) -> None:
    system.include(LAUNCH / "rgbd.launch.py", {"config": config})
    assert system.tracker.parameter_files[0] == ROOT / "config" / "realsense.yaml"


# Names


@pytest.mark.parametrize(
    "text",
    [
        "robot1: {tracker: {ros__parameters: {rgb_topic: cam}}}",
        "/robot1/tracker: {ros__parameters: {rgb_topic: cam}}",
        "/**/tracker: {ros__parameters: {rgb_topic: cam}}",
        "/**: {tracker: {ros__parameters: {rgb_topic: cam}}}",
        "/*/tracker: {ros__parameters: {rgb_topic: cam}}",
        "/**: {ros__parameters: {rgb_topic: nowhere}}\nrobot1: {tracker: {ros__parameters: {rgb_topic: cam}}}",
        "tracker: {ros__parameters: {rgb_topic: other}}\nrobot1/tracker: {ros__parameters: {rgb_topic: cam}}",
    ],
)
def test_parameter_files_may_nest_namespaces(system: LaunchSystem, tmp_path: Path, text: str) -> None:
    config = tmp_path / "robots.yaml"
    config.write_text(text)
    system.include(TRACKER, {"config": str(config), "namespace": "robot1/", "rviz": "true"})
    assert system.tracker.name == "/robot1/tracker"
    assert system.of("rviz2")[0].remappings["/rgb/image_raw"] == "/robot1/cam"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/robot2/tracker: {ros__parameters: {}}", "has parameters for /robot2/tracker; expected some for /tracker"),
        ("camera: {driver: {ros__parameters: {}}}", "has parameters for /camera/driver; expected"),
        ("/*/tracker: {ros__parameters: {}}", "has parameters for /"),
        ("modality: depth", r"expected `ros__parameters:` with values below '/modality'"),
        ("tracker: {ros__parameters: 3}", "expected values by name"),
        ("", r"expected `ros__parameters:`"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_parameter_file_of_another_node_is_refused(
    system: LaunchSystem, tmp_path: Path, text: str, reason: str
) -> None:
    config = tmp_path / "other.yaml"
    config.write_text(text)
    with pytest.raises(ParameterError, match=reason):
        system.include(TRACKER, {"config": str(config)})
    assert not system.processes


def test_rviz_topics_are_remapped_to_those_in_use(system: LaunchSystem) -> None:
    system.include(TRACKER, {"rviz": "true", "config": "zed", "namespace": "arm"})
    (rviz,) = system.of("rviz2")
    names = {name: target for name, target in rviz.remappings.items() if not name.startswith("__")}
    assert names == {
        "/tracker/overlay": "/arm/tracker/overlay",
        "/tracker/markers": "/arm/tracker/markers",
        "/tracker/target_pose_cov": "/arm/tracker/target_pose_cov",
        "/tracker/init_point": "/arm/tracker/init_point",
        "/rgb/image_raw": "/zed/zed_node/rgb/color/rect/image",
        "/rgb/camera_info": "/zed/zed_node/rgb/color/rect/camera_info",
        "/aux/image_raw": "/zed/zed_node/depth/depth_registered",
        "/aux/camera_info": "/zed/zed_node/rgb/color/rect/camera_info",
    }
    assert "-f" not in rviz.words


@pytest.mark.parametrize(
    ("namespace", "prefix"),
    [("", "/rear"), ("left", "/rear/left"), ("left/", "/rear/left"), ("/left", "/left"), ("/", "")],
)
def test_rviz_follows_pushed_namespaces_and_private_names(system: LaunchSystem, namespace: str, prefix: str) -> None:
    from launch.actions import GroupAction
    from launch_ros.actions import PushRosNamespace

    arguments = {"rviz": "on", "namespace": namespace, "rgb_topic": "~/cam", "camera_info_topic": "/info"}
    system.visit(GroupAction([PushRosNamespace("rear"), system.inclusion(TRACKER, arguments)]))
    names = system.of("rviz2")[0].remappings
    assert system.tracker.name == f"{prefix}/tracker"
    assert names["/tracker/overlay"] == f"{prefix}/tracker/overlay"
    assert names["/rgb/image_raw"] == f"{prefix}/tracker/cam"
    assert names["/aux/image_raw"] == f"{prefix}/aux/image_raw"
    assert names["/rgb/camera_info"] == "/info"


def test_rviz_shows_a_point_cloud_for_depth_only(system: LaunchSystem) -> None:
    system.include(TRACKER, {"rviz": "true", "modality": "thermal", "rgb_topic": "left", "fixed_frame": "map"})
    (rviz,) = system.of("rviz2")
    assert rviz.remappings["/rgb/image_raw"] == "/left"
    assert rviz.remappings["/rgb/camera_info"] == "/camera_info"
    assert "/aux/image_raw" not in rviz.remappings
    assert rviz.words[rviz.words.index("-f") + 1] == "map"


# Lifecycle


def test_launch_configures_at_process_start_and_activates_what_it_has_configured(system: LaunchSystem) -> None:
    system.include(TRACKER, {})
    node = system.tracker
    assert system.process_started(node) == [CONFIGURE]
    assert system.state_changed(node, "unconfigured", "configuring") == []
    assert system.state_changed(node, "configuring", "inactive") == [ACTIVATE]
    assert system.state_changed(node, "activating", "active") == []


@pytest.mark.parametrize("first", ["inactive", "unconfigured", "errorprocessing"])
def test_a_later_configure_by_hand_does_not_activate(system: LaunchSystem, first: str) -> None:
    system.include(TRACKER, {})
    system.process_started(system.tracker)
    assert system.state_changed(system.tracker, "configuring", first) == ([ACTIVATE] if first == "inactive" else [])
    for _ in range(2):
        assert system.state_changed(system.tracker, "configuring", "inactive") == []


def test_two_trackers_are_configured_and_activated_one_by_one(system: LaunchSystem) -> None:
    for namespace in ("front", "rear"):
        system.include(TRACKER, {"namespace": namespace})
    front, rear = system.of("tracker_node")
    assert system.process_started(front) == [CONFIGURE]
    assert system.state_changed(front, "configuring", "inactive") == [ACTIVATE]
    assert system.process_started(rear) == [CONFIGURE]
    assert system.state_changed(rear, "configuring", "inactive") == [ACTIVATE]


@pytest.mark.parametrize(
    ("arguments", "overrides", "respawn"),
    [
        ({"lifecycle": "false"}, {}, False),
        ({"lifecycle": "false", "respawn": "true"}, {"autostart": False}, True),
        ({"autostart": "true"}, {"autostart": True}, False),
        ({"respawn": "true"}, {"autostart": True}, True),
        ({"respawn": "yes", "autostart": "on"}, {"autostart": True}, True),
    ],
)
def test_launch_asks_for_no_transition_where_the_node_or_a_manager_drives(
    system: LaunchSystem, arguments: dict[str, str], overrides: dict[str, Any], respawn: bool
) -> None:
    system.include(TRACKER, arguments)
    node = system.tracker
    assert (node.overrides, node.respawn) == ({**overrides, "use_sim_time": False}, respawn)
    assert system.process_started(node) == []
    assert system.state_changed(node, "configuring", "inactive") == []


def test_launch_leaves_a_node_alone_whose_config_starts_it(system: LaunchSystem, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("/**: {ros__parameters: {autostart: true}}")
    system.include(TRACKER, {"config": str(config)})
    assert system.process_started(system.tracker) == []
    system.processes.clear()
    system.include(TRACKER, {"config": str(config), "autostart": "false"})
    assert system.tracker.overrides["autostart"] is False
    assert system.process_started(system.tracker) == [CONFIGURE]


# Environment


def test_the_profile_is_set_for_the_processes_of_the_package_unless_the_user_set_one(
    system: LaunchSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.include(TRACKER, {"rviz": "true"})
    assert len(system.processes) == 2
    for process in system.processes:
        assert {process.environment[name] for name in PROFILE_VARIABLES} == {str(ROOT / "config" / "fastdds.xml")}
    system.processes.clear()
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "own.xml")
    system.include(TRACKER, {})
    assert system.tracker.environment["FASTDDS_DEFAULT_PROFILES_FILE"] == "own.xml"
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" not in system.tracker.environment


@pytest.mark.parametrize(
    ("rmw", "expected"),
    [
        ("rmw_cyclonedds_cpp", False),
        ("rmw_zenoh_cpp", False),
        ("rmw_fastrtps_cpp", True),
        ("rmw_fastrtps_dynamic_cpp", True),
    ],
)
def test_the_profile_is_set_for_fast_dds_only(
    system: LaunchSystem, monkeypatch: pytest.MonkeyPatch, rmw: str, expected: bool
) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", rmw)
    system.include(TRACKER, {})
    assert (set(PROFILE_VARIABLES) <= set(system.tracker.environment)) is expected


# Replay


ARM = {"namespace": "arm", "rgb_topic": "/rgb/image_raw", "aux_topic": "/aux/image_raw"}
ROS2_BAG = ["ros2", "bag", "play"]


def with_ros2bag(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    monkeypatch.setattr("sdstrack_ros.bags.replay_command.has_ros2bag", lambda: here)


def test_replay_starts_the_player_once_when_the_node_is_active(
    system: LaunchSystem, walk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_ros2bag(monkeypatch, True)
    system.include(LAUNCH / "replay.launch.py", {"bag": walk, "loop": "yes", "rate": "0.5", **ARM})
    node = system.tracker
    assert node.overrides["use_sim_time"] is True
    assert system.state_changed(node, "configuring", "inactive") == [ACTIVATE]
    assert system.processes == [node]
    assert not system.timers
    for _ in range(2):  # a manager may deactivate and activate it again
        system.state_changed(node, "activating", "active")
        assert len(system.processes) == 2
    player = system.processes[-1]
    assert player.words == [*ROS2_BAG, walk, "--clock", "100", "--delay", "2.0", "--rate", "0.5", "--loop"]
    assert set(PROFILE_VARIABLES) <= set(player.environment), "images travel in the segment of the sender"
    assert system.said == [f"/arm/tracker is active: playing {walk}"]


def test_replay_waits_for_its_own_node_and_for_the_delay(
    system: LaunchSystem, walk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_ros2bag(monkeypatch, True)
    system.include(TRACKER, {"namespace": "rear"})
    system.include(LAUNCH / "replay.launch.py", {"bag": walk, "delay": "3", **ARM})
    rear, arm = system.of("tracker_node")
    system.state_changed(rear, "activating", "active")
    assert not system.timers
    system.state_changed(arm, "activating", "active")
    assert [timer.period for timer in system.timers] == [3.0]
    assert len(system.processes) == 2


def test_sdstrack_play_serves_where_ros2_bag_is_missing(
    system: LaunchSystem, walk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_ros2bag(monkeypatch, False)
    for player in ("auto", "sdstrack"):
        system.processes.clear()
        system.include(LAUNCH / "replay.launch.py", {"bag": walk, "player": player})
        system.state_changed(system.tracker, "activating", "active")
        words = system.processes[-1].words
        assert words[words.index("play") :][:3] == ["play", walk, "--wait"]
        assert words[: words.index("play")] in ([sys.executable, "-m", "sdstrack_ros.cli"], words[:1])
        awaited = [word for before, word in itertools.pairwise(words) if before == "--wait-for"]
        assert awaited == ["/rgb/image_raw", "/aux/image_raw"]
    with pytest.raises(ParameterError, match="player:=ros2bag needs `ros2 bag`"):
        system.include(LAUNCH / "replay.launch.py", {"bag": walk, "player": "ros2bag"})


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "{walk} has been played; /tracker is still running, Ctrl-C ends it"),
        (2, "{walk} cannot be played: the player ended with status 2, see its lines above"),
    ],
)
def test_the_end_of_the_player_and_its_failure_are_said(
    system: LaunchSystem, walk: str, status: int, said: str
) -> None:
    system.include(LAUNCH / "replay.launch.py", {"bag": walk})
    system.state_changed(system.tracker, "activating", "active")
    system.process_exited(system.tracker, 2)
    assert len(system.said) == 1, "the end of the node is launch's to say"
    system.process_exited(system.processes[-1], status)
    assert system.said[-1] == said.format(walk=walk)
    assert system.shutdowns == ([system.said[-1]] if status else [])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"loop": "often"}, "argument 'loop' cannot be 'often'"),
        ({"rate": "fast"}, "argument 'rate' cannot be 'fast'"),
        ({"rate": "0"}, "argument 'rate' cannot be '0'; expected a number above 0"),
        ({"rate": "nan"}, "argument 'rate' cannot be 'nan'"),
        ({"delay": "-1"}, "argument 'delay' cannot be '-1'; expected a number from 0"),
        ({"player": "vlc"}, "argument 'player' cannot be 'vlc'; expected one of auto, ros2bag, sdstrack"),
        ({"rviz": "2"}, "argument 'rviz' cannot be '2'"),
        ({"bag": ""}, "argument 'bag' is empty"),
        ({"bag": "nowhere"}, "argument 'bag': nowhere does not exist; expected a rosbag2 folder"),
        (
            {"config": "flir_rgbt"},
            "neither /flir_camera/image_raw nor /flir_boson/image_raw; it has /aux/image_raw, /rgb/image_raw; choose",
        ),
        ({"transport": "compressed"}, "has neither /rgb/image_raw/compressed nor /aux/image_raw/compressedDepth"),
        ({"namespace": "arm/"}, "has neither /arm/rgb/image_raw nor /arm/aux/image_raw"),
        ({"modality": "thermal", "config": "realsense"}, "which is for 'depth'"),
    ],
)
def test_replay_refuses_bad_arguments_before_a_process_starts(
    system: LaunchSystem, walk: str, arguments: dict[str, str], reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        system.include(LAUNCH / "replay.launch.py", {"bag": walk, **arguments})
    assert not system.processes


def test_replay_says_which_camera_a_recording_lacks(system: LaunchSystem, tmp_path: Path) -> None:
    bag = recording(tmp_path / "half", events="Imu", rgb__image_raw="Image")
    system.include(LAUNCH / "replay.launch.py", {"bag": str(bag)})
    assert system.said == [f"{bag} has no /aux/image_raw: the node will track in the other camera alone"]


def test_replay_leaves_remapped_topics_to_the_node(system: LaunchSystem, tmp_path: Path) -> None:
    system.context.launch_configurations["ros_remaps"] = [("rgb/image_raw", "/left")]
    bag = recording(tmp_path / "left", left="Image")
    system.include(LAUNCH / "replay.launch.py", {"bag": str(bag)})
    assert len(system.processes) == 1


def test_an_rviz_that_is_not_installed_is_found_before_the_node_starts(
    system: LaunchSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ament_index_python.packages import PackageNotFoundError

    def only_ours(package: str) -> str:
        if package != "sdstrack_ros":
            raise PackageNotFoundError(package)
        return str(ROOT)

    monkeypatch.setattr("ament_index_python.packages.get_package_share_directory", only_ours)
    with pytest.raises(ParameterError, match="rviz:=true needs the package rviz2, which is not installed"):
        system.include(TRACKER, {"rviz": "true"})
    assert not system.processes


def test_replay_needs_a_bag(system: LaunchSystem) -> None:
    with pytest.raises(RuntimeError, match="bag"):
        system.include(LAUNCH / "replay.launch.py", {})


# Files


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_fit_the_table(path: Path) -> None:
    settings_from_yaml(path)


def test_rviz_file_shows_what_the_node_publishes() -> None:
    document = yaml.safe_load((ROOT / "config" / "sdstrack.rviz").read_text())
    manager = document["Visualization Manager"]
    topics = {display["Class"].rpartition("/")[2]: display.get("Topic", {}) for display in manager["Displays"]}
    assert topics["Image"]["Value"] == "/tracker/overlay"
    assert topics["MarkerArray"]["Value"] == "/tracker/markers"
    (cloud,) = (display for display in manager["Displays"] if display["Class"].endswith("/DepthCloud"))
    assert (cloud["Color Image Topic"], cloud["Depth Map Topic"]) == ("/rgb/image_raw", "/aux/image_raw")
    required = {"Depth", "Durability Policy", "History Policy", "Reliability Policy", "Value"}
    assert all(set(topics[name]) == required for name in ("Image", "MarkerArray", "Camera"))


def test_fastdds_profile_has_the_measured_numbers() -> None:
    space = {"d": "http://www.eprosima.com"}
    root = ET.parse(ROOT / "config" / "fastdds.xml").getroot()  # our own file
    shm, udp = root.findall(".//d:transport_descriptor", space)
    assert [e.findtext("d:type", namespaces=space) for e in (shm, udp)] == ["SHM", "UDPv4"]
    assert shm.findtext("d:segment_size", namespaces=space) == "33554432"
    assert shm.findtext("d:maxMessageSize", namespaces=space) == "4194304"
    listed = [e.text for e in root.findall(".//d:userTransports/d:transport_id", space)]
    assert listed == [e.findtext("d:transport_id", namespaces=space) for e in (shm, udp)]
    assert root.findtext(".//d:useBuiltinTransports", namespaces=space) == "false"
