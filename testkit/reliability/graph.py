"""What the real node offers and asks for on the network, from its own graph; as an SROS2 policy.

Policy: https://design.ros2.org/articles/ros2_access_control_policies.html, schema version 0.2.0.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_msgs.msg import Transition
from rclpy.node import NodeNameNonExistentError

from testkit.reliability.weights import write_tiny_weights
from testkit.ros.camera import NODE
from testkit.ros.rig import Rig, running_node

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = "0.2.0"
ENCLAVE = NODE
# What tf2_ros listens to for `~/init_point`. It has no wheel, so the node under test may run without it.
TRANSFORMS = ("tf", "tf_static")
POLICY = Path(__file__).parents[2] / "config" / "sros2_policy.xml"
_COMMENT = """
  Permissions of tracker_node, generated from the running node's own graph by `python -m tools.security_report`.
  Remap the topics of the sensors here as you remap them for the node.
"""


@dataclass(frozen=True, slots=True)
class Graph:
    """Names of the node's topics and services; its own begin with ~."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    reply: tuple[str, ...]
    request: tuple[str, ...]


# Settings that differ in their topics: each modality's kind of input, with and without compressed images, and /tf.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"modality": "depth", "publish_tf": True},
    {"modality": "event"},
    {"modality": "depth", "transport": "compressed"},
    {"modality": "thermal", "transport": "compressed"},
)


def full_graph() -> Graph:
    """All that the node uses in any of its settings, asked of one node that goes through them; and tf2_ros."""
    graphs = [Graph((), TRANSFORMS, (), ())]
    with tempfile.TemporaryDirectory(prefix="graph-") as name:
        folder = Path(name)
        weights = write_tiny_weights(folder / "weights.safetensors")
        with running_node(weights, folder, use_sim_time=True) as rig:
            for settings in SETTINGS:
                assert rig.ros.set_parameters(**settings).successful
                rig.ros.messages.clear()
                assert rig.ros.transition(Transition.TRANSITION_CONFIGURE)
                assert rig.ros.transition(Transition.TRANSITION_ACTIVATE)
                graphs.append(_graph_of(rig))
                assert rig.ros.transition(Transition.TRANSITION_DEACTIVATE)
                assert rig.ros.transition(Transition.TRANSITION_CLEANUP)

    def union(name: str) -> tuple[str, ...]:
        return tuple(sorted({topic for graph in graphs for topic in getattr(graph, name)}))

    return Graph(union("publish"), union("subscribe"), union("reply"), union("request"))


def _graph_of(rig: Rig) -> Graph:
    """What the active node offers and asks for, once discovery has shown its inputs and services."""
    node, own = rig.ros.node, NODE.strip("/")
    rig.until(lambda: rig.ros.value("lifecycle") == "active", "an active node")
    topics = {pair.value for pair in rig.ros.status.values if pair.key.endswith(".topic")}
    inputs = {*_relative(topics), "~/candidates", "~/init_point"}

    def names(query: Any) -> tuple[str, ...]:
        try:
            return _relative(topic for topic, _ in query(own, "/"))
        except NodeNameNonExistentError:  # its topics may be discovered before its name
            return ()

    rig.until(lambda: inputs <= set(names(node.get_subscriber_names_and_types_by_node)), f"subscriptions to {inputs}")
    rig.until(lambda: "~/reset" in names(node.get_service_names_and_types_by_node), "services")
    return Graph(
        names(node.get_publisher_names_and_types_by_node),
        names(node.get_subscriber_names_and_types_by_node),
        names(node.get_service_names_and_types_by_node),
        names(node.get_client_names_and_types_by_node),
    )


def _relative(names: Iterable[str]) -> tuple[str, ...]:
    relative = {f"~{name.removeprefix(NODE)}" if name.startswith(f"{NODE}/") else name.lstrip("/") for name in names}
    return tuple(sorted(relative))


def policy_xml(graph: Graph) -> str:
    """The policy as text."""
    policy = ET.Element("policy", version=VERSION)
    enclave = ET.SubElement(ET.SubElement(policy, "enclaves"), "enclave", path=ENCLAVE)
    profile = ET.SubElement(ET.SubElement(enclave, "profiles"), "profile", ns="/", node=ENCLAVE.strip("/"))
    for group, item, rights in (
        ("topics", "topic", {"subscribe": graph.subscribe, "publish": graph.publish}),
        ("services", "service", {"reply": graph.reply, "request": graph.request}),
    ):
        for right, names in rights.items():
            if names:
                parent = ET.SubElement(profile, group, {right: "ALLOW"})
                for name in names:
                    ET.SubElement(parent, item).text = name
    ET.indent(policy, "  ")
    body = ET.tostring(policy, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!--{_COMMENT}-->\n{body}\n'


# What the schema allows: element -> (attributes and their values, children).
_RIGHT = {"ALLOW", "DENY"}
_SCHEMA: dict[str, tuple[dict[str, set[str] | None], set[str]]] = {
    "policy": ({"version": {VERSION}}, {"enclaves"}),
    "enclaves": ({}, {"enclave"}),
    "enclave": ({"path": None}, {"profiles"}),
    "profiles": ({}, {"profile"}),
    "profile": ({"ns": None, "node": None}, {"topics", "services", "actions"}),
    "topics": ({"publish": _RIGHT, "subscribe": _RIGHT}, {"topic"}),
    "services": ({"reply": _RIGHT, "request": _RIGHT}, {"service"}),
    "topic": ({}, set()),
    "service": ({}, set()),
}


def parse_policy(text: str) -> Graph:
    """Read a policy back; AssertionError for whatever the schema does not allow."""
    root = ET.fromstring(text)  # our own file
    assert root.tag == "policy"
    for element in root.iter():
        attributes, children = _SCHEMA[element.tag]
        for name, value in element.attrib.items():
            allowed = attributes[name]
            assert allowed is None or value in allowed, f"{element.tag} {name}={value}"
        assert {child.tag for child in element} <= children, element.tag
        if not children:
            assert element.text, element.tag
            assert element.text.strip() == element.text, element.tag

    def names(group: str, right: str) -> tuple[str, ...]:
        allowed = [item.text or "" for parent in root.iter(group) if parent.get(right) == "ALLOW" for item in parent]
        return tuple(sorted(allowed))

    return Graph(
        names("topics", "publish"), names("topics", "subscribe"), names("services", "reply"),
        names("services", "request"),
    )  # fmt: skip
