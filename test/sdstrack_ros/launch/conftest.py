"""The launch files on launch itself, where that is installed, and on its stand-in."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sdstrack_ros.parameters.launch_arguments import PROFILE_VARIABLES
from testkit.launch import ROOT
from testkit.launch.stand_in import fake_launch
from testkit.launch.system import LaunchSystem, launch_system, launchable_recording

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["stand-in", "launch"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LaunchSystem]:
    for name in (*PROFILE_VARIABLES, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("ament_index_python.packages.get_package_share_directory", lambda package: str(ROOT))
    if request.param == "stand-in":
        with fake_launch():
            yield launch_system(monkeypatch)
        return
    for module in ("launch.actions", "launch_ros"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(
                f"{module.partition('.')[0]} is not installed: it has no wheels, only ROS distributions have it"
            )
    yield launch_system(monkeypatch)


@pytest.fixture
def walk(tmp_path: Path) -> str:
    """A recording under the names of the default config."""
    return str(launchable_recording(tmp_path / "walk", rgb__image_raw="Image", aux__image_raw="Image", imu="Imu"))
