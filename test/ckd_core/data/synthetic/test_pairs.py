from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ckd_core.data.pairs import check_sample
from ckd_core.data.synthetic import PairSettings, SyntheticError, SyntheticPairs, World
from ckd_core.data.synthetic.pairs import ABSENT_BOX
from ckd_core.frame import Modality
from ckd_core.models.normalisation import MEAN, STD

WORLD = World(3)
BLACK = (-MEAN / STD).tolist()


def channel_is_black(images: torch.Tensor, first: int) -> bool:
    return all(bool((images[first + i] - BLACK[i]).abs().max() < 1e-4) for i in range(3))


def test_pairs_depend_on_seed_and_index_alone() -> None:
    one, again, other = SyntheticPairs(WORLD, seed=1), SyntheticPairs(World(3), seed=1), SyntheticPairs(WORLD, seed=2)
    later = one[17]
    _ = again[3]
    assert torch.equal(later.template, again[17].template)
    assert torch.equal(later.search, again[17].search)
    assert torch.equal(later.search_box, again[17].search_box)
    assert not torch.equal(later.search, other[17].search)
    assert not torch.equal(later.search, one[18].search)


def test_pairs_are_fit_for_training() -> None:
    pairs = SyntheticPairs(WORLD)
    sizes, shifts = [], []
    for index in range(80):
        sample = pairs[index]
        check_sample(sample)
        assert sample.template.shape == (6, 64, 64)
        assert sample.search.shape == (6, 128, 128)
        side = float((sample.search_box[2] * sample.search_box[3]).sqrt())
        sizes.append(side)
        shifts.append((sample.search_box[:2] + sample.search_box[2:] / 2 - 0.5).numpy())
        template_side = float((sample.template_box[2] * sample.template_box[3]).sqrt())
        assert template_side == pytest.approx(0.5, abs=0.02)
        assert (sample.template_box[:2] + sample.template_box[2:] / 2 - 0.5).abs().max() < 0.05
    assert 0.2 < np.median(sizes) < 0.3  # the search region is four target sides wide
    assert np.abs(np.array(shifts)).max() <= 0.36
    assert np.std(sizes) > 0.02


def test_the_target_is_where_the_box_says() -> None:
    """A hot person on a cold wall: the warm part of the thermal channel fills the box and little else."""
    settings = PairSettings(
        modalities=(Modality.THERMAL,), attached_share=0.0, drop_rgb=0.0, drop_aux=0.0, hard=0.0, wide_share=1.0
    )
    pairs = SyntheticPairs(WORLD, settings)
    gains = []
    for index in range(60):
        sample = pairs[index]
        heat = sample.search[3]
        x, y, w, h = (sample.search_box * 128).round().int().tolist()
        inside = heat[max(y, 0) : y + h, max(x, 0) : x + w]
        around = heat[max(y - h // 2, 0) : y + h + h // 2, max(x - w // 2, 0) : x + w + w // 2]
        if inside.numel() > 20:
            gains.append(float((inside.mean() - around.mean()).abs()))
    assert np.mean(np.array(gains) > 0.02) > 0.6


def test_shares_of_absent_targets_and_dead_streams_follow_the_settings() -> None:
    gone = SyntheticPairs(WORLD, PairSettings(absent_share=1.0))[0]
    assert tuple(gone.search_box.tolist()) == ABSENT_BOX
    check_sample(gone)
    only_aux = SyntheticPairs(WORLD, PairSettings(drop_rgb=1.0, drop_aux=0.0))
    black, doubled = 0, 0
    for index in range(12):
        sample = only_aux[index]
        black += channel_is_black(sample.search, 0)
        doubled += torch.equal(sample.search[:3], sample.search[3:])
    assert black > 0
    assert doubled > 0
    assert black + doubled >= 12


def test_a_stream_dies_after_the_template() -> None:
    alive = {"drop_rgb": 0.0, "drop_aux": 0.0, "modalities": (Modality.THERMAL,)}
    for stream, lost in ((slice(0, 3), {"lose_rgb": 1.0}), (slice(3, 6), {"lose_rgb": 0.0, "lose_aux": 1.0})):
        whole = SyntheticPairs(WORLD, PairSettings(**alive, lose_rgb=0.0, lose_aux=0.0))
        dying = SyntheticPairs(WORLD, PairSettings(**alive, **lost))
        for index in range(8):
            sample, clean = dying[index], whole[index]
            assert torch.equal(sample.template, clean.template)
            assert not torch.equal(sample.search[stream], clean.search[stream])
            black = channel_is_black(sample.search, stream.start)
            assert black or torch.equal(sample.search[:3], sample.search[3:])
    never = SyntheticPairs(WORLD, PairSettings(drop_rgb=1.0, drop_aux=0.0, lose_aux=1.0))
    assert not any(channel_is_black(never[i].search, 0) and channel_is_black(never[i].search, 3) for i in range(8))


@pytest.mark.parametrize("modality", list(Modality))
def test_pairs_can_have_one_modality_alone(modality: Modality) -> None:
    sample = SyntheticPairs(WORLD, PairSettings(modalities=(modality,), drop_rgb=0.0, drop_aux=0.0, lose_aux=0.0))[1]
    aux = sample.search[3:] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    if modality is Modality.THERMAL:
        torch.testing.assert_close(aux[0], aux[2], atol=1e-5, rtol=0)
    elif modality is Modality.EVENT:
        white = (aux > 0.99).all(dim=0).float().mean()
        assert white > 0.3
    else:
        assert float((aux[0] - aux[2]).abs().max()) > 0.2  # JET colours


def test_sizes_follow_the_settings() -> None:
    sample = SyntheticPairs(WORLD, PairSettings(template_size=96, search_size=192))[0]
    assert sample.template.shape == (6, 96, 96)
    assert sample.search.shape == (6, 192, 192)


def test_unusable_surfaces_settings_and_indices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SyntheticError, match="modalities is empty"):
        SyntheticPairs(WORLD, PairSettings(modalities=()))
    with pytest.raises(SyntheticError, match="-1"):
        SyntheticPairs(WORLD)[-1]
    with pytest.raises(SyntheticError, match="no images in"):
        _ = World(0, rgbt_folders=(tmp_path,)).surfaces
    with pytest.raises(SyntheticError, match="cannot open"):
        _ = World(0, rgbt_videos=(tmp_path / "none",)).surfaces


def test_real_pictures_provide_surfaces_and_figures(tmp_path: Path) -> None:
    """Two aligned pictures with one warm upright blob: it becomes an actor and a sighting at its place."""
    rng = np.random.default_rng(0)
    for i in range(2):
        heat = np.full((240, 320), 40, dtype=np.uint8)
        heat[80:150, 100 + 5 * i : 130 + 5 * i] = 220
        for folder, image in (("visible", rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)), ("infrared", heat)):
            (tmp_path / folder).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / folder / f"walk_{i:04d}.png"), image)
    world = World(0, rgbt_folders=(tmp_path,))
    assert len(world.bodies) == 2
    assert len(world.sightings) == 3  # each with itself, and the first with the second
    sighting = world.sightings[1]
    np.testing.assert_allclose(sighting.box, (114.5, 114.5, 30, 70), atol=4)
    np.testing.assert_allclose(sighting.later_box - sighting.box, (5, 0, 0, 0), atol=1)
    sample = SyntheticPairs(world, PairSettings(real_share=1.0, modalities=(Modality.THERMAL,), drop_aux=0.0))[0]
    check_sample(sample)
    assert sample.search_box[3] > 1.5 * sample.search_box[2]
