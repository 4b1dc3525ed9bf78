"""One node that survives everything that cameras and clocks do wrong."""

from __future__ import annotations

import contextlib
import random
import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from geometry_msgs.msg import Point, PointStamped
from rclpy._rclpy_pybind11 import RCLError
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from vision_msgs.msg import Detection2D, Detection2DArray

from testkit.reliability.messages import mutations
from testkit.ros.camera import HEIGHT, NODE, WIDTH, image_message, stamp_of
from testkit.ros.rig import PATIENCE_S

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

RGB, AUX = "/rgb/image_raw", "/aux/image_raw"
REQUESTS = {
    "init_box": Detection2D,
    "init_roi": RegionOfInterest,
    "init_pixel": Point,
    "init_point": PointStamped,
    "candidates": Detection2DArray,
}
DAMAGED = 25  # damaged messages on each topic


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    return {
        "autostart": True,
        "init_box": "[200.0, 180.0, 60.0, 60.0]",
        "confidence": False,
        # Single messages decide here, so none may be overwritten while a busy node waits for its turn.
        "input_reliability": "reliable",
        "input_depth": 50,
        "stale_after_s": 0.7,
    }


@pytest.fixture(autouse=True)
def still_tracks(rig: Rig) -> Any:
    """Before and after every fault the same process answers good frames with a box."""
    rig.active()
    rig.film_until(lambda: rig.ros.value("state") == "TRACKING", "a target before")
    rig.ros.messages.clear()
    yield
    rig.cameras.film(5)
    rig.ros.messages["/tracker/detections"].clear()
    if rig.ros.value("state") == "NONE":
        rig.ros.set_parameters(init_box=[float(v) for v in rig.cameras.box(rig.cameras.index)])
    rig.film_until(lambda: any(m.detections for m in rig.ros.detections), "a box after")
    assert rig.process.alive()
    assert "Traceback" not in rig.process.output


def answered_while(rig: Rig, count: int, **dead: bool) -> None:
    """Film with one camera dead until `count` of those frames were answered with a box."""
    stamps: set[int] = set()

    def answered() -> int:
        return len(stamps & {stamp_of(message) for message in rig.ros.detections if message.detections})

    deadline = time.monotonic() + PATIENCE_S
    while answered() < count:
        assert time.monotonic() < deadline, f"{answered()} of {len(stamps)} frames answered"
        stamps.update(rig.cameras.film(3, **dead))


def test_the_auxiliary_camera_dies_and_returns(rig: Rig) -> None:
    ros = rig.ros
    answered_while(rig, 10, aux=False)
    rig.film_until(lambda: AUX in (ros.status.message if ros.status else ""), "a silent auxiliary camera", aux=False)
    assert f"nothing on {AUX}" in ros.status.message
    assert ros.count("degraded") > 0
    rig.film_until(
        lambda: re.search(rf"nothing on {AUX} for \d+\.\d s: ", rig.process.output) is not None, "a log line", aux=False
    )
    assert (
        "1 publisher(s) with reliable, volatile, this node asks for reliable, volatile: they are compatible"
        in rig.process.output
    )
    rig.film_until(lambda: AUX not in ros.status.message, "its return")


def test_colour_dies_and_returns(rig: Rig) -> None:
    ros = rig.ros
    answered_while(rig, 10, rgb=False)
    rig.film_until(lambda: RGB in (ros.status.message if ros.status else ""), "a silent colour camera", rgb=False)
    rig.film_until(lambda: RGB not in ros.status.message, "its return")


def test_both_die_and_return(rig: Rig) -> None:
    ros = rig.ros
    rig.until(lambda: bool(ros.status) and "no input" in ros.status.message, "an error")
    assert ros.status.level == bytes([2])
    rig.film_until(lambda: ros.status.level != bytes([2]), "their return")


def test_jitter_with_late_and_duplicate_frames(rig: Rig) -> None:
    random = np.random.default_rng(5)
    cameras, ros = rig.cameras, rig.ros

    def counted(what: str) -> int:
        return int(ros.value(f"sync.color_{what}") or 0)

    rig.two_more_statuses()
    duplicate, late = counted("duplicate"), counted("late")

    def shoot() -> None:
        for index in range(45):
            stamp = cameras.shoot(aux_late_ns=int(random.integers(-8_000_000, 8_000_000)))
            if index % 5 == 0:
                cameras.shoot(stamp_ns=stamp)
            if index % 7 == 0:
                cameras.shoot(stamp_ns=stamp - 60_000_000)
            ros.spin(0.02)

    rig.send_until(
        shoot,
        lambda: counted("duplicate") >= duplicate + 5 and counted("late") > late,
        "duplicate and late ones counted",
    )
    answered = [stamp_of(message) for message in ros.detections]
    assert answered == sorted(answered)


def test_time_jumps_back(rig: Rig) -> None:
    cameras, ros = rig.cameras, rig.ros
    base = time.time_ns() - 3_600_000_000_000
    stamps = []
    for index in range(30):
        stamps.append(cameras.shoot(stamp_ns=base + index * 33_000_000))
        ros.spin(0.03)
    rig.until(lambda: rig.says("jump back in time"), "the jump named")
    rig.until(lambda: bool({stamp_of(m) for m in ros.detections if m.detections} & set(stamps)), "boxes after the jump")
    # An hour back is before the parameter's box was first used: as in a recording that starts again, it is used again.
    rig.until(lambda: "so that box starts the target again" in ros.value("last_time_reset"), "the box used again")
    # The way back to the present is a jump forward, which needs no special handling. A short jump back from there is
    # after that first use: the old box must not choose another object.
    rig.film_until(lambda: ros.value("state") == "TRACKING", "a target in the present")

    def jump() -> None:
        cameras.film(90)
        base = time.time_ns() - 1_500_000_000
        for index in range(30):
            cameras.shoot(stamp_ns=base + index * 33_000_000)
            ros.spin(0.03)

    rig.send_until(jump, lambda: "does not start one" in ros.value("last_time_reset"), "the old box refused aloud")
    rig.until(lambda: ros.value("state") == "NONE", "no target")
    rig.two_more_statuses()
    assert ros.value("state") == "NONE"


def test_wrong_encodings_and_contradictory_sizes_are_named(rig: Rig) -> None:
    cameras, ros = rig.cameras, rig.ros
    color, depth = cameras.images(0)

    def bad(kind: str) -> Image:
        message = image_message(color, "rgb8", time.time_ns())
        if kind == "encoding":
            message.encoding = "jpeg2000"
        elif kind == "step":
            message.step = 5
        elif kind == "short":
            message.data = message.data[:1000]
        elif kind == "empty":
            message = image_message(color[:0], "rgb8", time.time_ns())
        elif kind == "stamp":
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        return message

    words = {
        "encoding": "unknown encoding 'jpeg2000'",
        "step": "step 5 is less",
        "short": "1000 bytes",
        "empty": "empty",
        "stamp": "header.stamp is 0",
    }
    before = rig.settled("rgb.rejected")
    for kind, expected in words.items():
        rig.send_until(
            lambda kind=kind: cameras.rgb.publish(bad(kind)),
            lambda expected=expected: expected in rig.fault(RGB),
            f"'{expected}' named",
        )
    rig.until(lambda: int(ros.value("rgb.rejected")) >= before + len(words), "each of them counted")
    rig.send_until(
        lambda: cameras.aux.publish(image_message(depth.astype(np.uint8), "mono8", cameras.shoot(aux=False))),
        lambda: "carries no depth" in rig.fault(AUX),
        "a depth image without depth",
    )


def test_frames_without_a_usable_image_are_an_error_and_keep_the_target(rig: Rig) -> None:
    ros = rig.ros
    rig.film_until(lambda: ros.value("target_id") != "", "a target")
    target = ros.value("target_id")
    message = image_message(rig.cameras.images(0)[0], "no_such_encoding", 1)
    deadline = time.monotonic() + PATIENCE_S
    while "no frame answered" not in (ros.status.message if ros.status else "") and time.monotonic() < deadline:
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 1_000_000_000)
        rig.cameras.rgb.publish(message)
        ros.spin(0.05)
    assert "though images come" in ros.status.message
    assert "unknown encoding 'no_such_encoding'" in ros.status.message
    assert ros.status.level == bytes([2])
    rig.film_until(lambda: ros.status.level != bytes([2]), "answers again")
    assert (ros.value("state"), ros.value("target_id")) == ("TRACKING", target)


def test_faults_are_logged_at_most_once_per_second(rig: Rig) -> None:
    message = image_message(rig.cameras.images(0)[0], "no_such_encoding", 1)
    begin, lines = time.monotonic(), rig.process.output.count("no_such_encoding'")
    while time.monotonic() - begin < 2.5 or rig.process.output.count("no_such_encoding'") == lines:
        assert time.monotonic() - begin < PATIENCE_S, "the fault is not logged"
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        rig.cameras.rgb.publish(message)
        rig.ros.spin(0.01)
    rig.ros.spin(0.5)
    assert 1 <= rig.process.output.count("no_such_encoding'") - lines <= time.monotonic() - begin + 2


def test_depth_full_of_nan(rig: Rig) -> None:
    cameras, ros = rig.cameras, rig.ros
    nothing = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    for _ in range(20):
        cameras.aux.publish(image_message(nothing, "32FC1", cameras.shoot(aux=False)))
        ros.spin(0.03)
    rig.until(lambda: any(message.detections for message in ros.detections), "boxes")


def test_a_change_of_size_ends_the_target_and_says_so(rig: Rig) -> None:
    cameras, ros = rig.cameras, rig.ros
    small = cameras.images(0)[0][::2, ::2].copy()
    deadline = time.monotonic() + PATIENCE_S
    while not rig.says("given up: 10 frames in a row could not be used") and time.monotonic() < deadline:
        cameras.rgb.publish(image_message(small, "rgb8", time.time_ns()))
        ros.spin(0.04)
    assert rig.says("given up: 10 frames in a row could not be used")
    rig.until(lambda: bool(rig.fault("frame")), "the frames named")


def test_bytes_that_do_not_form_a_message(rig: Rig) -> None:
    """Junk and damaged messages on every topic that the node reads, with broken strings and numbers among them."""

    def refused(cause: str) -> int:
        return int((rig.fault(cause) or "0").split()[0])

    inputs = {
        **{f"{NODE}/{name}": kind for name, kind in REQUESTS.items()},
        RGB: Image,
        AUX: Image,
        "/camera_info": CameraInfo,
    }
    before = refused(RGB)
    whole = image_message(rig.cameras.images(0)[0][:8, :8], "rgb8", time.time_ns())
    source = random.Random(4)
    for topic, kind in inputs.items():
        publisher = rig.ros.publisher(kind, topic)
        rig.until(lambda publisher=publisher: publisher.get_subscription_count() > 0, f"a listener on {topic}")
        good = serialize_message(whole if kind is Image else kind())
        junk = [b"\x00\x01\x00\x00", b"\x00\x01\x00\x00" + bytes(range(200)), b"\x00\x01\x00\x00" + b"\xff" * 64]
        junk += [good.replace(b"rgb8", b"\xff\xfe\xc3\x28"), *mutations(good, source, DAMAGED)]
        for data in junk:
            with contextlib.suppress(RCLError):  # the test's own writer refuses what is longer than the type allows
                publisher.publish(data)
            rig.ros.spin(0.01)
    # The middleware drops what does not deserialise; the node refuses the rest by name.
    rig.until(lambda: refused(RGB) > before and refused("init_roi") > 0, "refusals counted")
    info = CameraInfo(k=[float("nan")] * 9)
    rig.send_until(
        lambda: rig.cameras.info.publish(info),
        lambda: "uncalibrated" in rig.fault("/camera_info"),
        "the calibration refused",
    )


def test_an_incompatible_publisher_is_named_with_both_qos(rig: Rig) -> None:
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = rig.ros.node.create_publisher(Image, AUX, qos)
    rig.film_until(lambda: "incompatible" in rig.fault(f"QoS of {AUX}"), "the publisher named")
    text = rig.fault(f"QoS of {AUX}")
    assert "offers best_effort, volatile" in text
    assert "asks for reliable, volatile" in text
    assert "/test" in text
    rig.ros.node.destroy_publisher(publisher)


def test_long_texts_and_terminal_escapes_stay_out_of_status_and_log(rig: Rig) -> None:
    cameras, ros = rig.cameras, rig.ros
    color, _ = cameras.images(0)
    before = len(rig.process.output)

    def send(encoding: str, frame_id: str, expected: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while expected not in rig.fault(RGB):
            assert time.monotonic() < deadline, f"'{expected}' is not named"
            message = image_message(color, "rgb8", time.time_ns())
            message.encoding, message.header.frame_id = encoding, frame_id
            cameras.rgb.publish(message)
            ros.spin(0.2)

    send("A" * 3_000_000, "camera", "(3000000 characters)")
    send("\x1b[2J\x1b]0;owned\x07rgb8\nfake log line", "camera", r"\x1b[2J\x1b]0;owned\x07rgb8\nfake log line")
    send("rgb8", "f" * 1_000_000, "header.frame_id is 'f")
    assert max(len(serialize_message(status)) for status in ros.messages["/tracker/status"]) < 64 * 1024
    output = rig.process.output[before:]
    assert len(output) < 64 * 1024
    assert "\x1b" not in output
    assert "\nfake log line" not in output


@pytest.mark.parametrize(
    ("sec", "nanosec"), [(2**31 - 1, 0), (1, 0), (None, 2**32 - 1), (-1, 2**32 - 1)], ids=["late", "early", "ns", "neg"]
)
def test_one_glitched_stamp_on_both_cameras_keeps_the_target(rig: Rig, sec: int | None, nanosec: int) -> None:
    cameras, ros = rig.cameras, rig.ros
    color, depth = cameras.images(0)
    rig.film_until(lambda: ros.value("state") == "TRACKING", "a target")
    cameras.film(10)
    rig.two_more_statuses()
    target, rewinds = ros.value("target_id"), ros.value("frames.rewinds")
    refused = [int(ros.value(f"{name}.rejected")) for name in ("rgb", "aux")]
    for publisher, pixels, encoding in ((cameras.rgb, color, "rgb8"), (cameras.aux, depth, "16UC1")):
        message = image_message(pixels, encoding, time.time_ns())
        if sec is not None:
            message.header.stamp.sec = sec
        message.header.stamp.nanosec = nanosec
        publisher.publish(message)
    rig.film_until(
        lambda: [int(ros.value(f"{name}.rejected")) for name in ("rgb", "aux")] == [count + 1 for count in refused],
        "one refused image of each camera",
    )
    answers = len(ros.detections)
    rig.film_until(lambda: len(ros.detections) >= answers + 20, "answers after it")
    rig.two_more_statuses()
    assert (ros.value("target_id"), ros.value("frames.rewinds")) == (target, rewinds)
    assert "header.stamp" in rig.fault(RGB)
