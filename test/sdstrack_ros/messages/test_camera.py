from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from sdstrack_ros.messages.camera import CameraError, PinholeCamera
from testkit.frame_results import CAMERA


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
    ("k", "named"),
    [
        ((1e-300, 0, 320, 0, 500, 240), "fx is 1e-300"),
        ((500, 0, 320, 0, 1e300, 240), "fy 1e[+]300"),
        ((500, 0, -1e9, 0, 500, 240), "cx is -1e[+]09"),
        ((500, 0, 320, 0, 500, 1e6), "cy 1e[+]06"),
    ],
)
def test_numbers_that_no_camera_has_are_refused(k: tuple[float, ...], named: str) -> None:
    with pytest.raises(CameraError, match=rf"{named}.*expected .* for 640 x 480"):
        PinholeCamera.from_message(info(k=[*map(float, k), 0.0, 0.0, 1.0]))


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
@given(x=st.floats(-640, 1280), y=st.floats(-480, 960), d=st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4))
def test_a_ray_is_finite_whatever_the_coefficients_are(model: str, x: float, y: float, d: list[float]) -> None:
    ray = PinholeCamera.from_message(info(distortion_model=model, d=d)).ray(x, y)
    assert max(map(abs, ray)) <= 1000


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
def test_pixel_and_ray_are_inverse_to_each_other(
    model: str, distortion: list[float], x: float, y: float, z: float
) -> None:
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


K1 = [0.1, -0.05, 0.001, -0.001]


@pytest.mark.parametrize(
    "model", ["double_sphere", "omni", "ftheta", "PLUMB_BOB", "fov", "scaramuzza", "Kannala Brandt4", "plumb_bob "]
)
@pytest.mark.parametrize("coefficients", [[], [0.0] * 5, K1])
def test_an_unknown_distortion_model_is_refused_by_name_and_never_plumb_bob(
    model: str, coefficients: list[float]
) -> None:
    with pytest.raises(CameraError, match=rf"distortion_model is '{model}'.* expected one of: plumb_bob, .*fisheye"):
        PinholeCamera.from_message(info(distortion_model=model, d=coefficients))


@pytest.mark.parametrize("model", ["", "none"])
def test_a_camera_without_distortion_needs_no_model(model: str) -> None:
    assert PinholeCamera.from_message(info(distortion_model=model, d=[0.0] * 5)).distortion == ()
    assert PinholeCamera.from_message(info(distortion_model=model, d=[])).distortion == ()
    with pytest.raises(CameraError, match=f"distortion_model is '{model}'"):
        PinholeCamera.from_message(info(distortion_model=model, d=K1))


@pytest.mark.parametrize(
    ("model", "sent", "kept"),
    [
        ("fisheye", K1, K1),
        ("equidistant", [*K1, 0.0], K1),  # realsense2_camera
        ("equidistant", [0.1, 0.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0]),
        ("plumb_bob", K1, K1),
        ("plumb_bob", [*K1, 0.01, 0.0, 0.0], [*K1, 0.01]),
        ("plumb_bob", [*K1, 0.01, 0.2, 0.1, 0.3], [*K1, 0.01, 0.2, 0.1, 0.3]),
        ("rational_polynomial", [*K1, 0.01, 0.2, 0.1, 0.3, *[0.0] * 6], [*K1, 0.01, 0.2, 0.1, 0.3, *[0.0] * 6]),
        ("thin_prism", [*K1, *[0.01] * 8], [*K1, *[0.01] * 8]),
    ],
)
def test_coefficients_count_as_drivers_send_them(model: str, sent: list[float], kept: list[float]) -> None:
    camera = PinholeCamera.from_message(info(distortion_model=model, d=sent))
    assert camera.distortion == tuple(kept)
    assert camera.model == ("equidistant" if model in ("fisheye", "equidistant") else "plumb_bob")
    x, y = camera.ray(100.0, 90.0)
    assert camera.pixel((2 * x, 2 * y, 2.0)) == pytest.approx((100.0, 90.0), abs=0.05)


@pytest.mark.parametrize(
    ("model", "sent"), [("fisheye", [*K1, 0.2]), ("plumb_bob", K1[:3]), ("plumb_bob", [*K1, 0.1, 0.1, 0.1])]
)
def test_numbers_of_coefficients_that_no_model_has_are_refused(model: str, sent: list[float]) -> None:
    with pytest.raises(CameraError, match=rf"{len(sent)} '{model}' distortion coefficients; expected 4"):
        PinholeCamera.from_message(info(distortion_model=model, d=sent))


@pytest.mark.parametrize("text", ["A" * 5_000_000, "\x1b[2J\n"])
def test_a_distortion_model_is_shown_short_and_escaped(text: str) -> None:
    with pytest.raises(CameraError, match=r"distortion_model is '.*', with 3 coefficients") as refusal:
        PinholeCamera.from_message(info(distortion_model=text, d=[0.1, 0.2, 0.3]))
    assert len(str(refusal.value)) < 300
    assert str(refusal.value).isprintable()


def test_a_frame_id_that_outputs_could_not_repeat_is_refused() -> None:
    message = info()
    message.header.frame_id = "f" * 1_000_000
    with pytest.raises(CameraError, match=r"frame_id is 'f.*expected up to 256 characters"):
        PinholeCamera.from_message(message)
