"""Pairs that carry a teacher's features, and the loss that imitates how the teacher compares them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from ckd_core.data.pairs import PairError, TrainingBatch, collate
from ckd_core.data.real.features import FeaturePairs, FeatureSource, write_cache
from ckd_core.data.real.material import GroupSettings, MaterialError
from ckd_core.data.real.teacher import TeacherError, TeacherFeatures
from ckd_core.models.layers.stem import COARSE_CHANNELS, CoarseStem
from ckd_core.models.registry import build_model, model_config
from ckd_core.objectives.base import StepContext
from ckd_core.objectives.factor import FactorObjective, FactorSettings, imitation_loss

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 64
NETWORK = model_config("sdstrack_m256")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone whose first channels are the means of red, green and blue in each cell; the rest is random."""
    weights = np.random.default_rng(0).normal(0, 0.01, (TeacherFeatures.channels, 3, 16, 16)).astype(np.float32)
    weights[:3] = np.eye(3, dtype=np.float32)[:, :, None, None] / 256
    node = helper.make_node("Conv", ["input", "weights"], ["output"], kernel_shape=(16, 16), strides=(16, 16))
    graph = helper.make_graph(
        [node],
        "backbone",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, (1, 3, 256, 256))],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, (1, TeacherFeatures.channels, 16, 16))],
        [numpy_helper.from_array(weights, "weights")],
    )
    folder = tmp_path_factory.mktemp("teacher")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / "nanotrack_backbone_sim.onnx"))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, teacher: Path) -> FeatureSource:
    """Patches of two photographs, with the cache of their pairs."""
    root = tmp_path_factory.mktemp("material")
    (root / "photos").mkdir()
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "photos" / f"{seed}.png"), cv2.resize(noise, (320, 240)))
    groups = (GroupSettings("patches", "patches", ("photos/*.png",), share=1.0),)
    tracks = root / "tracks.json"
    tracks.write_text('{"clips": {}}')
    made = FeatureSource(root, groups, tracks, root / "features", count=COUNT, seed=1, taught=True, drop=0.0)
    write_cache(made, NETWORK, CoarseStem(), teacher=teacher)
    return made


def test_the_teacher_sees_red_green_blue_of_every_crop_at_both_sizes(teacher: Path) -> None:
    features = TeacherFeatures(teacher)
    for side in (128, 256, 128):
        crops = np.zeros((3, side, side, 3), dtype=np.uint8)
        crops[1] = (10, 20, 30)
        crops[2, :16, 16:32] = (0, 0, 200)
        seen = features(crops)
        assert seen.shape == (3, TeacherFeatures.channels, side // 16, side // 16)
        assert not seen[0].any()
        np.testing.assert_allclose(seen[1, :3, 2, 3], (10, 20, 30), rtol=1e-5)
        np.testing.assert_allclose(seen[2, 2, :2, :3], ((0, 200, 0), (0, 0, 0)), atol=1e-4)


def test_a_teacher_that_is_missing_or_no_network_is_named(source: FeatureSource, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"cannot read .*nanotrack_backbone_sim\.onnx"):
        TeacherFeatures(tmp_path)(np.zeros((1, 128, 128, 3), dtype=np.uint8))
    with pytest.raises(TeacherError, match="expected the teacher's folder"):
        write_cache(replace(source, cache=tmp_path / "features"), NETWORK, CoarseStem())
    assert not (tmp_path / "features").exists()
    with pytest.raises(MaterialError, match=r"was made with other settings \(taught\)"):
        FeaturePairs(replace(source, taught=False), NETWORK, 0)


def test_a_taught_pair_carries_the_teachers_features_of_both_cameras(source: FeatureSource) -> None:
    pairs = FeaturePairs(source, NETWORK, 0)
    batch = collate([(index, pairs[index]) for index in range(4)])
    assert batch.teacher is not None
    assert batch.teacher[0].shape == (4, 2 * TeacherFeatures.channels, 8, 8)
    assert batch.teacher[1].shape == (4, 2 * TeacherFeatures.channels, 16, 16)
    assert batch.teacher[1][:, :3].std() > 1  # an image, not zeros
    (first, second) = batch.chunks(2)
    assert first.teacher is not None
    assert second.teacher is not None
    assert torch.equal(torch.cat((first.teacher[1], second.teacher[1])), batch.teacher[1])
    mixed = collate([(0, pairs[0]), (1, replace(pairs[1], teacher=None))])
    assert mixed.teacher is None


def test_the_teachers_features_are_lost_with_their_camera(source: FeatureSource) -> None:
    """Whatever replaces a camera's own features replaces the teacher's by those of the same crop."""
    whole, lossy = FeaturePairs(source, NETWORK, 0), FeaturePairs(replace(source, drop=1.0), NETWORK, 0)
    seen = {}  # own features of a crop to the teacher's, of every camera
    for index in range(COUNT):
        for own, theirs in by_camera(whole, index):
            seen[own.numpy().tobytes()] = theirs
    changed = 0
    for index in range(COUNT):
        for (own, theirs), (kept, _) in zip(by_camera(lossy, index), by_camera(whole, index), strict=True):
            assert torch.equal(seen[own.numpy().tobytes()], theirs)
            changed += not torch.equal(own, kept)
    assert changed >= COUNT  # at least the search region of one camera each


def by_camera(pairs: FeaturePairs, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Own and teacher's features of both crops, camera by camera."""
    sample = pairs[index]
    assert sample.teacher is not None
    both = zip((sample.template, sample.search), sample.teacher, strict=True)
    return [cameras for own, theirs in both for cameras in zip(own.chunk(2), theirs.chunk(2), strict=True)]


def test_comparing_as_the_teacher_does_costs_nothing(source: FeatureSource) -> None:
    pairs = FeaturePairs(source, NETWORK, 0)
    batch = collate([(index, pairs[index]) for index in range(2)])
    assert batch.teacher is not None
    template, search = (
        torch.nn.functional.normalize(torch.cat(part.float().chunk(2, dim=1)).flatten(2), dim=1)
        for part in batch.teacher
    )
    exact = template.transpose(1, 2) @ search
    assert float(imitation_loss(exact, batch)) < 1e-5
    assert float(imitation_loss(exact + 0.3, batch)) < 1e-4  # only which cells are more alike counts
    assert float(imitation_loss(exact.flip(2), batch)) > 0.01


def test_a_few_steps_bring_the_comparisons_closer_and_untaught_pairs_are_refused(source: FeatureSource) -> None:
    model = build_model("sdstrack_m256", channel_drop=0.0, feature_noise=0.0)
    pairs = FeaturePairs(source, NETWORK, 0)
    batch = collate([(index, pairs[index]) for index in range(2)])
    assert batch.template.shape[1] == 2 * COARSE_CHANNELS
    objective = FactorObjective(FactorSettings(masked_share=0.0, imitate=4.0))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=4e-3)
    seen = []
    for _ in range(7):
        result = objective(model, batch, StepContext(seed=0, epoch=1, keep_rate=1.0))
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        seen.append(float(result.terms["imitation"]))
    assert seen[-1] < 0.8 * seen[0]
    bare = TrainingBatch(batch.template, batch.search, batch.template_box, batch.search_box, batch.index)
    with pytest.raises(PairError, match="taught: true"):
        objective(model, bare, StepContext(seed=0, epoch=1, keep_rate=1.0))
