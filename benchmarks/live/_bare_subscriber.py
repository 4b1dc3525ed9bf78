"""A subscriber that takes images and notes how old each is, and does nothing else: what the middleware alone costs.

A process with the node's QoS and rclpy's own executor; on SIGINT it writes the ages [ms] of the colour images of
`SETTLE_S` after its first one to the file named by `AGES_FILE`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import Image

from sdstrack_ros.messages.stamps import stamp_of
from sdstrack_ros.node.inputs.qos import sensor_qos

AGES_FILE = "SDSTRACK_BARE_AGES"
SETTLE_S = 3.0


def main() -> None:
    """Run until SIGINT; the parameters are those of the node that count here."""
    rclpy.init()
    node = rclpy.create_node("bare", automatically_declare_parameters_from_overrides=True)
    depth = node.get_parameter("input_depth").value
    packets = node.get_parameter("modality").value == "event"
    ages: list[tuple[float, float]] = []

    def on_color(message: Any) -> None:
        ages.append((time.monotonic(), (time.time_ns() - stamp_of(message)) / 1e6))

    node.create_subscription(Image, "/rgb/image_raw", on_color, sensor_qos("best_effort", depth))
    if packets:
        node.create_subscription(EventPacket, "/aux/events", lambda _: None, sensor_qos("best_effort", 1000))
    else:
        node.create_subscription(Image, "/aux/image_raw", lambda _: None, sensor_qos("best_effort", depth))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:  # an interrupt inside a wait or a take comes out as an error of the middleware
        settled = [age for at, age in ages if at - ages[0][0] > SETTLE_S]
        Path(os.environ[AGES_FILE]).write_text(json.dumps(settled))
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
