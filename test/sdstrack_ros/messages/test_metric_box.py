"""From boxes in pixels to metres."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ckd_core.frame import BoundingBox
from ckd_core.tracking.witnesses.box_depth import BoxDepth
from sdstrack_ros.messages.metric_box import CENTER_NOISE, CUT_NOISE, metric_box, metric_point
from testkit.frame_results import CAMERA


def test_a_box_around_a_pixel_is_where_that_pixel_looks() -> None:
    place = (0.4, -0.2, 2.0)
    x, y = CAMERA.pixel(place)  # integers are pixel centres, and the first pixel of a box covers 0..1
    box = BoundingBox(x + 0.5 - 20, y + 0.5 - 30, 40, 60)
    np.testing.assert_allclose(metric_point(box, BoxDepth(2.0, 0.1), CAMERA).position, place)
    in_metres = metric_box(box, BoxDepth(2.0, 0.1), CAMERA)
    np.testing.assert_allclose(in_metres.center, place)
    np.testing.assert_allclose(in_metres.size[:2], (40 / CAMERA.fx * 2.0, 60 / CAMERA.fy * 2.0))


def test_a_point_is_the_centre_of_the_box_and_least_certain_along_its_ray() -> None:
    point = metric_point(BoundingBox(520, 340, 40, 40), BoxDepth(2.0, 0.6), CAMERA)
    np.testing.assert_allclose(point.position, (0.878, 0.478, 2.0))
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


@pytest.mark.parametrize(
    ("x", "y", "cut"), [(0, 200, "x"), (CAMERA.width - 20, 200, "x"), (300, 0, "y"), (300, CAMERA.height - 80, "y")]
)
def test_a_box_at_the_edge_does_not_know_where_the_middle_of_its_target_is_across_that_edge(
    x: int, y: int, cut: str
) -> None:
    inside = metric_point(BoundingBox(300, 200, 20, 80), BoxDepth(3.0, 0.0), CAMERA)
    point = metric_point(BoundingBox(x, y, 20, 80), BoxDepth(3.0, 0.0), CAMERA)
    ray = point.position / 3.0
    across = np.sqrt(np.diag(point.covariance)[:2] - 0.03**2 * ray[:2] ** 2)
    usual = CENTER_NOISE * 40 / CAMERA.fx * 3.0
    behind = math.hypot(usual, CUT_NOISE * 80 / CAMERA.fx * 3.0)
    np.testing.assert_allclose(across, (behind, usual) if cut == "x" else (usual, behind), rtol=1e-6)
    assert behind > 2 * usual
    assert point.covariance[2, 2] == inside.covariance[2, 2], "how far away it is, is known as well as ever"
