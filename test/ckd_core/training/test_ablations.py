"""Every part that the papers take away is a key of the recipe; each trains, and what it takes away is gone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ckd_core.models.checkpoint import load_model
from ckd_core.models.registry import build_model
from ckd_core.settings import read_settings
from ckd_core.training.config import TrainSettings
from testkit.training import runs

if TYPE_CHECKING:
    from pathlib import Path

TINY = "sdstrack_tiny_test"


def trained(out: Path, model: str = TINY, **changes: Any) -> tuple[runs.Trainer, dict[str, float]]:
    """Two steps, and the values of the last one."""
    chosen = runs.settings(out, model, run__epochs=1, run__samples_per_epoch=8, **changes)
    one, summary = runs.run(chosen)
    assert summary.steps == 2
    return one, summary.values


@pytest.mark.parametrize(
    ("adapters", "kept"),
    [("both", {"X_DTE", "X_X_DTE"}), ("stream", {"X_DTE"}), ("cross", {"X_X_DTE"}), ("none", set())],
)
def test_adapters_are_left_out_by_kind(tmp_path: Path, adapters: str, kept: set[str]) -> None:
    one, values = trained(tmp_path, model__overrides={"adapters": adapters, "drop_path": 0.0})
    names = [name for name, _ in one.network.named_parameters() if "Adapter" in name]
    found = {"X_X_DTE" if "_X_X_DTE_" in name else "X_DTE" for name in names}
    assert found == kept
    assert torch.isfinite(torch.tensor(values["loss"]))
    network, metadata = load_model(tmp_path / "final.safetensors")
    assert metadata.config["adapters"] == adapters
    assert network.state_dict().keys() == one.network.state_dict().keys()


def test_without_adapters_both_streams_see_the_same_of_the_same() -> None:
    model = build_model(TINY, seed=3, adapters="none", cross_blocks=()).eval()
    model.backbone.patch_embed_multimodal.load_state_dict(model.backbone.patch_embed.state_dict())
    x = torch.randn(1, 16, 48, generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1)
    with torch.no_grad():
        rgb, aux = model.backbone.blocks[0].feed(x).chunk(2)
    assert torch.equal(rgb, aux)
    with torch.no_grad():
        rgb, aux = build_model(TINY, seed=3).eval().backbone.blocks[0].feed(x).chunk(2)
    assert not torch.equal(rgb, aux)


def test_without_cross_modal_stages_there_is_nothing_to_distil(tmp_path: Path) -> None:
    _, values = trained(tmp_path, model__overrides={"cross_blocks": [], "drop_path": 0.0})
    assert values["mse"] == 0
    assert not any(name.startswith("mse_stage") for name in values)


def test_the_masked_path_and_its_distillation_are_off_at_weight_zero(tmp_path: Path) -> None:
    """The weights are those of a run whose masked path sees other masks: it has no effect."""
    off = {"objective__masked_weight": 0.0, "objective__mse_weight": 0.0}
    a, _ = trained(tmp_path / "a", **off)
    b, _ = trained(tmp_path / "b", model__overrides={"mask_ratio": 0.9, "drop_path": 0.0}, **off)
    on, _ = trained(tmp_path / "c", model__overrides={"mask_ratio": 0.9, "drop_path": 0.0})
    for name, value in runs.weights(a).items():
        torch.testing.assert_close(value, runs.weights(b)[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(value, runs.weights(on)[name], atol=1e-5) for name, value in runs.weights(a).items())
    without, values = trained(tmp_path / "d", objective__mse_weight=0.0)
    assert values["mse"] > 0, "it is measured, and not learnt"
    assert without.step == 2


def test_elimination_is_off_without_its_blocks(tmp_path: Path) -> None:
    schedule = {"optim__keep_rate": {"rate": 0.5, "start": 0, "warm": 0}}
    off, _ = trained(tmp_path / "a", model__overrides={"ce_blocks": [], "drop_path": 0.0}, **schedule)
    on, _ = trained(tmp_path / "b", **schedule)
    images = torch.randn(1, 6, 64, 64), torch.randn(1, 6, 128, 128)
    for one, count in ((off, 0), (on, 2)):
        masks = one.network.draw_masks(1, torch.device("cpu"))
        output = one.network.forward_train(*images, keep_rate=0.5, masks=masks)
        assert len(output.fine.rgb_removed) == count


@pytest.mark.parametrize("term", ["style", "content"])
def test_each_distillation_term_of_ckd_is_off_at_weight_zero(tmp_path: Path, term: str) -> None:
    on, _ = trained(tmp_path / "a", "ckd_tiny_test")
    off, values = trained(tmp_path / "b", "ckd_tiny_test", **{f"objective__{term}_weight": 0.0})
    assert values[term] > 0, "it is measured, and not learnt"
    assert any(not torch.equal(value, runs.weights(off)[name]) for name, value in runs.weights(on).items())


def test_the_content_of_ckd_is_normalised_as_named(tmp_path: Path) -> None:
    gaps = {
        kind: trained(tmp_path / kind, "ckd_tiny_test", objective__content_normalisation=kind)[1]["content"]
        for kind in ("channel", "token", "none")
    }
    assert len(set(gaps.values())) == 3
    assert all(gap > 0 for gap in gaps.values())


@pytest.mark.parametrize("learn", [True, False])
def test_teachers_of_ckd_learn_or_stay_as_they_are(tmp_path: Path, learn: bool) -> None:
    chosen = {"objective__train_teachers": learn, "objective__stop_content_gradient": True}
    one, _ = trained(tmp_path, "ckd_tiny_test", **chosen)
    before = build_model("ckd_tiny_test", seed=1, drop_path=0.0, teachers=True).state_dict()
    after = {name: value for name, value in runs.weights(one).items() if "teacher" in name and "running" not in name}
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any("blocks" in name for name in after)
    assert bool(changed) is learn


def test_ckd_masks_nothing_at_probability_zero(tmp_path: Path) -> None:
    overrides = {"drop_path": 0.0, "teachers": True, "mask_ratio": 0.9}
    off, _ = trained(tmp_path, "ckd_tiny_test", model__overrides={**overrides, "mask_probability": 0.0})
    assert off.network.draw_masks(4, torch.device("cpu")) is None
    on = build_model("ckd_tiny_test", seed=1, **overrides)
    assert not on.draw_masks(4, torch.device("cpu")).all()


@pytest.mark.parametrize("name", ["sdstrack_rgbt", "sdstrack_rgbd", "sdstrack_rgbe"])
def test_published_is_all_slips_at_once(name: str) -> None:
    from pathlib import Path

    recipe = Path(__file__).parents[3] / "config" / "train" / f"{name}.yaml"
    slips = [
        "objective.stop_gradient=false", "objective.align_tokens=false", "model.init.copy_patch_embed=false",
        "data.sampler.published_boxes=true", "data.sampler.augmentation.grayscale=0",
    ]  # fmt: skip
    corrected = read_settings(recipe, TrainSettings, [])
    one_by_one = read_settings(recipe, TrainSettings, slips)
    at_once = read_settings(recipe, TrainSettings, ["published=true"])
    assert dataclasses.replace(at_once, published=False) == one_by_one != corrected
    assert read_settings(recipe, TrainSettings, ["published=true", "objective.stop_gradient=true"]) == at_once
