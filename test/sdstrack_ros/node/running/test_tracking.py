"""A node that starts on the box of a parameter, and everything that it publishes."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from testkit.ros.camera import NODE, OPTICAL_FRAME, stamp_of

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    # The boxes of the seeded network wander, so confidence is off.
    return {
        "autostart": True,
        "init_box": "[200.0, 180.0, 60.0, 60.0]",
        "label": "square",
        "confidence": False,
        "shed_outputs": False,
    }


def test_without_images_it_costs_next_to_nothing(rig: Rig) -> None:
    """A timer that polls takes 0.05 of a core and more, at any time; what a start leaves to do goes over."""
    rig.active()

    def idle() -> bool:
        before = rig.process.cpu_s
        rig.ros.spin(3.0)
        return rig.process.cpu_s - before < 0.025 * 3.0

    rig.until(idle, "three seconds that cost less than 0.025 of a core")


def test_every_frame_is_answered_or_counted_and_lag_does_not_grow(rig: Rig) -> None:
    rig.active()
    rig.every_frame_is_counted(rig.film_to_the_last_answer(90))


def test_detections_carry_header_label_and_a_stable_id(rig: Rig) -> None:
    shown = [message for message in rig.ros.detections if message.detections]
    assert shown
    assert {message.header.frame_id for message in shown} == {OPTICAL_FRAME}
    assert {d.id for message in shown for d in message.detections} == {"1"}
    assert {d.results[0].hypothesis.class_id for message in shown for d in message.detections} == {"square"}
    assert rig.says("parameter init_box accepted: target 1 at (200.0, 180.0, 60.0, 60.0)")


def test_the_status_shows_rates_ages_drops_and_latency(rig: Rig) -> None:
    value = rig.ros.value
    rig.film_until(lambda: float(value("rgb.rate_hz")) > 1 and float(value("aux.rate_hz")) > 1, "rates of the cameras")
    assert value("lifecycle") == "active"
    assert value("state") == "TRACKING"
    assert value("device") == "cpu"
    assert value("model") == "sdstrack_tiny_test"
    assert value("rgb.topic") == "/rgb/image_raw"
    assert float(value("aux.age_ms")) >= 0
    assert value("rgb.lost").isdigit()
    assert float(value("latency_ms.total.p50")) >= float(value("latency_ms.network.p50")) > 0
    assert int(value("sync.paired")) > 0


def test_extra_outputs_are_published_while_there_is_a_subscriber(rig: Rig) -> None:
    ros = rig.ros
    topics = {"detections_3d": Detection3DArray, "markers": MarkerArray, "overlay": Image}
    for name, kind in topics.items():
        ros.listen(kind, f"{NODE}/{name}")
    rig.calibrate()
    heard = {name: ros.messages[f"{NODE}/{name}"] for name in topics}

    def cubes() -> list[Marker]:
        newest = heard["markers"][-1].markers if heard["markers"] else []
        return [marker for marker in newest if marker.type == Marker.CUBE]

    # Each topic arrives by itself, and a frame whose depth came too late has a frustum and no distance.
    rig.film_until(
        lambda: heard["overlay"] and cubes() and heard["detections_3d"] and heard["detections_3d"][-1].detections,
        "all outputs",
    )
    picture = heard["overlay"][-1]
    pixels = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    assert (picture.encoding, picture.height, picture.width) == ("rgb8", 480, 640)
    assert pixels.max() == 255, "text is drawn"
    (detection,) = heard["detections_3d"][-1].detections
    depths = {round(rig.cameras.TARGET_DEPTH_MM / 1000, 2), round(rig.cameras.GROUND_DEPTH_MM / 1000, 2)}
    assert round(detection.bbox.center.position.z, 2) in depths
    boxes = {marker.type for marker in heard["markers"][-1].markers if marker.ns == "sdstrack"}
    assert boxes == {Marker.CUBE, Marker.TEXT_VIEW_FACING}
    ros.set_parameters(overlay_side_by_side=True)
    rig.film_until(lambda: heard["overlay"][-1].width == 1280, "both modalities side by side")


def test_diagnostics_come_once_per_second(rig: Rig) -> None:
    rig.ros.listen(DiagnosticArray, "/diagnostics")
    messages = rig.ros.messages["/diagnostics"]
    rig.until(lambda: len(messages) >= 6, "six reports")
    stamps = [stamp_of(message) / 1e9 for message in messages]
    # A busy machine delays one now and then, and the next one then comes sooner.
    assert median(later - earlier for earlier, later in pairwise(stamps)) > 0.7, "not faster than once a second"
    assert messages[-1].status[0].name == NODE


def test_parameters_change_at_once_or_are_refused_with_the_reason(rig: Rig) -> None:
    ros = rig.ros
    assert ros.set_parameters(label="cube", max_skew_s=0.02).successful
    rig.film_until(
        lambda: any(d.results[0].hypothesis.class_id == "cube" for m in ros.detections for d in m.detections), "label"
    )
    for values, reason in [
        ({"modality": "thermal"}, "needs reconfigure"),
        ({"max_skew_s": -1.0}, ""),
        ({"max_depth_m": 0.1, "min_depth_m": 5.0}, "must be below"),
        ({"doubt_score": 0.1, "unseen_score": 0.5}, "unseen"),
    ]:
        result = ros.set_parameters(**values)
        assert not result.successful
        assert reason in result.reason
    assert ros.set_parameters(init_box=[100.0, 100.0, 50.0, 50.0]).successful
    rig.film_until(
        lambda: rig.says("parameter init_box accepted: target 2 at (100.0, 100.0, 50.0, 50.0)"), "a new target"
    )


def test_sigint_ends_it_with_status_zero(rig: Rig) -> None:
    assert rig.process.interrupt() == 0
    assert "Traceback" not in rig.process.output
