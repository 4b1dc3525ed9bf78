"""`sdstrack_m256`: sizes are factors of the believed box, and cached features replace images."""

from __future__ import annotations

import pytest
import torch

from ckd_core.data.pairs import TrainingBatch
from ckd_core.models.layers.head import HeadOutput
from ckd_core.models.registry import build_model
from ckd_core.models.sdstrack_medium import SDSTrackMedium
from ckd_core.objectives.base import StepContext
from ckd_core.objectives.factor import FactorObjective, FactorSettings, factor_loss
from ckd_core.objectives.losses import heatmap

BELIEVED_SIDE = 0.25


@pytest.fixture(scope="module")
def network() -> SDSTrackMedium:
    model = build_model("sdstrack_m256").eval()
    assert isinstance(model, SDSTrackMedium)
    return model


def images(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(count, 6, side, side, generator=generator) for side in (128, 256))  # type: ignore[return-value]  # two


def exact_maps(box: torch.Tensor, grid: int = 16) -> HeadOutput:
    """Maps in which every cell predicts `box` [1, 4] xywh exactly."""
    center = box[0, :2] + box[0, 2:] / 2
    axis = torch.arange(grid) / grid
    offsets = torch.stack((center[0] - axis[None, :].expand(grid, -1), center[1] - axis[:, None].expand(-1, grid)))
    size = box[0, 2:, None, None].expand(2, grid, grid)
    return HeadOutput(heatmap(box, grid).clamp(1e-4, 1 - 1e-4), size[None].clone(), (offsets * grid)[None])


@torch.inference_mode()
def test_an_untrained_network_predicts_the_believed_size(network: SDSTrackMedium) -> None:
    output = network(*images())
    torch.testing.assert_close(output.size_map, torch.full_like(output.size_map, BELIEVED_SIDE))


@torch.inference_mode()
def test_features_of_the_stem_replace_images(network: SDSTrackMedium) -> None:
    template, search = images()
    z, x = (torch.cat(network.stem_features(part).chunk(2), dim=1) for part in (template, search))
    from_features, from_images = network.see(z, x).head, network(template, search)
    for actual, expected in zip(from_features, from_images, strict=True):
        torch.testing.assert_close(actual, expected)


def test_channels_are_dropped_in_both_crops_and_only_in_training(network: SDSTrackMedium) -> None:
    stem = torch.zeros(2, 288, 4, 4)
    assert network.encoder.channel_dropout(2, stem) is None
    network.train()
    try:
        factors = network.encoder.channel_dropout(400, stem)
    finally:
        network.eval()
    assert factors is not None
    dropped = float((factors == 0).float().mean())
    assert dropped == pytest.approx(network.config.channel_drop, abs=0.02)
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.02)


def test_the_loss_is_zero_at_the_true_box_and_weighs_half_and_double_sizes_alike() -> None:
    box = torch.tensor(((0.4, 0.375, 0.2, 0.25),))
    exact = factor_loss(exact_maps(box), box, BELIEVED_SIDE)
    assert float(exact.giou) == pytest.approx(0.0, abs=1e-5)
    assert float(exact.size) == pytest.approx(0.0, abs=1e-5)
    assert float(exact.iou) == pytest.approx(1.0, abs=1e-5)
    maps = exact_maps(box)
    half, double = (
        float(factor_loss(maps._replace(size_map=maps.size_map * factor), box, BELIEVED_SIDE).size)
        for factor in (0.5, 2.0)
    )
    assert half == pytest.approx(double, abs=1e-5)
    narrow = maps.size_map * torch.tensor((0.5, 1.0)).view(1, 2, 1, 1)
    assert float(factor_loss(maps._replace(size_map=narrow), box, BELIEVED_SIDE).size) == pytest.approx(
        half / 2, abs=1e-5
    )


def test_only_the_score_learns_from_a_target_outside_the_crop() -> None:
    outside = torch.tensor(((3.0, 3.0, 0.25, 0.25),))
    loss = factor_loss(exact_maps(torch.tensor(((0.4, 0.4, 0.25, 0.25),))), outside, BELIEVED_SIDE)
    assert float(loss.giou) == 0.0
    assert float(loss.size) == 0.0
    assert float(loss.focal) > 0.1  # it claims a target
    assert torch.isnan(loss.iou).all()


def test_a_few_steps_on_one_batch_lower_the_loss() -> None:
    model = build_model("sdstrack_m256", channel_drop=0.0, feature_noise=0.0)
    generator = torch.Generator().manual_seed(5)
    template, search = (torch.randn(4, 576, side, side, generator=generator).half() for side in (8, 16))
    box = torch.tensor(((0.3, 0.4, 0.3, 0.2),)).repeat(4, 1)
    batch = TrainingBatch(template, search, box.clone(), box, torch.arange(4))
    objective = FactorObjective(FactorSettings(masked_share=0.5))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for _ in range(16):
        result = objective(model, batch, StepContext(seed=0, epoch=1, keep_rate=1.0))
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        losses.append(float(result.loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert {"masked/total", "mse", "alone/focal"} <= set(result.terms)
    without = FactorObjective(FactorSettings(masked_share=0.0))(model, batch, StepContext(0, 1, 1.0))
    assert "mse" not in without.terms
