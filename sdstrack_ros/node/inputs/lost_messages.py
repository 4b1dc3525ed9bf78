"""Messages that were sent and never came: lost on the way, or overwritten in a queue before the node took them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rclpy.executors import Executor
from rclpy.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

NUMBER = "publication_sequence_number"


class LostMessages:
    """Finds the gaps in the numbers that the middleware gives to the messages of one publisher.

    A gap is counted only where the topic has one publisher, and the same one as before: the numbers of several mix, and
    another one begins anywhere.
    """

    def __init__(self, publisher: Callable[[], bytes | None]) -> None:
        """Begin without any message.

        Args:
            publisher: the identity of the topic's publisher; None where it has not exactly one. Asked at the first
                message and at gaps alone, for it costs more than a message.

        """
        self._ask = publisher
        self._publisher: bytes | None = None
        self._last: int | None = None

    def before(self, number: int | None) -> int | None:
        """Return how many messages are missing before the one of this number; None where it has no number."""
        last, self._last = self._last, number
        if number is None:
            return None
        if last is not None and number == last + 1:
            return 0
        known, self._publisher = self._publisher, self._ask()
        same = known is not None and known == self._publisher
        return number - last - 1 if same and last is not None and number > last else 0


def only_publisher(node: Node, topic: str) -> bytes | None:
    """Return the identity of the publisher on `topic`; None where there is none, or more than one."""
    publishers = node.get_publishers_info_by_topic(topic)
    return bytes(publishers[0].endpoint_gid) if len(publishers) == 1 else None


def numbered(node: Node, callback: Callable[[Any, int | None], None]) -> Callable[..., None]:
    """Make a subscription's callback of one that takes a message and its number among its publisher's.

    The number is None where the middleware gives none, with rclpy of ROS 2 Humble, which does not pass it on, and with
    executors that are not rclpy's own classes in Python: its events executor fails at such callbacks ("SystemError:
    null argument to internal routine", rclpy 7.1.6).
    """
    in_python = Executor in type(node.executor).__mro__  # isinstance() would take registered ones, too
    if not in_python or not hasattr(Subscription, "CallbackType"):
        return lambda message: callback(message, None)
    return lambda message, information: callback(message, information.get(NUMBER))
