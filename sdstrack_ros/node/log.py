"""The node's log. No ROS import."""

from __future__ import annotations

from typing import Any

from ckd_core.text import shown

MAX_LINE = 1000


class Log:
    """Every line short and printable, whatever messages, files and parameters have put into it."""

    def __init__(self, node: Any) -> None:
        """Log as this node."""
        self._node = node

    def info(self, text: object) -> None:
        """What happened."""
        self._node.get_logger().info(shown(text, MAX_LINE))

    def info_seldom(self, text: object) -> None:
        """What may happen in every frame: at most once a second."""
        self._node.get_logger().info(shown(text, MAX_LINE), throttle_duration_sec=1.0)

    def warning(self, text: object) -> None:
        """What somebody should look at."""
        self._node.get_logger().warning(shown(text, MAX_LINE))

    def error(self, text: object) -> None:
        """What keeps the node from its work."""
        self._node.get_logger().error(shown(text, MAX_LINE))
