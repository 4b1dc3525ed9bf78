"""Rows of the fault matrix that need a node, an engine or a machine of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle_msgs.msg import Transition

from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.reliability.matrix.bench import Bench, bench, number, sigkill
from testkit.reliability.matrix.outcome import PATIENCE_S, Counted, Outcome, Row, finish, run_row
from testkit.reliability.matrix.rows import script
from testkit.reliability.weights import tiny_node
from testkit.ros.camera import START_PATIENCE_S
from testkit.ros.processes import ROOT, ros_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.ros, pytest.mark.timeout(400)]
only_long = pytest.mark.skipif(not LONG, reason=ONLY_LONG)


def _parameters(folder: Path, **changes: Any) -> dict[str, Any]:
    return tiny_node(folder, init_box="[80.0, 60.0, 50.0, 50.0]", **changes)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The node with an engine that takes orders."""
    folder = tmp_path_factory.mktemp("engine")
    environment = {"SDSTRACK_ENGINE_ORDERS": str(folder / "orders")}
    with bench(
        folder, _parameters(folder), module="testkit.reliability.matrix.faulty_node", extra_environment=environment
    ) as running:
        yield running


def _obeyed(bench: Bench, order: str) -> int:
    log = bench.folder / "orders.log"
    return log.read_text().split().count(order) if log.exists() else 0


def _failed(bench: Bench, order: str, before: dict[str, str]) -> Counted:
    """Calls that obeyed an order that is over, and frames refused since; the status comes once a second at best."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        counted = number(bench.values(), "frames.rejected") - number(before, "frames.rejected")
        item = Counted("calls that failed", _obeyed(bench, order), counted, 1)
        if item.holds() or time.monotonic() > deadline:
            return item


def test_network_blocked_two_seconds(disturbed: Bench) -> None:
    """Older waiting frames are dropped and counted, the lag does not grow."""
    orders = disturbed.folder / "orders"

    def block(bench: Bench) -> list[Counted]:
        before = bench.values()
        orders.write_text("block 2.0")
        bench.until(lambda: _obeyed(bench, "block") >= 1, 60, "the block")
        bench.spin(2.5)
        orders.unlink()
        bench.until(
            lambda: number(bench.values(), "frames.dropped") > number(before, "frames.dropped") + 10, 60, "drops"
        )
        return []

    finish(
        "matrix", "network blocked", run_row(disturbed, Row("network blocked", "each call takes 2 s", block, r"state="))
    )


@only_long
def test_engine_is_never_entered_twice(disturbed: Bench) -> None:
    """Deactivated and activated again while the network is still busy with a frame of before."""
    orders = disturbed.folder / "orders"

    def act(bench: Bench) -> list[Counted]:
        before = _obeyed(bench, "block")
        orders.write_text("block 2.0")
        bench.until(lambda: _obeyed(bench, "block") > before, 60, "the block")
        done = bench.transition(Transition.TRANSITION_DEACTIVATE) + bench.transition(Transition.TRANSITION_ACTIVATE)
        bench.spin(3.0)
        orders.unlink()
        return [Counted("transitions done", 2, done), Counted("concurrent calls", 0, _obeyed(bench, "concurrent"))]

    finish(
        "matrix",
        "reactivated while blocked",
        run_row(disturbed, Row("reactivated", "network busy for 2 s", act, within=90)),
    )


def test_device_out_of_memory(disturbed: Bench) -> None:
    """The frame is refused and counted, with the reason; the next one is served."""
    orders = disturbed.folder / "orders"

    def act(bench: Bench) -> list[Counted]:
        before = bench.values()
        orders.write_text("oom")
        bench.spin(2.0)
        bench.until(lambda: _obeyed(bench, "oom") >= 3, 60, "calls that fail")
        orders.unlink()
        return [_failed(bench, "oom", before)]

    finish(
        "matrix",
        "device out of memory",
        run_row(disturbed, Row("out of memory", "every call fails for 2 s", act, r"out of memory")),
    )


@only_long
def test_engine_answers_nan(disturbed: Bench) -> None:
    """Nothing can take over from torch/fp32 on the CPU: two seconds of refused frames do not cost the target."""
    orders = disturbed.folder / "orders"

    def act(bench: Bench) -> list[Counted]:
        before = bench.values()
        orders.write_text("nan")
        bench.spin(2.0)
        bench.until(lambda: _obeyed(bench, "nan") >= 3, 60, "calls that fail")
        kept = bench.values()["targets"]
        orders.unlink()
        return [Counted("targets kept", 1, int(kept)), _failed(bench, "nan", before)]

    finish("matrix", "NaN from the engine", run_row(disturbed, Row("NaN", "every call for 2 s", act, r"has NaN")))


@only_long
def test_device_vanishes(tmp_path: Path) -> None:
    """Every call of the engine fails for good: the CPU takes over after three frames, and the target is kept."""
    orders = tmp_path / "orders"
    environment = {"SDSTRACK_ENGINE_ORDERS": str(orders)}
    module = "testkit.reliability.matrix.faulty_node"
    with bench(tmp_path, _parameters(tmp_path, engine="torch/bf16"), module=module, extra_environment=environment) as b:

        def act(bench: Bench) -> list[Counted]:
            before = bench.values()
            orders.write_text("lost")
            bench.until(lambda: bench.values()["engine"] == "torch/fp32", 60, "another engine")
            after = bench.values()
            assert after["engine_choice"] == "in place of torch/bf16 on cpu, which failed"
            refused = number(after, "frames.rejected") - number(before, "frames.rejected")
            return [Counted("targets kept", 1, int(after["targets"])), Counted("frames lost", 2, refused)]

        outcome = run_row(b, Row("device vanishes", "every call fails from now on", act, r"launch failure"))
    finish("matrix", "device vanishes", outcome)


@only_long
def test_event_storm(tmp_path: Path) -> None:
    """20 M events in a second beside colour at 15 Hz: boxes go on, memory stays, the event stream is used again."""
    parameters = _parameters(tmp_path, modality="event")
    with bench(tmp_path, parameters, ("--events",), healthy_script={"events_per_s": 1e5}) as running:
        row = Row(
            "event storm",
            "20 M events/s for 1 s",
            script(1.0, events_per_s=20e6),
            r"events.rate_hz=",
            within=90,
            # The window keeps 2 M events; a slow machine leaves more packets waiting in DDS.
            memory_mb=300,
        )
        outcome = run_row(running, row)
    finish("matrix", "event storm", outcome)


def test_qos_mismatch(tmp_path: Path) -> None:
    """Best-effort cameras, a node that asks for reliable: it says so by topic, and recovers once reconfigured."""
    parameters = _parameters(tmp_path, input_reliability="reliable")
    outcome = Outcome("best-effort cameras, input_reliability: reliable")
    with bench(tmp_path, parameters, ("--best-effort",), wait=False) as running:
        running.until(lambda: running.ros.value("lifecycle") == "active", START_PATIENCE_S, "an active node")
        running.until(lambda: "incompatible QoS" in running.said_since(0), 60, "word of the incompatible QoS")
        status = running.said_since(0)
        assert "/rgb/image_raw" in status
        outcome.shown = "incompatible QoS"
        assert running.transition(Transition.TRANSITION_DEACTIVATE)
        assert running.transition(Transition.TRANSITION_CLEANUP)
        assert running.ros.set_parameters(input_reliability="best_effort").successful
        assert running.transition(Transition.TRANSITION_CONFIGURE)
        assert running.transition(Transition.TRANSITION_ACTIVATE)
        running.healthy()
        outcome.stayed_up = running.node.alive()
    finish("matrix", "QoS mismatch", outcome)


def test_node_killed_and_restarted_under_load(tmp_path: Path) -> None:
    """SIGKILL, no word to anyone; a new node under the same name goes on where the images are now."""
    outcome = Outcome("SIGKILL of the node, started again while images flow")
    with bench(tmp_path, _parameters(tmp_path)) as running:
        for _ in range(3 if LONG else 1):
            running.left_behind |= sigkill(running.node)
            statuses = running.statuses
            running.node = running.restart()
            running.until(lambda count=statuses: running.statuses > count, 90, "the new node's status")
            running.healthy()
        outcome.stayed_up = running.node.alive()
        before = running.camera.report()["last_stamp_ns"]
        running.until(lambda: any(stamp > before for stamp in running.answers), 60, "an answer to a new frame")
    outcome.shown = "state=" + running.ros.value("state")
    finish("matrix", "node killed", outcome)


@only_long
def test_two_nodes_with_one_name(tmp_path: Path) -> None:
    """Both stay up and both answer; each says that there are two."""
    outcome = Outcome("a second node with the same name")
    with bench(tmp_path, _parameters(tmp_path)) as running:
        first, second = running.node, running.restart()
        running.until(lambda: "nodes are called /tracker" in running.said_since(0), 90, "word of the second node")
        outcome.shown = "2 nodes are called /tracker"
        before = len(running.answers)
        running.until(lambda: len(running.answers) > before + 20, 60, "answers of both")
        outcome.stayed_up = first.alive() and second.alive()
        second.end()
        running.until(lambda: "nodes are called" not in running.ros.status.message, 90, "the name is unique again")
        running.healthy()
    finish("matrix", "two nodes with one name", outcome)


def _in_own_mounts(case: str, folder: Path) -> Outcome:
    """Run a case of `full_devices` in a mount namespace of its own."""
    probe = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("needs the right to mount in a private namespace (root)")
    environment = ros_environment(0, folder)
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-m", "testkit.reliability.matrix.full_devices", case, str(folder)],
        env=environment, capture_output=True, text=True, timeout=260, cwd=ROOT, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, (done.stdout + done.stderr)[-4000:]
    return Outcome(**json.loads(lines[-1].removeprefix("RESULT ")))


@only_long
def test_shared_memory_full(tmp_path: Path) -> None:
    finish("matrix", "shared memory full", _in_own_mounts("shm", tmp_path))


def test_disk_full_for_recordings(tmp_path: Path) -> None:
    finish("matrix", "disk full for recordings", _in_own_mounts("disk", tmp_path))
