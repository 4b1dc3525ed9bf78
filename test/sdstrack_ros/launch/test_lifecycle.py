"""Who drives the node through its lifecycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition

from testkit.launch import TRACKER
from testkit.launch.system import LaunchSystem

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE


def test_launch_configures_at_process_start_and_activates_what_it_has_configured(system: LaunchSystem) -> None:
    system.include(TRACKER, {})
    node = system.tracker
    assert system.process_started(node) == [CONFIGURE]
    assert system.state_changed(node, "unconfigured", "configuring") == []
    assert system.state_changed(node, "configuring", "inactive") == [ACTIVATE]
    assert system.state_changed(node, "activating", "active") == []


@pytest.mark.parametrize("first", ["inactive", "unconfigured", "errorprocessing"])
def test_a_later_configure_by_hand_does_not_activate(system: LaunchSystem, first: str) -> None:
    system.include(TRACKER, {})
    system.process_started(system.tracker)
    assert system.state_changed(system.tracker, "configuring", first) == ([ACTIVATE] if first == "inactive" else [])
    for _ in range(2):
        assert system.state_changed(system.tracker, "configuring", "inactive") == []


def test_two_trackers_are_configured_and_activated_one_by_one(system: LaunchSystem) -> None:
    for namespace in ("front", "rear"):
        system.include(TRACKER, {"namespace": namespace})
    front, rear = system.of("tracker_node")
    assert system.process_started(front) == [CONFIGURE]
    assert system.state_changed(front, "configuring", "inactive") == [ACTIVATE]
    assert system.process_started(rear) == [CONFIGURE]
    assert system.state_changed(rear, "configuring", "inactive") == [ACTIVATE]


@pytest.mark.parametrize(
    ("arguments", "overrides", "respawn"),
    [
        ({"lifecycle": "false"}, {}, False),
        ({"lifecycle": "false", "respawn": "true"}, {"autostart": False}, True),
        ({"autostart": "true"}, {"autostart": True}, False),
        ({"respawn": "true"}, {"autostart": True}, True),
        ({"respawn": "yes", "autostart": "on"}, {"autostart": True}, True),
    ],
)
def test_launch_asks_for_no_transition_where_the_node_or_a_manager_drives(
    system: LaunchSystem, arguments: dict[str, str], overrides: dict[str, Any], respawn: bool
) -> None:
    system.include(TRACKER, arguments)
    node = system.tracker
    assert (node.overrides, node.respawn) == ({**overrides, "use_sim_time": False}, respawn)
    assert system.process_started(node) == []
    assert system.state_changed(node, "configuring", "inactive") == []


def test_launch_leaves_a_node_alone_whose_config_starts_it(system: LaunchSystem, tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text("/**: {ros__parameters: {autostart: true}}")
    system.include(TRACKER, {"config": str(config)})
    assert system.process_started(system.tracker) == []
    system.processes.clear()
    system.include(TRACKER, {"config": str(config), "autostart": "false"})
    assert system.tracker.overrides["autostart"] is False
    assert system.process_started(system.tracker) == [CONFIGURE]
