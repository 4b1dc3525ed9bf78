from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch

from ckd_core.data.augmentation import AugmentationSettings
from ckd_core.data.pairs import PairError, TrainingSample, collate
from ckd_core.data.sampler import (
    CropGeometry,
    SamplerSettings,
    SequenceGroup,
    SequencePairs,
    box_in_crop,
    draw_frames,
)
from ckd_core.data.sequences import open_sequence
from ckd_core.frame import BoundingBox
from ckd_core.settings import SettingsError
from ckd_core.tracking.crop import window_around
from ckd_core.training.sources import DataSettings, MixedPairs, SequenceSource, SyntheticSource, build_pairs

if TYPE_CHECKING:
    from pathlib import Path

GEOMETRY = CropGeometry(64, 128, 2.0, 4.0)
STILL = SamplerSettings(
    augmentation=AugmentationSettings(
        grayscale=0, joint_flip=0, own_flip=0, brightness=0, center_jitter=0, scale_jitter=0
    )
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 frames of 160 x 120: a white square moves over a dark picture, hot in the thermal one; gone in 10..12."""
    rng = np.random.default_rng(0)
    lines = []
    for name in ("visible", "infrared"):
        (tmp_path / "walk" / name).mkdir(parents=True)
    for i in range(24):
        x, y = 20 + 4 * i, 40 + i
        rgb = rng.integers(0, 60, (120, 160, 3), dtype=np.uint8)
        heat = rng.integers(0, 30, (120, 160), dtype=np.uint8)
        if not 10 <= i <= 12:
            rgb[y : y + 20, x : x + 24] = 250
            heat[y : y + 20, x : x + 24] = 200
        cv2.imwrite(str(tmp_path / "walk" / "visible" / f"{i:04d}.png"), rgb)
        cv2.imwrite(str(tmp_path / "walk" / "infrared" / f"{i:04d}.png"), heat)
        lines.append("nan,nan,nan,nan" if 10 <= i <= 12 else f"{x},{y},24,20")
    (tmp_path / "walk" / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "walk"


def pairs_of(folder: Path, settings: SamplerSettings = STILL, seed: int = 0, **changes: Any) -> SequencePairs:
    sequence = replace(open_sequence(folder), **changes)
    return SequencePairs([SequenceGroup("plain", (sequence,))], GEOMETRY, settings, seed)


def test_pairs_depend_on_seed_and_index_alone(folder: Path) -> None:
    settings = SamplerSettings()
    a, b = pairs_of(folder, settings), pairs_of(folder, settings)
    forward = [a[i] for i in (0, 1, 2)]
    backward = [b[i] for i in (2, 1, 0)][::-1]
    for one, two in zip(forward, backward, strict=True):
        assert torch.equal(one.search, two.search)
        assert torch.equal(one.search_box, two.search_box)
        assert one.source == two.source
    assert not torch.equal(forward[0].search, pairs_of(folder, settings, seed=1)[0].search)


def test_the_box_lies_on_the_object_in_both_modalities(folder: Path) -> None:
    for settings in (STILL, SamplerSettings()):
        pairs = pairs_of(folder, settings)
        for index in range(12):
            sample = pairs[index]
            for image, box in ((sample.template, sample.template_box), (sample.search, sample.search_box)):
                side = image.shape[-1]
                x1, y1 = (box[:2] * side).round().int().clamp(0, side).tolist()
                x2, y2 = ((box[:2] + box[2:]) * side).round().int().clamp(0, side).tolist()
                if x2 - x1 < 4 or y2 - y1 < 4:
                    continue
                inside = torch.zeros(side, side, dtype=torch.bool)
                inside[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = True
                for channel in (0, 3):
                    bright = image[channel] > image[channel].min() + 0.5 * (image[channel].max() - image[channel].min())
                    assert bright[inside].float().mean() > 0.95, (index, channel)


def test_published_boxes_are_half_a_pixel_off(folder: Path, golden_dir: Path) -> None:
    stored = np.load(golden_dir / "prepost.npz")
    for truth, extract, expected in zip(stored["t2c_gt"], stored["t2c_extract"], stored["t2c_out"], strict=True):
        window = window_around(BoundingBox(*extract.tolist()), 4.0)
        own = box_in_crop(BoundingBox(*truth.tolist()), window, 256, published=True)
        np.testing.assert_allclose(own, expected, atol=1e-5)
        exact = box_in_crop(BoundingBox(*truth.tolist()), window, 256, published=False)
        np.testing.assert_allclose(exact[:2] - own[:2], 0.5 / 256, atol=1e-6)


def test_frames_are_causal_visible_and_near() -> None:
    visible = np.array([0, 1, 5, 300, 301, 302, 900])
    rng = np.random.default_rng(0)
    frames = {draw_frames(visible, 200, rng) for _ in range(500)}
    assert all(a < b and {a, b} <= set(visible.tolist()) for a, b in frames)
    assert all(b - a < 200 + 5 * 50 for a, b in frames)
    lonely = np.array([0, 1000])
    assert draw_frames(lonely, 10, rng) == (0, 1000)  # nothing within reach: the reach has grown to all there is


def test_absent_frames_are_never_drawn(folder: Path) -> None:
    pairs = pairs_of(folder)
    numbers = {int(n) for i in range(60) for n in pairs[i].source.split("frames ")[1].split(", ")}
    assert not numbers & {10, 11, 12}
    assert len(numbers) > 15


def test_broken_frames_are_named_and_not_hidden(folder: Path) -> None:
    (folder / "infrared" / "0003.png").write_bytes(b"no image")
    pairs = pairs_of(folder)
    skipped = [line for i in range(60) for line in pairs[i].skipped]
    assert skipped
    assert all("walk frames" in line and "0003.png" in line for line in skipped)
    for path in (folder / "visible").iterdir():
        path.write_bytes(b"")
    with pytest.raises(PairError, match=r"no usable pair for index 0 in 20 draws; the last: plain/walk frames .*png"):
        pairs[0]


def test_a_box_outside_its_image_is_named(folder: Path) -> None:
    boxes = open_sequence(folder).boxes.copy()
    boxes[:, 0] += 1000
    with pytest.raises(PairError, match=r"box xywh \(10\d\d.0, .*\) lies outside its 160 x 120 image"):
        pairs_of(folder, boxes=boxes)[0]


def test_too_short_or_too_small_sequences_are_refused_with_the_rule(folder: Path) -> None:
    sequence = open_sequence(folder)
    with pytest.raises(PairError, match=r"none of the 1 sequences of tiny can be used.*20 frames.*larger than 30 px"):
        SequencePairs([SequenceGroup("tiny", (sequence,), min_size=30)], GEOMETRY, STILL, 0)
    with pytest.raises(PairError, match="no training sequences"):
        SequencePairs([], GEOMETRY, STILL, 0)


def test_colour_only_sequences_get_an_invented_auxiliary_modality(folder: Path) -> None:
    sample = pairs_of(folder, aux_paths=())[0]
    assert sample.search[3:].std() > 0.05
    assert torch.equal(sample.search[3], pairs_of(folder, aux_paths=())[0].search[3])


def test_mixture_follows_its_ratios() -> None:
    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, index: int) -> TrainingSample:
            box = torch.tensor([0.2, 0.2, 0.4, 0.4])
            return TrainingSample(torch.zeros(6, 8, 8), torch.zeros(6, 8, 8), box, box, f"{self.name} {index}")

    mixed = MixedPairs([(3.0, Part("a")), (1.0, Part("b"))], seed=0)
    sources = [mixed[i].source for i in range(2000)]
    assert np.mean([s.startswith("a") for s in sources]) == pytest.approx(0.75, abs=0.03)
    assert [mixed[i].source for i in range(20)] == sources[:20]
    with pytest.raises(PairError, match="no source with a ratio above 0"):
        MixedPairs([(0.0, Part("a"))], seed=0)


def test_sources_open_by_configuration(folder: Path) -> None:
    from ckd_core.models.registry import model_config

    data = DataSettings(train=(SequenceSource("folder", folder.parent), SyntheticSource()))
    network = model_config("sdstrack_tiny_test")
    pairs = build_pairs(data.train, data, network, 0)
    batch = collate([(i, pairs[i]) for i in range(8)])
    assert batch.search.shape == (8, 6, 128, 128)
    assert {s.split()[0].split("/")[0] for s in batch.sources} == {"folder", "synthetic"}
    wrong = SequenceSource("folder", folder.parent, without=("run",))
    with pytest.raises(PairError, match="has no sequence run"):
        build_pairs((wrong,), data, network, 0)
    with pytest.raises((PairError, SettingsError), match="unknown options speed"):
        build_pairs((SyntheticSource(options={"speed": 3}),), data, network, 0)
    with pytest.raises(Exception, match=r"no folder .*nowhere"):
        build_pairs((SequenceSource("lasher", folder / "nowhere", "train"),), data, network, 0)
