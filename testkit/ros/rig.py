"""A running node and the test's cameras: what the tests of the node work with."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vision_msgs.msg import Detection2D, Detection2DArray

from testkit.ros.camera import NODE, PATIENCE_S, START_PATIENCE_S, Cameras, RosTest, node_command, ros_test
from testkit.ros.processes import ROOT, RosProcess, private_domain, python_module, ros_environment, ros_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

# Where the node is: in this tree, and in checkouts from before it had rooms.
NODE_MODULES = ("sdstrack_ros.node.tracker_node", "sdstrack_ros.tracker_node")


@dataclass
class Rig:
    """A running node and the test's cameras."""

    ros: RosTest
    cameras: Cameras
    process: RosProcess

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Handle callbacks until the condition holds; fails when the node has ended."""
        self.ros.until(condition, timeout_s, what, self.process)

    def film_until(
        self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S, **options: Any
    ) -> None:
        """Publish frames at 30 Hz until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.alive(), self.process.output[-3000:]
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}\n{self.process.output[-3000:]}"
            self.cameras.film(3, **options)

    def says(self, text: str) -> bool:
        """Whether any status so far reports the outcome of a request with this text."""
        return any(
            pair.key == "last_request" and text in pair.value
            for message in self.ros.messages["/tracker/status"]
            for pair in message.values
        )

    def fault(self, cause: str) -> str:
        """What the newest status says about a cause of faults, '' when it names none."""
        return self.ros.value(f"fault.{cause}")

    def hears_candidates(self) -> None:
        """Publish candidates that it has to refuse until the node refuses one.

        A best-effort reader hears of its writer later than the writer of the reader; what comes before is lost.
        """
        publisher = self.ros.publisher(Detection2DArray, f"{NODE}/candidates")

        def refused() -> bool:
            publisher.publish(Detection2DArray(detections=[Detection2D()]))
            return self.says("candidates refused: 1 detections without a class and a score")

        self.until(refused, "a listener on ~/candidates")

    def active(self) -> None:
        """Wait until the node is active and sees the cameras."""
        self.ros.until(
            lambda: self.ros.value("lifecycle") == "active", START_PATIENCE_S, "an active node", self.process
        )
        self.ros.until(
            lambda: self.cameras.rgb.get_subscription_count() > 0, PATIENCE_S, "rgb subscription", self.process
        )
        self.ros.until(
            lambda: self.cameras.aux.get_subscription_count() > 0, PATIENCE_S, "aux subscription", self.process
        )


def running_node(weights: Path, folder: Path, **parameters: Any) -> AbstractContextManager[Rig]:
    """A node of the smallest network in a domain of its own; its output goes to `folder`."""
    return node_of_checkout(ROOT, weights, folder, parameters)


@contextmanager
def node_of_checkout(tree: Path, weights: Path, folder: Path, parameters: dict[str, Any]) -> Iterator[Rig]:
    """The same of another checkout of the repository, which this environment runs."""
    # The plain engine has nothing to compile, so nodes start fast.
    values = {"model": "sdstrack_tiny_test", "weights": weights, "device": "cpu", "engine": "torch/fp32", **parameters}
    module = next(name for name in NODE_MODULES if (tree / name.replace(".", "/")).with_suffix(".py").is_file())
    with private_domain() as domain:
        environment = {**ros_environment(domain, folder), **({} if tree == ROOT else {"PYTHONPATH": str(tree)})}
        command = node_command(values, lambda _, *arguments: python_module(module, *arguments))
        with (
            ros_process(command, environment, folder / "node.log", tree) as process,
            ros_test(domain, environment) as ros,
        ):
            ros.listen_to_node()
            yield Rig(ros, Cameras(ros), process)
