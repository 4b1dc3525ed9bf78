"""Services answer, topics are heard and parameters kept under a storm, as far as the middleware keeps the messages."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, Any

import pytest
from geometry_msgs.msg import Point, PointStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.qos import QoSProfile
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from sdstrack_ros.node.inputs.qos import SERVICE_DEPTH
from testkit.reliability.lengths import LONG, record
from testkit.ros.camera import PATIENCE_S, START_PATIENCE_S, stamp_of

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

STORM_S = 10.0 if LONG else 1.0
ASKED_AGAIN_S = 5.0
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
    "set_parameters_atomically": (
        SetParametersAtomically,
        SetParametersAtomically.Request(parameters=[Parameter(name="max_skew_s", value=_OUT_OF_RANGE)]),
        lambda answer: not answer.result.successful, 10,
    ),
    "describe_parameters": (
        DescribeParameters, DescribeParameters.Request(names=["model"]), lambda answer: not answer.descriptors, 10
    ),
    "get_parameter_types": (
        GetParameterTypes, GetParameterTypes.Request(names=["model"]), lambda answer: not answer.types, 10
    ),
    "list_parameters": (
        ListParameters, ListParameters.Request(), lambda answer: "model" not in answer.result.names, 10
    ),
    "get_available_states": (
        GetAvailableStates, GetAvailableStates.Request(), lambda answer: not answer.available_states, 10
    ),
    "get_available_transitions": (
        GetAvailableTransitions, GetAvailableTransitions.Request(), lambda answer: not answer.available_transitions, 10
    ),
    "get_transition_graph": (
        GetAvailableTransitions, GetAvailableTransitions.Request(), lambda answer: not answer.available_transitions, 10
    ),
}  # fmt: skip
if importlib.util.find_spec("type_description_interfaces"):  # since Iron
    from type_description_interfaces.srv import GetTypeDescription

    _UNKNOWN = GetTypeDescription.Request(type_name="sensor_msgs/msg/Nothing")
    SERVICES["get_type_description"] = (GetTypeDescription, _UNKNOWN, lambda answer: not answer.successful, 10)
REFUSED = {"change_state", "set_parameters", "set_parameters_atomically", "get_type_description"}
SHORT = ("reset", "pause", "change_state", "set_parameters")


@pytest.mark.parametrize("name", SERVICES if LONG else SHORT)
def test_a_storm_of_calls_leaves_the_service_and_the_node_answering(rig: Rig, name: str) -> None:
    kind, request, refuses, depth = SERVICES[name]
    rig.active()
    clients = [
        rig.ros.node.create_client(kind, f"/tracker/{name}", qos_profile=QoSProfile(depth=depth))
        for _ in range(CLIENTS)
    ]
    for client in clients:
        answer_of(rig, client, request)
    futures = []
    begin = time.monotonic()
    while (passed_s := time.monotonic() - begin) < STORM_S:
        while len(futures) < passed_s * CALLS_PER_S:
            futures.append(clients[len(futures) % CLIENTS].call_async(request))
        rig.ros.spin(0.005)
    if depth == SERVICE_DEPTH and len(futures) <= SERVICE_DEPTH:
        rig.until(lambda: all(future.done() for future in futures), "an answer to every call")
    for client in clients:
        answer_of(rig, client, request)  # the last one: nothing comes any more
    answers = [future.result() for future in futures if future.done()]
    refused = sum(map(refuses, answers))
    record("storms", name, {"sent": len(futures), "answered": len(answers), "of them refusals": refused})
    assert refused == (len(answers) if name in REFUSED else 0)
    require_active(rig)
    for client in clients:
        rig.ros.node.destroy_client(client)


def answer_of(rig: Rig, client: Any, request: Any) -> Any:
    """The answer to one call, which is repeated where it gets none.

    A service's writer drops its answer where it has not found the client's reader yet.
    """
    rig.until(client.service_is_ready, f"the service {client.srv_name}", START_PATIENCE_S)
    futures: list[Any] = []
    deadline = time.monotonic() + PATIENCE_S
    while not any(future.done() for future in futures):
        assert time.monotonic() < deadline, f"no answer from {client.srv_name}\n{rig.process.output[-3000:]}"
        futures.append(client.call_async(request))
        again = time.monotonic() + ASKED_AGAIN_S
        while not any(future.done() for future in futures) and time.monotonic() < again:
            rig.ros.spin()
    return next(future.result() for future in futures if future.done())


def require_active(rig: Rig) -> None:
    """Check that the node reports, is active, and takes a target."""
    before = len(rig.ros.messages["/tracker/status"])
    rig.until(lambda: len(rig.ros.messages["/tracker/status"]) > before, "a status after the storm", PATIENCE_S)
    assert rig.ros.value("lifecycle") == "active"
    rig.ros.call(Trigger, "/tracker/reset", Trigger.Request())
    since_ns = rig.film_to_the_last_answer(5)[-1]  # a box on images that have stopped is refused
    publisher = rig.ros.publisher(Detection2D, "/tracker/init_box")
    rig.until(lambda: publisher.get_subscription_count() > 0, "a listener on ~/init_box")
    publisher.publish(box(200.0))
    rig.film_until(
        lambda: any(message.detections and stamp_of(message) > since_ns for message in rig.ros.detections),
        "a target after the storm",
    )


def box(x: float, target_id: str = "") -> Detection2D:
    """A box of 60 x 60 pixels."""
    message = Detection2D(id=target_id)
    message.bbox.center.position.x, message.bbox.center.position.y = x, 200.0
    message.bbox.size_x = message.bbox.size_y = 60.0
    return message


def candidates(x: float) -> Detection2DArray:
    """What a detector says."""
    detection = box(x)
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = "person", 0.9
    detection.results = [result]
    return Detection2DArray(detections=[detection])


def point(x: float) -> PointStamped:
    """A point before the camera, in metres."""
    message = PointStamped()
    message.point.x, message.point.z = x, 2.0
    return message


_NOWHERE = float("nan")
# By topic: its type, a good message and a bad one.
TOPICS: dict[str, tuple[Any, Any, Any]] = {
    "init_box": (Detection2D, box(200.0), box(_NOWHERE)),
    "init_roi": (RegionOfInterest, RegionOfInterest(x_offset=200, y_offset=180, width=60, height=60),
                 RegionOfInterest(x_offset=2**32 - 1, width=2**32 - 1, height=1)),
    "init_pixel": (Point, Point(x=230.0, y=210.0), Point(x=_NOWHERE)),
    "init_point": (PointStamped, point(0.1), point(_NOWHERE)),
    "candidates": (Detection2DArray, candidates(200.0), candidates(_NOWHERE)),
    "remove": (String, String(data=""), String(data="nobody")),
}  # fmt: skip


@pytest.mark.parametrize("names", [list(TOPICS), *([name] for name in TOPICS if LONG)], ids="+".join)
def test_a_storm_of_requests_leaves_the_node_tracking(rig: Rig, names: list[str]) -> None:
    rig.active()
    rig.cameras.calibrate()
    publishers = {name: rig.ros.publisher(TOPICS[name][0], f"/tracker/{name}", 100) for name in names}
    rig.until(lambda: all(p.get_subscription_count() for p in publishers.values()), "the node's subscriptions")
    sent, begin = 0, time.monotonic()
    while (passed_s := time.monotonic() - begin) < STORM_S:
        while sent < passed_s * CALLS_PER_S * CLIENTS:
            name = names[sent % len(names)]
            publishers[name].publish(TOPICS[name][1 + (sent // len(names)) % 2])
            sent += 1
        rig.cameras.film(1)
    require_active(rig)
    said = {name: rig.fault(name) for name in names}
    record("storms", " and ".join(names), {"sent": sent, "refusals": "; ".join(filter(None, said.values()))})
    assert any(said.values()), "bad messages are named"


CYCLE = (
    Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP, Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
)  # fmt: skip
WAITING = 900  # of the parameter services' depth of 1000


def test_a_storm_of_parameters_while_the_node_changes_its_state(rig: Rig) -> None:
    rig.active()
    deep = QoSProfile(depth=1000)
    client = rig.ros.node.create_client(SetParameters, "/tracker/set_parameters", qos_profile=deep)
    states = rig.ros.node.create_client(ChangeState, "/tracker/change_state")
    values = [  # the last one is refused unless the node is unconfigured
        Parameter(name="max_wait_s", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.04)),
        Parameter(name="max_skew_s", value=_OUT_OF_RANGE),
        Parameter(name="label", value=ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="storm")),
        Parameter(name="history_frames", value=ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=20)),
    ]
    answer_of(rig, client, SetParameters.Request(parameters=values[:1]))
    answer_of(rig, states, _CHANGE)  # refused, as the node is active
    futures: list[Any] = []
    for number in CYCLE * (10 if LONG else 1):
        change = states.call_async(ChangeState.Request(transition=Transition(id=number)))
        deadline = time.monotonic() + START_PATIENCE_S
        while not change.done():
            assert time.monotonic() < deadline, rig.process.output[-3000:]
            if sum(not future.done() for future in futures) < WAITING:
                request = SetParameters.Request(parameters=[values[len(futures) % len(values)]])
                futures.append(client.call_async(request))
            rig.ros.spin(0.002)
        assert change.result().success, (number, rig.process.output[-3000:])
    rig.until(lambda: all(future.done() for future in futures), "an answer to every change")
    good = [future.result().results[0].successful for future in futures]
    assert all(good[0::4])
    assert not any(good[1::4])
    assert all(good[2::4])
    record("storms", "parameters in every transition", {"sent": len(good), "answered": len(good), "taken": sum(good)})
    asked = rig.ros.call(GetParameters, "/tracker/get_parameters", GetParameters.Request(names=["max_wait_s", "label"]))
    assert [asked.values[0].double_value, asked.values[1].string_value] == [0.04, "storm"]
    require_active(rig)
    for each in (client, states):
        rig.ros.node.destroy_client(each)
