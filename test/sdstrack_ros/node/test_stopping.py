"""One signal also ends a node that is being configured, whatever it is doing then."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sdstrack_ros.node.stopping import descendants
from testkit.reliability.lengths import LONG, ONLY_LONG, record
from testkit.ros.camera import START_PATIENCE_S, node_command, ros_test
from testkit.ros.processes import (
    ROOT,
    RosProcess,
    private_domain,
    python_module,
    ros_environment,
    ros_process,
    start_process,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.ros

# A second on an idle machine.
ENDS_WITHIN_S = 15.0
LEFT_WITHIN_S = 10.0  # the middleware gives up a participant that says nothing after 20
GONE_WITHIN_S = 5.0  # whoever adopts what a compiler has started has to notice its end


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


@pytest.mark.parametrize("active", [False, True])
def test_a_node_that_is_stopped_leaves_the_graph_at_once(active: bool, tiny_weights: Path, tmp_path: Path) -> None:
    """And not when the middleware gives it up, after 20 s in which a new node of its name is one of two."""
    values = {
        "model": "sdstrack_tiny_test", "weights": tiny_weights, "device": "cpu", "engine": "torch/fp32",
        "autostart": active,
    }  # fmt: skip
    with private_domain() as domain:
        environment = ros_environment(domain, tmp_path)
        with (
            ros_process(node_command(values, python_module), environment, tmp_path / "node.log") as process,
            ros_test(domain, environment) as ros,
        ):
            ros.until(lambda: "tracker" in ros.node.get_node_names(), START_PATIENCE_S, "the node", process)
            if active:
                ros.until(lambda: "active: waiting for" in process.output, START_PATIENCE_S, "an active node", process)
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(60) == 0, process.output[-2000:]
            wait_until(lambda: "tracker" not in ros.node.get_node_names(), LEFT_WITHIN_S, "its leave", ros.spin)


SLOW_TO_BEGIN = """
import sys, time
from sdstrack_ros.node import tracker_node
make_executor = tracker_node.make_executor
def slowly(node):
    print("in the graph", flush=True)
    time.sleep(2)
    return make_executor(node)
tracker_node.make_executor = slowly
sys.exit(tracker_node.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_stopped_before_it_spins_ends_in_order(number: int, tmp_path: Path) -> None:
    with private_domain() as domain:
        environment = ros_environment(domain, tmp_path)
        command = [sys.executable, "-c", SLOW_TO_BEGIN]
        with (
            ros_process(command, environment, tmp_path / "node.log") as process,
            ros_test(domain, environment) as ros,
        ):
            wait_until(lambda: "in the graph" in process.output, START_PATIENCE_S, "the node", ros.spin, process)
            ros.until(lambda: "tracker" in ros.node.get_node_names(), START_PATIENCE_S, "its name", process)
            process.process.send_signal(number)
            assert process.process.wait(60) == 0, process.output[-2000:]
            assert "Traceback" not in process.output
            wait_until(lambda: "tracker" not in ros.node.get_node_names(), LEFT_WITHIN_S, "its leave", ros.spin)


ABORTING = """
import os, time
from sdstrack_ros.node.stopping import ConfigureStoppedError, StopSignals
signals = StopSignals()
with signals.interruptible():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except ConfigureStoppedError:
        os.abort()
"""


def test_a_library_that_aborts_because_of_the_signal_ends_the_node_with_status_0() -> None:
    process = subprocess.Popen([sys.executable, "-c", ABORTING], cwd=ROOT, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


POINTS = 20
LIBRARY = {"torch/fp32": "torch", "compile/fp32": "torch", "onnx/fp32": "onnxruntime", "openvino/fp32": "openvino"}


def catches_sigterm(process: RosProcess) -> bool:
    """Whether a process has its own answer to SIGTERM by now."""
    line = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line)
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not LONG, reason=ONLY_LONG)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", LIBRARY)
def test_one_sigterm_ends_configure_at_any_point(engine: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(LIBRARY[engine]) is None:
        pytest.skip(f"{LIBRARY[engine]} is not installed")
    command = node_command({"device": "cpu", "engine": engine, "autostart": True}, python_module)
    lasts_s, ended_s = 0.0, []
    with private_domain() as domain:
        environment = ros_environment(domain, tmp_path)
        for point in range(POINTS + 1):  # the first one goes through
            with ros_process(command, environment, tmp_path / f"{point}.log") as process:
                deadline = time.monotonic() + START_PATIENCE_S
                while not catches_sigterm(process):
                    assert time.monotonic() < deadline, process.output[-2000:]
                    time.sleep(0.002)
                begin = time.monotonic()
                while "configured: " not in process.output and time.monotonic() < begin + START_PATIENCE_S:
                    if point and time.monotonic() - begin >= (point - 0.5) / POINTS * lasts_s:
                        break
                    time.sleep(0.01)
                lasts_s = lasts_s or time.monotonic() - begin
                started, begin = descendants(process.pid), time.monotonic()
                process.process.send_signal(signal.SIGTERM)
                assert process.process.wait(60) == 0, process.output[-2000:]
                ended_s.append(time.monotonic() - begin)
                assert "Traceback" not in process.output, process.output[-2000:]
                deadline = time.monotonic() + GONE_WITHIN_S
                while alive := [child for child in started if Path(f"/proc/{child}").exists()]:
                    assert time.monotonic() < deadline, f"point {point}: {alive} go on; {process.output[-2000:]}"
                    time.sleep(0.05)
    assert max(ended_s) < ENDS_WITHIN_S
    slowest = ended_s.index(max(ended_s))
    row = {"configure_s": round(lasts_s, 2), "points": POINTS, "slowest_s": round(max(ended_s), 2), "at": slowest}
    record("stops", engine.replace("/", " "), row)
    print(engine, row, [round(seconds, 2) for seconds in ended_s])  # for whoever judges an idle machine


GROUP = 5


@pytest.fixture
def group(tiny_weights: Path, tmp_path: Path) -> Iterator[list[RosProcess]]:
    """Nodes of one process group, as a terminal's or a launch file's are."""
    values = {"model": "sdstrack_tiny_test", "weights": tiny_weights, "device": "cpu", "engine": "torch/fp32"}
    with private_domain() as domain, ExitStack() as stack:
        environment, nodes = ros_environment(domain, tmp_path), []
        for number in range(GROUP):
            leader = nodes[0].pid if nodes else 0
            names = (f"__node:=tracker{number}", f"__ns:=/robot{number}")
            command = node_command({**values, "autostart": number != 1}, python_module, names)
            log = tmp_path / f"{number}.log"
            stream = stack.enter_context(log.open("ab"))
            process = start_process(
                command, environment, stdout=stream, stderr=subprocess.STDOUT, preexec_fn=partial(os.setpgid, 0, leader)
            )
            nodes.append(RosProcess(process, log, stream))
            stack.callback(nodes[-1].end)
        yield nodes


@pytest.mark.skipif(not LONG, reason=ONLY_LONG)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["active", "starting"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_one_signal_to_a_group_of_nodes_ends_all_of_them(
    group: list[RosProcess], number: signal.Signals, when: str
) -> None:
    for index, node in enumerate(group):  # the second one stays unconfigured
        if when == "active" and index != 1:
            wait_until(lambda node=node: "active: waiting" in node.output, START_PATIENCE_S, "a node", None, node)
        wait_until(lambda node=node: catches_sigterm(node), START_PATIENCE_S, "its own answer to SIGTERM", None, node)
    started = [child for node in group for child in descendants(node.pid)]
    begin = time.monotonic()
    os.killpg(group[0].pid, number)
    statuses = [node.process.wait(60) for node in group]
    ended_s = time.monotonic() - begin
    assert statuses == [0] * GROUP, [node.output[-1500:] for node in group]
    assert not [node.output for node in group if "Traceback" in node.output]
    wait_until(
        lambda: not any(Path(f"/proc/{child}").exists() for child in started), GONE_WITHIN_S, "the end of all children"
    )
    row = {"nodes": GROUP, "all ended after s": round(ended_s, 2), "left behind": 0}
    record("stops", f"{GROUP} nodes {when}, one {number.name} to their process group", row)
    print(row)  # for whoever judges an idle machine
