"""replay.launch.py: the player's start, its end, and recordings that lack something."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition

from sdstrack_ros.parameters.launch_arguments import PROFILE_VARIABLES
from sdstrack_ros.parameters.spec import ParameterError
from testkit.launch import LAUNCH, ROOT, TRACKER
from testkit.launch.system import LaunchSystem, launchable_recording

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE


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
    bag = launchable_recording(tmp_path / "half", events="Imu", rgb__image_raw="Image")
    system.include(LAUNCH / "replay.launch.py", {"bag": str(bag)})
    assert system.said == [f"{bag} has no /aux/image_raw: the node will track in the other camera alone"]


def test_replay_leaves_remapped_topics_to_the_node(system: LaunchSystem, tmp_path: Path) -> None:
    system.context.launch_configurations["ros_remaps"] = [("rgb/image_raw", "/left")]
    bag = launchable_recording(tmp_path / "left", left="Image")
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
