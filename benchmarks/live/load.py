"""The node under loads that are too much for it: how old boxes become, and what is left out. On idle cores only.

The rule: a box is never older than two frame periods and the network's own time (its p99 under this load), whatever the
load. Age is from the image's stamp in the camera's process to the box in this one, so it contains the camera's own
publishing (`publish_p99_ms`, stamp to middleware) and the transport. `arrival` is the age that the image already has
when the node gets it, `in_node` what comes on top until the box is out, `published` both together: how old boxes are
when they leave the node. All three are of the frames that were answered. `stale` are the dropped ones that gave
way to the next because they had waited too long.

`bare` is the control: the age of images in a process that takes them and does nothing else, in the node's place (plain
rclpy, the same QoS, cameras and number of processes). It is what middleware and synthetic cameras cost here by
themselves, with the rest of the machine idle.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Row
    from testkit.reliability.matrix.bench import Bench

TITLE = "Load: the default network by what auto takes (limit: two frame periods and the network's p99)"
NODE_MODULE = "sdstrack_ros.node.tracker_node"
BARE_MODULE = "benchmarks.live._bare_subscriber"
FAULTY = "testkit.reliability.matrix.faulty_node"
NETWORK_S = 0.4
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    """One load.

    Attributes:
        name: In the table.
        rate_hz: Of the colour camera.
        camera: Command line of the camera process.
        script: What the cameras do.
        parameters: Of the node.
        nodes: How many run on this machine.
        orders: For the engine, see `faulty_node`.
    """

    name: str
    rate_hz: float = 30.0
    camera: tuple[str, ...] = ("--width", "640", "--height", "480")
    script: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    nodes: int = 1
    orders: str = ""


LARGE = ("--width", "3840", "--height", "2160", "--aux-width", "640", "--aux-height", "512")
STILL = {"content": "frozen"}  # one image, sent again: the camera process has to have time for the publishing alone
THERMAL = {"aux_encoding": "mono16"}
CASES = (
    Case("640x480 + depth, 30 Hz"),
    Case("3840x2160 at 60 Hz + thermal 640x512 at 9 Hz", 60.0, LARGE, {**STILL, **THERMAL, "aux_rate_hz": 9.0},
         {"modality": "thermal"}),
    Case("the same, input_depth 3", 60.0, LARGE, {**STILL, **THERMAL, "aux_rate_hz": 9.0},
         {"modality": "thermal", "input_depth": 3}),
    Case("640x480 at 60 Hz + thermal at 9 Hz", 60.0, script={**THERMAL, "aux_rate_hz": 9.0},
         parameters={"modality": "thermal"}),
    Case("640x480 + 20 M events/s, 30 Hz", camera=("--width", "640", "--height", "480", "--events"),
         script={"events_per_s": 20e6}, parameters={"modality": "event"}),
    Case("network of 400 ms, 30 Hz", orders=f"block {NETWORK_S}"),
    Case("ten nodes, 30 Hz", nodes=10),
)  # fmt: skip


def run(quick: bool) -> list[Row]:
    """One row per load."""
    seconds = 5.0 if quick else 12.0
    return [{"name": case.name, **bare(case, seconds), **measured(case, seconds)} for case in CASES]


def bare(case: Case, seconds: float) -> Row:
    """Age of images at processes that only take them, as many as there will be nodes."""
    from benchmarks.live._bare_subscriber import AGES_FILE
    from sdstrack_ros.parameters.table import Settings
    from testkit.reliability.matrix.bench import bench

    defaults = Settings()
    parameters = {"input_depth": defaults.input_depth, "modality": defaults.modality, **case.parameters}
    with tempfile.TemporaryDirectory() as name:
        ages_file = Path(name) / "ages.json"
        with bench(
            Path(name), parameters, (*case.camera, "--best-effort"), BARE_MODULE, wait=False, rate_hz=case.rate_hz,
            extra_environment={AGES_FILE: str(ages_file)}, healthy_script=case.script,
        ) as running, _more_processes(running, parameters, case.nodes - 1, BARE_MODULE):  # fmt: skip
            running.spin(3 * SETTLE_S + seconds / 2)  # they start, then settle by themselves
            running.node.interrupt()  # the others overwrite the file after the end, or not at all
            if not ages_file.is_file():
                raise RuntimeError(f"the bare subscriber of {case.name!r} left no ages: {running.node.output[-500:]}")
            ages = json.loads(ages_file.read_text())
    p50, p99 = np.percentile(ages, (50, 99)) if ages else (float("nan"),) * 2
    return {"bare_p50_ms": round(float(p50), 1), "bare_p99_ms": round(float(p99), 1)}


def measured(case: Case, seconds: float) -> Row:
    """Start cameras and nodes, film for a while, and say what became of the frames."""
    from testkit.reliability.matrix.bench import bench, number
    from testkit.reliability.soak import Observer

    parameters = {
        "model": DEFAULT_MODEL, "autostart": True, "init_box": "[160.0, 120.0, 50.0, 50.0]", "confidence": False,
        **case.parameters,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        orders = folder / "orders"
        with bench(
            folder, parameters, (*case.camera, "--best-effort"), FAULTY if case.orders else NODE_MODULE, wait=False,
            rate_hz=case.rate_hz, extra_environment={"SDSTRACK_ENGINE_ORDERS": str(orders)}, healthy_script=case.script,
        ) as running, _more_processes(running, parameters, case.nodes - 1):  # fmt: skip
            running.until(lambda: running.ros.value("lifecycle") == "active", 240, "an active node")
            running.until(lambda: running.ros.value("state") not in ("", "NONE"), 120, "a target")
            if case.orders:
                orders.write_text(case.orders)
            observer = Observer(running)
            running.spin(SETTLE_S)
            observer.latencies_ms.clear()
            before = running.values()
            sent = running.camera.report()
            running.spin(seconds)
            leaving = running.camera.report()
            after = running.values()
    ages = np.array([ms for _, ms in observer.latencies_ms])
    network = float(after["latency_ms.network.p99"])
    limit = 2e3 / case.rate_hz + network
    counted = {
        key: number(after, f"frames.{key}") - number(before, f"frames.{key}")
        for key in ("answered", "dropped", "stale")
    }
    row: Row = {
        "engine": after["engine"],
        "sent_hz": round((leaving["rgb"] - sent["rgb"]) / seconds, 1),
        "publish_p99_ms": leaving["publish_p99_ms"],
        **{
            f"{name}_p{percent}_ms": round(float(after[f"latency_ms.{stage}.p{percent}"]), 1)
            for name, stage in (
                ("arrival", "arrival"),
                ("network", "network"),
                ("in_node", "total"),
                ("published", "age"),
            )
            for percent in (50, 99)
        },
    }
    if not len(ages):
        return row | {"age_p50_ms": "-", "age_p99_ms": "-", "age_max_ms": "-", "limit_ms": round(limit, 1),
                      "within": "no box came", **counted, "left_out": after["left_out"]}  # fmt: skip
    p50, p99 = np.percentile(ages, (50, 99))
    return row | {
        "age_p50_ms": round(float(p50), 1),
        "age_p99_ms": round(float(p99), 1),
        "age_max_ms": round(float(ages.max()), 1),
        "limit_ms": round(limit, 1),
        "within": f"{100 * float(np.mean(ages <= limit)):.1f} %",
        **counted,
        "left_out": after["left_out"] or "-",
    }


@contextlib.contextmanager
def _more_processes(
    running: Bench, parameters: dict[str, Any], count: int, module: str = NODE_MODULE
) -> Iterator[None]:
    """Further nodes on the same cameras, each with a name of its own; all of them active."""
    from testkit.ros.camera import node_command
    from testkit.ros.processes import RosProcess, python_module, start_process

    nodes = []
    try:
        for index in range(count):
            command = node_command(
                parameters, lambda _, *words: python_module(module, *words), (f"__node:=node_{index + 2}",)
            )
            stream = (running.folder / f"node_{index}.log").open("ab")
            process = start_process(command, running.environment, stdout=stream, stderr=stream)
            nodes.append(RosProcess(process, running.folder / f"node_{index}.log", stream))
        deadline = time.monotonic() + 300
        while module == NODE_MODULE and not all("active: waiting for" in node.output for node in nodes):
            if time.monotonic() > deadline or not all(node.alive() for node in nodes):
                raise RuntimeError(f"{count} more nodes did not become active: {nodes[0].output[-1000:]}")
            running.spin(0.5)
        yield
    finally:
        for node in nodes:
            node.end()
