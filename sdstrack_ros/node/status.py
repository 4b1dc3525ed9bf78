"""`~/status` and `/diagnostics`: what the node says about itself, once a second and whenever something happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import DurabilityPolicy, QoSProfile

from sdstrack_ros.node.health import Situation, judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rclpy.node import Node

    from sdstrack_ros.node.faults import FaultLog
    from sdstrack_ros.node.health import Health, Verdict
    from sdstrack_ros.tracking.session import Session
    from sdstrack_ros.tracking.warm_tracker import WarmTracker


def diagnostic_status(name: str, verdict: Verdict, values: Mapping[str, str], hardware_id: str) -> DiagnosticStatus:
    """A diagnostic status with its values in order."""
    return DiagnosticStatus(
        level=bytes([verdict.level]),
        name=name,
        message=verdict.message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def duplicate_name_warning(node: Node) -> str:
    """Say when several nodes have this node's name, each of which answers every request; '' when it is alone."""
    name, namespace = node.get_name(), node.get_namespace()
    count = node.get_node_names_and_namespaces().count((name, namespace))
    return f"{count} nodes are called {node.get_fully_qualified_name()}" if count > 1 else ""


def target_facts(session: Session | None) -> dict[str, str]:
    """State of the target as the key-value pairs of a status message."""
    return {
        "state": session.state if session is not None else "NONE",
        "score": f"{session.score if session is not None else 0.0:.3f}",
        "target_id": session.target_id if session is not None else "",
    }


def engine_facts(warm: WarmTracker | None) -> dict[str, str]:
    """What the tracker runs and on what, as the key-value pairs of a status message; empty while it does not."""
    names = ("model", "weights", "device", "engine")
    return {name: str(getattr(warm, name)) if warm is not None else "" for name in names}


class StatusReporter:
    """Publishes the node's status; lives as long as the node, whatever its lifecycle state."""

    def __init__(self, node: Node, health: Health, faults: FaultLog) -> None:
        self._node = node
        self._health = health
        self._faults = faults
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._status = node.create_publisher(DiagnosticStatus, "~/status", latched)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, situation: Situation, facts: Mapping[str, str], now: float, periodic: bool) -> None:
        """Publish the status; also to /diagnostics when `periodic`.

        facts: what else is known ('target', 'score', 'device', ...); they come first.
        now: seconds of a steady clock.
        """
        values = dict(facts)
        values.update(self._health.values(now))
        for fault in self._faults.faults():
            values[f"fault.{fault.cause}"] = f"{fault.count} x, last: {fault.message}"
        message = diagnostic_status(
            self._node.get_fully_qualified_name(), judge(situation), values, facts.get("device", "")
        )
        self._status.publish(message)
        if periodic:
            array = DiagnosticArray(status=[message])
            array.header.stamp = self._node.get_clock().now().to_msg()
            self._diagnostics.publish(array)
