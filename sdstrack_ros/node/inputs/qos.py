"""QoS of the node's subscriptions, and the reason in words when nothing arrives through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:
    # Humble keeps the same classes here.
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

__all__ = [
    "NOT_NAMED_YET",
    "SERVICE_DEPTH",
    "describe",
    "sensor_qos",
    "service_qos",
    "several_publishers",
    "subscribe",
    "why_silent",
]

# The publishers of a topic are discovered a moment before their nodes.
MAX_NAMED = 4
# Requests that wait while the node is busy; ROS's own depth is 10, and what comes beyond it is dropped unanswered.
SERVICE_DEPTH = 200
UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
NOT_NAMED_YET = "a publisher whose node is not known yet"


def service_qos() -> QoSProfile:
    """Return the profile of the node's services: reliable, volatile, the last `SERVICE_DEPTH` requests kept."""
    return QoSProfile(depth=SERVICE_DEPTH)


def sensor_qos(reliability: str, depth: int) -> QoSProfile:
    """Return the profile of an input topic: volatile, the last `depth` kept, 'best_effort' or 'reliable'."""
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=policy)


def subscribe(
    node: Node,
    kind: Any,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile,
    on_incompatible: Callable[[], object],
    raw: bool = False,
) -> Any:
    """Return a subscription that calls `on_incompatible` when a publisher offers less than it asks for.

    A middleware that does not report that is served without: silence is named all the same. With `raw` the callback
    receives messages as the bytes that came.
    """
    try:
        events = SubscriptionEventCallbacks(incompatible_qos=lambda _: on_incompatible())
        return node.create_subscription(kind, topic, callback, qos, event_callbacks=events, raw=raw)
    except UnsupportedEventTypeError:
        none = SubscriptionEventCallbacks(use_default_callbacks=False)
        return node.create_subscription(kind, topic, callback, qos, event_callbacks=none, raw=raw)


def describe(qos: QoSProfile) -> str:
    """Return a profile in words, for example `best_effort, volatile`."""
    return f"{_word(qos.reliability)}, {_word(qos.durability)}"


def why_silent(node: Node, topic: str, wanted: QoSProfile, type_name: str) -> str:
    """Return why nothing comes on `topic`, as far as the graph shows: who publishes, which type and which QoS."""
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return "it has no publisher; check the name and the remapping"
    for info in publishers:
        who = _who(info)
        if info.topic_type != type_name:
            return f"{who} sends {info.topic_type}, this node reads {type_name}"
        if not _compatible(info.qos_profile, wanted):
            return (
                f"incompatible QoS: {who} offers {describe(info.qos_profile)}, this node asks for {describe(wanted)};"
                " set input_reliability to best_effort"
            )
    offered = "; ".join(describe(info.qos_profile) for info in publishers)
    asked = describe(wanted)
    return f"{len(publishers)} publisher(s) with {offered}, this node asks for {asked}: they are compatible, but silent"


def several_publishers(node: Node, topic: str) -> str:
    """Say who publishes on `topic` where that is more than one; '' otherwise."""
    if node.count_publishers(topic) < 2:
        return ""
    publishers = node.get_publishers_info_by_topic(topic)
    named = sorted(_who(info).removeprefix("publisher ") for info in publishers)
    if len(named) < 2:
        return ""
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    listed = ", ".join(shown(name) for name in named[:MAX_NAMED]) + more
    return f"{len(named)} publishers on {topic}: {listed}; their images mix, remap all but one"


def _who(info: Any) -> str:
    if UNKNOWN_NODE in info.node_name:
        return NOT_NAMED_YET
    return f"publisher '{info.node_namespace.rstrip('/')}/{info.node_name}'"


def _compatible(offered: QoSProfile, wanted: QoSProfile) -> bool:
    reliable = wanted.reliability != ReliabilityPolicy.RELIABLE or offered.reliability == ReliabilityPolicy.RELIABLE
    kept = wanted.durability != DurabilityPolicy.TRANSIENT_LOCAL or (
        offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
    )
    return bool(reliable and kept)


def _word(policy: Any) -> str:
    return str(policy.name).lower()
