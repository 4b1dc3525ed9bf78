"""Listens to two cameras for a moment: who publishes, what comes, and why pairs do not. For `sdstrack doctor`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, Image

from ckd_core.errors import TrackingError
from ckd_core.text import shown
from sdstrack_ros.messages.stamps import stamp_of
from sdstrack_ros.node.inputs.qos import sensor_qos, several_publishers, why_silent
from sdstrack_ros.sync.frame_builder import FrameBuilder, make_synchronizer
from sdstrack_ros.sync.pair_watch import PairWatch
from sdstrack_ros.sync.stamp_guard import StampGuard
from sdstrack_ros.sync.types import SyncConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckd_core.frame import Modality
    from sdstrack_ros.sync.types import SyncedSet

DISCOVERY_S = 3.0
EVENT_PACKET = "event_camera_msgs/msg/EventPacket"


@dataclass(slots=True)
class TopicReport:
    """What two topics brought.

    Attributes:
        received: number of messages by topic.
        problems: what is wrong, in words.

    """

    received: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def check_live_topics(rgb: str, aux: str, modality: Modality, seconds: float) -> TopicReport:
    """Receive the images of both topics as the node would, without tracking.

    Args:
        rgb: colour topic; '' for none.
        aux: topic of the auxiliary camera; '' for none.
        modality: of the auxiliary camera.
        seconds: how long to listen.

    """
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("sdstrack_doctor", context=context, enable_rosout=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        return _Listener(node, executor, rgb, aux, modality).listen(seconds)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


class _Listener:
    def __init__(self, node: Any, executor: Any, rgb: str, aux: str, modality: Modality) -> None:
        self._node, self._executor, self._rgb, self._aux = node, executor, rgb, aux
        self._topics = [topic for topic in (rgb, aux) if topic]
        self._report = TopicReport()
        self._reasons: Counter[str] = Counter()
        self._types = self._discover()
        packets = self._types.get(aux) == EVENT_PACKET
        config = SyncConfig()
        self._sync = make_synchronizer(config, packets)
        self._guard = StampGuard(config)
        self._watch = PairWatch(config, rgb, aux, modality.value, packets=packets, registered=False)
        self._builder = FrameBuilder(modality, rgb, aux, watch=self._watch)

    def listen(self, seconds: float) -> TopicReport:
        for topic, name in self._types.items():
            kind = _message_class(name)
            if kind is None:
                self._report.problems.append(f"{topic} is {shown(name)}; expected images or event packets")
                continue
            self._node.create_subscription(
                kind,
                topic,
                lambda message, topic=topic: self._on_message(topic, message),
                sensor_qos("best_effort", 50),
            )
        self._spin(seconds)
        self._build(self._sync.poll(time.monotonic_ns()))
        problems = self._report.problems
        for topic in self._topics:
            name = self._types.get(topic, "sensor_msgs/msg/Image")
            if not self._report.received[topic]:
                reason = why_silent(self._node, topic, sensor_qos("best_effort", 50), name)
                problems.append(f"nothing on {topic} within {seconds:g} s: {reason}")
            problems += filter(None, [several_publishers(self._node, topic)])
        problems += [f"{count} messages refused: {reason}" for reason, count in self._reasons.items()]
        problems += self._watch.remarks().values()
        return self._report

    def _discover(self) -> dict[str, str]:
        """Return the types of the topics that have one."""
        deadline = time.monotonic() + DISCOVERY_S
        while True:
            known = dict(self._node.get_topic_names_and_types())
            found = {topic: known[topic][0] for topic in self._topics if known.get(topic)}
            if len(found) == len(self._topics) or time.monotonic() > deadline:
                return found
            self._spin(0.1)

    def _spin(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))

    def _on_message(self, topic: str, message: Any) -> None:
        self._report.received[topic] += 1
        stream, now_ns = ("rgb" if topic == self._rgb else "aux"), time.monotonic_ns()
        clock_ns = self._node.get_clock().now().nanoseconds
        reason = self._guard.refusal(stream, message.header.stamp, now_ns, clock_ns)
        try:
            if reason:
                raise TrackingError(reason)
            self._watch.seen(stream, message, stamp_of(message), now_ns)
            add = self._sync.add_color if stream == "rgb" else self._sync.add_aux
            self._build(add(stamp_of(message), now_ns, message))
        except TrackingError as error:
            self._reasons[f"{topic}: {error}"] += 1

    def _build(self, released: Iterable[SyncedSet]) -> None:
        for synced in released:
            self._watch.released(synced)
            _, rejections = self._builder.build(synced)
            self._reasons.update(rejection.reason for rejection in rejections)


def _message_class(name: str) -> Any:
    if name == EVENT_PACKET:
        try:
            from event_camera_msgs.msg import EventPacket
        except ImportError:
            return None
        return EventPacket
    return {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}.get(name)
