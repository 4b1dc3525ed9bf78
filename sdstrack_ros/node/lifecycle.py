"""What rclpy's lifecycle nodes leave unsaid: why a transition failed, and that one was impossible."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.node.faults import FaultLog

_NodeT = TypeVar("_NodeT")


def named(error: Exception) -> str:
    """What an exception says; with its class, unless it is one of ours, whose messages stand by themselves."""
    return str(error) if isinstance(error, TrackingError) else f"{type(error).__name__}: {error}"


def transition(method: Callable[[_NodeT, Any], Any]) -> Callable[[_NodeT, Any], Any]:
    """Say why a transition's callback fails, in the log and as the node's `problem`.

    rclpy turns the exception into ERROR without a word.
    """

    @functools.wraps(method)
    def told(self: Any, state: Any) -> Any:
        try:
            return method(self, state)
        except Exception as error:
            self.problem = f"{method.__name__.removeprefix('on_')} failed: {named(error)}"
            self.get_logger().error(self.problem)
            raise

    return told


def answer_impossible_transitions(node: LifecycleNode, faults: FaultLog) -> None:
    """Answer `success: false` where rclpy would raise out of the executor and leave the caller waiting."""
    service = getattr(node, "_service_change_state", None)
    if service is None:
        return
    change_state = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return change_state(request, response)
        except Exception as error:  # noqa: BLE001  # RCLError for a transition that the state does not have
            faults.record("change_state", str(error))
            response.success = False
            return response

    service.callback = answer
