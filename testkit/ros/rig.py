"""A running node and the test's cameras: what the tests of the node work with."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vision_msgs.msg import Detection2D, Detection2DArray

from testkit.ros.camera import NODE, PATIENCE_S, START_PATIENCE_S, Cameras, RosTest, node_command, ros_test, stamp_of
from testkit.ros.processes import ROOT, RosProcess, private_domain, python_module, ros_environment, ros_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sensor_msgs.msg import CameraInfo

# Where the node is: in this tree, and in checkouts from before it had rooms.
NODE_MODULES = ("sdstrack_ros.node.tracker_node", "sdstrack_ros.tracker_node")
AGAIN_S = 0.2  # after which a message that nothing came of is sent again
LOST_S = 5.0  # after which an image that was not answered counts as lost on its way


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

    def send_until(
        self, send: Callable[[], object], condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S
    ) -> None:
        """Send again and again until the condition holds, for what may get lost.

        A best-effort reader hears of its writer later than the writer of the reader, and takes nothing before; later,
        too, a busy machine loses messages, and a newer frame takes the place of one that was not decoded yet.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.alive(), self.process.output[-3000:]
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}\n{self.process.output[-3000:]}"
            send()
            again = time.monotonic() + AGAIN_S
            while not condition() and time.monotonic() < again:
                self.ros.spin()

    def film_to_the_last_answer(self, frames: int, rate_hz: float = 30.0) -> list[int]:
        """Publish frames and wait for the last one's answer; returns their stamps.

        The newest frame is tracked first, so its answer comes soon, whatever was dropped before it. Where the image
        itself got lost on its way, another one follows, which is the last one then.
        """
        stamps = self.cameras.film(frames, rate_hz)

        def answered() -> bool:
            return stamps[-1] in {stamp_of(message) for message in self.ros.detections}

        deadline = time.monotonic() + PATIENCE_S
        while not answered():
            assert self.process.alive(), self.process.output[-3000:]
            assert time.monotonic() < deadline, f"the last frame has no answer:\n{self.process.output[-3000:]}"
            lost = time.monotonic() + LOST_S
            while not answered() and time.monotonic() < lost:
                self.ros.spin()
            if not answered():
                stamps += self.cameras.film(1)
        return stamps

    def every_frame_is_counted(self, stamps: list[int]) -> None:
        """Require that the answers are of these frames, each once and in order, and that every image is counted once.

        The status comes once a second, on busy cores later, and may be older than the newest answer; on busy cores
        images also come in bursts: one after a stall that the guard takes for an outlier is counted there.
        """
        ros = self.ros
        answered = [stamp_of(message) for message in ros.detections]
        assert answered == sorted(set(answered))
        assert set(answered) <= set(stamps)

        def add_up() -> bool:
            counts = {name: ros.count(name) for name in ("frames", "answered", "dropped", "rejected")}
            refused = ("rgb.rejected", "sync.color_late", "sync.color_duplicate")
            left = counts["frames"] + sum(int(ros.value(name) or 0) for name in refused)
            return (
                counts["answered"] == len(ros.detections)
                and counts["frames"] == counts["answered"] + counts["dropped"] + counts["rejected"]
                and left == int(ros.value("rgb.received") or 0)
            )

        self.until(add_up, "a status in which each frame is answered, dropped or refused, and each image counts once")

    def settled(self, key: str) -> int:
        """A counter of the status, once it is the same in two in a row: the node has taken all that had come."""
        last = -1
        while last != (last := int(self.ros.value(key) or 0)):
            self.two_more_statuses()
        return last

    def two_more_statuses(self) -> None:
        """Wait for the node's next two statuses: the second one is begun after this call."""
        statuses = self.ros.messages[f"{NODE}/status"]
        seen = len(statuses)
        self.until(lambda: len(statuses) >= seen + 2, "two more statuses")

    def calibrate(self, info: CameraInfo | None = None) -> None:
        """Publish a calibration, or the cameras' own, until the node has received it."""
        before = int(self.ros.value("camera_info.received") or 0)
        self.send_until(
            self.cameras.calibrate if info is None else lambda: self.cameras.info.publish(info),
            lambda: int(self.ros.value("camera_info.received") or 0) > before,
            "camera_info",
        )

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
        """Publish candidates that it has to refuse until the node refuses one."""
        publisher = self.ros.publisher(Detection2DArray, f"{NODE}/candidates")
        self.send_until(
            lambda: publisher.publish(Detection2DArray(detections=[Detection2D()])),
            lambda: self.says("candidates refused: 1 detections without a class and a score"),
            "a listener on ~/candidates",
        )

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
