"""A signal ends the node with status 0 whatever it did before; what an engine leaves behind must not kill it.

What one round of transitions leaves behind was enough to kill the node; the long form makes ten, to find what grows.
"""

from __future__ import annotations

import importlib.util
import signal
from typing import TYPE_CHECKING

import pytest
from lifecycle_msgs.msg import Transition

from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.ros.camera import PATIENCE_S
from testkit.ros.rig import running_node

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.ros

ROUNDS = 10 if LONG else 1
CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, SHUTDOWN = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_ACTIVE_SHUTDOWN
LIBRARY = {"torch/fp32": "torch", "openvino/fp32": "openvino", "onnx/fp32": "onnxruntime"}


@pytest.mark.parametrize(
    ("transitions", "signal_number"),
    [
        pytest.param(
            (CONFIGURE, CLEANUP), signal.SIGTERM, id="cleanup", marks=pytest.mark.skipif(not LONG, reason=ONLY_LONG)
        ),
        pytest.param((CONFIGURE, ACTIVATE, SHUTDOWN), signal.SIGINT, id="shutdown"),
        pytest.param((CONFIGURE, CLEANUP) * ROUNDS, signal.SIGTERM, id="rounds"),
    ],
)
@pytest.mark.parametrize("engine", LIBRARY)
def test_a_signal_after_these_transitions_ends_the_node_with_status_zero(
    engine: str, transitions: tuple[int, ...], signal_number: int, tiny_weights: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec(LIBRARY[engine]) is None:
        pytest.skip(f"{LIBRARY[engine]} is not installed")
    with running_node(weights=tiny_weights, folder=tmp_path, engine=engine) as rig:
        for number in transitions:
            assert rig.ros.transition(number), rig.process.output[-2000:]
        rig.process.process.send_signal(signal_number)
        assert rig.process.process.wait(PATIENCE_S) == 0, rig.process.output[-2000:]
