"""The small networks: what they share with the large ones, and that the shipped weights track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ckd_core.data.pairs import collate
from ckd_core.data.synthetic import PairSettings, SyntheticPairs, World, clip
from ckd_core.frame import BoundingBox, Modality
from ckd_core.models.checkpoint import default_weights, load_model, load_tensors
from ckd_core.models.config import SDSTrackSmallConfig
from ckd_core.models.layers.head import HeadOutput
from ckd_core.models.layers.stem import FrozenStem
from ckd_core.models.layers.streams import aligning_index
from ckd_core.models.registry import build_model
from ckd_core.models.sdstrack_small import StreamEncoder
from ckd_core.objectives.base import Objective, StepContext
from ckd_core.objectives.ckd import CKDObjective, CKDSettings
from ckd_core.objectives.dense import DenseObjective, dense_loss
from ckd_core.objectives.losses import heatmap
from ckd_core.objectives.sdstrack import SDSTrackObjective, SDSTrackSettings
from ckd_core.tracking import build_tracker

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.data.synthetic import SyntheticClip

SHIPPED = ("sdstrack_m256", "sdstrack_s128", "ckd_s128")
LARGEST_BYTES = 20_000_000  # both files together
CONTEXT = StepContext(seed=0, epoch=1, keep_rate=1.0)
OBJECTIVES: dict[str, tuple[str, dict[str, bool], Objective]] = {
    "dense": ("sdstrack_s128", {}, DenseObjective()),
    "sdstrack": ("sdstrack_s128", {}, SDSTrackObjective(SDSTrackSettings())),  # type: ignore[arg-type]  # same calls
    "ckd": ("ckd_s128", {"teachers": True}, CKDObjective(CKDSettings())),
}


def few_pairs(count: int = 4) -> list[tuple[int, object]]:
    pairs = SyntheticPairs(World(3), PairSettings())
    return [(i, pairs[i]) for i in range(count)]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_few_steps_on_one_batch_lower_the_loss(kind: str) -> None:
    name, overrides, objective = OBJECTIVES[kind]
    model = build_model(name, **overrides)
    batch = collate(few_pairs())  # type: ignore[arg-type]  # index and sample
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3)
    losses = []
    for _ in range(16):
        result = objective(model, batch, CONTEXT)
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        losses.append(float(result.loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.isfinite(p.grad).all() for p in trained if p.grad is not None)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_stem_is_frozen_and_nothing_else(name: str) -> None:
    model = build_model(name)
    frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {f"stem.{key}" for key, _ in FrozenStem().named_parameters()}


def test_maps_of_a_moved_target_peak_at_its_centre() -> None:
    """Search features = template features at a shift: all aligned maps of the template agree on one cell."""
    template, grid = 8, 16
    generator = torch.Generator().manual_seed(0)
    cells = torch.nn.functional.normalize(torch.randn(template, template, 64, generator=generator), dim=2)
    search = torch.nn.functional.normalize(torch.randn(grid, grid, 64, generator=generator), dim=2)
    y, x = 3, 6
    search[y : y + template, x : x + template] = cells
    similar = cells.reshape(-1, 64) @ search.reshape(-1, 64).T  # [64, 256]
    padded = torch.nn.functional.pad(similar.view(-1, grid, grid), (4, 4, 4, 4))
    aligned = padded.flatten()[aligning_index(template, grid)].view(-1, grid, grid)
    peak = int(aligned.sum(dim=0).argmax())
    assert divmod(peak, grid) == (y + template // 2, x + template // 2)
    torch.testing.assert_close(aligned[:, peak // grid, peak % grid], torch.ones(64))


def test_masked_path_blanks_disjoint_cells_and_changes_the_maps() -> None:
    model = build_model("sdstrack_s128").eval()
    generator = torch.Generator().manual_seed(1)
    template, search = torch.randn(2, 6, 64, 64, generator=generator), torch.randn(2, 6, 128, 128, generator=generator)
    with torch.no_grad():
        output = model.forward_train(template, search, generator=torch.Generator().manual_seed(2))
        clean = model(template, search)
    assert not (output.masks.rgb_search & output.masks.aux_search).any()
    assert 0.2 < output.masks.rgb_search.float().mean() < 0.4
    torch.testing.assert_close(output.fine.head.score_map, clean.score_map, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(output.masked.head.score_map, clean.score_map, atol=1e-5)


def test_adapters_start_without_effect() -> None:
    """Before training both streams see alike, so equal images give equal features."""
    torch.manual_seed(0)
    encoder = StreamEncoder(SDSTrackSmallConfig(), adapted=True).eval()
    image = torch.randn(1, 192, 8, 8)
    rgb, aux = encoder.features(torch.cat((image, image))).chunk(2)
    torch.testing.assert_close(rgb, aux)


def perfect(box: Tensor, grid: int = 16) -> HeadOutput:
    score = heatmap(box, grid).clamp(1e-4, 1 - 1e-4)
    center = (box[:, :2] + box[:, 2:] / 2) * grid
    axis = torch.arange(grid, dtype=torch.float32)
    offset = torch.stack(
        (
            (center[:, :1, None] - axis).expand(-1, grid, grid),
            (center[:, 1:, None] - axis[:, None]).expand(-1, grid, grid),
        ),
        dim=1,
    )
    size = box[:, 2:, None, None].expand(-1, 2, grid, grid)
    return HeadOutput(score, size, offset)


def test_dense_loss_of_perfect_maps_is_small_and_absent_targets_teach_the_score_alone() -> None:
    box = torch.tensor([[0.4, 0.3, 0.25, 0.2], [0.5, 0.5, 0.2, 0.3]])
    best = dense_loss(perfect(box), box)
    assert best.giou < 1e-4
    assert best.l1 < 1e-4
    assert best.iou.min() > 0.999
    worse = perfect(box)._replace(size_map=perfect(box).size_map * 1.5)
    assert dense_loss(worse, box).giou > 0.2
    absent = torch.tensor([[2.0, 2.0, 0.25, 0.25]])
    maps = HeadOutput(*(m[:1].clone().requires_grad_() for m in perfect(box)))
    loss = dense_loss(maps, absent)
    loss.total.backward()
    assert loss.iou.isnan()
    assert maps.score_map.grad is not None
    assert maps.score_map.grad.max() > 0  # the false peak is pushed down
    assert maps.size_map.grad is None or not maps.size_map.grad.any()


def overlap(a: BoundingBox, b: np.ndarray) -> float:
    w = min(a.x + a.w, b[0] + b[2]) - max(a.x, b[0])
    h = min(a.y + a.h, b[1] + b[3]) - max(a.y, b[1])
    shared = max(0.0, w) * max(0.0, h)
    return float(shared / (a.w * a.h + b[2] * b[3] - shared))


def success_auc(model: str, recording: SyntheticClip) -> float:
    tracker = build_tracker(model, modality=recording.modality, engine="torch/fp32", device="cpu", threads=1)
    tracker.start(recording.frames[0], BoundingBox(*recording.boxes[0]))
    overlaps = [
        overlap(tracker.update(frame).box, box)
        for frame, box in zip(recording.frames[1:], recording.boxes[1:], strict=True)
    ]
    return float(np.mean([(np.array(overlaps) > t).mean() for t in np.linspace(0, 1, 21)]))


def test_shipped_files_fit_and_are_for_all_modalities() -> None:
    paths = [default_weights(name) for name in SHIPPED]
    assert sum(path.stat().st_size for path in paths) <= LARGEST_BYTES
    for name, path in zip(SHIPPED, paths, strict=True):
        tensors, metadata = load_tensors(path)
        assert metadata.model == name
        assert set(metadata.modalities) == {m.value for m in Modality}
        assert all(t.dtype in (torch.float16, torch.int64) for t in tensors.values())
        assert not metadata.tracking["published_geometry"]
        network, _ = load_model(name)
        assert network.name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_track_held_out_clips(name: str) -> None:
    """Clips of a world that no training seed makes: mean success AUC over the three modalities."""
    world = World(424242)
    aucs = [success_auc(name, clip(31 + i, m, 25, world=world)) for i, m in enumerate(Modality)]
    assert np.mean(aucs) >= 0.60, aucs
