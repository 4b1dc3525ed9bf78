"""A lost target: what the node reports, and how a detector takes over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker, MarkerArray

from testkit.ros.camera import NODE, OPTICAL_FRAME, PATIENCE_S, stamp_of

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

READOPT_AFTER_S = 1.0
OFFERED_AGAIN_S = 5.0  # long after the outcome is known, so that no adoption is followed by a second one


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    return {
        "autostart": True,
        "adopt_candidates": True,
        "candidate_class": "cup",
        "readopt_after_s": READOPT_AFTER_S,
        "reacquire": False,
        "shed_outputs": False,  # a busy machine would leave out markers
    }


def offer(rig: Rig, *detections: tuple[str, float]) -> None:
    """Detections of the newest frame: where the square is, by class and score."""
    x, y, w, h = rig.cameras.box(rig.cameras.index)
    message = Detection2DArray()
    message.header.frame_id = OPTICAL_FRAME
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(rig.cameras.shoot(), 1_000_000_000)
    for label, score in detections:
        detection = Detection2D(header=message.header)
        detection.bbox.center.position.x, detection.bbox.center.position.y = x + w / 2, y + h / 2
        detection.bbox.size_x, detection.bbox.size_y = float(w), float(h)
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = label, score
        detection.results = [result] if label else []
        message.detections.append(detection)
    rig.ros.publisher(Detection2DArray, f"{NODE}/candidates").publish(message)


def offer_until(rig: Rig, text: str, *detections: tuple[str, float]) -> None:
    """Offer detections until the node says so of them: the message, or the frame that it is of, may get lost."""
    deadline = time.monotonic() + PATIENCE_S
    while not rig.says(text):
        assert time.monotonic() < deadline, f"it never says {text}\n{rig.process.output[-3000:]}"
        offer(rig, *detections)
        again = time.monotonic() + OFFERED_AGAIN_S
        while not rig.says(text) and time.monotonic() < again:
            rig.cameras.film(3)


def lost(rig: Rig) -> int:
    """Set thresholds that no score reaches; returns the time from which on all frames are of a lost target."""
    assert rig.ros.set_parameters(doubt_score=1.0, unseen_score=1.0, confirm_score=1.0).successful
    rig.film_until(lambda: rig.ros.value("state") == "LOST", "the target lost")
    return time.time_ns()


@pytest.fixture(autouse=True)
def listening(rig: Rig) -> None:
    rig.active()
    rig.hears_candidates()


def test_unsuitable_candidates_are_refused_counted_and_logged_once_per_second(rig: Rig) -> None:
    ros = rig.ros
    rig.cameras.film(3)
    offer(rig, ("", 0.0))
    rig.until(lambda: rig.says("candidates refused: 1 detections without a class and a score"), "the refusal")
    before = rig.settled("frames.refused")
    begin, lines = time.monotonic(), rig.process.output.count("none of 2 candidates")
    while time.monotonic() - begin < 2.5 or ros.count("refused") <= before + 10:
        assert time.monotonic() - begin < PATIENCE_S, "refusals are not counted"
        offer(rig, ("cup", 0.1), ("dog", 0.9))
        ros.spin(0.03)
    assert rig.says("candidates refused: none of 2 candidates is of class 'cup'")
    assert "none of 2 candidates" in rig.fault("candidates")
    assert 1 <= rig.process.output.count("none of 2 candidates") - lines <= time.monotonic() - begin + 2
    assert ros.value("state") == "NONE"


def test_a_lost_target_is_an_empty_array_and_a_warning(rig: Rig) -> None:
    ros = rig.ros
    ros.listen(MarkerArray, f"{NODE}/markers")
    offer_until(rig, "candidates (cup, score 0.80) accepted: target 1", ("cup", 0.8))
    since_ns = lost(rig)

    def answers() -> list[Any]:
        return [message for message in ros.detections if stamp_of(message) > since_ns]

    def markers() -> list[Any]:
        return [marker for message in ros.messages[f"{NODE}/markers"][-1:] for marker in message.markers]

    rig.film_until(lambda: len(answers()) >= 10, "answers")
    rig.film_until(lambda: [marker.action for marker in markers()] == [Marker.DELETEALL], "no marker")
    assert not any(message.detections for message in answers())
    rig.film_until(lambda: ros.status.message.startswith("LOST"), "the warning")
    assert ros.status.level == bytes([1])


def test_a_detector_takes_over_only_after_the_target_was_lost_for_long_enough(rig: Rig) -> None:
    ros = rig.ros
    assert ros.value("state") == "LOST"
    begin = time.monotonic()
    while time.monotonic() - begin < 1.2 * READOPT_AFTER_S:
        rig.cameras.film(1)
    ros.messages.clear()
    offer_until(rig, "candidates (cup, score 0.90) accepted: target 2", ("cup", 0.9))

    def offer_and_film() -> None:
        # A busy node may have caught up through the newest frame: its answer is out, and a box comes with a later one.
        offer(rig, ("cup", 0.9))
        rig.cameras.film(3)

    def has_box() -> bool:
        return any(int(detection.id) > 1 for message in ros.detections for detection in message.detections)

    rig.send_until(offer_and_film, has_box, "a box of a new target")
    assert ros.set_parameters(readopt_after_s=3600.0).successful
    lost(rig)
    rig.two_more_statuses()
    target = ros.value("target_id")
    for _ in range(5):
        offer(rig, ("cup", 0.95))
        answers = len(ros.detections)
        rig.film_until(lambda answers=answers: len(ros.detections) >= answers + 5, "answers")
    rig.two_more_statuses()
    assert ros.value("target_id") == target, "not before its time"
