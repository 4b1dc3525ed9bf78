"""Every way to choose a target, and the outcome of each on ~/status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from geometry_msgs.msg import Point, PointStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import RegionOfInterest
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from testkit.ros.camera import NODE, OPTICAL_FRAME, stamp_of

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros
STALE_AFTER_S = 120.0


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    # A busy machine may take seconds from the last frame to the request: only one test's images are stale by then.
    return {"autostart": True, "confidence": False, "history_frames": 60, "stale_after_s": STALE_AFTER_S}


@pytest.fixture(autouse=True)
def without_target(rig: Rig) -> None:
    rig.active()
    rig.film_to_the_last_answer(6)
    rig.ros.call(Trigger, f"{NODE}/reset", Trigger.Request())
    rig.until(lambda: rig.ros.value("state") == "NONE", "no target")
    rig.ros.messages.clear()


def send(rig: Rig, kind: Any, name: str, message: Any) -> None:
    topic = f"{NODE}/{name}"
    publisher = rig.ros.publisher(kind, topic)
    rig.until(lambda: publisher.get_subscription_count() > 0, f"a listener on {topic}")
    publisher.publish(message)


def detection(box: tuple[float, ...], stamp_ns: int, label: str = "", score: float = 0.0) -> Detection2D:
    x, y, w, h = box
    message = Detection2D()
    message.header.frame_id = OPTICAL_FRAME
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    message.bbox.center.position.x, message.bbox.center.position.y = x + w / 2, y + h / 2
    message.bbox.size_x, message.bbox.size_y = float(w), float(h)
    if label:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = label, score
        message.results = [result]
    return message


def test_without_a_target_frames_are_answered_with_empty_arrays(rig: Rig) -> None:
    rig.film_to_the_last_answer(10)
    assert not any(message.detections for message in rig.ros.detections)


def test_a_box_on_a_past_frame(rig: Rig) -> None:
    first = rig.cameras.index
    stamps = rig.film_to_the_last_answer(20)

    def past() -> list[int]:  # that the node has kept
        answered = {stamp_of(m) for m in rig.ros.detections}
        return [i for i, stamp in enumerate(stamps[:-1]) if len(stamps) - i <= 30 and stamp in answered]

    while not past():  # a busy machine may answer the last one alone
        stamps += rig.film_to_the_last_answer(20)
    kept = past()[0]
    box = rig.cameras.box(first + kept)
    send(rig, Detection2D, "init_box", detection(box, stamps[kept]))
    rig.until(lambda: rig.says(f"init_box accepted: target {rig.ros.value('target_id')}"), "the outcome")
    rig.until(lambda: rig.says("caught up through"), "the frames since")
    rig.until(lambda: any(m.detections and stamp_of(m) == stamps[-1] for m in rig.ros.detections), "the newest frame")


def test_a_box_on_a_frame_that_is_long_past(rig: Rig) -> None:
    send(rig, Detection2D, "init_box", detection((200, 180, 60, 60), time.time_ns() - 600_000_000_000))
    rig.until(lambda: rig.says("init_box refused: no frame of stamp"), "the refusal")
    assert rig.ros.value("state") == "NONE"


def test_a_region_of_interest(rig: Rig) -> None:
    send(rig, RegionOfInterest, "init_roi", RegionOfInterest(x_offset=210, y_offset=190, width=60, height=50))
    rig.until(lambda: rig.says("at (210.0, 190.0, 60.0, 50.0)"), "the outcome")
    send(rig, RegionOfInterest, "init_roi", RegionOfInterest())
    rig.until(lambda: rig.says("init_roi refused: box (0.0, 0.0, 0.0, 0.0) is smaller"), "the refusal")
    assert rig.ros.value("state") == "TRACKING", "a refused request changes nothing"


def test_a_target_in_a_picture_that_a_dead_camera_left_is_refused_with_its_age(rig: Rig) -> None:
    assert rig.ros.set_parameters(stale_after_s=0.5).successful
    rig.ros.spin(0.8)
    send(rig, RegionOfInterest, "init_roi", RegionOfInterest(x_offset=210, y_offset=190, width=60, height=50))
    rig.until(lambda: rig.says("s old; expected at most 0.5 s (stale_after_s): images have stopped"), "the refusal")
    assert rig.ros.value("state") == "NONE"
    assert rig.ros.set_parameters(stale_after_s=STALE_AFTER_S).successful


def test_a_click_on_the_image(rig: Rig) -> None:
    x, y, w, h = rig.cameras.box(rig.cameras.index - 1)
    send(rig, Point, "init_pixel", Point(x=float(x + w / 2), y=float(y + h / 2), z=0.0))
    rig.until(lambda: rig.says("init_pixel accepted"), "the outcome")
    rig.until(lambda: rig.says(f"at ({x}.0, {y}.0, {w}.0, {h}.0)"), "the extent of the surface under the click")
    send(rig, Point, "init_pixel", Point(x=-5.0, y=float("nan")))
    rig.until(lambda: rig.says("init_pixel refused: pixel (-5.0, nan) is not finite"), "the refusal")


def test_a_point_in_space(rig: Rig) -> None:
    point = PointStamped()
    point.header.frame_id = OPTICAL_FRAME
    point.point.z = 2.0
    send(rig, PointStamped, "init_point", point)
    rig.until(lambda: rig.says("init_point refused: no camera_info has come yet"), "the refusal without calibration")
    rig.calibrate()
    x, y, w, h = rig.cameras.box(rig.cameras.index - 1)
    point.point.x, point.point.y = (x + w / 2 - 320) / 250, (y + h / 2 - 240) / 250
    send(rig, PointStamped, "init_point", point)
    rig.until(lambda: rig.says("init_point accepted"), "the outcome")
    point.point.z = -1.0
    send(rig, PointStamped, "init_point", point)
    rig.until(lambda: rig.says("is not in front of the camera"), "the refusal of a point behind the camera")
    point.header.frame_id = "map"
    send(rig, PointStamped, "init_point", point)
    rig.until(lambda: rig.says("init_point refused: no transform from 'map'"), "the refusal of another frame")


def test_a_detector_takes_over(rig: Rig) -> None:
    def candidates(stamp_ns: int) -> Detection2DArray:
        box = rig.cameras.box(rig.cameras.index - 1)
        detections = [detection((5, 5, 30, 30), stamp_ns, "dog", 0.99), detection(box, stamp_ns, "cup", 0.8)]
        message = Detection2DArray(detections=detections)
        message.header = detections[0].header
        return message

    def offer() -> None:
        publisher.publish(candidates(rig.film_to_the_last_answer(3)[-1]))

    rig.hears_candidates()
    publisher = rig.ros.publisher(Detection2DArray, f"{NODE}/candidates")
    rig.send_until(offer, lambda: rig.says("candidates refused: adopt_candidates is false"), "the refusal")
    assert rig.ros.set_parameters(adopt_candidates=True, candidate_class="cup").successful
    rig.send_until(offer, lambda: rig.says("candidates (cup, score 0.80) accepted"), "the adoption")
    assert rig.ros.set_parameters(adopt_candidates=False).successful


def test_an_unreliable_publisher_of_requests_is_reported(rig: Rig) -> None:
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = rig.ros.node.create_publisher(Detection2D, f"{NODE}/init_box", qos)
    rig.until(lambda: "publish ~/init_box reliably" in rig.fault("QoS of init_box"), "the QoS named")
    rig.ros.node.destroy_publisher(publisher)


def test_a_detector_of_any_reliability_is_heard(rig: Rig) -> None:
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = rig.ros.node.create_publisher(Detection2DArray, f"{NODE}/candidates", qos)
    detections = [detection((5, 5, 30, 30), rig.cameras.film(3)[-1], "dog", 0.99)]
    message = Detection2DArray(header=detections[0].header, detections=detections)
    rig.send_until(
        lambda: publisher.publish(message), lambda: rig.says("candidates refused: adopt_candidates is false"), "refusal"
    )
    rig.ros.node.destroy_publisher(publisher)


def test_pause_and_reset(rig: Rig) -> None:
    send(rig, RegionOfInterest, "init_roi", RegionOfInterest(x_offset=210, y_offset=190, width=60, height=50))
    rig.until(lambda: rig.ros.value("state") == "TRACKING", "a target")
    assert rig.ros.call(SetBool, f"{NODE}/pause", SetBool.Request(data=True)).success
    rig.until(lambda: rig.says("pause accepted: paused"), "the outcome")
    before, paused = rig.ros.count("paused"), set(rig.cameras.film(10))
    rig.until(lambda: rig.ros.count("paused") > before, "frames counted")
    rig.two_more_statuses()
    assert not paused & {stamp_of(message) for message in rig.ros.detections}
    rig.ros.detections.clear()
    assert rig.ros.call(SetBool, f"{NODE}/pause", SetBool.Request(data=False)).success
    rig.film_until(lambda: any(message.detections for message in rig.ros.detections), "the same target goes on")
    assert rig.ros.call(Trigger, f"{NODE}/reset", Trigger.Request()).success
    rig.until(lambda: rig.says("reset accepted: target forgotten"), "the outcome")
