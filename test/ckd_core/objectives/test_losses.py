from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ckd_core.models.layers.head import HeadOutput, decode_boxes
from ckd_core.objectives.losses import (
    LossError,
    count_positives,
    focal_loss,
    generalized_iou,
    heatmap,
    track_loss,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def prepost(golden_dir: Path) -> dict[str, np.ndarray]:
    with np.load(golden_dir / "prepost.npz") as stored:
        return {name: stored[name] for name in stored.files}


def test_heatmaps_equal_published(prepost):
    maps = heatmap(torch.tensor(prepost["heat_boxes"]), 16)[:, 0].numpy()
    np.testing.assert_allclose(maps, prepost["heatmaps"], atol=1e-7)


def test_center_outside_the_grid_draws_no_positive(prepost):
    outside = heatmap(torch.tensor(prepost["heat_outside_box"]), 16)
    np.testing.assert_array_equal(outside[0].numpy(), prepost["heat_outside"])
    assert count_positives(outside) == 0
    tail = heatmap(torch.tensor([[0.9, 0.4, 0.3, 0.3]]), 16)  # centre cell 17 of 16
    assert count_positives(tail) == 0


def test_giou_equals_published(prepost):
    giou, iou = generalized_iou(torch.tensor(prepost["giou_pred"]), torch.tensor(prepost["giou_target"]))
    np.testing.assert_allclose(giou, prepost["giou"], rtol=1e-6)
    np.testing.assert_allclose(iou, prepost["iou"], rtol=1e-6)
    np.testing.assert_allclose((1 - giou).mean(), prepost["giou_loss"], rtol=1e-6)


def test_focal_equals_published(prepost, recipe):
    score = torch.sigmoid(torch.tensor(recipe.tensor("input/focal/pred", (8, 1, 16, 16)))).clamp(1e-4, 1 - 1e-4)
    target = torch.tensor(prepost["heatmaps"])[:, None]
    np.testing.assert_allclose(focal_loss(score, target), prepost["focal_loss"], rtol=1e-6)
    np.testing.assert_allclose(focal_loss(score, target * 0.5), prepost["focal_loss_nopos"], rtol=1e-6)
    per_item = [focal_loss(score[i : i + 1], target[i : i + 1]) for i in range(8)]
    np.testing.assert_allclose(per_item, prepost["focal_loss_per_item"], rtol=1e-6)


def test_parts_with_the_whole_batchs_positives_average_to_the_whole(prepost, recipe):
    score = torch.sigmoid(torch.tensor(recipe.tensor("input/focal/pred", (8, 1, 16, 16)))).clamp(1e-4, 1 - 1e-4)
    target = torch.tensor(prepost["heatmaps"])[:, None].clone()
    target[:3] *= 0.5  # uneven: three of the first four items have no positive
    share = count_positives(target) / 2
    parts = [focal_loss(score[c], target[c], share) for c in (slice(0, 4), slice(4, 8))]
    np.testing.assert_allclose(sum(parts) / 2, focal_loss(score, target), rtol=1e-6)


def test_peak_boxes_equal_published(prepost, recipe):
    maps = [recipe.tensor(f"input/cal/{n}", (3, c, 16, 16)) for n, c in (("score", 1), ("size", 2), ("offset", 2))]
    score, size, offset = (torch.tensor(m) for m in maps)
    output = HeadOutput(torch.sigmoid(score), torch.sigmoid(size), offset)
    np.testing.assert_allclose(decode_boxes(output).box_cxcywh, prepost["cal_bbox"], atol=1e-6)


def test_perfect_prediction_has_no_box_loss():
    box = torch.tensor([[0.25, 0.25, 0.5, 0.375]])
    score = heatmap(box, 16).clamp(1e-4, 1 - 1e-4)
    size = box[:, 2:, None, None].expand(1, 2, 16, 16)
    peak = score.flatten().argmax()
    center = (box[:, :2] + box[:, 2:] / 2) * 16
    offset = (center - torch.tensor([[peak % 16, peak // 16]])).view(1, 2, 1, 1).expand(1, 2, 16, 16)
    loss = track_loss(HeadOutput(score, size, offset), box)
    assert loss.giou < 1e-6
    assert loss.l1 < 1e-6
    assert loss.iou.item() == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [[0.5, 0.5, 0.4, 0.6], [float("nan"), 0.0, 1.0, 1.0]])
def test_what_is_no_box_is_refused_with_its_value(bad):
    with pytest.raises(LossError, match="is not a box"):
        generalized_iou(torch.tensor([bad]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
