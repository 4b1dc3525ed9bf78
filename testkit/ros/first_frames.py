"""Runs the node in this process for a few frames, and says what happened after it was activated that had to wait.

The argument names a weights file. Prints a JSON line: modules imported, programs compiled, frames answered.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import openvino
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.node.tracker_node import TrackerNode
from testkit.ros.camera import image_message

OUTPUTS = {"detections": Detection2DArray, "detections_3d": Detection3DArray, "markers": MarkerArray, "overlay": Image}
FRAMES, PATIENCE_S = 8, 60.0


def main() -> None:
    """Configure, activate, film until eight frames are answered, report."""
    compiled: list[int] = []
    original = openvino.Core.compile_model

    def counting(*words: Any, **names: Any) -> Any:
        compiled.append(1)
        return original(*words, **names)

    openvino.Core.compile_model = counting
    parameters = (f"weights:={sys.argv[1]}", "engine:=openvino/fp32", "model:=sdstrack_tiny_test", "threads:=1",
                  "init_box:=[160.0, 120.0, 50.0, 50.0]", "max_targets:=2")  # fmt: skip
    rclpy.init(args=["--ros-args", *(word for value in parameters for word in ("-p", value))])
    node, camera = TrackerNode(), rclpy.create_node("camera", use_global_arguments=False)
    answers: list[Any] = []
    for name, kind in OUTPUTS.items():
        hear = answers.append if name == "detections" else lambda _: None
        camera.create_subscription(kind, f"/tracker/{name}", hear, 10)
    node.trigger_configure()
    node.trigger_activate()
    executor = SingleThreadedExecutor()
    for one in (node, camera):
        executor.add_node(one)
    publishers = {"/rgb/image_raw": Image, "/aux/image_raw": Image, "/camera_info": CameraInfo}
    rgb, aux, info = (camera.create_publisher(kind, topic, 5) for topic, kind in publishers.items())
    random = np.random.default_rng(1)
    color = image_message(random.integers(0, 255, (480, 640, 3), dtype=np.uint8), "rgb8", 0)
    depth = image_message((1500 + random.integers(0, 900, (480, 640))).astype(np.uint16), "16UC1", 0)
    calibration = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.0] * 5)
    calibration.header.frame_id = color.header.frame_id
    calibration.k = [300.0, 0.0, 320.0, 0.0, 300.0, 240.0, 0.0, 0.0, 1.0]
    before, made = set(sys.modules), len(compiled)
    deadline = time.monotonic() + PATIENCE_S
    while len(answers) < FRAMES and time.monotonic() < deadline:
        info.publish(calibration)
        stamp_ns = time.time_ns()
        for publisher, message in ((rgb, color), (aux, depth)):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
            publisher.publish(message)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            executor.spin_once(timeout_sec=0.02)
    facts = {
        "imported": sorted(set(sys.modules) - before),
        "compiled_before": made,
        "compiled": len(compiled) - made,
        "answers": len(answers),
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    node.finish()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
