from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ckd_core.frame import Modality
from ckd_core.modality import (
    Events,
    ModalityConverter,
    ModalityError,
    ModalityOptions,
    events_to_image,
    to_network_image,
)

depth_images = hnp.arrays(np.uint16, st.tuples(st.integers(2, 24), st.integers(2, 24)), elements=st.integers(0, 20000))


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "prepost.npz")


def test_depth_is_the_published_one(golden, recipe) -> None:
    depth = recipe.depth_u16("mod_depth", 48, 64)
    image = to_network_image(depth, Modality.DEPTH)
    np.testing.assert_array_equal(image, golden["mod_rgbcolormap_clip"][..., 3:])
    unclipped = ModalityOptions(depth_median_factor=1e9, depth_max_mm=1e9)
    np.testing.assert_array_equal(
        to_network_image(depth, Modality.DEPTH, unclipped), golden["mod_rgbcolormap_noclip"][..., 3:]
    )
    grey = to_network_image(depth, Modality.DEPTH, ModalityOptions(depth_colormap=False))
    np.testing.assert_array_equal(grey, golden["mod_rgb3x_clip"][..., 3:])
    np.testing.assert_array_equal(grey[..., 0], golden["mod_depth_norm_u16"])


def test_thermal_and_event_images_pass_as_they_are(golden, recipe) -> None:
    thermal, event = recipe.image_u8("mod_tir3", 48, 64), recipe.image_u8("mod_ev3", 48, 64)
    np.testing.assert_array_equal(to_network_image(thermal, Modality.THERMAL), golden["mod_rgbrgb_thermal"][..., 3:])
    np.testing.assert_array_equal(to_network_image(event, Modality.EVENT), golden["mod_rgbrgb_event"][..., 3:])
    grey = recipe.image_u8("mod_tir1", 48, 64, 1)
    np.testing.assert_array_equal(to_network_image(grey, Modality.THERMAL), golden["mod_rgbrgb_gray"][..., 3:])


@given(depth_images)
@settings(max_examples=40, deadline=None)
def test_metres_and_millimetres_are_the_same_depth(millimetres: np.ndarray) -> None:
    metres = millimetres.astype(np.float32) / 1000
    metres[millimetres == 0] = np.nan  # "no return" in 32FC1
    np.testing.assert_array_equal(
        to_network_image(metres, Modality.DEPTH), to_network_image(millimetres, Modality.DEPTH)
    )


@given(depth_images, st.data())
@settings(max_examples=40, deadline=None)
def test_converting_a_part_equals_a_part_of_the_converted(depth: np.ndarray, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, depth.shape[0] - 1)), data.draw(st.integers(0, depth.shape[1] - 1))
    for modality in (Modality.DEPTH, Modality.THERMAL):
        converter = ModalityConverter(modality)
        part = converter.convert(converter.prepare(depth)[top:, left:])
        whole = to_network_image(depth, modality)[top:, left:]
        np.testing.assert_array_equal(part if part.ndim == 3 else np.repeat(part[..., None], 3, axis=2), whole)


@given(depth_images)
@settings(max_examples=40, deadline=None)
def test_depth_clip_follows_numpys_median(depth: np.ndarray) -> None:
    median = float(np.median(depth))
    if median == 0:
        return
    limit = min(3 * median, 10_000)
    clipped = np.clip(depth, 0, int(limit)).astype(np.float64)
    span = clipped.max() - clipped.min()
    scaled = (clipped - clipped.min()) * (255 / span) if span else clipped * 0
    grey = to_network_image(depth, Modality.DEPTH, ModalityOptions(depth_colormap=False))[..., 0]
    assert np.abs(grey - scaled).max() <= 0.501


def test_infinite_depth_is_no_return() -> None:
    metres = np.full((4, 6), 2.0, dtype=np.float32)
    metres[0] = (np.nan, np.inf, -np.inf, 1.0, 3.0, 70.0)
    grey = to_network_image(metres, Modality.DEPTH, ModalityOptions(depth_colormap=False))[..., 0]
    assert grey[0, :3].tolist() == [0, 0, 0]
    assert grey[0, 5] == 255
    assert 0 < grey[0, 3] < grey[1, 0] < grey[0, 4] < 255


def test_depth_that_is_mostly_invalid_still_shows_the_rest() -> None:
    depth = np.zeros((10, 10), dtype=np.uint16)
    depth[:3, :10] = np.arange(500, 800, 10).reshape(3, 10)
    grey = to_network_image(depth, Modality.DEPTH, ModalityOptions(depth_colormap=False))[..., 0]
    assert grey[2, 9] == 255
    assert grey[9].max() == 0


def test_jet_is_opencvs_in_bgr_order(golden) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    options = ModalityOptions(depth_median_factor=100)
    np.testing.assert_array_equal(
        to_network_image(ramp, Modality.DEPTH, options).reshape(256, 3), golden["jet_lut_bgr"]
    )
    assert (golden["jet_lut_bgr"][0] == cv2.applyColorMap(np.zeros((1, 1), np.uint8), cv2.COLORMAP_JET)[0, 0]).all()


def test_16_bit_thermal_by_percentiles_and_by_range() -> None:
    thermal = (np.arange(10_000, dtype=np.uint16) + 7000).reshape(100, 100)
    grey = to_network_image(thermal, Modality.THERMAL)[..., 0]
    low, high = np.percentile(thermal, (0.5, 99.5))
    expected = np.clip((thermal - low) / (high - low) * 255, 0, 255)
    assert np.abs(grey - expected).max() <= 0.6
    fixed = to_network_image(thermal, Modality.THERMAL, ModalityOptions(thermal_range=(7000, 12_100)))[..., 0]
    assert fixed[0, 0] == 0
    assert fixed[51, 0] == 255
    assert fixed[25, 50] == 128


def test_raw_data_of_another_kind_is_refused() -> None:
    with pytest.raises(ModalityError, match="uint16 millimetres or float32 metres, got float64"):
        to_network_image(np.zeros((4, 4)), Modality.DEPTH)
    with pytest.raises(ModalityError, match="thermal image of int32 cannot be converted"):
        to_network_image(np.zeros((4, 4), np.int32), Modality.THERMAL)
    with pytest.raises(ModalityError, match="one channel"):
        to_network_image(np.zeros((4, 4, 3), np.uint16), Modality.DEPTH)


@pytest.mark.parametrize(
    "options",
    [
        {"thermal_percentiles": (60, 40)},
        {"thermal_percentiles": (-1, 40)},
        {"thermal_range": (5, 5)},
        {"depth_max_mm": 0},
        {"depth_median_factor": -1},
    ],
)
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ModalityError, match=next(iter(options))):
        ModalityOptions(**options)


def test_an_event_image_shows_the_last_polarity_per_pixel() -> None:
    events = Events(
        x=np.array([1, 2, 2, 3]), y=np.array([0, 1, 1, 1]), t=np.array([0.0, 0.1, 0.2, 0.3]), p=np.array([1, 1, 0, 1])
    )
    image = events_to_image(events, (2, 4))
    assert image[0, 1].tolist() == [255, 0, 0]
    assert image[1, 2].tolist() == [0, 0, 255]
    assert image[0, 0].tolist() == [255, 255, 255]
    window = events_to_image(events.between(0.1, 0.3), (2, 4))
    assert window[0, 1].tolist() == [255, 255, 255]
    assert window[1, 3].tolist() == [255, 255, 255]
    assert window[1, 2].tolist() == [0, 0, 255]


def test_events_outside_or_of_unequal_length_are_refused() -> None:
    two = np.array([0, 1])
    with pytest.raises(ModalityError, match=r"0\.\.0 x 0\.\.3"):
        events_to_image(Events(two, two, two.astype(float), two), (4, 1))
    with pytest.raises(ModalityError, match="2, 1 and 2"):
        events_to_image(Events(two, two[:1], two.astype(float), two), (4, 4))


@pytest.mark.shared
def test_real_events_give_the_recorded_images(shared_data) -> None:
    folder = shared_data / "sequences" / "rgbe_evbench_seq2"
    raw = np.load(folder / "events.npz")
    names = {key[0]: raw[key] for key in raw.files if raw[key].ndim == 1}
    recorded = cv2.cvtColor(cv2.imread(str(folder / "event" / "000011.png")), cv2.COLOR_BGR2RGB)
    seconds = names["t"] * 1e-6
    events = Events(names["x"], names["y"], seconds, names["p"])
    shares = []
    for first in range(8, 13):  # the image between two frames, whichever of them gives its number
        begin = 0.05 + 0.051 * first
        image = events_to_image(events.between(begin, begin + 0.051), recorded.shape[:2])
        shares.append((image == recorded).all(axis=2).mean())
    assert max(shares) > 0.98
