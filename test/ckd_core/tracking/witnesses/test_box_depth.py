"""How far away the target in a box is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.witnesses.box_depth import Expected, readings_in, robust_depth, target_depth
from testkit.frame_results import BOX, SIZE, depth_scene


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


@given(st.lists(st.floats(0.125, 16, width=32), min_size=1, max_size=60), st.integers(0, 6), st.integers(0, 40))
def test_few_readings_give_a_distance_among_them_or_none(values: list[float], near: int, holes: int) -> None:
    metres = np.array([[*[0.5, 0.6, 0.55, 0.52, 0.58, 0.51][:near], *values, *[0.0] * holes]], np.float32)
    found = robust_depth(metres, 0.1, 20.0)
    assert found is None or metres[metres > 0].min() <= found.z <= metres.max()


def test_a_surface_of_two_readings_has_a_distance() -> None:
    metres = np.full((2, 9), 8.0, np.float32)
    metres[0, 4], metres[1, 4] = 1.0, 1.05
    found = robust_depth(metres, 0.1, 20.0, Expected(1.0, 0.3))
    assert found is not None
    assert math.isfinite(found.z)


def test_a_box_that_is_not_finite_has_no_readings() -> None:
    assert readings_in(depth_scene(), BoundingBox(math.nan, 0, 1, 1), SIZE).size == 0


def two_surfaces(near_m: float, far_m: float, near_share: float) -> np.ndarray:
    """Readings [40, 40] of two figures side by side, a share of the columns being the nearer one's."""
    readings = np.full((40, 40), far_m, np.float32)
    readings[:, : round(40 * near_share)] = near_m
    return readings


@pytest.mark.parametrize(
    ("near_m", "far_m", "near_share", "expected", "z"),
    [
        (2.4, 3.4, 0.38, None, 3.4),
        (2.4, 3.4, 0.38, Expected(2.42, 0.25), 2.4),
        (2.8, 3.0, 0.4, Expected(2.82, 0.25), 2.8),  # too close for modes, not for the surface
        (2.8, 3.0, 0.4, Expected(3.02, 0.25), 3.0),
        (2.4, 3.4, 0.6, Expected(3.38, 0.25), 3.4),
        (2.4, 3.4, 0.05, Expected(2.42, 0.25), 3.4),  # hardly anything of it is left in the box
        (2.4, 3.4, 0.6, Expected(8.0, 0.5), 2.4),  # nothing is where it should be
    ],
)
def test_the_surface_where_the_target_should_be_counts_before_others(
    near_m: float, far_m: float, near_share: float, expected: Expected | None, z: float
) -> None:
    depth_of_box = robust_depth(two_surfaces(near_m, far_m, near_share), 0.1, 20.0, expected)
    assert depth_of_box is not None
    assert depth_of_box.z == pytest.approx(z, abs=0.03)


@pytest.mark.parametrize(("x", "y"), [(0, 100), (SIZE[0] - 20, 100), (100, 0), (100, SIZE[1] - 20)])
def test_at_the_edge_of_the_image_the_target_is_at_the_edge(x: int, y: int) -> None:
    """The image cuts off all but a strip of it, in whose middle there is the wall behind."""
    depth = np.full((SIZE[1], SIZE[0]), 4800, np.uint16)
    wide, high = (20, 80) if y == 100 else (80, 20)
    outer = 0 if 0 in (x, y) else 14  # six of the strip's twenty pixels are the target's
    if wide == 20:
        depth[y : y + high, x + outer : x + outer + 6] = 2200
    else:
        depth[y + outer : y + outer + 6, x : x + wide] = 2200
    box = BoundingBox(x, y, wide, high)
    frame = MultiModalFrame(0.0, None, depth, Modality.DEPTH)
    found = target_depth(frame, box, SIZE, 0.1, 20.0)
    assert found is not None
    assert found.z == pytest.approx(2.2)
    inside = np.roll(depth, (60, 60), (0, 1))  # the same strip away from the edge: mostly wall
    moved = BoundingBox((x + 60) % SIZE[0], (y + 60) % SIZE[1], wide, high)
    found = target_depth(MultiModalFrame(0.0, None, inside, Modality.DEPTH), moved, SIZE, 0.1, 20.0)
    assert found is not None
    assert found.z == pytest.approx(4.8)


def test_only_depth_tells_a_distance() -> None:
    metres = np.full((SIZE[1], SIZE[0]), 2.0, np.float32)
    picture = np.full((SIZE[1], SIZE[0]), 90, np.uint8)
    for image, modality in ((metres, Modality.THERMAL), (picture, Modality.DEPTH), (None, Modality.DEPTH)):
        frame = MultiModalFrame(0.0, None, image, modality)
        assert target_depth(frame, BOX, SIZE, 0.1, 20.0) is None
