"""Four targets at 30 Hz with the shipped network: ids, removal, loss, merging, replacement, and what is refused.

The tests are one story on one node, in order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import String
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import MarkerArray

from ckd_core.boxes import iou_xywh
from ckd_core.models.checkpoint import default_weights
from testkit.ros.camera import NODE, OPTICAL_FRAME, stamp_of
from testkit.ros.rig import Rig
from testkit.ros.several_squares import PLACES, SeveralSquares

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]
MODEL = "sdstrack_s128"
PATIENCE_S = 120.0  # a busy machine serves a few frames per second
MAX_TARGETS = 4
REQUESTS = 100  # that wait in the publisher's queue, as in the node's

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    return {
        "autostart": True,
        "model": MODEL,
        "weights": default_weights(MODEL),
        "threads": 1,
        "max_targets": MAX_TARGETS,
        # On a busy machine a request may be served seconds after its frame, which must not get lost.
        "history_frames": 300,
        "input_reliability": "reliable",
        "input_depth": 30,
        "adopt_candidates": True,
        "shed_outputs": False,
        # Between the scores of these squares and those of the ground.
        "doubt_score": 0.5,
        "unseen_score": 0.3,
        "confirm_score": 0.5,
    }


@pytest.fixture(scope="module")
def squares(rig: Rig) -> Iterator[Rig]:
    """The rig, whose cameras film several squares."""
    rig.active()
    several = Rig(rig.ros, SeveralSquares(rig.ros), rig.process)
    several.hears_candidates()
    for kind, name in ((Detection2D, "init_box"), (String, "remove")):
        publisher = rig.ros.publisher(kind, f"{NODE}/{name}", REQUESTS)
        several.until(lambda publisher=publisher: publisher.get_subscription_count() > 0, f"a listener on ~/{name}")
    several.film_until(lambda: several.ros.count("answered") > 0, "the first frame")
    yield several


def detection(rig: Rig, square: str, target_id: str, label: str = "", score: float = 0.9) -> Detection2D:
    """Where a square is in the frame to come."""
    x, y, w, h = rig.cameras.square(square, rig.cameras.index)
    message = Detection2D(id=target_id)
    message.header.frame_id = OPTICAL_FRAME
    message.bbox.center.position.x, message.bbox.center.position.y = x + w / 2, y + h / 2
    message.bbox.size_x, message.bbox.size_y = w, h
    if label:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = label, score
        message.results = [result]
    return message


def request(rig: Rig, square: str, target_id: str, label: str = "") -> None:
    """Choose a square in a frame that is filmed now, and wait for the outcome."""
    message = detection(rig, square, target_id, label)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(rig.cameras.shoot(), 1_000_000_000)
    rig.ros.messages[f"{NODE}/status"].clear()
    rig.ros.publisher(Detection2D, f"{NODE}/init_box").publish(message)
    name = f"'{target_id}' " if target_id else ""
    rig.film_until(
        lambda: rig.says(f"init_box {name}accepted: target"), f"target {target_id or 'without id'}", PATIENCE_S
    )


def remove(rig: Rig, target_id: str) -> None:
    rig.ros.publisher(String, f"{NODE}/remove").publish(String(data=target_id))


def ids(message: Any) -> list[str]:
    return [found.id for found in message.detections]


def state(rig: Rig, target_id: str) -> str:
    return str(rig.ros.value(f"target.{target_id}.state"))


def followed(rig: Rig, where: dict[str, str], messages: int = 5) -> list[Any]:
    """Film at 30 Hz until that many frames have results; every one shows each target on its own square, and no other.

    Args:
        rig: the node and its cameras.
        where: the square of each target, in the order in which they started.
        messages: number of results.

    Returns:
        The results.

    """
    indices: dict[int, int] = {}
    rig.ros.detections.clear()

    def results() -> list[Any]:
        return [message for message in rig.ros.detections if stamp_of(message) in indices]

    def film() -> bool:
        first = rig.cameras.index
        indices.update({stamp: first + number for number, stamp in enumerate(rig.cameras.film(30))})
        return len(results()) >= messages

    rig.film_until(film, f"{messages} results", PATIENCE_S)
    for message in results():
        index = indices[stamp_of(message)]
        assert ids(message) == list(where), rig.process.output[-2000:]
        for found in message.detections:
            center, w, h = found.bbox.center.position, found.bbox.size_x, found.bbox.size_y
            box = np.array([center.x - w / 2, center.y - h / 2, w, h])
            true = np.array(rig.cameras.square(where[found.id], index))
            assert float(iou_xywh(box, true)) > 0.5, f"target {found.id} at {box}, its square at {true}"
    return results()


ALL = {"anna": "a", "ben": "b", "cat": "c", "1": "d"}


def test_four_targets_are_followed_at_30_hz_under_stable_ids(squares: Rig) -> None:
    ros = squares.ros
    request(squares, "a", "anna", "person")
    request(squares, "b", "ben")
    request(squares, "c", "cat", "animal")
    request(squares, "d", "")
    squares.film_until(lambda: ros.value("targets") == "4", "four targets", PATIENCE_S)
    ros.spin(1.0)
    results = followed(squares, ALL, 10)
    labels = {found.id: found.results[0].hypothesis.class_id for m in results for found in m.detections}
    assert labels == {"anna": "person", "ben": "target", "cat": "animal", "1": "target"}
    squares.until(
        lambda: ros.count("frames") == sum(ros.count(name) for name in ("answered", "dropped", "rejected")),
        "every frame is counted once, although each start answers one that may be answered or dropped already",
        PATIENCE_S,
    )
    for name in ALL:
        assert state(squares, name) == "TRACKING"
        assert float(ros.value(f"target.{name}.score")) > 0.6
    assert ros.value("target.anna.label") == "person"
    assert (ros.value("state"), ros.value("target_id")) == ("TRACKING", "1"), "the keys of a single target are its own"


def test_other_outputs_show_all_targets(squares: Rig) -> None:
    ros = squares.ros
    ros.listen(Detection3DArray, f"{NODE}/detections_3d")
    ros.listen(MarkerArray, f"{NODE}/markers")
    squares.calibrate()
    heard = ros.messages
    squares.film_until(
        lambda: (
            any(len(m.detections) == 4 for m in heard[f"{NODE}/detections_3d"])
            and any(len(m.markers) == 8 for m in heard[f"{NODE}/markers"])
        ),
        "four boxes in metres, four markers with a text each",
        PATIENCE_S,
    )
    full = next(m for m in heard[f"{NODE}/detections_3d"] if len(m.detections) == 4)
    assert set(ids(full)) == set(ALL)
    for found in full.detections:
        assert found.bbox.center.position.z == pytest.approx(squares.cameras.TARGET_DEPTH_MM / 1000, abs=0.05)
    full = next(m for m in heard[f"{NODE}/markers"] if len(m.markers) == 8)
    assert [marker.id for marker in full.markers] == list(range(8))


def test_a_hundred_targets_and_impossible_ids_are_refused_and_nobody_else_is_touched(squares: Rig) -> None:
    ros = squares.ros
    squares.film_until(lambda: ros.value("targets") == "4", "four targets", PATIENCE_S)
    before, numbers = squares.settled("frames.refused"), REQUESTS
    publisher = ros.publisher(Detection2D, f"{NODE}/init_box")
    ros.detections.clear()
    for number in range(numbers):
        publisher.publish(detection(squares, "a", f"crowd{number}"))
        squares.cameras.film(1)
    squares.film_until(lambda: ros.count("refused") == before + numbers, "every refusal counted", PATIENCE_S)
    crowd = "init_box 'crowd99' refused: max_targets is 4, and so many are followed: anna, ben, cat, 1"
    squares.until(lambda: squares.says(crowd), "the last refusal")
    for bad, reason in (
        ("x" * 200_000, "has 200000 characters; expected at most 40"),
        ("two words", "expected ASCII letters, digits and signs, no blanks"),
    ):
        publisher.publish(detection(squares, "a", bad))
        squares.film_until(lambda reason=reason: squares.says(reason), "the refusal", PATIENCE_S)
    for name, reason in (
        ("nobody", "remove 'nobody' refused: there is no target 'nobody'; there is: anna, ben, cat, 1"),
        ("", "remove refused: the id is empty; expected one of: anna, ben, cat, 1"),
    ):
        remove(squares, name)
        squares.film_until(lambda reason=reason: squares.says(reason), "the refusal", PATIENCE_S)
    twice = [detection(squares, square, "twin", "cup") for square in "ab"]
    publisher = ros.publisher(Detection2DArray, f"{NODE}/candidates")
    squares.send_until(
        lambda: publisher.publish(Detection2DArray(detections=twice)),
        lambda: squares.says("candidates refused: id 'twin' comes 2 times in one message"),
        "the refusal",
    )
    assert {tuple(ids(message)) for message in ros.detections} == {tuple(ALL)}


def test_a_removed_target_is_gone_and_the_others_stay(squares: Rig) -> None:
    ros = squares.ros
    remove(squares, "ben")
    squares.film_until(lambda: squares.says("remove 'ben' accepted: target ben forgotten"), "the outcome", PATIENCE_S)
    squares.film_until(lambda: ros.value("targets") == "3", "three targets", PATIENCE_S)
    followed(squares, {name: square for name, square in ALL.items() if name != "ben"})


def test_a_target_is_lost_and_found_under_its_id_while_the_others_are_followed(squares: Rig) -> None:
    ros, places = squares.ros, squares.cameras.places
    places.pop("b")  # which nobody follows, and which the network would take for the one that it looks for
    places.pop("c")
    squares.film_until(lambda: state(squares, "cat") == "LOST", "the target lost", PATIENCE_S)
    since_ns = time.time_ns()

    def answers() -> list[Any]:
        return [message for message in ros.detections if stamp_of(message) > since_ns]

    squares.film_until(lambda: len(answers()) >= 5, "answers", PATIENCE_S)
    assert {tuple(ids(message)) for message in answers()} == {("anna", "1")}, "no old box, no other's square"
    squares.film_until(lambda: "1 of 3 targets: cat LOST" in ros.status.message, "the warning", PATIENCE_S)
    assert ros.status.message.startswith("LOST")
    assert ros.status.level == bytes([1])
    places["c"] = (280, 200)
    squares.film_until(lambda: state(squares, "cat") == "TRACKING", "the target found", PATIENCE_S)
    ros.spin(1.0)
    followed(squares, {"anna": "a", "cat": "c", "1": "d"})


def test_two_tracks_of_one_target_become_one_and_the_younger_is_given_up_aloud(squares: Rig) -> None:
    ros = squares.ros
    request(squares, "a", "twin")
    squares.film_until(
        lambda: "twin given up: it has become one with target anna, which is older" in squares.fault("target"),
        "the merged target named",
        PATIENCE_S,
    )
    squares.film_until(lambda: ros.value("targets") == "3", "three targets", PATIENCE_S)
    assert state(squares, "anna") == "TRACKING"
    assert state(squares, "twin") == ""
    assert "twin given up" in squares.process.output, "in the log, too"


def test_an_id_that_comes_again_replaces_its_target(squares: Rig) -> None:
    ros = squares.ros
    squares.cameras.places["b"] = PLACES["b"]
    request(squares, "b", "anna", "child")
    squares.film_until(lambda: ros.value("target.anna.label") == "child", "the new target", PATIENCE_S)
    ros.spin(1.0)
    followed(squares, {"cat": "c", "1": "d", "anna": "b"})
    assert ros.value("targets") == "3"


def test_requests_without_an_id_still_replace_the_target_without_one(squares: Rig) -> None:
    ros = squares.ros
    x, y, w, h = map(int, squares.cameras.square("a", squares.cameras.index))
    publisher = ros.publisher(RegionOfInterest, f"{NODE}/init_roi")
    squares.until(lambda: publisher.get_subscription_count() > 0, "a listener")
    publisher.publish(RegionOfInterest(x_offset=x, y_offset=y, width=w, height=h))
    squares.film_until(lambda: ros.value("target_id") == "2", "a new number", PATIENCE_S)
    ros.spin(1.0)
    followed(squares, {"cat": "c", "anna": "b", "2": "a"})


def test_a_detector_names_the_targets_that_it_finds(squares: Rig) -> None:
    ros = squares.ros
    remove(squares, "cat")
    squares.film_until(lambda: ros.value("targets") == "2", "two targets", PATIENCE_S)
    found = [detection(squares, "c", "31", "animal"), detection(squares, "d", "32", "animal", 0.8)]
    message = Detection2DArray(detections=found)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(squares.cameras.shoot(), 1_000_000_000)
    publisher = ros.publisher(Detection2DArray, f"{NODE}/candidates")
    # Detections of targets that are followed already change nothing.
    squares.send_until(lambda: publisher.publish(message), lambda: ros.value("targets") == "4", "both adopted")
    assert squares.says("candidates '31' (animal, score 0.90) accepted: target 31")
    assert ros.value("target.32.label") == "animal"
