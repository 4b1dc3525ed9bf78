"""Names: configuration files of other nodes, remapped topics, what RViz shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdstrack_ros.parameters.spec import ParameterError
from testkit.launch import TRACKER
from testkit.launch.system import LaunchSystem


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
