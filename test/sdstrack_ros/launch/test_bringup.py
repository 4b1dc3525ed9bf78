"""Inside a bringup: nothing leaks, and two trackers keep apart."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sdstrack_ros.parameters.launch_arguments import PROFILE_VARIABLES
from sdstrack_ros.parameters.spec import ParameterError
from testkit.launch import LAUNCH, ROOT, TRACKER
from testkit.launch.system import LaunchSystem

YES, NO = ("true", "True", "yes", "on", "1"), ("false", "no", "OFF", "0")


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
        (
            {"pose_topic": "bad topic!"},
            "argument 'pose_topic' cannot be 'bad topic!'; expected a name",
        ),
        ({"rgb_topic": "/camera/"}, "argument 'rgb_topic' cannot be '/camera/'"),
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
        (["sdstrack_ros", "rgbd.launch.py", "modality:=thermal"], "cannot be 'thermal': rgbd.launch.py is for 'depth'"),
        (["sdstrack_ros", "follow.launch.py", "modality:=event"], "cannot be 'event': follow.launch.py is for 'depth'"),
        (["sdstrack_ros", "rgbt.launch.py", "modality:=thermal"], ""),
        (["sdstrack_ros", "tracker.launch.py", "modality:=thermal"], ""),
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
