"""What lives from configure to cleanup: the warm tracker, the output topics and the services."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sdstrack_ros.node.inputs.qos import service_qos
from sdstrack_ros.node.outputs.publishers import Publishers
from sdstrack_ros.tracking.warm_tracker import build_warm_tracker, tuned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.tracking.worker import LatestFrameWorker

# A frame takes milliseconds; only a device that hangs takes this long.
TRACKER_PATIENCE_S = 30.0


class Configured:
    """Made by on_configure, closed by on_cleanup.

    Attributes:
        warm: the tracker and what it runs on.
        outputs: the output topics.

    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: Settings,
        services: Mapping[str, tuple[type, Callable[[Any, Any], Any]]],
    ) -> None:
        """Load and warm up the tracker, then create topics and services; nothing stays behind when that fails.

        Args:
            node: owner of the topics and services.
            settings: as they are locked until cleanup.
            services: type and callback by name.

        Raises:
            TrackingError: unknown model, missing or wrong weights, absent device with strict_device.

        """
        self._retired: LatestFrameWorker[Any, Any] | None = None
        with ExitStack() as undo:
            self.warm = build_warm_tracker(settings)
            self.outputs = Publishers(node, settings)
            undo.callback(self.outputs.destroy)
            for name, (kind, callback) in services.items():
                undo.callback(
                    node.destroy_service, node.create_service(kind, name, callback, qos_profile=service_qos())
                )
            self._undo = undo.pop_all()

    def tune(self, settings: Settings) -> None:
        """Give the tracker the thresholds of the settings.

        Raises:
            ConfidenceError: they contradict each other.

        """
        self.warm.tracker.thresholds = tuned(self.warm.own_thresholds, settings)

    def retire(self, worker: LatestFrameWorker[Any, Any]) -> None:
        """Remember the thread of an activation that is over: deactivation does not wait for the frame it may be in."""
        self._retired = worker

    def tracker_is_free(self) -> bool:
        """Wait until no thread of an earlier activation is inside the tracker; whether none is within 30 seconds."""
        if self._retired is not None and not self._retired.stop(TRACKER_PATIENCE_S):
            return False
        self._retired = None
        return True

    def close(self) -> None:
        """Remove services and topics, once the tracker is free.

        Raises:
            RuntimeError: a frame has not ended within 30 seconds; nothing has been removed.

        """
        if not self.tracker_is_free():
            raise RuntimeError(f"still processing an earlier frame after {TRACKER_PATIENCE_S:g} s")
        self._undo.close()
