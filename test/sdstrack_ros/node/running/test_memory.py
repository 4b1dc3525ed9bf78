"""The memory of the node is bounded in bytes, however large the images are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from testkit.process_memory import memory_mb
from testkit.reliability.matrix.outcome import Outcome, finish

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

LIMIT_MB = 64
TOPIC = "/rgb/image_raw/compressed"
# Beside what waits: the frame that is tracked, the message in the middleware, and what the libraries keep.
MARGIN_MB = 60


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    box = "[100.0, 100.0, 300.0, 300.0]"
    return {"autostart": True, "transport": "compressed", "memory_mb": LIMIT_MB, "init_box": box, "confidence": False}


def png(side: int) -> CompressedImage:
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[: side // 2] = 90
    message = CompressedImage(format="rgb8; png compressed bgr8")
    message.data.frombytes(cv2.imencode(".png", pixels)[1].tobytes())
    return message


def answered(rig: Rig, message: CompressedImage, key: str, count: int) -> None:
    """Send an image, each time with the time as its stamp, until a counter of the status has risen so far."""
    rgb = rig.ros.publisher(CompressedImage, TOPIC)
    rig.until(lambda: rgb.get_subscription_count() > 0, "the subscription")
    goal = int(rig.ros.value(key) or 0) + count
    deadline = time.monotonic() + 120
    while int(rig.ros.value(key) or 0) < goal:
        assert time.monotonic() < deadline, f"{key} = {rig.ros.value(key)}, expected {goal}"
        assert rig.process.alive()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 1_000_000_000)
        rgb.publish(message)
        rig.ros.spin(0.3)


def test_large_images_cost_no_more_than_the_budget_and_it_is_given_back(rig: Rig) -> None:
    rig.until(lambda: rig.ros.value("lifecycle") == "active", "an active node", 240.0)
    before = memory_mb(rig.process.pid, "VmRSS")
    answered(rig, png(2000), "frames.answered", 20)  # 12 MB each, 24 MB while they are decoded
    assert memory_mb(rig.process.pid, "VmHWM") - before < LIMIT_MB + MARGIN_MB
    assert int(rig.ros.value("memory.evicted")) > 10
    assert float(rig.ros.value("memory.waiting_mb")) <= LIMIT_MB
    answered(rig, png(64), "frames.answered", 35)
    assert float(rig.ros.value("memory.waiting_mb")) < 2
    assert memory_mb(rig.process.pid, "VmRSS") - before < MARGIN_MB


def test_an_image_beyond_the_budget_is_refused_unread_by_name(rig: Rig) -> None:
    rig.until(lambda: rig.ros.value("lifecycle") == "active", "an active node", 240.0)
    answered(rig, png(4000), "rgb.rejected", 5)
    assert "96 MB while it is decompressed; expected at most 32 MB, half of memory_mb" in rig.fault(TOPIC)
    outcome = Outcome(f"png of 2000 x 2000, then of 4000 x 4000, with memory_mb {LIMIT_MB}", stayed_up=True)
    outcome.shown = "expected at most 32 MB, half of memory_mb"
    finish("matrix", "largest png", outcome)
