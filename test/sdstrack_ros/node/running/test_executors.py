"""The node on rclpy's experimental events executor: all that it needs an executor for."""

from __future__ import annotations

import importlib.util
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from rclpy.executors import SingleThreadedExecutor

from sdstrack_ros.node.tracker_node import make_executor
from testkit.ros.camera import PATIENCE_S
from testkit.ros.rig import running_node

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.ros

HERE = importlib.util.find_spec("rclpy.experimental") is not None
ACTIVATE = Transition.TRANSITION_ACTIVATE


class Quiet:
    """A node with one setting, that writes down its warnings."""

    def __init__(self, executor: str) -> None:
        self.executor = executor
        self.warnings: list[str] = []

    @property
    def settings(self) -> Any:
        return self

    def get_logger(self) -> Any:
        return self

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_a_distribution_without_the_events_executor_says_so_and_uses_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy.experimental", None)
    node: Any = Quiet("events")
    rclpy.init()
    try:
        executor = make_executor(node)
        assert isinstance(executor, SingleThreadedExecutor)
        executor.shutdown()
    finally:
        rclpy.shutdown()
    assert "executor 'events' is not in this rclpy" in node.warnings[0]


@pytest.mark.skipif(not HERE, reason="this rclpy has no events executor")
def test_the_events_executor_serves_services_parameters_and_timers_and_ends_at_a_signal(tmp_path: Path) -> None:
    with running_node(tmp_path / "none.safetensors", tmp_path, executor="events") as rig:
        ros = rig.ros
        assert ros.lifecycle() == "unconfigured"
        assert ros.set_parameters(label="person").successful
        assert not ros.transition(ACTIVATE, 10)
        rig.until(lambda: ros.value("lifecycle") == "unconfigured", "a status")
        before = len(ros.messages["/tracker/status"])
        rig.until(lambda: len(ros.messages["/tracker/status"]) > before + 1, "a timer that goes on")
        rig.process.process.send_signal(signal.SIGTERM)
        assert rig.process.process.wait(PATIENCE_S) == 0, rig.process.output[-2000:]
