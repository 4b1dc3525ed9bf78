"""Launch files with real processes, as a user starts them: by `ros2 launch` where installed, else by its stand-in."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.bags.writer import AUX_TOPICS, INFO_TOPIC, RGB_TOPIC, write_bag
from testkit.launch.run import launch_command, launch_file
from testkit.reliability.matrix.bench import segments_of
from testkit.ros.camera import PATIENCE_S, START_PATIENCE_S, RosTest, node_command, ros_test
from testkit.ros.processes import RosProcess, private_domain, python_module, ros_environment, ros_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.ros

FRAMES = 15
PID = re.compile(r"process started with pid \[(\d+)\]")


@dataclass
class Launched:
    """A launch that runs, and the test's view of the node."""

    ros: RosTest
    process: RosProcess
    children: list[int]
    kill: Callable[[int], None]

    def pids(self) -> list[int]:
        """Ids of all processes that launch has started so far."""
        self.children[:] = [int(number) for number in PID.findall(self.process.output)]
        return self.children

    def until_active(self) -> None:
        self.ros.until(lambda: self.ros.value("lifecycle") == "active", START_PATIENCE_S, "active", self.process)

    def alive(self) -> list[int]:
        """Those of them that still run."""
        return [pid for pid in self.pids() if Path(f"/proc/{pid}/status").exists() and not is_zombie(pid)]


def is_zombie(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextmanager
def killing() -> Iterator[Callable[[int], None]]:
    """Yield a function that sends SIGKILL; the shared memory that such processes leave behind is removed in the end.

    Only then: other processes of the domain also write into it, and the killed one into theirs.
    """
    left: set[Path] = set()

    def kill(pid: int) -> None:
        left.update(segments_of(pid))
        os.kill(pid, signal.SIGKILL)

    try:
        yield kill
    finally:
        for path in left:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}_el").unlink(missing_ok=True)


@contextmanager
def launched(name: str, folder: Path, arguments: dict[str, str]) -> Iterator[Launched]:
    """Launch a file of the package; whatever it leaves running is ended afterwards."""
    with private_domain() as domain, killing() as kill:
        environment = ros_environment(domain, folder, profile=None)
        # Installed scripts take the first python on the path.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        command = launch_command(Path(name) if name.endswith(".py") else launch_file(name), arguments)
        with ros_test(domain, environment) as ros, ros_process(command, environment, folder / "launch.log") as process:
            ros.listen_to_node()
            running = Launched(ros, process, [], kill)
            try:
                yield running
            finally:
                process.end()
                for pid in running.alive():
                    kill(pid)


@pytest.fixture
def config(tiny_weights: Path, tmp_path: Path) -> Path:
    """A parameter file for the smallest network and the recording's topics."""
    path = tmp_path / "tiny.yaml"
    lines = {
        "model": "sdstrack_tiny_test",
        "weights": tiny_weights,
        "engine": "torch/fp32",
        "device": "cpu",
        "confidence": "false",
        "shed_outputs": "false",
        "rgb_topic": RGB_TOPIC,
        "aux_topic": AUX_TOPICS[Modality.DEPTH],
        "camera_info_topic": INFO_TOPIC,
    }
    path.write_text("/**:\n  ros__parameters:\n" + "".join(f"    {name}: {value}\n" for name, value in lines.items()))
    return path


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of two cameras."""
    random = np.random.default_rng(11)
    frames = [
        MultiModalFrame(
            i / 30,
            random.integers(0, 255, (120, 160, 3), dtype=np.uint8),
            np.full((120, 160), 4000, np.uint16),
            Modality.DEPTH,
        )
        for i in range(FRAMES)
    ]
    return write_bag(tmp_path_factory.mktemp("bags") / "short", frames, [BoundingBox(60.0, 50.0, 40.0, 40.0)] * FRAMES)


# Replay


def test_a_short_recording_begins_when_the_node_is_active_and_loses_no_frame(
    config: Path, short_bag: Path, tmp_path: Path
) -> None:
    arguments = {"bag": str(short_bag), "config": str(config), "player": "sdstrack", "init_box": "60,50,40,40"}
    arguments["rate"] = "0.1"  # three per second; a loaded machine may stop the node for one
    with launched("replay", tmp_path, arguments) as run:
        ros = run.ros
        ros.until(lambda: "has been played" in run.process.output, START_PATIENCE_S, "the end", run.process)
        said = run.process.output
        assert said.index("/tracker is active: playing") < said.index("has been played; /tracker is still running")
        assert f"{RGB_TOPIC}: {FRAMES} messages" in said
        # what a loaded machine leaves too old is dropped, and counted
        ros.until(
            lambda: ros.count("answered") + ros.count("dropped") == FRAMES, PATIENCE_S, "every frame", run.process
        )
        ros.until(
            lambda: ros.value("rgb.received") == ros.value("aux.received") == str(FRAMES), PATIENCE_S, "every image",
            run.process,
        )  # fmt: skip
        # a loaded machine may stop the player between the two images of a frame
        assert int(ros.value("sync.paired")) + int(ros.value("sync.color_alone")) == FRAMES
        assert ros.value("lifecycle") == "active"
        assert run.process.interrupt(PATIENCE_S) == 0, run.process.output
        assert len(run.pids()) == 2
        assert not run.alive()


def test_a_player_that_fails_ends_the_launch_and_is_named(config: Path, short_bag: Path, tmp_path: Path) -> None:
    bag = tmp_path / "damaged"
    bag.mkdir()
    for file in short_bag.iterdir():
        content = file.read_bytes()
        (bag / file.name).write_bytes(content if file.suffix == ".yaml" else content[: len(content) // 3])
    with launched("replay", tmp_path, {"bag": str(bag), "config": str(config), "player": "sdstrack"}) as run:
        run.process.process.wait(START_PATIENCE_S)
        assert f"{bag} cannot be played: the player ended with status" in run.process.output
        assert not run.alive()


# Lifecycle


def test_a_killed_node_is_respawned_and_becomes_active_by_itself(config: Path, tmp_path: Path) -> None:
    with launched("tracker", tmp_path, {"config": str(config), "respawn": "yes"}) as run:
        run.until_active()
        (first,) = run.pids()
        run.kill(first)
        run.ros.until(lambda: len(run.pids()) == 2, PATIENCE_S, "a second process", run.process)
        run.ros.spin(0.5)
        run.ros.messages.clear()  # what the dead one has said
        run.until_active()
        assert run.alive() == [run.pids()[1]]
        assert run.process.interrupt(PATIENCE_S) == 0, run.process.output
        assert not run.alive()


def test_a_node_that_was_killed_becomes_active_again_when_it_is_started_again(
    tiny_weights: Path, tmp_path: Path
) -> None:
    """As a supervisor such as systemd does it: the same command, with autostart, over what the dead one left."""
    parameters = {"weights": tiny_weights, "model": "sdstrack_tiny_test", "engine": "torch/fp32", "device": "cpu"}
    with private_domain() as domain, killing() as kill:
        environment = ros_environment(domain, tmp_path)
        command = node_command({**parameters, "autostart": True}, python_module)
        with ros_test(domain, environment) as ros:
            ros.listen_to_node()
            for _ in range(2):
                ros.messages.clear()
                with ros_process(command, environment, tmp_path / "node.log") as process:
                    ros.until(lambda: ros.value("lifecycle") == "active", START_PATIENCE_S, "active", process)
                    kill(process.pid)
                    assert process.process.wait(PATIENCE_S) == -signal.SIGKILL
                    ros.spin(0.5)


def test_launch_brings_the_node_to_active_and_ends_it_cleanly(config: Path, tmp_path: Path) -> None:
    with launched("tracker", tmp_path, {"config": str(config), "namespace": ""}) as run:
        run.until_active()
        (node,) = run.pids()
        environment = Path(f"/proc/{node}/environ").read_text()
        assert "DEFAULT_PROFILES_FILE=" in environment or "RMW_IMPLEMENTATION=" in environment
        assert run.process.interrupt(PATIENCE_S) == 0, run.process.output
        assert "finished cleanly" in run.process.output
        assert not run.alive()


BRINGUP = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource


def tracker(**arguments):
    source = PythonLaunchDescriptionSource({path!r})
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))])


def generate_launch_description():
    return LaunchDescription([tracker(config={config!r}, **values) for values in {values!r}])
"""


def test_two_trackers_of_one_bringup_are_both_active_and_end_together(config: Path, tmp_path: Path) -> None:
    values = [{"namespace": "front"}, {"namespace": "rear", "modality": "thermal"}]
    bringup = tmp_path / "bringup.launch.py"
    bringup.write_text(BRINGUP.format(path=str(launch_file("tracker")), config=str(config), values=values))
    with launched(str(bringup), tmp_path, {}) as run:
        for namespace in ("front", "rear"):
            topic = f"/{namespace}/tracker/status"
            run.ros.listen(DiagnosticStatus, topic, QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))
            run.ros.until(
                lambda topic=topic: any(
                    (pair.key, pair.value) == ("lifecycle", "active")
                    for message in run.ros.messages[topic]
                    for pair in message.values
                ),
                START_PATIENCE_S,
                f"an active {namespace}",
                run.process,
            )
        assert len(run.alive()) == 2
        assert run.process.interrupt(PATIENCE_S) == 0, run.process.output
        assert not run.alive()


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("tracker", {"rviz": "maybe"}, "argument 'rviz' cannot be 'maybe'"),
        ("tracker", {"confg": "zed"}, "unknown argument 'confg' of tracker.launch.py; did you mean 'config'?"),
        ("rgbt", {"config": "realsense"}, "modality 'thermal' contradicts config"),
        ("tracker", {"namespace": "a//b"}, "argument 'namespace' cannot be 'a//b'"),
        ("replay", {"bag": "nowhere"}, "argument 'bag': nowhere does not exist"),
        ("replay", {}, "bag"),
    ],
)
def test_what_cannot_be_launched_is_named_and_leaves_nothing_running(
    tmp_path: Path, name: str, arguments: dict[str, str], reason: str
) -> None:
    with launched(name, tmp_path, arguments) as run:
        assert run.process.process.wait(START_PATIENCE_S) != 0
        assert reason in run.process.output
        assert not run.pids()
