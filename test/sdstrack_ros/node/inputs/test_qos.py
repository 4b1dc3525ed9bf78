from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from sdstrack_ros.node.inputs import qos
from sdstrack_ros.node.inputs.qos import subscribe
from testkit.ros.processes import wait_until

if TYPE_CHECKING:
    from testkit.ros.camera import RosTest

pytestmark = pytest.mark.ros


def test_a_middleware_without_qos_events_is_served_all_the_same(ros: RosTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No middleware here lacks them, so rclpy is made to find that its event cannot be had."""
    real, asked = qos.SubscriptionEventCallbacks, []

    class Callbacks(real):  # type: ignore[misc, valid-type]  # rclpy brings no types
        def create_event_handlers(self, *arguments: Any) -> Any:
            asked.append(self.incompatible_qos)
            if self.incompatible_qos is not None:
                raise qos.UnsupportedEventTypeError("no such event")
            return super().create_event_handlers(*arguments)

    monkeypatch.setattr(qos, "SubscriptionEventCallbacks", Callbacks)
    got: list[str] = []
    profile = QoSProfile(depth=5)
    subscription = subscribe(ros.node, String, "words", lambda message: got.append(message.data), profile, pytest.fail)
    assert len(asked) == 2
    assert asked[1] is None
    ros.publisher(String, "words").publish(String(data="hello"))
    ros.spin(1.0)
    assert got == ["hello"]
    ros.node.destroy_subscription(subscription)


def test_all_that_waits_is_handed_over_at_one_wake(ros: RosTest) -> None:
    got: list[str] = []
    subscription = subscribe(
        ros.node, String, "many", lambda message: got.append(message.data), QoSProfile(depth=50), pytest.fail
    )
    publisher = ros.publisher(String, "many", QoSProfile(depth=50))
    wait_until(lambda: publisher.get_subscription_count() == 1, 30, "a match", lambda: ros.spin(0.05))
    sent = [f"word {number}" for number in range(40)]
    for word in sent:
        publisher.publish(String(data=word))
    wakes = 0
    deadline = time.monotonic() + 30
    while len(got) < len(sent) and time.monotonic() < deadline:
        before = len(got)
        ros.executor.spin_once(timeout_sec=1.0)
        wakes += len(got) > before
    assert got == sent
    assert wakes < len(sent) / 2
    ros.node.destroy_subscription(subscription)


def test_other_callbacks_have_their_turn_in_a_storm(ros: RosTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qos, "TAKE_S", 0.0)
    got: list[str] = []
    subscription = subscribe(
        ros.node, String, "storm", lambda message: got.append(message.data), QoSProfile(depth=50), pytest.fail
    )
    publisher = ros.publisher(String, "storm", QoSProfile(depth=50))
    wait_until(lambda: publisher.get_subscription_count() == 1, 30, "a match", lambda: ros.spin(0.05))
    for number in range(3):
        publisher.publish(String(data=str(number)))
    wait_until(lambda: bool(got), 30, "the first", lambda: ros.executor.spin_once(timeout_sec=1.0))
    assert got == ["0"]
    wait_until(lambda: len(got) == 3, 30, "the others", lambda: ros.spin(0.05))
    assert got == ["0", "1", "2"]
    ros.node.destroy_subscription(subscription)
