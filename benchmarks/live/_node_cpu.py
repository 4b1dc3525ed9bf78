"""CPU of the node's process, of this checkout or of another one."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Row
    from testkit.ros.rig import Rig

RATE_HZ, PACKETS_HZ = 30.0, 250.0
PATIENCE_S = 240.0  # until a node answers
MODEL = "sdstrack_s128"  # every checkout has it; while the node is paused, it does nothing
INIT_BOX = "[200.0, 180.0, 60.0, 60.0]"


def node_cpu(tree: Path, seconds: float, tracking: bool = False, **parameters: Any) -> Row:
    """Run nodes of a checkout, one per modality of the auxiliary camera, and return what they cost.

    Args:
        tree: the checkout.
        seconds: for each number.
        tracking: also measure frames that are tracked, by PyTorch on one thread.
        parameters: of the node.

    Returns:
        Percent of a core, unconfigured and active without a camera; milliseconds of CPU per frame and per packet.
    """
    row: Row = {}

    def percent(rig: Rig) -> float:
        cpu, _, wall = _used(rig, lambda: _rest(rig, seconds))
        return round(100 * cpu / wall, 2)

    def per_frame(rig: Rig) -> float:
        cpu, filmed, _ = _used(rig, lambda: len(rig.cameras.film(int(seconds * RATE_HZ), RATE_HZ)))
        rig.ros.spin(1.5)  # a status that counts them
        return round(1000 * cpu / filmed, 3)

    with _node(tree, **parameters) as rig:
        rig.until(lambda: rig.ros.value("lifecycle") == "unconfigured", "a node", PATIENCE_S)
        row["unconfigured_percent"] = percent(rig)
    with _node(tree, autostart=True, **parameters) as rig:
        rig.active()
        row["active_without_camera_percent"] = percent(rig)
        _pause(rig)
        row["ms_per_frame"] = per_frame(rig)
        row["frames"] = rig.ros.value("frames.frames")
    if tracking:
        with _node(tree, autostart=True, confidence=False, init_box=INIT_BOX, **parameters) as rig:
            rig.active()
            rig.film_until(lambda: rig.ros.value("state") == "TRACKING", "a target")
            row["ms_per_tracked_frame"] = per_frame(rig)
            row["answered"] = rig.ros.value("frames.answered")
    with _node(tree, autostart=True, modality="event", **parameters) as rig:
        rig.until(lambda: rig.ros.value("lifecycle") == "active", "an active node", PATIENCE_S)
        _pause(rig)
        cpu, count, _ = _used(rig, lambda: _send_packets(rig, int(seconds * PACKETS_HZ)))
        row["ms_per_packet"] = round(1000 * cpu / count, 3)
        row["packets"] = rig.ros.value("events.received")
    return row


@contextmanager
def _node(tree: Path, **parameters: Any) -> Iterator[Rig]:
    from testkit.ros.rig import node_of_checkout

    weights = tree / "ckd_core" / "weights" / f"{MODEL}.safetensors"
    values = {"model": MODEL, "threads": 1, "publish_3d": False, **parameters}
    with (
        tempfile.TemporaryDirectory() as folder,
        node_of_checkout(tree, weights, Path(folder), values) as rig,
    ):
        yield rig


def _pause(rig: Rig) -> None:
    from std_srvs.srv import SetBool

    rig.ros.call(SetBool, "/tracker/pause", SetBool.Request(data=True))


def _used(rig: Rig, work: Callable[[], int]) -> tuple[float, int, float]:
    """CPU seconds of the node while `work` goes on, what `work` returns, and the seconds of wall time."""
    begin, wall = rig.process.cpu_s, time.monotonic()
    count = work()
    return rig.process.cpu_s - begin, count, time.monotonic() - wall


def _rest(rig: Rig, seconds: float) -> int:
    """Do nothing but listen."""
    rig.ros.spin(seconds)
    return 0


def _send_packets(rig: Rig, count: int) -> int:
    """Publish event packets of 2000 events at their rate; returns how many."""
    import numpy as np
    from event_camera_msgs.msg import EventPacket

    from testkit.event_packets import mono_bytes
    from testkit.ros.camera import HEIGHT, WIDTH

    random = np.random.default_rng(0)
    x, y = random.integers(0, WIDTH, 2000), random.integers(0, HEIGHT, 2000)
    data = mono_bytes(x, y, np.sort(random.integers(0, 4_000_000, 2000)), random.integers(0, 2, 2000))
    publisher = rig.ros.publisher(EventPacket, "/aux/events", 1000)
    rig.until(lambda: publisher.get_subscription_count() > 0, "a listener")
    packet = EventPacket(height=HEIGHT, width=WIDTH, encoding="mono", events=data)
    due = time.monotonic()
    for sequence in range(count):
        stamp_ns = time.time_ns()
        packet.seq, packet.time_base = sequence, stamp_ns
        packet.header.stamp.sec, packet.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        publisher.publish(packet)
        due += 1 / PACKETS_HZ
        rig.ros.spin(max(due - time.monotonic(), 0.0005))
    return count
