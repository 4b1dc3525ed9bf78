"""The node on rclpy's experimental events executor: all that it needs an executor for, in one life of one node."""

from __future__ import annotations

import importlib.util
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rclpy
from event_camera_msgs.msg import EventPacket
from lifecycle_msgs.msg import Transition
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Detection2D

from sdstrack_ros.node.tracker_node import make_executor
from testkit.event_packets import mono_bytes
from testkit.ros.camera import HEIGHT, NODE, PATIENCE_S, WIDTH

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

HERE = importlib.util.find_spec("rclpy.experimental") is not None
needs_it = pytest.mark.skipif(not HERE, reason="this rclpy has no events executor")
ACTIVATE = Transition.TRANSITION_ACTIVATE


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    return {
        "autostart": True,
        "executor": "events",
        "init_box": "[200.0, 180.0, 60.0, 60.0]",
        "confidence": False,
    }


class Quiet:
    """A node with one setting, that writes down its warnings."""

    def __init__(self, executor: str) -> None:
        self.executor = executor
        self.warnings: list[str] = []

    @property
    def settings(self) -> Any:
        return self

    def get_logger(self) -> Any:
        return self

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_a_distribution_without_the_events_executor_says_so_and_uses_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy.experimental", None)
    node: Any = Quiet("events")
    rclpy.init()
    try:
        executor = make_executor(node)
        assert isinstance(executor, SingleThreadedExecutor)
        executor.shutdown()
    finally:
        rclpy.shutdown()
    assert "executor 'events' is not in this rclpy" in node.warnings[0]


@needs_it
def test_frames_are_answered_or_counted(rig: Rig) -> None:
    rig.active()
    rig.every_frame_is_counted(rig.film_to_the_last_answer(60))
    assert rig.ros.value("rgb.lost") == "unknown", "this executor does not say which messages came"


@needs_it
def test_services_parameters_timers_and_events_of_qos_work(rig: Rig) -> None:
    ros = rig.ros
    assert ros.lifecycle() == "active"
    assert ros.set_parameters(label="person").successful
    assert not ros.transition(ACTIVATE)
    before = len(ros.messages[f"{NODE}/status"])
    rig.until(lambda: len(ros.messages[f"{NODE}/status"]) > before + 1, "a timer that goes on")
    unreliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = ros.node.create_publisher(Detection2D, f"{NODE}/init_box", unreliable)
    rig.until(lambda: "publish ~/init_box reliably" in rig.fault("QoS of init_box"), "the QoS named")
    ros.node.destroy_publisher(publisher)


@needs_it
def test_it_is_reconfigured_and_reads_event_packets(rig: Rig) -> None:
    ros = rig.ros
    assert all(ros.transition(step) for step in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP))
    assert ros.set_parameters(modality="event").successful
    assert all(ros.transition(step) for step in (Transition.TRANSITION_CONFIGURE, ACTIVATE))
    events = ros.publisher(EventPacket, "/aux/events", 1000)
    rig.until(lambda: events.get_subscription_count() > 0, "a listener")
    random = np.random.default_rng(0)
    x, y, dt = random.integers(0, WIDTH, 500), random.integers(0, HEIGHT, 500), np.sort(random.integers(0, 10**6, 500))
    packet = EventPacket(height=HEIGHT, width=WIDTH, encoding="mono", events=mono_bytes(x, y, dt, x % 2))
    sent = 0

    def send() -> None:
        nonlocal sent
        stamp_ns = time.time_ns()
        packet.seq, packet.time_base = sent, stamp_ns
        packet.header.stamp.sec, packet.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        events.publish(packet)
        sent += 1

    def received() -> int:
        return int(ros.value("events.received") or 0)

    rig.send_until(send, lambda: received() > 0, "the first packet counted")
    earlier, begin = rig.settled("events.received"), sent
    while int(ros.value("sync.paired") or 0) < 10 and sent - begin < 900:  # no more than the queues hold
        rig.cameras.shoot(aux=False)
        for _ in range(5):
            send()
            ros.spin(0.006)
    rig.until(lambda: int(ros.value("sync.paired") or 0) >= 10, "pairs of colour and events")
    rig.until(lambda: received() - earlier == sent - begin, "every packet counted")


@needs_it
def test_it_ends_at_a_signal(rig: Rig) -> None:
    rig.process.process.send_signal(signal.SIGTERM)
    assert rig.process.process.wait(PATIENCE_S) == 0, rig.process.output[-2000:]
    assert "Traceback" not in rig.process.output
