from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
import yaml
from lifecycle_msgs.msg import Transition

import testkit.launch_fake as fake
from sdstrack_ros.parameters.table import TABLE, settings_from_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
LAUNCH = ROOT / "launch"


@pytest.fixture(autouse=True)
def launch_system(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    with fake.fake_launch(ROOT):
        yield


def tracker(launched: fake.Launched) -> fake.LifecycleNode:
    (node,) = launched.of(fake.LifecycleNode)
    return node


def test_tracker_launch_passes_arguments_as_parameters_and_keeps_the_config_for_the_rest() -> None:
    launched = fake.launched(
        LAUNCH / "tracker.launch.py",
        {"config": "realsense", "model": "ckd_b256", "namespace": "arm", "use_sim_time": "true"},
    )
    node = tracker(launched)
    config, overrides = node.parameters
    assert (node.package, node.executable, node.namespace) == ("sdstrack_ros", "tracker_node", "arm")
    assert config == str(ROOT / "config" / "realsense.yaml")
    assert overrides == {"model": fake.ParameterValue("ckd_b256", str), "use_sim_time": True}
    assert set(overrides) - {"use_sim_time"} <= set(TABLE)


def test_every_argument_that_becomes_a_parameter_is_in_the_table() -> None:
    launched = fake.launched(LAUNCH / "tracker.launch.py", {})
    own = {"config", "namespace", "lifecycle", "rviz", "fixed_frame", "use_sim_time"}
    assert set(launched.declared) - own <= set(TABLE)


@pytest.mark.parametrize(
    ("name", "modality"), [("rgbd", "depth"), ("rgbt", "thermal"), ("rgbe", "event")], ids=lambda value: value
)
def test_modality_launch_files_choose_modality_and_config(name: str, modality: str) -> None:
    launched = fake.launched(LAUNCH / f"{name}.launch.py", {"device": "cpu"})
    config, overrides = tracker(launched).parameters
    assert Path(config).stem == name
    assert overrides["modality"].value == modality
    assert settings_from_yaml(Path(config)).modality == modality


def test_transitions_configure_at_process_start_and_activate_once_configured() -> None:
    launched = fake.launched(LAUNCH / "tracker.launch.py", {})
    node = tracker(launched)
    started, configured = (handler.event_handler for handler in launched.of(fake.RegisterEventHandler))
    assert started.target_action is node
    assert started.on_start[0].event.transition_id == Transition.TRANSITION_CONFIGURE
    assert started.on_start[0].event.lifecycle_node_matcher(node)
    assert (configured.start_state, configured.goal_state) == ("configuring", "inactive")
    assert configured.entities[0].event.transition_id == Transition.TRANSITION_ACTIVATE


def test_a_lifecycle_manager_may_drive_the_node() -> None:
    assert not fake.launched(LAUNCH / "tracker.launch.py", {"lifecycle": "false"}).of(fake.RegisterEventHandler)


def test_both_names_of_the_profile_variable_are_set_unless_the_user_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = fake.launched(LAUNCH / "tracker.launch.py", {}).of(fake.SetEnvironmentVariable)
    assert {variable.name for variable in variables} == {
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        "FASTDDS_DEFAULT_PROFILES_FILE",
    }
    assert {variable.value for variable in variables} == {str(ROOT / "config" / "fastdds.xml")}
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "own.xml")
    assert not fake.launched(LAUNCH / "tracker.launch.py", {}).of(fake.SetEnvironmentVariable)


def test_rviz_topics_are_remapped_to_those_in_use() -> None:
    launched = fake.launched(LAUNCH / "tracker.launch.py", {"rviz": "true", "config": "zed", "namespace": "arm"})
    (rviz,) = launched.of(fake.Node)
    assert dict(rviz.remappings) == {
        "/tracker/overlay": "/arm/tracker/overlay",
        "/tracker/markers": "/arm/tracker/markers",
        "/tracker/init_point": "/arm/tracker/init_point",
        "/rgb/image_raw": "/zed/zed_node/rgb/color/rect/image",
        "/rgb/camera_info": "/zed/zed_node/rgb/color/rect/camera_info",
        "/aux/image_raw": "/zed/zed_node/depth/depth_registered",
        "/aux/camera_info": "/zed/zed_node/rgb/color/rect/camera_info",
    }
    assert "-f" not in rviz.arguments


def test_rviz_shows_a_point_cloud_for_depth_only() -> None:
    arguments = {"rviz": "true", "modality": "thermal", "rgb_topic": "left", "fixed_frame": "map"}
    (rviz,) = fake.launched(LAUNCH / "tracker.launch.py", arguments).of(fake.Node)
    names = dict(rviz.remappings)
    assert names["/rgb/image_raw"] == "/left"
    assert names["/rgb/camera_info"] == "/camera_info"
    assert "/aux/image_raw" not in names
    assert rviz.arguments[-2:] == ["-f", "map"]


@pytest.mark.parametrize("config", ["realsense", "realsense.yaml", str(ROOT / "config" / "realsense.yaml")])
def test_a_config_is_named_with_or_without_its_ending_or_by_path(config: str) -> None:
    launched = fake.launched(LAUNCH / "rgbd.launch.py", {"config": config})
    assert tracker(launched).parameters[0] == str(ROOT / "config" / "realsense.yaml")


def test_an_unknown_config_is_refused_with_the_known_names() -> None:
    with pytest.raises(FileNotFoundError, match="realsense"):
        fake.launched(LAUNCH / "tracker.launch.py", {"config": "realsens"})


def test_replay_publishes_the_clock_and_sets_sim_time() -> None:
    launched = fake.launched(LAUNCH / "replay.launch.py", {"bag": "walk", "loop": "true", "rate": "0.5"})
    (process,) = launched.of(fake.ExecuteProcess)
    assert process.cmd == ["ros2", "bag", "play", "walk", "--clock", "100", "--rate", "0.5", "--loop"]
    assert tracker(launched).parameters[1]["use_sim_time"] is True


def test_replay_needs_a_bag() -> None:
    with pytest.raises(fake.LaunchError, match="bag"):
        fake.launched(LAUNCH / "replay.launch.py", {})


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
