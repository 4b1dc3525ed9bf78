"""Training forwards against the published implementations: masks, maps, features, eliminated tokens.

Losses and gradients of the same steps are checked where the objectives are (test/ckd_core/training).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckd_core.models.sdstrack import TokenMasks
from testkit.golden_checks import TOLERANCE, assert_block, assert_maps, assert_slice, ckd_image

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize(("fixture", "keep_rate"), [("sdstrack_train_epoch1", 1.0), ("sdstrack_train_epoch40_ce", 0.7)])
def test_sdstrack(fixture: str, keep_rate: float, golden: Any, golden_model: Any, golden_input: Any) -> None:
    model, expected = golden_model("sdstrack_b256", drop_path=0.0), golden(fixture)
    assert expected["ce_keep_rate"] == pytest.approx(keep_rate)
    masks = TokenMasks(*(torch.from_numpy(expected[f"mask_{key}"]) for key in ("rgb_z", "dte_z", "rgb_x", "dte_x")))
    template, search = golden_input("template_train", 2, 6, 128, 128), golden_input("search_train", 2, 6, 256, 256)
    with torch.no_grad():
        result = model.forward_train(template, search, keep_rate=keep_rate, masks=masks)
    for name in ("fine", "masked"):
        path = getattr(result, name)
        assert_maps(path.head, expected, f"{name}_")
        for stage, (tokens, layer) in enumerate(zip(path.stages, model.config.cross_blocks, strict=True)):
            assert list(tokens.shape) == list(expected[f"distill_{name}_{stage}_shape"])
            assert_slice(tokens, f"distill_{name}_{stage}", expected)
            assert_block(tokens, f"{layer:02d}/{name}_rgb_dte", expected)
        layers = model.config.ce_blocks if keep_rate < 1 else ()
        for side, removed in (("rgb", path.rgb_removed), ("dte", path.aux_removed)):
            assert len(removed) == len(layers)
            for layer, places in zip(layers, removed, strict=True):
                wanted = np.sort(expected[f"removed_{layer:02d}_{name}_{side}"], 1)
                np.testing.assert_array_equal(places.sort(1)[0], wanted)


@pytest.mark.parametrize(
    ("fixture", "name", "masked"), [("ckd_train", "ckd_b256", True), ("ckd_train_mce_headonly", "ckd_b256_mce", False)]
)
def test_ckd(fixture: str, name: str, masked: bool, golden: Any, golden_model: Any, golden_input: Any) -> None:
    model, expected = golden_model(name, teachers=True, drop_path=0.0), golden(fixture)
    keep_mask = torch.from_numpy(expected["keep_mask_search"]) if masked else None  # stage 2 masks nothing
    template = ckd_image(golden_input, "template", "_train", 2, 128)
    search = ckd_image(golden_input, "search", "_train", 2, 256)
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key or "num_b" in key}
    model.train()  # batch norms of the heads run on the batch, as published
    try:
        with torch.no_grad():
            result = model.forward_train(template, search, masks=keep_mask)
        for key in expected:
            if key.startswith("bn_after/"):
                statistic = model.state_dict()[key.removeprefix("bn_after/")][:32]
                np.testing.assert_allclose(statistic.numpy(), expected[key], rtol=1e-4, atol=TOLERANCE)
    finally:
        model.eval()
        model.load_state_dict({**model.state_dict(), **before})
    noise = 5e-5  # statistics of a batch of two amplify rounding; stored ones do not
    assert_maps(result.fused, expected, "fused_", noise)
    assert_maps(result.teacher_rgb, expected, "t_rgb_", noise)
    assert_maps(result.teacher_aux, expected, "t_tir_", noise)
    lanes = {
        "rgb_branch": result.student_rgb,
        "tir_branch": result.student_aux,
        "teacher_rgb": result.teacher_rgb_blocks,
        "teacher_tir": result.teacher_aux_blocks,
    }
    for lane, blocks in lanes.items():
        assert len(blocks) == model.config.depth
        for i, tokens in enumerate(blocks):
            assert_block(tokens, f"{lane}/{i:02d}", expected)
    assert len(result.removed) == len(model.config.ce_blocks)
    for layer, places in zip(model.config.ce_blocks, result.removed, strict=True):
        for lane in lanes:
            np.testing.assert_array_equal(places.sort(1)[0], np.sort(expected[f"removed_{layer:02d}_{lane}"], 1))
