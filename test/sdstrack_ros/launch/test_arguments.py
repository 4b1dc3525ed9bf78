"""Arguments of the launch files: what they become, and what is refused."""

from __future__ import annotations

import pytest

from sdstrack_ros.parameters.checks import settings_from_yaml
from sdstrack_ros.parameters.table import TABLE
from testkit.launch import LAUNCH, ROOT, TRACKER
from testkit.launch.system import LaunchSystem


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
