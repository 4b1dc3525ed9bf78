from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from ros_camera import Cameras, RosTest, node_command, ros_test
from ros_processes import RosProcess, private_domain, python_module, ros_environment, ros_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights file of the smallest network, seeded; its boxes mean nothing, its speed and interfaces are real."""
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model("sdstrack_tiny_test", seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal", "event"], "seeded random numbers"))
    return path


@dataclass
class Rig:
    """A running node and the test's cameras."""

    ros: RosTest
    cameras: Cameras
    process: RosProcess

    def active(self) -> None:
        """Wait until the node is active and sees the cameras."""
        self.ros.until(lambda: self.ros.value("lifecycle") == "active", 60, "an active node", self.process)
        self.ros.until(lambda: self.cameras.rgb.get_subscription_count() > 0, 20, "rgb subscription", self.process)
        self.ros.until(lambda: self.cameras.aux.get_subscription_count() > 0, 20, "aux subscription", self.process)


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    """Parameters of the module's node; modules override it."""
    return {"autostart": True}


@pytest.fixture(scope="module")
def rig(tiny_weights: Path, node_parameters: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One node for all tests of a module."""
    folder = tmp_path_factory.mktemp("node")
    parameters = {"model": "sdstrack_tiny_test", "weights": tiny_weights, "device": "cpu", **node_parameters}
    with private_domain() as domain:
        environment = ros_environment(domain, folder)
        command = node_command(parameters, python_module)
        with ros_process(command, environment, folder / "node.log") as process, ros_test(domain, environment) as ros:
            ros.listen_to_node()
            yield Rig(ros, Cameras(ros), process)
