"""The middleware's profile in the processes' environment."""

from __future__ import annotations

import pytest

from sdstrack_ros.parameters.launch_arguments import PROFILE_VARIABLES
from testkit.launch import ROOT, TRACKER
from testkit.launch.system import LaunchSystem


def test_the_profile_is_set_for_the_processes_of_the_package_unless_the_user_set_one(
    system: LaunchSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.include(TRACKER, {"rviz": "true"})
    assert len(system.processes) == 2
    for process in system.processes:
        assert {process.environment[name] for name in PROFILE_VARIABLES} == {str(ROOT / "config" / "fastdds.xml")}
    system.processes.clear()
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "own.xml")
    system.include(TRACKER, {})
    assert system.tracker.environment["FASTDDS_DEFAULT_PROFILES_FILE"] == "own.xml"
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" not in system.tracker.environment


@pytest.mark.parametrize(
    ("rmw", "expected"),
    [
        ("rmw_cyclonedds_cpp", False),
        ("rmw_zenoh_cpp", False),
        ("rmw_fastrtps_cpp", True),
        ("rmw_fastrtps_dynamic_cpp", True),
    ],
)
def test_the_profile_is_set_for_fast_dds_only(
    system: LaunchSystem, monkeypatch: pytest.MonkeyPatch, rmw: str, expected: bool
) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", rmw)
    system.include(TRACKER, {})
    assert (set(PROFILE_VARIABLES) <= set(system.tracker.environment)) is expected
