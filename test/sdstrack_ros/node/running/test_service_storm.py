"""Services answer under a storm as far as the middleware keeps the requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger

from sdstrack_ros.node.inputs.qos import SERVICE_DEPTH
from testkit.reliability.lengths import LONG, record
from testkit.ros.camera import PATIENCE_S

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

STORM_S = 10.0 if LONG else 1.0
CLIENTS, CALLS_PER_S = 4, 200
_OUT_OF_RANGE = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=-1.0)
_CHANGE = ChangeState.Request()
_CHANGE.transition.label = "configure"  # which an active node cannot
# By name: its kind, a request, whether the answer is a refusal, and the depth of the client's queue; ROS's own is 10.
SERVICES: dict[str, tuple[Any, Any, Any, int]] = {
    "reset": (Trigger, Trigger.Request(), lambda answer: not answer.success, SERVICE_DEPTH),
    "pause": (SetBool, SetBool.Request(data=False), lambda answer: not answer.success, SERVICE_DEPTH),
    "get_state": (GetState, GetState.Request(), lambda answer: not answer.current_state.label, 10),
    "change_state": (ChangeState, _CHANGE, lambda answer: not answer.success, 10),
    "get_parameters": (GetParameters, GetParameters.Request(names=["model"]), lambda answer: not answer.values, 10),
    "set_parameters": (
        SetParameters, SetParameters.Request(parameters=[Parameter(name="max_skew_s", value=_OUT_OF_RANGE)]),
        lambda answer: not answer.results[0].successful, 10,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVICES)
def test_a_storm_of_calls_leaves_the_service_and_the_node_answering(rig: Rig, name: str) -> None:
    kind, request, refuses, depth = SERVICES[name]
    rig.active()
    clients = [
        rig.ros.node.create_client(kind, f"/tracker/{name}", qos_profile=QoSProfile(depth=depth))
        for _ in range(CLIENTS)
    ]
    rig.until(lambda: all(client.service_is_ready() for client in clients), f"the service {name}")
    rig.ros.spin(0.5)  # the node's writer has to find these clients' readers
    futures = []
    begin = time.monotonic()
    while (passed_s := time.monotonic() - begin) < STORM_S:
        while len(futures) < passed_s * CALLS_PER_S:
            futures.append(clients[len(futures) % CLIENTS].call_async(request))
        rig.ros.spin(0.005)
    done = -1
    while done < (done := sum(future.done() for future in futures)):  # until nothing comes any more
        rig.ros.spin(3.0)
    answers = [future.result() for future in futures if future.done()]
    refused = sum(map(refuses, answers))
    record("storms", name, {"sent": len(futures), "answered": len(answers), "of them refusals": refused})
    assert refused == (len(answers) if name in ("change_state", "set_parameters") else 0)
    if depth == SERVICE_DEPTH and len(futures) <= SERVICE_DEPTH:
        assert len(answers) == len(futures)
    last = clients[0].call_async(request)
    rig.until(last.done, f"{name} after the storm")
    before = len(rig.ros.messages["/tracker/status"])
    rig.until(lambda: len(rig.ros.messages["/tracker/status"]) > before, "a status after the storm", PATIENCE_S)
    assert rig.ros.value("lifecycle") == "active"
    for client in clients:
        rig.ros.node.destroy_client(client)
