from __future__ import annotations

import math

import pytest
from visualization_msgs.msg import Marker

from ckd_core.frame import BoundingBox
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.witnesses.box_depth import BoxDepth
from sdstrack_ros.messages.metric_box import metric_box
from sdstrack_ros.node.outputs import detections
from sdstrack_ros.tracking.target_requests import detection_box
from testkit.frame_results import BOX, CAMERA, frame_result, frame_result_of, target_result


def output(state: TrackState | None = TrackState.TRACKING, box: BoundingBox = BOX) -> detections.FrameOutput:
    return detections.FrameOutput.of(frame_result(state, box))


def test_a_detection_has_the_source_frames_header_and_the_targets_label() -> None:
    message = detections.detections(output())
    (detection,) = message.detections
    for header in (message.header, detection.header):
        assert (header.frame_id, header.stamp.sec, header.stamp.nanosec) == ("optical", 1_700_000_000, 123_456_789)
    assert detection.id == "3"
    assert detection.results[0].hypothesis.class_id == "cup"
    assert detection.results[0].hypothesis.score == 0.75
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (230.0, 200.0)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (60.0, 40.0)
    assert detection_box(detection) == BOX


@pytest.mark.parametrize("state", [TrackState.LOST, None])
def test_without_a_visible_target_arrays_are_empty_but_stamped(state: TrackState | None) -> None:
    hidden = output(state)
    for message in (detections.detections(hidden), detections.detections_3d(hidden, {})):
        assert not message.detections
        assert message.header.stamp.nanosec == 123_456_789
    (marker,) = detections.markers(hidden, {}, CAMERA).markers
    assert marker.action == Marker.DELETEALL


def test_a_box_that_is_not_finite_is_never_published() -> None:
    assert not detections.detections(output(box=BoundingBox(math.nan, 0, 1, 1))).detections


def test_3d_box_is_metric_in_the_optical_frame() -> None:
    box = metric_box(BOX, BoxDepth(2.0, 0.1), CAMERA)
    (detection,) = detections.detections_3d(output(), {3: box}).detections
    position, size = detection.bbox.center.position, detection.bbox.size
    assert (position.x, position.y, position.z) == pytest.approx(((229.5 - 320) / 250, (199.5 - 240) / 250, 2.0))
    assert (size.x, size.y, size.z) == pytest.approx((60 / 250, 40 / 250, 0.1))
    assert detection.results[0].pose.pose.position == position


def test_markers_are_a_cube_with_distance_or_a_frustum_without() -> None:
    cube, text = detections.markers(output(), {3: metric_box(BOX, BoxDepth(2.0, 0.1), CAMERA)}, CAMERA).markers
    assert cube.type == Marker.CUBE
    assert "2.00 m" in text.text
    frustum, _ = detections.markers(output(), {}, CAMERA).markers
    assert frustum.type == Marker.LINE_LIST
    assert len(frustum.points) == 16
    assert frustum.lifetime.nanosec > 0


def test_every_visible_target_has_its_own_detection_and_markers() -> None:
    targets = (
        target_result(target_id="1", number=1),
        target_result(TrackState.LOST, target_id="anna", number=4),
        target_result(TrackState.UNCERTAIN, BoundingBox(400.0, 100.0, 30.0, 90.0), "ben", 7),
    )
    several = detections.FrameOutput.of(frame_result_of(*targets))
    assert [d.id for d in detections.detections(several).detections] == ["1", "ben"]
    near = metric_box(BOX, BoxDepth(2.0, 0.1), CAMERA)
    assert [d.id for d in detections.detections_3d(several, {1: near}).detections] == ["1"]
    shown = detections.markers(several, {1: near}, CAMERA).markers
    assert [(m.id, m.type) for m in shown] == [
        (0, Marker.CUBE), (1, Marker.TEXT_VIEW_FACING), (4, Marker.LINE_LIST), (5, Marker.TEXT_VIEW_FACING),
    ]  # fmt: skip
    assert [m.text for m in shown if m.text] == ["cup 0.75\n2.00 m", "ben cup 0.75"]
    assert [m.id for m in detections.markers(several, {1: near}, None).markers] == [0, 1], "no ray without a camera"
