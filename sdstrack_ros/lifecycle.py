"""What rclpy's lifecycle nodes leave unsaid: why a transition failed, and that one was impossible."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.faults import FaultLog

_NodeT = TypeVar("_NodeT")


def transition(method: Callable[[_NodeT, Any], Any]) -> Callable[[_NodeT, Any], Any]:
    """Log why a transition's callback fails: rclpy turns its exception into ERROR without a word."""

    @functools.wraps(method)
    def told(self: Any, state: Any) -> Any:
        try:
            return method(self, state)
        except Exception as error:
            self.get_logger().error(f"{method.__name__} failed: {type(error).__name__}: {error}")
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
