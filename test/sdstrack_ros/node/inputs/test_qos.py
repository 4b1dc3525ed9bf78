from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from sdstrack_ros.node.inputs import qos
from sdstrack_ros.node.inputs.qos import subscribe
from testkit.ros.camera import PATIENCE_S
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
    publisher = ros.publisher(String, "words")
    wait_until(lambda: publisher.get_subscription_count() > 0, PATIENCE_S, "the subscription", ros.spin)
    publisher.publish(String(data="hello"))
    wait_until(lambda: got == ["hello"], PATIENCE_S, "the word", ros.spin)
    ros.node.destroy_subscription(subscription)
