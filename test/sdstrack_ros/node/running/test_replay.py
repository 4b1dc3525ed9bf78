"""A looped recording, in simulated time, through a node in a namespace with remapped topics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile
from vision_msgs.msg import Detection2DArray, Detection3DArray

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.bags.writer import AUX_TOPICS, FIRST_STAMP_S, INFO_TOPIC, RGB_TOPIC, write_bag
from testkit.ros.camera import node_command, ros_test, stamp_of
from testkit.ros.processes import private_domain, python_module, ros_environment, ros_process

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.ros

FRAMES, FPS = 45, 30.0
NAMESPACE = "/robot"
REMAPS = (
    f"__ns:={NAMESPACE}",
    f"rgb/image_raw:={RGB_TOPIC}",
    f"aux/image_raw:={AUX_TOPICS[Modality.DEPTH]}",
    f"camera_info:={INFO_TOPIC}",
)
BOX = BoundingBox(60.0, 50.0, 40.0, 40.0)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A textured square that stands still, one and a half seconds long."""
    random = np.random.default_rng(11)
    rgb = random.integers(0, 120, (120, 160, 3), dtype=np.uint8)
    rgb[50:90, 60:100] = random.integers(130, 256, (40, 40, 3), dtype=np.uint8)
    depth = np.full((120, 160), 4000, np.uint16)
    depth[50:90, 60:100] = 1500
    frames = [MultiModalFrame(i / FPS, rgb, depth, Modality.DEPTH) for i in range(FRAMES)]
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", frames, [BOX] * FRAMES)


def test_a_looped_bag_in_sim_time_with_namespace_and_remappings(walk: Path, tiny_weights: Path, tmp_path: Path) -> None:
    parameters = {
        "model": "sdstrack_tiny_test",
        "weights": tiny_weights,
        "engine": "torch/fp32",
        "device": "cpu",
        "autostart": True,
        "confidence": False,
        "use_sim_time": True,
        "shed_outputs": False,
        "init_box": str([float(v) for v in BOX]),
    }
    topics = [word for name in (RGB_TOPIC, AUX_TOPICS[Modality.DEPTH], INFO_TOPIC) for word in ("--topic", name)]
    player = [sys.executable, "-m", "sdstrack_ros.cli", "play", str(walk), "--loop", "--wait", "30", *topics]
    with private_domain() as domain:
        environment = ros_environment(domain, tmp_path)
        command = node_command(parameters, python_module, REMAPS)
        with ros_process(command, environment, tmp_path / "node.log") as node, ros_test(domain, environment) as ros:
            latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            ros.listen(DiagnosticStatus, f"{NAMESPACE}/tracker/status", latched)
            ros.listen(DiagnosticArray, "/diagnostics")
            ros.listen(Detection2DArray, f"{NAMESPACE}/tracker/detections")
            ros.listen(Detection3DArray, f"{NAMESPACE}/tracker/detections_3d")
            statuses = ros.messages[f"{NAMESPACE}/tracker/status"]

            def value(key: str) -> str:
                return next((pair.value for pair in statuses[-1].values if pair.key == key), "") if statuses else ""

            ros.until(lambda: value("lifecycle") == "active", 240, "an active node", node)
            assert value("rgb.topic") == RGB_TOPIC
            with ros_process(player, environment, tmp_path / "player.log") as played:
                ros.until(lambda: int(value("frames.rewinds") or 0) >= 2, 120, "two jumps back", node)
                ros.until(lambda: int(value("target_id") or 0) >= 3, 60, "init_box started anew in each pass", node)
                boxes = ros.messages[f"{NAMESPACE}/tracker/detections"]
                ros.until(lambda: any(m.detections for m in boxes[-5:]), 60, "boxes", node)
                metric = ros.messages[f"{NAMESPACE}/tracker/detections_3d"]
                ros.until(lambda: any(m.detections for m in metric), 60, "boxes in metres", node)
                assert played.alive(), played.output
                assert node.interrupt() == 0
            begin, end = FIRST_STAMP_S, FIRST_STAMP_S + FRAMES / FPS + 1
            assert {begin <= stamp_of(m) / 1e9 <= end for m in boxes} == {True}
            clocks = [stamp_of(m) / 1e9 for m in ros.messages["/diagnostics"]]
            assert any(begin <= seconds <= end for seconds in clocks), "the node's clock is the recording's"
            last_requests = {p.value for m in statuses for p in m.values if p.key == "last_request"}
            assert any("jump back in time" in text for text in last_requests)
            assert "Traceback" not in node.output
