"""One signal ends the node while it configures, too, whatever it is doing there."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from testkit.ros.camera import START_PATIENCE_S, node_command, ros_test
from testkit.ros.processes import private_domain, python_module, ros_environment, ros_process, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.ros

# A second on an idle machine.
ENDS_WITHIN_S = 15.0


@pytest.mark.parametrize("order", ["block", "grind"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_the_node_in_the_middle_of_configure(
    order: str, number: signal.Signals, tiny_weights: Path, tmp_path: Path
) -> None:
    orders = tmp_path / "orders"
    orders.write_text(f"{order} 120")
    values = {
        "model": "sdstrack_tiny_test", "weights": tiny_weights, "device": "cpu", "engine": "torch/fp32",
        "autostart": True,
    }  # fmt: skip
    with private_domain() as domain:
        environment = {**ros_environment(domain, tmp_path), "SDSTRACK_ENGINE_ORDERS": str(orders)}
        command = node_command(
            values, lambda _, *words: python_module("testkit.reliability.matrix.faulty_node", *words)
        )
        with (
            ros_process(command, environment, tmp_path / "node.log") as process,
            ros_test(domain, environment) as ros,
        ):
            log = orders.with_suffix(".log")
            wait_until(lambda: log.exists(), START_PATIENCE_S, "the engine's first call", ros.spin, process)
            time.sleep(0.3)
            begin = time.monotonic()
            process.process.send_signal(number)
            assert process.process.wait(60) == 0, process.output[-2000:]
            assert time.monotonic() - begin < ENDS_WITHIN_S
            assert "stopped while it configured" in process.output
            assert "Traceback" not in process.output
