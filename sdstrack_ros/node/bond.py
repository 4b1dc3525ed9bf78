"""The bond with nav2's lifecycle manager: each notices when the other's process ends. Needs bondpy, where installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.node.faults import FaultLog

# As nav2's own nodes have them: the manager expects a bond of the node's name on this topic.
TOPIC = "bond"
HEARTBEAT_PERIOD_S, HEARTBEAT_TIMEOUT_S = 0.1, 4.0
WITHOUT = "bond needs bondpy (apt: ros-$ROS_DISTRO-bondpy); set the lifecycle manager's bond_timeout to 0.0 without it"


class ManagerBond:
    """A bond from activate to deactivate.

    Attributes:
        refusal: why there is none although it was asked for; '' when there is.
    """

    def __init__(self, node: LifecycleNode, faults: FaultLog) -> None:
        """Start the bond; its own thread beats."""
        self._bond: Any = None
        self.refusal = ""
        try:
            from bondpy.bondpy import Bond
        except ImportError:
            self.refusal = WITHOUT
            faults.record("bond", WITHOUT)
            return
        self._bond = Bond(
            TOPIC, node.get_name(), node, on_broken=lambda: faults.record("bond", "broken: no lifecycle manager beats")
        )
        self._bond.heartbeat_period = HEARTBEAT_PERIOD_S
        self._bond.heartbeat_timeout = HEARTBEAT_TIMEOUT_S
        self._bond.start()

    def destroy(self) -> None:
        """Break the bond, which the manager takes for a clean end."""
        if self._bond is not None:
            self._bond.set_broken_callback(None)
            self._bond.shutdown()
        self._bond = None
