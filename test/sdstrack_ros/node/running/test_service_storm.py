"""Services answer under a storm as far as the middleware keeps the requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger

from sdstrack_ros.node.inputs.qos import SERVICE_DEPTH

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ("kind", "name", "request_"),
    [(Trigger, "reset", Trigger.Request()), (SetBool, "pause", SetBool.Request(data=False))],
)
def test_as_many_requests_at_once_as_the_queue_holds_are_all_answered(
    rig: Rig, kind: Any, name: str, request_: Any
) -> None:
    rig.active()
    client = rig.ros.node.create_client(kind, f"/tracker/{name}", qos_profile=QoSProfile(depth=1000))
    rig.until(client.service_is_ready, f"the service {name}")
    rig.ros.spin(0.5)  # the node's writer has to find this client's reader
    futures = [client.call_async(request_) for _ in range(SERVICE_DEPTH)]
    deadline = time.monotonic() + 60
    while not all(future.done() for future in futures) and time.monotonic() < deadline:
        rig.ros.spin(0.1)
    answered = [future.result() for future in futures if future.done()]
    assert len(answered) == SERVICE_DEPTH
    assert all(response.success for response in answered)
    rig.ros.node.destroy_client(client)
