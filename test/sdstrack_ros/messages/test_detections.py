from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from visualization_msgs.msg import Marker

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.messages import detections
from sdstrack_ros.messages.box_depth import BoxDepth, metric_box, readings_in, robust_depth
from sdstrack_ros.messages.camera import CameraError, PinholeCamera
from sdstrack_ros.messages.overlay import Caption, draw_overlay
from sdstrack_ros.node.publishers import Publishers
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.tracking.overload import OutputPlan
from sdstrack_ros.tracking.session import Answer
from sdstrack_ros.tracking.source_frame import SourceFrame
from sdstrack_ros.tracking.target_requests import detection_box

SIZE = (640, 480)
CAMERA = PinholeCamera(640, 480, 500.0, 500.0, 320.0, 240.0, frame_id="optical")
BOX = BoundingBox(200.0, 180.0, 60.0, 40.0)
STAMP_NS = 1_700_000_000_123_456_789


def images(rgb: bool = True, aux: bool = True) -> MultiModalFrame:
    color = np.zeros((480, 640, 3), np.uint8) if rgb else None
    depth = np.full((480, 640), 2000, np.uint16) if aux else None
    return MultiModalFrame(STAMP_NS / 1e9, color, depth, Modality.DEPTH)


def answer(state: TrackState | None = TrackState.TRACKING, box: BoundingBox = BOX) -> Answer:
    frame = images()
    source = SourceFrame(0, STAMP_NS, "optical", 0.0, 0.0, lambda: frame)
    result = None if state is None else TrackResult(frame.stamp, box, 0.75, state)
    return Answer(source, frame, result, "3" if state else "")


def test_a_detection_has_the_source_frames_header_and_the_users_label() -> None:
    message = detections.detections(answer(), "cup")
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
    hidden = answer(state)
    for message in (detections.detections(hidden, "x"), detections.detections_3d(hidden, "x", None)):
        assert not message.detections
        assert message.header.stamp.nanosec == 123_456_789
    (marker,) = detections.markers(hidden, "x", None, CAMERA).markers
    assert marker.action == Marker.DELETEALL


def test_a_box_that_is_not_finite_is_never_published() -> None:
    assert not detections.detections(answer(box=BoundingBox(math.nan, 0, 1, 1)), "x").detections


def test_3d_box_is_metric_in_the_optical_frame() -> None:
    box = metric_box(BOX, BoxDepth(2.0, 0.1), CAMERA)
    (detection,) = detections.detections_3d(answer(), "cup", box).detections
    position, size = detection.bbox.center.position, detection.bbox.size
    assert (position.x, position.y, position.z) == pytest.approx(((230 - 320) / 250, (200 - 240) / 250, 2.0))
    assert (size.x, size.y, size.z) == pytest.approx((60 / 250, 40 / 250, 0.1))
    assert detection.results[0].pose.pose.position == position


def test_markers_are_a_cube_with_distance_or_a_frustum_without() -> None:
    cube, text = detections.markers(answer(), "cup", metric_box(BOX, BoxDepth(2.0, 0.1), CAMERA), CAMERA).markers
    assert cube.type == Marker.CUBE
    assert "2.00 m" in text.text
    frustum, _ = detections.markers(answer(), "cup", None, CAMERA).markers
    assert frustum.type == Marker.LINE_LIST
    assert len(frustum.points) == 16
    assert frustum.lifetime.nanosec > 0


def scene(target_mm: int = 1500, ground_mm: int = 4000, dtype: type = np.uint16) -> np.ndarray:
    depth = np.full((480, 640), ground_mm, np.float64)
    depth[180:220, 200:260] = target_mm
    return depth.astype(np.uint16) if dtype is np.uint16 else (depth / 1000).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("holes", [0.0, 0.5, 0.9])
def test_depth_in_the_box_is_the_targets(dtype: type, holes: float) -> None:
    depth = scene(dtype=dtype)
    random = np.random.default_rng(1)
    depth[random.random(depth.shape) < holes] = 0 if dtype is np.uint16 else np.nan
    # The box is looser than the target: half of it is background.
    readings = readings_in(depth, BoundingBox(190, 170, 80, 60), SIZE)
    found = robust_depth(readings, 0.1, 20.0)
    assert found is not None
    assert found.z == pytest.approx(1.5, abs=0.01)


def test_a_few_wild_readings_do_not_move_the_distance() -> None:
    depth = scene()
    depth[180:184, 200:260] = 300
    depth[216:220, 200:260] = 60000
    found = robust_depth(readings_in(depth, BOX, SIZE), 0.1, 20.0)
    assert found is not None
    assert found.z == pytest.approx(1.5, abs=0.01)


def test_a_smaller_depth_image_shows_the_same_view() -> None:
    found = robust_depth(readings_in(scene()[::2, ::2], BOX, SIZE), 0.1, 20.0)
    assert found is not None
    assert found.z == pytest.approx(1.5, abs=0.01)


@given(
    st.tuples(*(st.floats(-2000, 2000) for _ in range(2))),
    st.tuples(*(st.floats(0, 3000) for _ in range(2))),
    st.sampled_from(["zeros", "nan", "inf", "negative", "good"]),
)
def test_any_box_and_any_depth_are_survived(corner: tuple[float, float], size: tuple[float, float], kind: str) -> None:
    value = {"zeros": 0.0, "nan": math.nan, "inf": math.inf, "negative": -1.0, "good": 2.0}[kind]
    depth = np.full((48, 64), value, np.float32)
    readings = readings_in(depth, BoundingBox(*corner, *size), SIZE)
    found = robust_depth(readings, 0.1, 20.0)
    if kind == "good" and found is not None:
        assert found.z == pytest.approx(2.0)
    if kind != "good":
        assert found is None


def test_not_finite_boxes_have_no_readings() -> None:
    assert readings_in(scene(), BoundingBox(math.nan, 0, 1, 1), SIZE).size == 0


def info(**changes: object) -> CameraInfo:
    message = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.0] * 5)
    message.k = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize("changes", [{"k": [0.0] * 9}, {"width": 0}, {"k": [math.nan] * 9}])
def test_uncalibrated_cameras_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CameraError, match="uncalibrated"):
        PinholeCamera.from_message(info(**changes))


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", [0.0] * 5),
        ("plumb_bob", [0.1, -0.05, 0.001, -0.001, 0.01]),
        ("rational_polynomial", [0.1, -0.05, 0.001, -0.001, 0.01, 0.02, 0.0, 0.0]),
        ("equidistant", [0.02, -0.01, 0.001, 0.0]),
    ],
)
@given(x=st.floats(100, 540), y=st.floats(80, 400), z=st.floats(0.3, 30))
def test_pixel_and_ray_are_inverse(model: str, distortion: list[float], x: float, y: float, z: float) -> None:
    camera = PinholeCamera.from_message(info(distortion_model=model, d=distortion))
    a, b = camera.ray(x, y)
    assert camera.pixel((a * z, b * z, z)) == pytest.approx((x, y), abs=0.05)


def test_a_region_of_interest_shifts_the_optical_axis_and_keeps_the_focal_length() -> None:
    whole = PinholeCamera.from_message(info(width=1280, height=960))
    part = PinholeCamera.from_message(
        info(width=1280, height=960, roi=RegionOfInterest(x_offset=100, y_offset=50, width=640, height=480))
    )
    assert (part.width, part.height, part.fx, part.fy) == (640, 480, 500.0, 500.0)
    assert part.scaled(640, 480).ray(10.0, 20.0) == pytest.approx(whole.ray(110.0, 70.0))
    binned = part.scaled(320, 240)
    assert binned.fx == 250.0
    assert binned.ray(4.5, 9.5) == pytest.approx(whole.ray(109.5, 69.5))


def test_a_region_of_interest_outside_the_calibration_is_refused() -> None:
    with pytest.raises(CameraError, match=r"roi of 640 x 480 at \(1, 0\) is not within its 640 x 480"):
        PinholeCamera.from_message(info(roi=RegionOfInterest(x_offset=1, width=640, height=480)))


def test_a_point_behind_the_camera_has_no_pixel() -> None:
    with pytest.raises(CameraError, match="not in front"):
        CAMERA.pixel((0.0, 0.0, -1.0))


def test_a_binned_image_sees_the_same_rays() -> None:
    # Centres of pixels: (319.5, 239.5) of 640 x 480 is (159.5, 119.5) of 320 x 240 seen from the corner, minus half.
    half = CAMERA.scaled(320, 240)
    assert half.ray(99.75, 79.75) == pytest.approx(CAMERA.ray(200.0, 160.0))


class Topic:
    """A publisher with a subscriber that keeps everything."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.publish = self.sent.append

    def get_subscription_count(self) -> int:
        return 1


class Topics(dict[str, Topic]):
    """The part of a node that makes publishers."""

    def create_lifecycle_publisher(self, _: type, name: str, __: object) -> Topic:
        return self.setdefault(name, Topic())


def published(camera: PinholeCamera, *shown: Answer, **changes: object) -> Topics:
    topics = Topics()
    settings = replace(Settings(publish_markers=True, publish_overlay=True), **changes)
    publishers = Publishers(topics, settings)
    for each in shown:
        publishers.publish_extras(each, settings, camera, OutputPlan(), 1.0)
    return topics


def of_modality(modality: Modality, rgb: bool = True) -> Answer:
    aux = np.full((480, 640), 128, np.uint8) if modality is Modality.THERMAL else np.full((480, 640), 2000, np.uint16)
    frame = replace(images(rgb), modality=modality, aux=aux)
    return replace(answer(), images=frame)


@pytest.mark.parametrize("rgb", [True, False])
def test_a_frustum_fits_the_image_when_the_calibration_is_of_another_size(rgb: bool) -> None:
    shown = of_modality(Modality.THERMAL, rgb)
    exact, doubled = (
        published(camera, shown)["~/markers"].sent[0].markers[0].points for camera in (CAMERA, CAMERA.scaled(1280, 960))
    )
    assert [(p.x, p.y, p.z) for p in doubled] == [pytest.approx((p.x, p.y, p.z)) for p in exact]


def test_while_colour_is_dead_its_size_stays() -> None:
    dead = replace(of_modality(Modality.DEPTH, rgb=False), images=replace(images(rgb=False), aux=scene()[::2, ::2]))
    both, alone = published(CAMERA, of_modality(Modality.DEPTH), dead)["~/detections_3d"].sent
    assert both.detections[0].bbox.center.position.x / 2.0 == pytest.approx(
        alone.detections[0].bbox.center.position.x / 1.5, abs=1e-3
    )


def test_3d_boxes_come_with_depth_only() -> None:
    assert len(published(CAMERA, of_modality(Modality.DEPTH))["~/detections_3d"].sent) == 1
    assert not published(CAMERA, of_modality(Modality.THERMAL))["~/detections_3d"].sent


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize(("rgb", "aux"), [(True, True), (False, True), (True, False), (False, False)])
def test_overlay_is_drawn_on_what_there_is(rgb: bool, aux: bool, side_by_side: bool) -> None:
    frame = images(rgb, aux)
    result = TrackResult(0.0, BOX, 0.8, TrackState.TRACKING)
    picture = draw_overlay(frame, result, Caption("cup", 12.0), side_by_side)
    if not rgb and not aux:
        assert picture is None
        return
    assert picture is not None
    assert picture.shape == (480, 1280 if side_by_side else 640, 3)
    assert tuple(picture[180, 230]) == (60, 220, 80)
    if frame.rgb is not None:
        assert not frame.rgb.any(), "the source image must stay as it is"


GREEN = (60, 220, 80)


def test_while_colour_is_dead_the_box_is_drawn_where_the_second_camera_sees_it() -> None:
    dead = replace(images(rgb=False), aux=scene()[::2, ::2])
    result = TrackResult(0.0, BOX, 0.8, TrackState.TRACKING)
    picture = draw_overlay(dead, result, Caption("cup"), False, SIZE)
    assert picture is not None
    assert picture.shape == (240, 320, 3)
    assert tuple(picture[90, 115]) == GREEN
    both = replace(answer(), images=images())
    topics = published(CAMERA, both, replace(both, images=dead))
    sent = topics["~/overlay"].sent[1]
    np.testing.assert_array_equal(
        np.all(np.frombuffer(sent.data, np.uint8).reshape(240, 320, 3) == GREEN, axis=-1),
        np.all(picture == GREEN, axis=-1),
    )


@pytest.mark.parametrize("rgb", [True, False])
def test_the_box_on_the_second_picture_goes_through_the_homography(rgb: bool) -> None:
    # The second camera has half the pixels and looks 100 of them further to the left.
    mapping = np.array([[0.5, 0.0, 100.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    frame = replace(images(rgb), aux=scene()[::2, ::2], aux_from_reference=mapping)
    picture = draw_overlay(frame, TrackResult(0.0, BOX, 0.8, TrackState.TRACKING), Caption("cup"), rgb, SIZE)
    assert picture is not None
    # Its top edge is at y = 90 from x = 200 to 230, in a picture that is twice as large beside colour.
    assert tuple(picture[180, 640 + 430] if rgb else picture[90, 215]) == GREEN
    assert tuple(picture[180, 640 + 230] if rgb else picture[90, 115]) != GREEN


@pytest.mark.parametrize("box", [BoundingBox(-1e9, -1e9, 3e9, 3e9), BoundingBox(math.nan, 0, 1, 1)])
def test_overlay_survives_any_box(box: BoundingBox) -> None:
    result = TrackResult(0.0, box, 0.8, TrackState.UNCERTAIN)
    assert draw_overlay(images(), result, Caption("x", 0.0), True) is not None
