from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.frame import BoundingBox
from sdstrack_ros.messages.box_depth import CENTER_NOISE, BoxDepth, metric_point, readings_in, robust_depth
from testkit.frame_results import BOX, CAMERA, SIZE, depth_scene


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("holes", [0.0, 0.5, 0.9])
def test_the_depth_in_a_box_is_that_of_the_target(dtype: type, holes: float) -> None:
    depth = depth_scene(dtype=dtype)
    random = np.random.default_rng(1)
    depth[random.random(depth.shape) < holes] = 0 if dtype is np.uint16 else np.nan
    # The box is looser than the target: half of it is background.
    readings = readings_in(depth, BoundingBox(190, 170, 80, 60), SIZE)
    depth_of_box = robust_depth(readings, 0.1, 20.0)
    assert depth_of_box is not None
    assert depth_of_box.z == pytest.approx(1.5, abs=0.01)


def test_a_few_outliers_do_not_move_the_distance() -> None:
    depth = depth_scene()
    depth[180:184, 200:260] = 300
    depth[216:220, 200:260] = 60000
    depth_of_box = robust_depth(readings_in(depth, BOX, SIZE), 0.1, 20.0)
    assert depth_of_box is not None
    assert depth_of_box.z == pytest.approx(1.5, abs=0.01)


def test_a_smaller_depth_image_shows_the_same_view() -> None:
    depth_of_box = robust_depth(readings_in(depth_scene()[::2, ::2], BOX, SIZE), 0.1, 20.0)
    assert depth_of_box is not None
    assert depth_of_box.z == pytest.approx(1.5, abs=0.01)


@given(
    st.tuples(*(st.floats(-2000, 2000) for _ in range(2))),
    st.tuples(*(st.floats(0, 3000) for _ in range(2))),
    st.sampled_from(["zeros", "nan", "inf", "negative", "good"]),
)
def test_any_box_and_any_depth_give_a_depth_or_none(
    corner: tuple[float, float], size: tuple[float, float], kind: str
) -> None:
    value = {"zeros": 0.0, "nan": math.nan, "inf": math.inf, "negative": -1.0, "good": 2.0}[kind]
    depth = np.full((48, 64), value, np.float32)
    readings = readings_in(depth, BoundingBox(*corner, *size), SIZE)
    depth_of_box = robust_depth(readings, 0.1, 20.0)
    if kind == "good" and depth_of_box is not None:
        assert depth_of_box.z == pytest.approx(2.0)
    if kind != "good":
        assert depth_of_box is None


def test_a_box_that_is_not_finite_has_no_readings() -> None:
    assert readings_in(depth_scene(), BoundingBox(math.nan, 0, 1, 1), SIZE).size == 0


def test_a_point_is_the_centre_of_the_box_and_least_certain_along_its_ray() -> None:
    point = metric_point(BoundingBox(520, 340, 40, 40), BoxDepth(2.0, 0.6), CAMERA)
    np.testing.assert_allclose(point.position, (0.88, 0.48, 2.0))
    values, vectors = np.linalg.eigh(point.covariance)
    assert values[0] > 0
    ray = point.position / np.linalg.norm(point.position)
    assert abs(vectors[:, 2] @ ray) > 0.99
    assert math.sqrt(values[2]) == pytest.approx(0.6 / 2.563 * np.linalg.norm(point.position) / 2.0, rel=0.05)


def test_a_narrow_box_is_as_uncertain_to_the_side_as_upwards() -> None:
    point = metric_point(BoundingBox(300, 200, 20, 80), BoxDepth(3.0, 0.0), CAMERA)
    sideways, upwards = np.sqrt(np.diag(point.covariance)[:2])
    assert sideways == pytest.approx(CENTER_NOISE * 40 / CAMERA.fx * 3.0, rel=0.05)
    assert upwards == pytest.approx(sideways, rel=0.05)


def test_a_flat_target_is_not_known_better_than_its_depth_camera() -> None:
    point = metric_point(BoundingBox(300, 220, 40, 40), BoxDepth(3.0, 0.0), CAMERA)
    assert math.sqrt(point.covariance[2, 2]) == pytest.approx(0.03)
