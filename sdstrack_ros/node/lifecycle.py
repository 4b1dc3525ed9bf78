"""What rclpy's lifecycle nodes do not say: why a transition failed, and that one was impossible."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from rclpy.lifecycle import TransitionCallbackReturn

from ckd_core.errors import TrackingError
from sdstrack_ros.node.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.node.faults import FaultLog

_NodeT = TypeVar("_NodeT")


def transition(
    retry_after: type[Exception] | tuple[type[Exception], ...] = (),
) -> Callable[[Callable[[_NodeT, Any], Any]], Callable[[_NodeT, Any], Any]]:
    """Report why the callback of a transition fails: in the log, as the node's `problem`, and on ~/status.

    rclpy itself turns an exception into ERROR without a word.

    Args:
        retry_after: exceptions that leave nothing behind. After one of them the node stays in the state that it was in
            and the transition may be tried again (FAILURE); after any other, `on_error` cleans up.

    Returns:
        A decorator for methods of a node with `problem` and `report_status`.

    """

    def decorate(method: Callable[[_NodeT, Any], Any]) -> Callable[[_NodeT, Any], Any]:
        @functools.wraps(method)
        def reported(self: Any, state: Any) -> Any:
            try:
                return method(self, state)
            except Exception as error:
                text = str(error) if isinstance(error, TrackingError) else f"{type(error).__name__}: {error}"
                self.problem = f"{method.__name__.removeprefix('on_')} failed: {text}"
                Log(self).error(self.problem)
                if not isinstance(error, retry_after):
                    raise
                self.report_status()
                return TransitionCallbackReturn.FAILURE

        return reported

    return decorate


def refuse_impossible_transitions(node: LifecycleNode, faults: FaultLog) -> None:
    """Respond `success: false` where rclpy would raise out of the executor and leave the client without a response."""
    service = getattr(node, "_service_change_state", None)
    if service is None:
        return
    change_state = service.callback

    def respond(request: Any, response: Any) -> Any:
        try:
            return change_state(request, response)
        except Exception as error:  # noqa: BLE001  # RCLError for a transition that the state does not have
            faults.record("change_state", str(error))
            response.success = False
            return response

    service.callback = respond
