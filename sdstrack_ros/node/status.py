"""`~/status` and `/diagnostics`: what the node reports about itself, once a second and whenever something happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import DurabilityPolicy, QoSProfile

from ckd_core.text import shown
from ckd_core.tracking.result import TrackState
from sdstrack_ros.node.faults import FaultLog, guarded
from sdstrack_ros.node.health import Health, judge
from sdstrack_ros.node.log import Log
from sdstrack_ros.tracking.results import main_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rclpy.node import Node

    from sdstrack_ros.node.health import Situation, Verdict
    from sdstrack_ros.tracking.results import TargetResult
    from sdstrack_ros.tracking.target_requests import RequestOutcome
    from sdstrack_ros.tracking.warm_tracker import WarmTracker

# With the bounds of FaultLog, a status stays below 64 KB whatever messages bring (characters of up to four bytes).
MAX_MESSAGE = 1000
MAX_VALUE = 400
MAX_LABEL = 40


def diagnostic_status(name: str, verdict: Verdict, values: Mapping[str, str], hardware_id: str) -> DiagnosticStatus:
    """A diagnostic status with its values in order, every text of it short and printable."""
    return DiagnosticStatus(
        level=bytes([verdict.level]),
        name=name,
        message=shown(verdict.message, MAX_MESSAGE),
        hardware_id=shown(hardware_id),
        values=[KeyValue(key=shown(key), value=shown(value, MAX_VALUE)) for key, value in values.items()],
    )


def duplicate_name_warning(node: Node) -> str:
    """Say when several nodes have this node's name, because each of them serves every request; '' otherwise."""
    name, namespace = node.get_name(), node.get_namespace()
    count = node.get_node_names_and_namespaces().count((name, namespace))
    return f"{count} nodes are called {node.get_fully_qualified_name()}" if count > 1 else ""


def target_facts(targets: Sequence[TargetResult]) -> dict[str, str]:
    """The targets as the key-value pairs of a status message: the main one, then a block for each."""
    main = main_target(targets)
    facts = {
        "state": main.state.value if main is not None else "NONE",
        "score": f"{main.score if main is not None else 0.0:.3f}",
        "target_id": main.target_id if main is not None else "",
        "targets": str(len(targets)),
    }
    for target in targets:
        block = f"target.{target.target_id}"
        facts[f"{block}.state"] = target.state.value
        facts[f"{block}.score"] = f"{target.score:.3f}"
        facts[f"{block}.label"] = shown(target.label, MAX_LABEL)
    return facts


def worst_state(targets: Sequence[TargetResult]) -> str:
    """The state that the verdict depends on; NONE without a target."""
    states = {target.state for target in targets}
    return next((state.value for state in reversed(TrackState) if state in states), "NONE")


def uncertain_targets(targets: Sequence[TargetResult]) -> str:
    """Say which of several targets are not followed well; '' when all are, and where there is only one."""
    poor = [f"{target.target_id} {target.state.value}" for target in targets if target.state is not TrackState.TRACKING]
    return f"{len(poor)} of {len(targets)} targets: {', '.join(poor)}" if poor and len(targets) > 1 else ""


def engine_facts(warm: WarmTracker | None) -> dict[str, str]:
    """What the tracker runs, and on what, as the key-value pairs of a status message; empty texts while it does not."""
    names = ("model", "weights", "device", "engine", "engine_choice")
    return {name: str(getattr(warm, name)) if warm is not None else "" for name in names}


class StatusReporter:
    """Reports what becomes of requests and how the node is; lives as long as the node, whatever its lifecycle state.

    Attributes:
        health: counters, rates and latencies.
        faults: what went wrong, by cause.
        last_request: outcome of the last request, in words.
        last_time_reset: what the last jump back in time did to the target, in words.

    """

    def __init__(self, node: Node, describe: Callable[[float], tuple[Situation, Mapping[str, str]]]) -> None:
        """Create the topics.

        Args:
            node: owner of the topics.
            describe: what the node knows at a time of a steady clock: its situation, and facts for the status
                ('state', 'score', 'device', ...), which come before the counters.

        """
        self.health = Health()
        self.faults = FaultLog(Log(node).warning)
        self.last_request = ""
        self.last_time_reset = ""
        self._node = node
        self._describe = describe
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._status = node.create_publisher(DiagnosticStatus, "~/status", latched)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def conclude(self, outcome: RequestOutcome) -> None:
        """Report the outcome of a request in the log and on ~/status."""
        if not outcome.accepted:
            self.refuse(outcome.origin, outcome.verdict)
            return
        self.last_request = shown(outcome, MAX_VALUE)
        Log(self._node).info(self.last_request)
        self.report()

    def refuse(self, cause: str, reason: str) -> None:
        """Report a refusal on ~/status; count it by its cause, and log it as faults are."""
        self.health.count("refused")
        self.faults.record(cause, reason)
        text = shown(f"{cause} {reason}", MAX_VALUE)
        repeated, self.last_request = text == self.last_request, text
        if not repeated:  # a detector repeats itself thirty times a second; the next periodic status counts it
            self.report()

    @guarded("status")
    def report(self, periodic: bool = False) -> None:
        """Publish the status; also on /diagnostics when `periodic`."""
        now = time.monotonic()
        situation, facts = self._describe(now)
        values = {**facts, "last_time_reset": self.last_time_reset, **self.health.values(now)}
        for fault in self.faults.faults():
            values[f"fault.{fault.cause}"] = f"{fault.count} x, last: {fault.message}"
        message = diagnostic_status(
            self._node.get_fully_qualified_name(), judge(situation), values, facts.get("device", "")
        )
        self._status.publish(message)
        if periodic:
            array = DiagnosticArray(status=[message])
            array.header.stamp = self._node.get_clock().now().to_msg()
            self._diagnostics.publish(array)
