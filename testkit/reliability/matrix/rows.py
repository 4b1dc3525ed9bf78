"""The fault matrix: what is injected into a healthy node, and what must be seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lifecycle_msgs.msg import Transition

from testkit.reliability.matrix.bench import Bench, number
from testkit.reliability.matrix.outcome import PATIENCE_S, Counted, Row

if TYPE_CHECKING:
    from collections.abc import Callable


def script(seconds: float, **changes: Any) -> Callable[[Bench], None]:
    """Let the cameras follow a script for that many seconds."""

    def act(bench: Bench) -> None:
        bench.camera.set(**changes)
        bench.spin(seconds)

    return act


def counting(
    seconds: float,
    key: str,
    stream: str,
    per_message: float = 1.0,
    tolerance: int = 2,
    decoded: bool = False,
    **changes: Any,
) -> Callable[[Bench], list[Counted]]:
    """Do the same, and compare a counter of the status with the number sent.

    Args:
        seconds: how long.
        key: the counter.
        stream: of which the messages are counted that were sent.
        per_message: counts per message.
        tolerance: between the two.
        decoded: the fault is found when an image is decoded; a frame that a busy node drops before counts as dropped.
        changes: of the script.
    """

    def act(bench: Bench) -> list[Counted]:
        before = _silence(bench)
        start = bench.camera.set(**changes)[stream]
        bench.spin(seconds)
        sent = bench.camera.set(rate_hz=0.001)[stream] - start  # silence, so that the two counts belong together
        deadline = time.monotonic() + PATIENCE_S
        while True:
            bench.spin(0.5)
            now = bench.values()
            counted = number(now, key) - number(before, key)
            if decoded and counted:
                counted += number(now, "frames.dropped") - number(before, "frames.dropped")
            item = Counted(f"{key} or dropped" if decoded else key, round(sent * per_message), counted, tolerance)
            if item.holds() or time.monotonic() > deadline:  # a busy machine lets some of them wait
                return [item]

    return act


def _silence(bench: Bench) -> dict[str, str]:
    """Stop the cameras; returns the node's counts once it has taken and served all that they had sent."""
    bench.camera.set(rate_hz=0.001)  # after one frame more
    names = ("rgb.received", "aux.received", *(f"frames.{name}" for name in ("frames", "answered", "dropped")))
    before: dict[str, str] = {}
    now = bench.values()
    while any(before.get(name) != now.get(name) for name in names):
        before, now = now, bench.values()
    return now


def kill_publisher(bench: Bench) -> None:
    """Send SIGKILL to the cameras; new ones start four seconds later."""
    bench.camera.kill()
    bench.spin(4.0)
    bench.camera.start()
    bench.camera.set()
    bench.spin(1.0)


def clock_jumps(bench: Bench) -> None:
    """An hour ahead, back, an hour behind, back."""
    for shift_s in (3600.0, 0.0, -3600.0, 0.0):
        bench.camera.set(shift_s=shift_s)
        bench.spin(1.5)


def resize(bench: Bench) -> None:
    """Change the images' size, and change it back."""
    start = bench.statuses
    bench.camera.set(scale=0.5)
    bench.spin(1.5)
    bench.until(lambda: "changed its size" in bench.said_since(start), 60, "word of the size")
    bench.values()
    bench.camera.set()
    bench.spin(0.5)


def delete_weights(bench: Bench) -> None:
    """Delete the weights file while the node runs on what it has read."""
    weights = bench.folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    bench.spin(1.5)
    # A reconfiguration without them fails with the reason, and works again when they are back.
    assert bench.transition(Transition.TRANSITION_DEACTIVATE)
    assert bench.transition(Transition.TRANSITION_CLEANUP)
    assert not bench.transition(Transition.TRANSITION_CONFIGURE)
    bench.values()
    weights.write_bytes(content)
    assert bench.transition(Transition.TRANSITION_CONFIGURE)
    assert bench.transition(Transition.TRANSITION_ACTIVATE)


def parameter_storm(count: int) -> Callable[[Bench], list[Counted]]:
    """Change live parameters, to good and bad values, as fast as the node responds."""

    def act(bench: Bench) -> list[Counted]:
        refused = 0
        for i in range(count):
            if i % 3 == 0:
                refused += not bench.ros.set_parameters(max_skew_s=-1.0).successful
            else:
                assert bench.ros.set_parameters(max_wait_s=0.03 + 0.001 * (i % 20)).successful
        assert bench.ros.set_parameters(max_wait_s=0.05).successful
        return [Counted("bad values refused", len(range(0, count, 3)), refused)]

    return act


def lifecycle_storm(count: int) -> Callable[[Bench], list[Counted]]:
    """Deactivate, clean up, configure, activate, in turn and with impossible transitions between, under load."""

    def act(bench: Bench) -> list[Counted]:
        done = impossible = 0
        for _ in range(count):
            done += bench.transition(Transition.TRANSITION_DEACTIVATE)
            impossible += not bench.transition(Transition.TRANSITION_DEACTIVATE)
            done += bench.transition(Transition.TRANSITION_ACTIVATE)
            done += bench.transition(Transition.TRANSITION_DEACTIVATE)
            done += bench.transition(Transition.TRANSITION_CLEANUP)
            done += bench.transition(Transition.TRANSITION_CONFIGURE)
            done += bench.transition(Transition.TRANSITION_ACTIVATE)
        return [
            Counted("transitions done", 6 * count, done),
            Counted("impossible ones refused", count, impossible),
        ]

    return act


def depth_rows(long: bool) -> list[Row]:
    """Rows on a node for colour + depth."""
    lasting = 4.0 if long else 2.0
    return [
        Row(
            "auxiliary camera dies and returns",
            "no depth for 4 s",
            script(4.0, aux=False),
            r"nothing on /aux/image_raw",
            boxes_flow=0.8,
        ),
        Row(
            "colour dies and returns",
            "no colour for 4 s",
            script(4.0, rgb=False),
            r"nothing on /rgb/image_raw",
            boxes_flow=0.6,
        ),
        Row("both die and return", "no images for 4 s", script(4.0, rgb=False, aux=False), r"no input"),
        Row("rate halved", "7.5 Hz", script(lasting, rate_hz=7.5), r"rgb.rate_hz=(7|8)\.\d", boxes_flow=0.8),
        Row("rate doubled", "30 Hz", script(lasting, rate_hz=30.0), r"rgb.rate_hz=(2[5-9]|3[0-3])\.\d", boxes_flow=0.3),
        Row(
            "stamp jitter",
            "0 to 50 ms on both streams",
            script(lasting, jitter_s=0.05),
            r"skew_ms.p95=",
            boxes_flow=0.4,
        ),
        Row(
            "constant offset",
            "depth stamps 40 ms late: no partner within 15 ms",
            script(lasting, aux_offset_s=0.04),
            r"frames.degraded=\d+",
            boxes_flow=0.6,
        ),
        Row(
            "drift",
            "depth clock gains 2 %",
            script(2 * lasting, aux_drift=0.02),
            r"frames.degraded=\d+",
            boxes_flow=0.5,
        ),
        Row(
            "reordering",
            "neighbouring colour frames swapped",
            script(lasting, swap=True),
            r"sync.color_(late|alone)=\d+",
            boxes_flow=0.3,
        ),
        Row(
            "duplicates",
            "every message twice",
            counting(lasting, "sync.color_duplicate", "rgb", 0.5, 2, repeat=True),
            r"sync.color_duplicate=[1-9]",
        ),
        Row("clock jump forward and back", "+1 h, back, -1 h, back", clock_jumps, r"jump back in time", within=60),
        Row(
            "bag loop",
            "stamps start again every 1.5 s",
            script(3 * lasting, loop_s=1.5),
            r"frames.rewinds=[1-9]",
            boxes_flow=0.4,
            within=60,
        ),
        Row(
            "size change", "half the size, and back", resize, r"changed its size from 320 x 240 to 160 x 120", within=60
        ),
        Row(
            "encoding change",
            "colour called 32FC1",
            counting(lasting, "rgb.rejected", "rgb", 1.0, 3, decoded=True, rgb_encoding="32FC1"),
            r"/rgb/image_raw",
        ),
        Row(
            "unknown encoding",
            "colour called p010",
            counting(lasting, "rgb.rejected", "rgb", 1.0, 3, decoded=True, rgb_encoding="p010"),
            r"unknown encoding 'p010'",
        ),
        Row("depth encoding changes", "16UC1 becomes 32FC1", script(lasting, aux_encoding="32FC1"), boxes_flow=0.7),
        Row("frozen images", "the same image, stamps go on", script(lasting, content="frozen"), boxes_flow=0.7),
        Row(
            "frozen stamps",
            "images go on, stamps stand still",
            counting(lasting, "sync.color_duplicate", "rgb", 1.0, 3, frozen_stamp=True),
            r"sync.color_duplicate=[1-9]",
            within=60,
        ),
        Row(
            "zero stamps",
            "header.stamp 0",
            counting(lasting, "rgb.rejected", "rgb", 1.0, 1, zero_stamp=True),
            r"header.stamp is 0",
        ),
        Row(
            "black frames",
            "both black",
            script(lasting, content="black"),
            r"state=(UNCERTAIN|LOST|TRACKING)",
            boxes_flow=0.7,
        ),
        Row(
            "white frames",
            "both saturated",
            script(lasting, content="white"),
            r"state=(UNCERTAIN|LOST|TRACKING)",
            boxes_flow=0.7,
        ),
        Row("NaN frames", "depth all NaN", script(lasting, content="nan"), boxes_flow=0.7),
        Row("Inf frames", "depth all Inf", script(lasting, content="inf"), boxes_flow=0.7),
        Row("camera_info missing", "none sent", script(lasting, info="none"), boxes_flow=0.7),
        Row(
            "camera_info uncalibrated",
            "all zero",
            counting(lasting, "camera_info.rejected", "info", 1.0, 1, info="zero"),
            r"camera_info is uncalibrated",
        ),
        Row(
            "camera_info wrong",
            "3 distortion coefficients",
            counting(lasting, "camera_info.rejected", "info", 1.0, 1, info="odd"),
            r"3 'plumb_bob' distortion coefficients",
        ),
        Row(
            "publisher killed",
            "SIGKILL of the cameras, new ones after 4 s",
            kill_publisher,
            r"nothing on /rgb/image_raw",
            within=90,
        ),
        Row(
            "weights deleted",
            "file removed while running; reconfigured without it",
            delete_weights,
            r"configure failed: .*weights.safetensors",
            within=90,
        ),
        Row(
            "parameter storm", "changes as fast as they are answered, a third bad", parameter_storm(300 if long else 40)
        ),
        Row(
            "lifecycle storm",
            "full cycles under load, with impossible transitions",
            lifecycle_storm(15 if long else 2),
            within=90,
        ),
    ]


def space_rows(long: bool) -> list[Row]:
    """Rows on a node for colour + depth that follows its target in a fixed frame."""
    lasting = 4.0 if long else 3.0
    late, again = r"known only until", r"pose_restarts=[1-9]"
    return [
        Row("TF late", "stamps a second behind the images", script(lasting, tf="late"), late, boxes_flow=0.7),
        Row("TF missing", "no transform sent", script(lasting, tf="none"), late, boxes_flow=0.7),
        Row("TF from the future", "stamps an hour ahead", script(lasting, tf="future"), r"known only", boxes_flow=0.7),
        Row("TF jumps", "3 m to and fro every 1.5 s", script(2 * lasting, tf="jumps"), again, boxes_flow=0.7),
        Row(
            "TF is no rotation",
            "a quaternion of length 1.25",
            script(lasting, tf="skewed"),
            r"expected finite numbers and a rotation",
            boxes_flow=0.7,
        ),
        Row(
            "camera_info of another image",
            "twice as high as the images",
            script(lasting, info="tall"),
            r"expected the same shape",
            boxes_flow=0.7,
        ),
        Row(
            "depth all zeros",
            "no reading in the depth images",
            script(lasting, content="blind"),
            r"too few valid readings in the box",
            boxes_flow=0.7,
        ),
    ]


SHORT = {
    "TF late",
    "TF jumps",
    "camera_info of another image",
    "auxiliary camera dies and returns",
    "clock jump forward and back",
    "size change",
    "unknown encoding",
    "publisher killed",
    "weights deleted",
    "lifecycle storm",
    "one outlier",
    "terminal escapes",
}
