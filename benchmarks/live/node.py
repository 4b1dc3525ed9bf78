"""The node between two processes over real DDS: what it adds to the network's time, and what the stock parts would.

The cameras are this process, the node is its own. `overhead` is from a complete pair to the published box, without the
network. Numbers come from the node's own ~/status.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Row, interleaved
from ckd_core import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

TITLE = "Node: 640x480 rgb8 + 16UC1 at 30 Hz from another process"
RATE_HZ = 30.0
INIT_BOX = "[200.0, 180.0, 60.0, 60.0]"
NODE = {"autostart": True, "init_box": INIT_BOX, "confidence": False, "engine": "auto", "model": DEFAULT_MODEL}
STAGES = ("overhead", "network", "total")


def run(quick: bool) -> list[Row]:
    """Rows of the live node, then of the two ways from messages to a frame."""
    return [live(90 if quick else 300), *message_to_frame(quick)]


def live(frames: int) -> Row:
    """Film for a while and read what the node says of itself."""
    from ckd_core.models.checkpoint import default_weights
    from testkit.ros.rig import running_node

    with tempfile.TemporaryDirectory() as folder:
        weights = default_weights(DEFAULT_MODEL)
        with running_node(weights, Path(folder), **NODE) as rig:
            rig.active()
            rig.film_until(lambda: rig.ros.value("state") != "NONE", "a target")
            rig.cameras.film(frames, RATE_HZ)
            rig.ros.spin(2.0)
            value, count = rig.ros.value, rig.ros.count
            row: Row = {"name": f"live node, {value('model')} by {value('engine')} on {value('device')}"}
            row.update({f"{stage}_p50_ms": value(f"latency_ms.{stage}.p50") for stage in STAGES})
            row.update({f"{stage}_p95_ms": value(f"latency_ms.{stage}.p95") for stage in STAGES})
            row.update({name: count(name) for name in ("frames", "answered", "dropped")})
            return row


def message_to_frame(quick: bool) -> list[Row]:
    """Milliseconds from two messages to one frame: ours, and message_filters + cv_bridge where they are installed."""
    variants = {"ours: tolerant pairing, views": ours()}
    try:
        variants["stock: ApproximateTimeSynchronizer, cv_bridge"] = stock()
        missing = ""
    except ImportError as error:
        missing = f"not measured here: {error}"
    timings = interleaved(variants, rounds=50 if quick else 300, warmup=10)
    rows: list[Row] = [
        {"name": name, "median_ms": round(timing.median_ms, 4), "spread_ms": round(timing.spread_ms, 4)}
        for name, timing in timings.items()
    ]
    if missing:
        rows.append({"name": "stock: ApproximateTimeSynchronizer, cv_bridge", "note": missing})
    return rows


def messages() -> Callable[[], tuple[Any, Any]]:
    """Return a source of pairs of image messages with rising stamps."""
    import numpy as np

    from testkit.ros.camera import HEIGHT, WIDTH, image_message

    random = np.random.default_rng(0)
    color = image_message(random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), "rgb8", 1)
    depth = image_message(random.integers(300, 5000, (HEIGHT, WIDTH)).astype(np.uint16), "16UC1", 1)
    begin = time.time_ns()
    index = 0

    def pair() -> tuple[Any, Any]:
        nonlocal index
        index += 1
        for message in (color, depth):
            stamp_ns = begin + index * 33_333_333
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        return color, depth

    return pair


def ours() -> Callable[[], object]:
    """Pair by our synchronizer, decode as the node does."""
    from ckd_core.frame import Modality
    from sdstrack_ros.sync.filters import synchronize
    from sdstrack_ros.sync.frame_builder import FrameBuilder
    from sdstrack_ros.sync.message_filters_compat import SimpleFilter
    from sdstrack_ros.sync.types import SyncConfig

    color, aux = SimpleFilter(), SimpleFilter()
    builder, frames = FrameBuilder(Modality.DEPTH), []
    both = synchronize(color, aux, "tolerant", SyncConfig())
    both.registerCallback(lambda synced: frames.append(builder.build(synced)[0]))
    return _once(color, aux, frames)


def stock() -> Callable[[], object]:
    """Pair by message_filters, convert by cv_bridge."""
    import message_filters
    from cv_bridge import CvBridge

    color, aux = message_filters.SimpleFilter(), message_filters.SimpleFilter()
    bridge, frames = CvBridge(), []
    both = message_filters.ApproximateTimeSynchronizer([color, aux], 10, 0.015)
    both.registerCallback(
        lambda rgb, depth: frames.append((bridge.imgmsg_to_cv2(rgb, "rgb8"), bridge.imgmsg_to_cv2(depth)))
    )
    return _once(color, aux, frames)


def _once(color: Any, aux: Any, frames: list[Any]) -> Callable[[], object]:
    source = messages()

    def once() -> None:
        rgb, depth = source()
        frames.clear()
        color.signalMessage(rgb)
        aux.signalMessage(depth)
        assert len(frames) == 1

    return once
