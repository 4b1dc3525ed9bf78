"""Inputs other than two raw images: event packets, and compressed colour with thermal at a third of the rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from event_camera_msgs.msg import EventPacket
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection3DArray

from ckd_core.models.checkpoint import metadata_of, save_model
from ckd_core.models.registry import build_model
from testkit.ros.camera import HEIGHT, NODE, OPTICAL_FRAME, START_PATIENCE_S, WIDTH, image_message
from testkit.ros.rig import running_node

if TYPE_CHECKING:
    from pathlib import Path

    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

INIT = {
    "autostart": True,
    "init_box": "[200.0, 180.0, 60.0, 60.0]",
    "confidence": False,
    "shed_outputs": False,  # a busy machine would leave out what this test checks
}


def mono_packet(stamp_ns: int, box: tuple[int, int, int, int], seq: int, random: np.random.Generator) -> EventPacket:
    """Events at a box's edge within the last 30 ms, in the documented 64-bit layout."""
    count = 400
    x = np.uint64(box[0]) + random.integers(0, box[2], count).astype(np.uint64)
    y = np.uint64(box[1]) + random.integers(0, box[3], count).astype(np.uint64)
    dt = np.sort(random.integers(0, 30_000_000, count)).astype(np.uint64)
    polarity = random.integers(0, 2, count).astype(np.uint64)
    words = (polarity << np.uint64(63)) | (y << np.uint64(48)) | (x << np.uint64(32)) | dt
    packet = EventPacket(height=HEIGHT, width=WIDTH, seq=seq, encoding="mono", time_base=stamp_ns - 30_000_000)
    packet.header.frame_id = OPTICAL_FRAME
    packet.header.stamp.sec, packet.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    packet.events = words.astype("<u8").tobytes()
    return packet


def test_weights_of_another_camera_are_a_warning_on_status(tmp_path: Path) -> None:
    model, path = build_model("sdstrack_tiny_test", seed=3), tmp_path / "rgbd.safetensors"
    save_model(path, model, metadata_of(model, ["depth"], "seeded random numbers"))
    with running_node(path, tmp_path, modality="thermal", autostart=True) as rig:
        rig.until(lambda: rig.ros.value("lifecycle") == "active", "the node is active", START_PATIENCE_S)
        rig.until(lambda: "trained with depth cameras, and this is thermal" in rig.ros.status.message, "warning")
        assert rig.ros.status.level == DiagnosticStatus.WARN


def test_event_packets_become_the_auxiliary_image(tiny_weights: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    with running_node(tiny_weights, tmp_path, modality="event", overlay_side_by_side=True, **INIT) as rig:
        ros, cameras = rig.ros, rig.cameras
        events = ros.publisher(EventPacket, "/aux/events", 100)
        ros.listen(Image, f"{NODE}/overlay")
        rig.until(lambda: events.get_subscription_count() > 0 and cameras.rgb.get_subscription_count() > 0, "listeners")
        sequence = 0

        def film(frames: int) -> None:
            nonlocal sequence
            for _ in range(frames):
                box = cameras.box(cameras.index)
                events.publish(mono_packet(cameras.shoot(aux=False), box, sequence, random))
                sequence += 1
                ros.spin(0.033)

        def paired() -> int:
            return int(ros.value("sync.paired") or 0)

        def boxes() -> bool:
            return any(message.detections for message in ros.detections)

        def drawn() -> bool:
            pictures = ros.messages[f"{NODE}/overlay"]
            if not pictures:
                return False
            right = np.frombuffer(pictures[-1].data, np.uint8).reshape(HEIGHT, 2 * WIDTH, 3)[:, WIDTH:]
            colours = {tuple(int(v) for v in colour) for colour in np.unique(right.reshape(-1, 3), axis=0)}
            return {(255, 255, 255), (255, 0, 0), (0, 0, 255)} <= colours

        rig.send_until(
            lambda: film(10), lambda: paired() > 10 and boxes() and drawn(), "pairs, boxes, and events that are drawn"
        )

        def rejected() -> int:
            return int(ros.value("events.rejected") or 0)

        for encoding in ("evt9", "mono"):
            before = rig.settled("events.rejected")

            def send(encoding: str = encoding) -> None:
                broken = mono_packet(time.time_ns(), (0, 0, 9, 9), sequence, random)
                broken.encoding, broken.events = encoding, b"123"
                events.publish(broken)

            rig.send_until(send, lambda before=before: rejected() > before, f"a broken packet of {encoding} counted")
        assert "/aux/events" in ros.value("events.topic")
        ros.detections.clear()
        rig.send_until(lambda: film(5), boxes, "boxes after the broken packets")
        reconfigure(rig, event_input="image")
        begin = paired()

        def film_images() -> None:
            for _ in range(10):
                x, y, w, h = cameras.box(cameras.index)
                stamp = cameras.shoot(aux=False)
                picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
                picture[y : y + h, x : x + w] = (255, 0, 0)
                cameras.aux.publish(image_message(picture, "rgb8", stamp))
                ros.spin(0.033)

        rig.send_until(film_images, lambda: paired() > begin + 10, "pairs of colour and ready-made images")


def reconfigure(rig: Rig, **parameters: Any) -> None:
    """Take the node through its lifecycle with other parameters."""
    down = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    up = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    assert all(rig.ros.transition(step) for step in down)
    result = rig.ros.set_parameters(**parameters)
    assert result.successful, result.reason
    assert all(rig.ros.transition(step) for step in up)
    rig.ros.messages.clear()
    rig.until(lambda: rig.ros.value("lifecycle") == "active", "an active node")


FORMATS = {
    "jpeg": "bgr8; jpeg compressed bgr8",
    "png": "mono16; png compressed ",
    "depth": "16UC1; compressedDepth png",
}


def compressed(pixels: np.ndarray[Any, Any], stamp_ns: int, kind: str) -> CompressedImage:
    """A message as the plugins of image_transport send it; compressedDepth has a header of twelve bytes."""
    ok, data = cv2.imencode(".jpg" if kind == "jpeg" else ".png", pixels)
    assert ok
    head = bytes(12) if kind == "depth" else b""
    message = CompressedImage(format=FORMATS[kind], data=head + data.tobytes())
    message.header.frame_id = OPTICAL_FRAME
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def test_compressed_colour_and_a_thermal_camera_at_a_third_of_the_rate(tiny_weights: Path, tmp_path: Path) -> None:
    parameters = {"modality": "thermal", "transport": "compressed", "aux_hold_s": 0.15, "stale_after_s": 0.5}
    with running_node(tiny_weights, tmp_path, **parameters, **INIT) as rig:
        ros, cameras = rig.ros, rig.cameras
        wrong = ros.node.create_publisher(Image, "/rgb/image_raw/compressed", 1)
        mistake = "'/test' sends sensor_msgs/msg/Image, this node reads sensor_msgs/msg/CompressedImage"
        rig.until(lambda: mistake in rig.process.output, "a publisher of another type named")
        ros.node.destroy_publisher(wrong)
        rgb = ros.publisher(CompressedImage, "/rgb/image_raw/compressed")
        aux = ros.publisher(CompressedImage, "/aux/image_raw/compressed")
        rig.until(lambda: rgb.get_subscription_count() > 0 and aux.get_subscription_count() > 0, "listeners")

        def film(aux: Any, kind: str, every: int) -> None:
            for number in range(15):
                color, depth = cameras.images(cameras.index)
                cameras.index += 1
                stamp = time.time_ns()
                if number % every == 0:
                    aux.publish(compressed(depth, stamp, kind))
                rgb.publish(compressed(color, stamp, "jpeg"))
                ros.spin(0.033)

        rig.send_until(
            lambda: film(aux, "png", 3),
            lambda: (
                ros.count("held") > 0
                and int(ros.value("sync.paired") or 0) > 3
                and any(message.detections for message in ros.detections)
            ),
            "pairs, frames with a held thermal image, and boxes",
        )
        for data in (b"", b"\xff\xd8\xff\xe0junk"):
            before = rig.settled("rgb.rejected")
            broken = CompressedImage(format="jpeg", data=data)

            def send(broken: CompressedImage = broken) -> None:
                broken.header = compressed(cameras.images(0)[1], time.time_ns(), "png").header
                rgb.publish(broken)

            rig.send_until(
                send, lambda before=before: int(ros.value("rgb.rejected") or 0) > before, f"{data!r} counted as broken"
            )
        reconfigure(rig, modality="depth")
        rig.calibrate()
        depth_topic = ros.publisher(CompressedImage, "/aux/image_raw/compressedDepth")
        ros.listen(Detection3DArray, f"{NODE}/detections_3d")
        rig.until(lambda: depth_topic.get_subscription_count() > 0, "a listener for depth")
        metric = ros.messages[f"{NODE}/detections_3d"]
        rig.send_until(
            lambda: film(depth_topic, "depth", 1),
            lambda: any(message.detections for message in metric),
            "boxes in metres from compressed depth",
        )
