from __future__ import annotations

import cv2
import numpy as np
import pytest

from ckd_core.data.synthetic import SyntheticClip, SyntheticError, World, clip, sensors
from ckd_core.data.synthetic.camera_path import Movement, camera_matrix
from ckd_core.frame import Modality
from ckd_core.modality import Events, events_to_image

WORLD = World(3)


def record(modality: Modality, frames: int = 12, seed: int = 5, **options: object) -> SyntheticClip:
    return clip(seed, modality, frames, world=WORLD, **options)  # type: ignore[arg-type]  # forwarded as given


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(mask > 127)
    return np.array((xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()), dtype=np.float64)


@pytest.mark.parametrize("modality", list(Modality))
def test_the_same_seed_gives_the_same_clip(modality: Modality) -> None:
    one, again, other = record(modality, 4), clip(5, modality, 4, world=World(3)), record(modality, 4, seed=6)
    for frame, same in zip(one.frames, again.frames, strict=True):
        np.testing.assert_array_equal(frame.rgb, same.rgb)
        np.testing.assert_array_equal(frame.aux, same.aux)
    np.testing.assert_array_equal(one.boxes, again.boxes)
    assert not np.array_equal(one.frames[0].rgb, other.frames[0].rgb)


@pytest.mark.parametrize("modality", list(Modality))
def test_clips_have_raw_images_as_from_sensors(modality: Modality) -> None:
    clip = record(modality, size=(200, 160), fps=10.0)
    assert [frame.stamp for frame in clip.frames] == pytest.approx([i / 10 for i in range(12)])
    for frame in clip.frames:
        assert frame.modality is modality
        assert frame.rgb is not None
        assert frame.aux is not None
        assert (frame.rgb.shape, frame.rgb.dtype) == ((160, 200, 3), np.uint8)
        shape, dtype = {
            Modality.DEPTH: ((160, 200), np.uint16),
            Modality.THERMAL: ((160, 200), np.uint8),
            Modality.EVENT: ((160, 200, 3), np.uint8),
        }[modality]
        assert (frame.aux.shape, frame.aux.dtype) == (shape, dtype)
    assert clip.masks.shape == (12, 160, 200)
    assert len(clip.events) == (12 if modality is Modality.EVENT else 0)


@pytest.mark.parametrize("target", ["person", "rigid", "deforming"])
def test_boxes_match_the_masks(target: str) -> None:
    """Where the whole target is seen, its box is the bounding box of its mask (to the softness of its outline)."""
    checked = 0
    for seed in range(6):
        clip = record(Modality.THERMAL, 5, seed, target=target)
        for box, mask in zip(clip.boxes, clip.masks, strict=True):
            whole = np.isfinite(box).all() and box[0] > 0 and box[1] > 0 and box[0] + box[2] < 320
            if not whole or box[1] + box[3] >= 240:
                continue
            np.testing.assert_allclose(box_of_mask(mask), box, atol=3.0)
            checked += 1
    assert checked >= 10


def test_the_target_leaves_and_returns() -> None:
    clip = record(Modality.THERMAL, 60, absent=(0.4, 0.8))
    gone = np.isnan(clip.boxes).all(axis=1)
    assert 5 <= gone.sum() <= 24
    assert not gone[:24].any()
    assert not gone[-6:].any()
    middle = np.flatnonzero(gone)[len(np.flatnonzero(gone)) // 2]
    assert clip.masks[middle].max() < 128


def test_smoke_hides_colour_but_not_heat() -> None:
    clear, smoky = record(Modality.THERMAL, 30), record(Modality.THERMAL, 30, trouble="smoke")
    assert clear.frames[29].rgb is not None
    assert smoky.frames[29].rgb is not None
    assert smoky.frames[29].rgb.std() < 0.6 * clear.frames[29].rgb.std()
    np.testing.assert_array_equal(clear.frames[29].aux, smoky.frames[29].aux)


def test_dark_dims_colour() -> None:
    clip = record(Modality.DEPTH, 30, trouble="dark")
    first, last = clip.frames[0].rgb, clip.frames[29].rgb
    assert first is not None
    assert last is not None
    assert last.mean() < 0.35 * first.mean()


def test_events_agree_with_their_image() -> None:
    clip = record(Modality.EVENT, 6)
    for frame, events in zip(clip.frames, clip.events, strict=True):
        np.testing.assert_array_equal(events_to_image(events, (240, 320)), frame.aux)
        assert isinstance(events, Events)
        assert (np.diff(events.t) >= 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "0 frames"),
        ({"size": (32, 240)}, "32 x 240"),
        ({"fps": 0.0}, "0.0 fps"),
        ({"absent": (0.5, 0.4)}, r"\(0.5, 0.4\)"),
    ],
)
def test_impossible_clips_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SyntheticError, match=message):
        record(Modality.DEPTH, **options)  # type: ignore[arg-type]  # wrong on purpose


def test_the_thermal_camera_has_its_failure_modes() -> None:
    rng = np.random.default_rng(0)
    heat = np.full((40, 40), 120, dtype=np.uint8)
    heat[10:30, 10:30] = 200
    quiet = sensors.ThermalLook(noise=0, stripes=0)
    saturated = sensors.thermal_image(rng, heat, sensors.ThermalLook(gain=3.0, noise=0, stripes=0))
    assert (saturated == 255).all()
    white, black = (
        sensors.thermal_image(rng, heat, look)
        for look in (quiet, sensors.ThermalLook(noise=0, stripes=0, inverted=True))
    )
    assert white[20, 20] > white[2, 2]
    assert black[20, 20] < black[2, 2]


def test_the_depth_camera_has_its_failure_modes() -> None:
    rng = np.random.default_rng(0)
    truth = np.full((120, 160), 3000, dtype=np.float32)
    truth[:, 80:] = 8000
    image = sensors.depth_image(rng, truth, sensors.DepthLook(noise=0.02, holes=0.3, max_mm=7000))
    assert (image[:, 90:] == 0).all()  # beyond its range
    left = image[:, :70]
    assert 0.02 < (left == 0).mean() < 0.8  # holes
    answers = left[left > 0].astype(float)
    assert abs(answers.mean() - 3000) < 30
    assert 1 < answers.std() < 100  # range noise
    assert (image[:, 80] == 0).all()  # no answer at a depth edge


def test_the_event_camera_has_its_failure_modes() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (60, 80), dtype=np.uint8)
    still = sensors.event_polarity(rng, grey, grey, sensors.EventLook(noise=0))
    assert not still.any()  # no motion, no events
    moved = sensors.event_polarity(rng, grey, np.roll(grey, 1, axis=1), sensors.EventLook(noise=0, blind_from=0.5))
    assert moved[:, :40].any()
    assert not moved[:, 40:].any()
    brighter = sensors.event_polarity(rng, np.full_like(grey, 50), np.full_like(grey, 90), sensors.EventLook(noise=0))
    assert (brighter == 1).all()
    noisy = sensors.event_polarity(rng, grey, grey, sensors.EventLook(noise=0.05))
    assert 0.02 < np.abs(noisy).mean() < 0.06


def test_the_colour_camera_has_its_failure_modes() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
    plain = sensors.color_image(rng, picture, sensors.ColorLook(noise=0))
    np.testing.assert_array_equal(plain, picture)
    dark = sensors.color_image(rng, picture, sensors.ColorLook(gain=0.1, noise=0))
    assert dark.max() <= 26
    smoke = sensors.color_image(rng, picture, sensors.ColorLook(smoke=0.9, noise=0))
    assert smoke.std() < 0.4 * picture.std()
    blurred = sensors.color_image(rng, picture, sensors.ColorLook(blur=9, noise=0))
    assert blurred.std() < 0.6 * picture.std()


@pytest.mark.parametrize("movement", ["drive", "swing"])
def test_a_camera_that_moves_sees_the_target_where_its_place_in_space_says(movement: Movement) -> None:
    found = record(Modality.DEPTH, 24, fps=6.0, size=(320, 240), movement=movement)
    assert found.space is not None
    matrix = camera_matrix(320, 240)
    checked = 0
    for frame, box, mask, camera, place in zip(
        found.frames, found.boxes, found.masks, found.space.cameras, found.space.positions, strict=True
    ):
        if not np.isfinite(box).all() or box[0] <= 0 or box[0] + box[2] >= 320 or box[1] <= 0 or box[1] + box[3] >= 240:
            continue
        x, y, z = camera.to_camera(place)
        u, v, _ = matrix @ (x / z, y / z, 1.0)
        assert u + 0.5 == pytest.approx(box[0] + box[2] / 2, abs=0.02 * box[2] + 1)
        assert v + 0.5 == pytest.approx(box[1] + box[3] / 2, abs=0.02 * box[3] + 1)
        assert frame.aux is not None
        readings = frame.aux[(mask > 250) & (frame.aux > 0)]
        assert np.median(readings) / 1000 == pytest.approx(z, rel=0.04)
        checked += 1
    assert checked > 10
    moved = [np.linalg.norm(camera.position) for camera in found.space.cameras]
    turned = np.diff([camera.yaw for camera in found.space.cameras]) * 6.0
    assert bool(max(moved) > 0.3) is (movement == "drive")
    assert np.degrees(np.abs(turned).max()) < 61


def test_what_stands_still_is_seen_where_the_turn_of_the_camera_carries_it() -> None:
    found = record(Modality.THERMAL, 8, fps=15.0, size=(320, 240), movement="swing")
    assert found.space is not None
    matrix, cameras = camera_matrix(320, 240), found.space.cameras
    turn = matrix @ cameras[1].rotation() @ cameras[0].rotation().T @ np.linalg.inv(matrix)
    before, after = (np.asarray(found.frames[i].rgb) for i in (0, 1))
    carried = cv2.warpPerspective(before, turn, (320, 240))
    inside = np.s_[20:220, 60:260]

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.median(np.abs(a[inside].astype(int) - b[inside])))

    assert difference(carried, after) < 0.6 * difference(before, after)


def test_the_camera_that_only_shakes_tells_no_place_in_space() -> None:
    assert record(Modality.DEPTH, 2).space is None
