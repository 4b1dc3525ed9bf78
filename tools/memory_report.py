"""Measure the memory of the real node by camera, and write the table in docs/reliability.md.

Each camera has a node of its own; the images come over DDS from this process. Memory is VmRSS while active without
images, its highest value (VmHWM) while they flow, and VmRSS a few seconds after small ones took their place.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from testkit.process_memory import memory_mb
from testkit.reliability.about import about
from testkit.reliability.weights import write_tiny_weights
from testkit.ros.camera import image_message
from testkit.ros.rig import Rig, running_node
from tools.paste_table import paste

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[1] / "docs" / "reliability.md"
NS = 1_000_000_000
HEAD = (
    "camera", "rate", "memory_mb", "idle", "highest", "more than idle", "of it shared", "afterwards", "frames",
    "refused",
)  # fmt: skip


@dataclass(frozen=True)
class Camera:
    """What is sent.

    Attributes:
        name: of the camera.
        size: width and height of the colour image.
        rate_hz: of both images.
        compressed: colour as png, no depth.
        sixteen_bit: colour of four channels of 16 bits.

    """

    name: str
    size: tuple[int, int]
    rate_hz: float = 30.0
    compressed: bool = False
    sixteen_bit: bool = False


CAMERAS = (
    Camera("640 x 480 raw rgb8 + 16UC1", (640, 480)),
    Camera("1920 x 1080 raw rgb8 + 16UC1", (1920, 1080)),
    Camera("3840 x 2160 raw rgb8 + 16UC1", (3840, 2160)),
    Camera("6400 x 6400 png, the largest allowed", (6400, 6400), 0.7, compressed=True),
    Camera("8192 x 8192 png", (8192, 8192), 0.7, compressed=True),
    Camera("8192 x 8192 png of 4 x 16 bits", (8192, 8192), 0.7, compressed=True, sixteen_bit=True),
)


def messages_of(camera: Camera) -> tuple[Any, Any]:
    """The colour and the depth message; no depth where colour is compressed."""
    width, height = camera.size
    channels, kind = (4, np.uint16) if camera.sixteen_bit else (3, np.uint8)
    pixels = np.zeros((height, width, channels), kind)
    pixels[: height // 2] = 90
    if camera.compressed:
        message = CompressedImage(format="rgb8; png compressed bgr8")
        message.data.frombytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
        return message, None
    return image_message(pixels, "rgb8", 0), image_message(np.full((height, width), 4000, np.uint16), "16UC1", 0)


def send(rig: Rig, pair: tuple[Any, Any], camera: Camera, seconds: float) -> int:
    """Publish pairs at the camera's rate; returns how many."""
    qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
    kind, suffix = (CompressedImage, "/compressed") if camera.compressed else (Image, "")
    topics = [rig.ros.publisher(kind, f"/rgb/image_raw{suffix}", qos)]
    if pair[1] is not None:
        topics.append(rig.ros.publisher(Image, "/aux/image_raw", qos))
    rig.until(lambda: all(topic.get_subscription_count() for topic in topics), "the node's subscriptions")
    sent, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        stamp_ns = time.time_ns()
        for topic, message in zip(topics, pair, strict=False):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS)
            topic.publish(message)
        sent += 1
        rig.ros.spin(max(0.001, begin + sent / camera.rate_hz - time.monotonic()))
    return sent


def settle(rig: Rig, patience_s: float = 60.0) -> None:
    """Wait until the node has served what it was sent: its counters stand still for three seconds."""
    before: dict[str, str] = {}
    deadline, still_s = time.monotonic() + patience_s, 0
    while still_s < 3 and time.monotonic() < deadline:
        rig.ros.spin(1.0)
        now = {pair.key: pair.value for pair in rig.ros.status.values if pair.key.startswith("frames.")}
        still_s, before = still_s + 1 if now == before else 0, now


def measure(camera: Camera, limit_mb: int, seconds: float) -> dict[str, Any]:
    """Run one node for one camera."""
    with tempfile.TemporaryDirectory() as folder:
        weights = write_tiny_weights(Path(folder) / "weights.safetensors")
        parameters: dict[str, Any] = {"autostart": True, "memory_mb": limit_mb, "init_box": "[20.0, 20.0, 60.0, 60.0]"}
        if camera.compressed:
            parameters["transport"] = "compressed"
        with running_node(weights, Path(folder), **parameters) as rig:
            rig.until(lambda: rig.ros.value("lifecycle") == "active", "an active node", 240.0)
            pid = rig.process.pid
            idle, shared_idle = memory_mb(pid, "VmRSS"), memory_mb(pid, "RssShmem")
            send(rig, messages_of(camera), camera, seconds)
            settle(rig)
            highest = memory_mb(pid, "VmHWM")
            shared = memory_mb(pid, "RssShmem")
            frames, refused = rig.ros.count("answered"), rig.ros.value("rgb.rejected")
            small = Camera("small", (64, 48), 15.0, camera.compressed)
            send(rig, messages_of(small), small, 5.0)
            settle(rig)
            return {
                "camera": camera.name,
                "rate": f"{camera.rate_hz:g} Hz",
                "memory_mb": limit_mb,
                "idle": round(idle),
                "highest": round(highest),
                "more than idle": round(highest - idle),
                "of it shared": round(shared - shared_idle),
                "afterwards": round(memory_mb(pid, "VmRSS")),
                "frames": frames,
                "refused": refused or "0",
            }


def write_table(rows: list[dict[str, Any]], docs: Path = DOCS) -> None:
    """Put the table between its marks."""
    note = about()
    lines = [f"{note['date']}, {note['machine']}; {note['versions']}. MB of resident memory.", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(str(row[name]) for name in HEAD) + " |" for row in rows]
    paste(docs, "memory", "\n".join(lines))


def main(report: Callable[[str], object] = print) -> None:
    """Measure every camera."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="how long images flow, per camera")
    parser.add_argument("--limit", type=int, default=512, help="the node's memory_mb")
    options = parser.parse_args()
    rows = []
    for camera in CAMERAS:
        rows.append(measure(camera, options.limit, options.seconds))
        report(str(rows[-1]))
    write_table(rows)


if __name__ == "__main__":
    main()
