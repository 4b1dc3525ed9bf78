"""CPU of the node's process by executor: idle, per frame, per event packet. On idle cores only.

Tracking is paused, so that a frame's cost is that of receiving, pairing and counting it; the network's is elsewhere.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ckd_core import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Row
    from testkit.ros.rig import Rig

TITLE = "Executor: CPU of the node's process, 640x480 rgb8 + 16UC1 at 30 Hz, event packets at 250 Hz"
EXECUTORS = ("single", "events")
RATE_HZ, PACKETS_HZ = 30.0, 250.0


def run(quick: bool) -> list[Row]:
    """One row per executor."""
    seconds = 3.0 if quick else 20.0
    return [measured(executor, seconds) for executor in EXECUTORS]


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, those of the kernel for it included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def used(rig: Rig, work: Callable[[], int]) -> tuple[float, int, float]:
    """CPU seconds of the node while `work` goes on, what `work` returns, and the seconds of wall time."""
    begin, wall = cpu_s(rig.process.pid), time.monotonic()
    count = work()
    return cpu_s(rig.process.pid) - begin, count, time.monotonic() - wall


def measured(executor: str, seconds: float) -> Row:
    """Run two nodes, one per modality of the auxiliary camera."""
    from std_srvs.srv import SetBool

    from ckd_core.models.checkpoint import default_weights
    from testkit.ros.rig import running_node

    weights = default_weights(DEFAULT_MODEL)
    node = {"model": DEFAULT_MODEL, "executor": executor, "engine": "torch/fp32", "publish_3d": False}
    row: Row = {"name": executor}

    def percent(rig: Rig) -> float:
        cpu, _, wall = used(rig, lambda: rest(rig, seconds))
        return round(100 * cpu / wall, 2)

    with tempfile.TemporaryDirectory() as folder, running_node(weights, Path(folder), **node) as rig:
        rig.until(lambda: rig.ros.value("lifecycle") == "unconfigured", "a node")
        row["unconfigured_percent"] = percent(rig)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_node(weights, Path(folder), autostart=True, **node) as rig,
    ):
        rig.active()
        row["active_without_camera_percent"] = percent(rig)
        rig.ros.call(SetBool, "/tracker/pause", SetBool.Request(data=True))
        cpu, count, _ = used(rig, lambda: len(rig.cameras.film(int(seconds * RATE_HZ), RATE_HZ)))
        row["ms_per_frame"] = round(1000 * cpu / count, 3)
        row["frames"] = rig.ros.value("frames.frames")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_node(weights, Path(folder), autostart=True, modality="event", **node) as rig,
    ):
        rig.until(lambda: rig.ros.value("lifecycle") == "active", "an active node", 240)
        rig.ros.call(SetBool, "/tracker/pause", SetBool.Request(data=True))
        cpu, count, _ = used(rig, lambda: send_packets(rig, int(seconds * PACKETS_HZ)))
        row["ms_per_packet"] = round(1000 * cpu / count, 3)
        row["packets"] = rig.ros.value("events.received")
    return row


def rest(rig: Rig, seconds: float) -> int:
    """Do nothing but listen."""
    rig.ros.spin(seconds)
    return 0


def send_packets(rig: Rig, count: int) -> int:
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
