"""message_filters where it is installed; elsewhere (wheels without a distribution) the two classes that we need.

The stand-ins keep to the released interface, so that code written for one runs with the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HAVE_MESSAGE_FILTERS", "SimpleFilter", "Subscriber"]


class _SimpleFilter:
    """Keeps callbacks and calls them with each message."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def registerCallback(self, callback: Callable[..., Any], *args: Any) -> int:  # noqa: N802  message_filters' name
        """Call `callback(message, *args)` for every message; return the number of the connection."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (callback, args)
        return connection

    def signalMessage(self, *messages: Any) -> None:  # noqa: N802  message_filters' name
        """Pass messages to all callbacks, in the order of their registration."""
        for callback, args in tuple(self.callbacks.values()):
            callback(*messages, *args)


class _Subscriber(_SimpleFilter):
    """A node's subscription as a source: Subscriber(node, type, topic, **create_subscription's options)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        node, kind, self.topic, *rest = args
        if rest:
            kwargs["qos_profile"] = rest[0]
        kwargs.setdefault("qos_profile", 10)
        self.sub = node.create_subscription(kind, self.topic, self.callback, **kwargs)

    def callback(self, message: Any) -> None:
        """Pass a message on."""
        self.signalMessage(message)


try:
    from message_filters import SimpleFilter, Subscriber

    HAVE_MESSAGE_FILTERS = True
except ImportError:
    HAVE_MESSAGE_FILTERS = False
    SimpleFilter, Subscriber = _SimpleFilter, _Subscriber
