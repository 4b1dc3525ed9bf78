"""Damaged CDR bytes over DDS into every subscription of the running node: it stays, counts them, and goes on."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from geometry_msgs.msg import Point, PointStamped
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from vision_msgs.msg import Detection2D, Detection2DArray

from testkit.reliability.lengths import LONG, ONLY_LONG, examples, record
from testkit.reliability.matrix.bench import Bench, bench, number
from testkit.reliability.matrix.outcome import BOX, MEMORY_LIMIT_MB
from testkit.reliability.messages import corpus, messages, mutations
from testkit.reliability.weights import tiny_node
from testkit.ros.camera import START_PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.ros, pytest.mark.timeout(1800)]
# Topics whose messages the status counts one by one, and the name it counts them by.
COUNTED = {"/rgb/image_raw": "rgb", "/aux/image_raw": "aux", "/camera_info": "camera_info"}
SUBSCRIPTIONS: dict[str, Any] = {
    "/rgb/image_raw": Image,
    "/aux/image_raw": Image,
    "/camera_info": CameraInfo,
    "/tracker/init_box": Detection2D,
    "/tracker/init_roi": RegionOfInterest,
    "/tracker/init_pixel": Point,
    "/tracker/init_point": PointStamped,
    "/tracker/candidates": Detection2DArray,
}
SHORT = ("/rgb/image_raw", "/camera_info", "/tracker/init_box", "/tracker/candidates")
BATCH = 20


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("wire")
    parameters = tiny_node(
        folder,
        init_box=str(list(BOX)),
        adopt_candidates=True,
        input_reliability="reliable",
        input_depth=1000,
    )
    with bench(folder, parameters) as running:
        yield running


def _send(publisher: Any, seed: bytes, source: random.Random) -> bytes:
    """Publish a damaged copy; a type of fixed size does not leave DDS when it has grown, so it keeps its length."""
    # Fast DDS never delivers what a reliable writer sends after an empty payload; only that writer's own stream ends.
    damaged = next(iter(mutations(seed, source, 1))) or seed[:4]
    try:
        publisher.publish(damaged)
    except rclpy_implementation.RCLError:
        damaged = damaged[: len(seed)]
        publisher.publish(damaged)
    return damaged


def _heard(bench: Bench, publisher: Any, whole: bytes, name: str) -> None:
    """Wait until the node hears this publisher, since DDS matches the two sides one by one; then until it is quiet."""
    start = number(bench.values(), f"{name}.received")
    while number(bench.values(), f"{name}.received") <= start:
        publisher.publish(whole)
    settled = -1
    while (now := number(bench.values(), f"{name}.received")) != settled:
        settled = now


def _arrives(data: bytes, kind: Any) -> bool:
    """Whether DDS hands the bytes on, were it only for an exception in the executor."""
    try:
        deserialize_message(data, kind)
    except Exception as error:  # noqa: BLE001  # the binding has an exception of its own in every distribution
        return "deserialize" not in str(error)
    return True


def _executor_faults(bench: Bench) -> int:
    return int(bench.ros.value("fault.executor").partition(" ")[0] or 0)


@pytest.mark.parametrize("topic", SUBSCRIPTIONS if LONG else SHORT)
def test_damaged_bytes_on_the_wire(wire: Bench, topic: str) -> None:
    kind = SUBSCRIPTIONS[topic]
    count = examples(150)
    source = random.Random(f"wire {topic}")
    seeds = [serialize_message(message) for message in corpus(messages(kind), 40)]
    # The cameras are silent, so that every message of the topic is one of these.
    wire.camera.set(rate_hz=0.001)
    publisher = wire.ros.publisher(kind, topic, QoSProfile(depth=1000))
    wire.until(lambda: publisher.get_subscription_count() > 0, 30, f"the node's subscription to {topic}")
    if topic in COUNTED:
        _heard(wire, publisher, seeds[0], COUNTED[topic])
    before, faults, memory, pid = wire.values(), _executor_faults(wire), wire.resources(), wire.node.pid
    sent = dropped = 0
    while sent < count:
        for _ in range(min(BATCH, count - sent)):
            data = _send(publisher, seeds[sent % len(seeds)], source)
            dropped += kind is not Image and not _arrives(data, kind)  # the node reads images itself, whatever they are
            sent += 1
        wire.spin(0.02)
    name = COUNTED.get(topic)

    def accounted() -> int:
        values = wire.values()
        received = number(values, f"{name}.received") - number(before, f"{name}.received")
        return received + _executor_faults(wire) - faults

    if name is not None:
        # What DDS cannot deserialise it drops without a word to the node, but for images, which the node takes as they
        # are; every other message is counted by it.
        # After bytes that it drops it may keep what waits behind them until something comes, so whole ones follow.
        whole, tolerance = 0, 1 + sent // 50
        deadline = time.monotonic() + 60
        while abs(accounted() - sent + dropped - whole) > tolerance and time.monotonic() < deadline:
            publisher.publish(seeds[0])
            whole += 1
        # DDS reads past some cut fields, so it takes up to two of a hundred otherwise than `_arrives` did.
        assert abs(accounted() - sent + dropped - whole) <= tolerance, (accounted(), sent, dropped, whole)
    wire.camera.set()
    wire.healthy(90)
    wire.aim(BOX)
    assert wire.node.alive()
    assert wire.node.pid == pid
    grown = wire.resources().rss_mb - memory.rss_mb
    assert grown < MEMORY_LIMIT_MB
    refused = number(wire.values(), f"{name}.rejected") - number(before, f"{name}.rejected")
    assert (refused if kind is Image else dropped) > 0  # else nothing was damaged
    record("fuzz", f"wire {topic.replace('/', ' ').strip()}",
           {"sent": sent, "dropped by DDS": dropped, "memory_mb": round(grown, 1)})  # fmt: skip


@pytest.mark.skipif(not LONG, reason=ONLY_LONG)
def test_damaged_bytes_on_compressed_topics(tmp_path: Any) -> None:
    parameters = tiny_node(tmp_path, transport="compressed")
    with bench(tmp_path, parameters, wait=False) as running:
        running.until(lambda: running.ros.value("lifecycle") == "active", START_PATIENCE_S, "an active node")
        for topic in ("/rgb/image_raw/compressed", "/aux/image_raw/compressedDepth"):
            source = random.Random(f"wire {topic}")
            seeds = [serialize_message(message) for message in corpus(messages(CompressedImage), 40)]
            publisher = running.ros.publisher(CompressedImage, topic, QoSProfile(depth=1000))
            dropped = 0
            for number_of in range(examples(150)):
                dropped += not _arrives(_send(publisher, seeds[number_of % len(seeds)], source), CompressedImage)
                if number_of % BATCH == 0:
                    running.spin(0.02)
            running.values()
            assert running.node.alive()
            record("fuzz", f"wire {topic.replace('/', ' ').strip()}",
                   {"sent": examples(150), "dropped by DDS": dropped})  # fmt: skip
