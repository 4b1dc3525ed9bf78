"""Cost of 1, 2, 4 and 8 targets in one stream: in the tracker, and in the node between two processes over real DDS.

All targets move as foreseen, so that those among others are looked for in smaller regions where the engine can
(`narrow`: their share). The numbers of the node come from its own ~/status.
"""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Row, interleaved, network_of
from ckd_core import DEFAULT_MODEL
from ckd_core.data.synthetic import clip
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.build import engine_for
from ckd_core.tracking.looks import is_calm
from ckd_core.tracking.multi import MultiTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckd_core.tracking.engines import Engine

TITLE = "Targets: a frame with N targets against N = 1 (ratio: times the cost of one; N if nothing were shared)"
COUNTS = (1, 2, 4, 8)
SIZE = (640, 480)
SETTLING_FRAMES = 20  # of a target, until how it moves is known
STAGES = ("network", "tracker", "extras", "total")


def run(quick: bool) -> list[Row]:
    """Rows by network and number of targets; CUDA engines where there is a CUDA device."""
    import torch

    cases = [(DEFAULT_MODEL, "torch/fp32", "cpu")]
    if not quick:
        cases += [(DEFAULT_MODEL, "openvino/fp32", "cpu"), ("sdstrack_b256", "torch/bf16", "cpu")]
    if torch.cuda.is_available():
        cases.append(("sdstrack_b256", "cudagraph/fp16", "cuda"))
    rows: list[Row] = []
    for name, engine, device in cases:
        rounds = 5 if quick or (name.endswith("b256") and device == "cpu") else 25
        rows += _case(name, engine, device, rounds)
    return [*rows, *(node_row(count) for count in COUNTS)]


def node_row(count: int) -> Row:
    """Film `count` squares at 30 Hz, each a target of a running node, and read what the node says of itself."""
    from vision_msgs.msg import Detection2D

    from ckd_core.models.checkpoint import default_weights
    from sdstrack_ros.node.health import LATENCY_FRAMES
    from testkit.ros.camera import NODE
    from testkit.ros.rig import Rig, running_node
    from testkit.ros.several_squares import SeveralSquares

    places = {f"t{index}": (30 + 150 * (index % 4), 90 + 220 * (index // 4)) for index in range(count)}
    options = {"autostart": True, "confidence": False, "engine": "auto", "model": DEFAULT_MODEL, "max_targets": count}
    weights = default_weights(DEFAULT_MODEL)
    with tempfile.TemporaryDirectory() as folder, running_node(weights, Path(folder), **options) as plain:
        plain.active()
        squares = SeveralSquares(plain.ros, places)
        rig = Rig(plain.ros, squares, plain.process)
        publisher = rig.ros.publisher(Detection2D, f"{NODE}/init_box")
        rig.until(lambda: publisher.get_subscription_count() > 0, "a listener on ~/init_box")
        rig.film_until(lambda: rig.ros.count("answered") > 0, "the first frame")
        for name in places:
            x, y, w, h = squares.square(name, squares.index)
            message = Detection2D(id=name)
            message.bbox.center.position.x, message.bbox.center.position.y = x + w / 2, y + h / 2
            message.bbox.size_x, message.bbox.size_y = w, h
            publisher.publish(message)
        rig.film_until(lambda: rig.ros.value("targets") == str(count), f"{count} targets")
        before = {name: rig.ros.count(name) for name in ("frames", "answered", "dropped")}
        # The node's percentiles are those of its last frames: all of them with the targets.
        answered = before["answered"] + LATENCY_FRAMES
        rig.film_until(lambda: rig.ros.count("answered") > answered, f"{LATENCY_FRAMES} frames", 300.0)
        rig.ros.spin(2.0)
        value = rig.ros.value
        row: Row = {"name": f"live node, {count} targets, {value('model')} by {value('engine')} on {value('device')}"}
        row.update({f"{stage}_p50_ms": value(f"latency_ms.{stage}.p50") for stage in STAGES})
        row.update({f"{stage}_p95_ms": value(f"latency_ms.{stage}.p95") for stage in STAGES})
        row.update({name: rig.ros.count(name) - number for name, number in before.items()})
        return row


def _case(name: str, engine: str, device: str, rounds: int) -> list[Row]:
    built = engine_for(network_of(name), engine=engine, device=device)
    frames = clip(78, Modality.THERMAL, 2, SIZE).frames
    trackers = {f"{count} targets": _tracker(built, frames[0], count) for count in COUNTS}
    calls = {label: functools.partial(tracker.update, frames[0]) for label, tracker in trackers.items()}
    timings = interleaved(calls, rounds)
    busy = {label: _cpu_ms(call, rounds) for label, call in calls.items()}
    alone = timings["1 targets"].median_ms
    return [
        {
            "name": label,
            "model": name,
            "engine": f"{built.name} on {built.device}",
            "median_ms": round(timing.median_ms, 3),
            "spread_ms": round(timing.spread_ms, 3),
            "ratio": round(timing.median_ms / alone, 3),
            "narrow": _narrow_share(trackers[label]),
            "ms_per_target": round(timing.median_ms / int(label.split()[0]), 3),
            "cpu_ms_per_target": round(busy[label] / int(label.split()[0]), 3),
        }
        for label, timing in timings.items()
    ]


def _cpu_ms(call: Callable[[], object], rounds: int) -> float:
    """CPU time of one call, that of all threads: what no number of cores makes less."""
    begin = time.process_time()
    for _ in range(rounds):
        call()
    return (time.process_time() - begin) * 1e3 / rounds


def _tracker(engine: Engine, frame: MultiModalFrame, count: int) -> MultiTracker:
    """Follows `count` targets through the same frame again and again; it has done so for a while."""
    generator = np.random.default_rng(count)
    boxes = {
        index: BoundingBox(*(float(value) for value in generator.uniform((60, 60, 40, 40), (480, 340, 90, 90))))
        for index in range(count)
    }
    # states off: a lost target would look elsewhere and at another number of windows
    tracker = MultiTracker(engine, Modality.THERMAL, TrackerConfig().as_published())
    tracker.start(frame, boxes)
    for _ in range(SETTLING_FRAMES):
        tracker.update(frame)
    return tracker


def _narrow_share(tracker: MultiTracker) -> float:
    calm = [is_calm(target) for target in tracker._targets.values()]
    return round(sum(calm) / len(calm), 2) if len(calm) > 1 and tracker.engine.narrow_size else 0.0
