from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.augmentation import (
    AugmentationSettings,
    CropChanges,
    apply_changes,
    draw_changes,
    jitter_box,
    mirror_box,
)
from ckd_core.data.pseudo import draw_sensor
from ckd_core.frame import BoundingBox, Modality
from testkit import golden_weights

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = CropChanges(grayscale=False, flip=False, brightness=1.0)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    image = golden_weights.image_u8("tf", 32, 32, 6)
    return np.stack((image[..., :3], image[..., 3:]))


def test_brightness_and_normalisation_equal_published(crops: np.ndarray, golden_dir: Path) -> None:
    stored = np.load(golden_dir / "prepost.npz")["tf_jitter1.13_norm"]
    own = apply_changes(crops, CropChanges(grayscale=False, flip=False, brightness=1.13))
    np.testing.assert_allclose(own, stored, atol=2e-6)


def test_mirrored_box_equals_published(golden_dir: Path) -> None:
    stored = np.load(golden_dir / "prepost.npz")
    np.testing.assert_allclose(mirror_box(stored["tf_bbox"]), stored["tf_flipnorm_bbox"], atol=1e-6)


def test_flip_mirrors_both_modalities(crops: np.ndarray) -> None:
    flipped = apply_changes(crops, CropChanges(grayscale=False, flip=True, brightness=1.0))
    np.testing.assert_array_equal(flipped, apply_changes(crops, PLAIN)[:, :, ::-1])


def test_grayscale_removes_colour_and_keeps_the_auxiliary_image(crops: np.ndarray) -> None:
    grey = apply_changes(crops, CropChanges(grayscale=True, flip=False, brightness=1.0))
    pixels = grey[:3] * np.array((0.229, 0.224, 0.225))[:, None, None] + np.array((0.485, 0.456, 0.406))[:, None, None]
    np.testing.assert_allclose(pixels[0], pixels[1], atol=1e-6)
    np.testing.assert_array_equal(grey[3:], apply_changes(crops, PLAIN)[3:])


def test_changes_have_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    changes = [draw_changes(AugmentationSettings(), rng) for _ in range(4000)]
    assert np.mean([t.grayscale for t, _ in changes]) == pytest.approx(0.05, abs=0.012)
    assert all(t.grayscale == s.grayscale for t, s in changes)
    assert np.mean([s.flip for _, s in changes]) == pytest.approx(0.5, abs=0.03)
    levels = [c.brightness for pair in changes for c in pair]
    assert min(levels) >= 0.8
    assert max(levels) <= 1.2
    joint = AugmentationSettings(own_flip=0.0)
    assert all(t.flip == s.flip for t, s in (draw_changes(joint, rng) for _ in range(100)))


def test_jitter_has_the_published_distribution() -> None:
    rng = np.random.default_rng(1)
    box = BoundingBox(100, 50, 40, 20)
    boxes = [jitter_box(box, 3.0, 0.25, rng) for _ in range(4000)]
    logs = np.log([[b.w / 40, b.h / 20] for b in boxes])
    assert np.abs(logs.mean(axis=0)).max() < 0.02
    np.testing.assert_allclose(logs.std(axis=0), 0.25, atol=0.01)
    units = np.array([[(b.center[0] - 120), (b.center[1] - 60)] / np.sqrt(b.w * b.h) for b in boxes])
    assert np.abs(units).max() <= 1.5
    np.testing.assert_allclose(units.std(axis=0), 3 / np.sqrt(12), atol=0.03)
    assert jitter_box(box, 0.0, 0.0, rng) == pytest.approx(box)


@pytest.mark.parametrize("modality", list(Modality))
def test_invented_sensors_keep_outlines_and_repeat_by_seed(modality: Modality) -> None:
    rgb = np.full((60, 80, 3), 40, dtype=np.uint8)
    rgb[20:40, 30:60] = (220, 180, 200)
    first, again = (draw_sensor(modality, np.random.default_rng(3)).image(rgb) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == rgb.shape
    assert first.dtype == np.uint8
    edge = np.abs(np.diff(first.astype(int), axis=1)).sum(axis=2)[25:35]
    near, far = edge[:, 25:35].max(), edge[:, :15].max()
    assert near > far
