from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.frame import BoundingBox
from ckd_core.tracking.crop import CropError, CropSampler, CropWindow, window_around

lengths = st.floats(1.5, 4000)
positions = st.floats(-4000, 4000)
boxes = st.builds(BoundingBox, positions, positions, lengths, lengths)


@pytest.mark.parametrize(("out", "factor"), [(128, 2.0), (256, 4.0)])
def test_crops_equal_the_published_ones_to_the_last_bit(golden_dir, recipe, out: int, factor: float) -> None:
    golden = np.load(golden_dir / "prepost.npz")
    frame = recipe.image_u8("crop_test", 240, 320, 6)
    images = [np.ascontiguousarray(frame[..., :3]), np.ascontiguousarray(frame[..., 3:])]
    sampler, crops = CropSampler(), np.empty((2, out, out, 3), dtype=np.uint8)
    for index, box in enumerate(golden["st_boxes_f64"]):
        window = window_around(BoundingBox(*box), factor)
        for image, crop in zip(images, crops, strict=True):
            sampler.sample(image, window, crop)
        name = f"st_{out}_{index:02d}"
        assert out / window.width == golden[f"{name}_resize_factor_f64"]
        both = np.ascontiguousarray(np.concatenate(list(crops), axis=2))
        np.testing.assert_array_equal(both[::8, ::8], golden[f"{name}_crop_sub8"])
        assert zlib.crc32(both.tobytes()) == golden[f"{name}_crop_crc32"]


def test_map_back_is_the_published_one(golden_dir) -> None:
    golden = np.load(golden_dir / "prepost.npz")
    for state, predicted, factor, expected in zip(
        golden["mbb_state_f64"], golden["mbb_pred_f64"], golden["mbb_rf_f64"], golden["mbb_out_f64"], strict=True
    ):
        cx, cy = BoundingBox(*state).center
        side = 256 / factor
        window = CropWindow(cx, cy, 0, 0, side, side, published=True)
        # the golden prediction is in image pixels already: predicted share of the crop x its side
        np.testing.assert_allclose(window.from_crop(tuple(predicted / side)), expected, atol=1e-9)


@given(boxes, boxes, st.sampled_from([2.0, 4.0]), st.booleans(), st.booleans())
def test_into_the_crop_and_back_is_the_same_box(
    around: BoundingBox, box: BoundingBox, factor: float, published: bool, square: bool
) -> None:
    window = window_around(around, factor, published, square_boxes=square)
    np.testing.assert_allclose(window.from_crop(window.to_crop(box)), box, rtol=0, atol=1e-6)


@given(boxes, st.sampled_from([2.0, 4.0]))
def test_exact_windows_sample_where_they_map_back(around: BoundingBox, factor: float) -> None:
    window = window_around(around, factor, published=False)
    middle = window.sampling_matrix(256) @ np.array((127.5, 127.5, 1))
    np.testing.assert_allclose(middle[:2] + 0.5, around.center, atol=1e-6)
    assert window.width == window.height == pytest.approx(factor * np.sqrt(around.w * around.h))


@given(boxes, st.sampled_from([2.0, 4.0]))
def test_every_box_is_square_in_a_window_for_square_boxes(around: BoundingBox, factor: float) -> None:
    window = window_around(around, factor, square_boxes=True)
    np.testing.assert_allclose(window.to_crop(around), (0.5, 0.5, 1 / factor, 1 / factor), atol=1e-6)


def test_a_window_of_unequal_sides_shows_each_pixel_where_it_maps_back() -> None:
    window = window_around(BoundingBox(100, 60, 20, 60), 2.0, square_boxes=True)
    crop = np.zeros((64, 64, 3), dtype=np.uint8)
    CropSampler().sample(gradient(240, 320), window, crop)
    for row, column in ((5, 9), (31, 31), (60, 2)):
        x, y, _ = window.sampling_matrix(64) @ np.array((column, row, 1))
        place = crop[row, column, :2] / 255 * (320, 240) - 0.5
        np.testing.assert_allclose(place, (x, y), atol=1.5)


def gradient(height: int, width: int) -> np.ndarray:
    """Each pixel tells its place: red is x, green is y, over the frame."""
    y, x = np.mgrid[:height, :width]
    planes = ((x + 0.5) * 255 / width, (y + 0.5) * 255 / height, np.full_like(x, 128))
    return np.ascontiguousarray(np.stack(planes, axis=2).round().astype(np.uint8))


@pytest.mark.parametrize("published", [True, False])
def test_an_image_of_another_resolution_shows_the_same_window(published: bool) -> None:
    window = window_around(BoundingBox(101.3, 77.9, 40.2, 33.3), 4.0, published)
    crops = np.empty((2, 128, 128, 3), dtype=np.uint8)
    sampler = CropSampler()
    sampler.sample(gradient(240, 320), window, crops[0])
    scale = np.array(((2.0, 0, 0.5), (0, 2.5, 0.75), (0, 0, 1)))
    sampler.sample(gradient(600, 640), window, crops[1], scale)
    difference = np.abs(crops[0].astype(int) - crops[1])
    assert difference.max() <= 3
    assert difference.mean() < 0.6


def test_a_homography_maps_the_crop_and_not_the_frame() -> None:
    image = gradient(240, 320)
    homography = np.array(((1.05, 0.08, -6.0), (-0.04, 0.97, 9.0), (1e-4, -5e-5, 1.0)))
    moved = cv2.warpPerspective(image, homography, (340, 260), flags=cv2.INTER_LINEAR)
    window = window_around(BoundingBox(140, 100, 30, 26), 4.0, published=False)
    crops = np.empty((2, 128, 128, 3), dtype=np.uint8)
    sampler = CropSampler()
    sampler.sample(image, window, crops[0])
    sampler.sample(moved, window, crops[1], homography)
    assert np.abs(crops[0].astype(int) - crops[1]).max() <= 4


def test_a_grey_part_is_converted_and_replicated() -> None:
    image = gradient(240, 320)[..., 0].astype(np.uint16) * 7
    window = window_around(BoundingBox(140, 100, 30, 26), 4.0)
    crop, expected = np.empty((64, 64, 3), dtype=np.uint8), np.empty((64, 64, 3), dtype=np.uint8)
    shapes: list[tuple[int, ...]] = []

    def convert(part: np.ndarray) -> np.ndarray:
        shapes.append(part.shape)
        return (part // 7).astype(np.uint8)

    sampler = CropSampler()
    sampler.sample(image, window, crop, convert=convert)
    sampler.sample(np.repeat((image // 7).astype(np.uint8)[..., None], 3, axis=2), window, expected)
    np.testing.assert_array_equal(crop, expected)
    assert shapes == [(112, 112)]  # the window, not the frame


@settings(max_examples=60, deadline=None)
@given(
    st.builds(BoundingBox, st.floats(-50, 330), st.floats(-50, 250), st.floats(2, 400), st.floats(2, 300)),
    st.booleans(),
)
def test_a_used_sampler_crops_like_a_new_one(box: BoundingBox, published: bool) -> None:
    image, window = gradient(240, 320), window_around(box, 4.0, published)
    used, fresh = np.empty((64, 64, 3), dtype=np.uint8), np.empty((64, 64, 3), dtype=np.uint8)
    sampler = CropSampler()
    sampler.sample(np.full((240, 320, 3), 255, dtype=np.uint8), window_around(BoundingBox(5, 5, 90, 80), 4.0), used)
    sampler.sample(image, window, used)
    CropSampler().sample(image, window, fresh)
    np.testing.assert_array_equal(used, fresh)


def test_a_huge_window_is_sampled_without_a_padded_copy() -> None:
    window = window_around(BoundingBox(-2000, -2000, 4000, 4000), 4.0)
    crop = np.empty((128, 128, 3), dtype=np.uint8)
    sampler = CropSampler()
    sampler.sample(np.full((240, 320, 3), 200, dtype=np.uint8), window, crop)
    assert crop[64, 64].tolist() == [200, 200, 200]
    assert crop[20, 20].tolist() == [0, 0, 0]
    assert sampler._padded.size == 0


def test_a_crop_is_black_outside_the_frame() -> None:
    crop = np.full((32, 32, 3), 9, dtype=np.uint8)
    for published in (True, False):
        CropSampler().sample(gradient(50, 60), window_around(BoundingBox(500, 500, 9, 9), 2.0, published), crop)
        assert crop.max() == 0


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 5), (0, 0, 5, -1), (float("nan"), 0, 5, 5), (0, 0, float("inf"), 5)], ids=str
)
def test_a_box_without_area_has_no_window(box: tuple[float, ...]) -> None:
    with pytest.raises(CropError, match="finite numbers with a positive width and height"):
        window_around(BoundingBox(*box), 2.0)
