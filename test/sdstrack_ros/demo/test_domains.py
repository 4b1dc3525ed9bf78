"""A ROS domain is taken only where nobody is."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from rclpy.lifecycle import LifecycleNode

from ckd_core.errors import TrackingError
from sdstrack_ros.demo import domains
from sdstrack_ros.demo.domains import FIRST_PORT, MAX_DOMAIN_ID, PORTS_PER_DOMAIN, domains_in_use, free_domain
from testkit.ros.camera import ros_test
from testkit.ros.processes import ros_environment


def test_each_holder_has_a_domain_of_its_own() -> None:
    with free_domain() as first, free_domain() as second:
        assert len({first.number, second.number}) == 2
        assert {first.number, second.number} <= set(range(1, MAX_DOMAIN_ID + 1))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_domain_whose_port_is_open_is_left_alone(family: int) -> None:
    with free_domain() as domain:
        expected = domain.number
    with socket.socket(family, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1" if family == socket.AF_INET else "::1", FIRST_PORT + PORTS_PER_DOMAIN * expected + 17))
        assert expected in domains_in_use()
        with free_domain() as domain:
            assert domain.number != expected


@pytest.mark.ros
def test_a_node_that_is_left_behind_keeps_its_domain(tmp_path: Path) -> None:
    """rclpy's lifecycle nodes stay in the graph after `destroy_node` until the garbage collector finds them."""
    with free_domain() as domain:
        first = domain.number
        with ros_test(first, ros_environment(first, tmp_path)) as ros:
            left = LifecycleNode("tracker", context=ros.context)
            left.destroy_node()
    with free_domain() as domain:
        assert domain.number != first
    del left  # it was referred to until here


def test_a_lock_of_another_user_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /tmp is sticky, opening somebody else's file to write is refused, to root as well."""
    foreign = f"sdstrack_domain_{1 + os.getpid() % MAX_DOMAIN_ID}.lock"
    opened = Path.open

    def refuse(path: Path, *rest: Any, **options: Any) -> Any:
        if path.name == foreign:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *rest, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with free_domain() as domain:
        assert f"sdstrack_domain_{domain.number}.lock" != foreign


def test_when_all_are_in_use_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "domains_in_use", lambda: set(range(1, MAX_DOMAIN_ID + 1)))
    with pytest.raises(TrackingError, match="all 101 ROS domains of this machine are in use"), free_domain():
        pass
