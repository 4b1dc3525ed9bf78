"""Inference against the published implementations' numbers, on the path that tracking uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from testkit.golden_checks import assert_block, assert_maps, ckd_image

SDSTRACK = {
    "sdstrack_infer_ce": ({}, "", 1),
    "sdstrack_infer_ce_allmask": ({"template_mask": "all"}, "", 1),
    "sdstrack_infer_ce_batch2": ({}, "_b2", 2),
    "sdstrack_infer_noce": ({"ce_blocks": ()}, "", 1),
}
CKD = {
    "ckd_infer_noce": ("ckd_b256", "", 1),
    "ckd_infer_mce": ("ckd_b256_mce", "", 1),
    "ckd_infer_mce_batch2": ("ckd_b256_mce", "_b2", 2),
}


@pytest.mark.parametrize("fixture", SDSTRACK)
def test_sdstrack(fixture: str, golden: Any, golden_model: Any, golden_input: Any, monkeypatch: Any) -> None:
    overrides, suffix, batch = SDSTRACK[fixture]
    model, expected = golden_model("sdstrack_b256", **overrides), golden(fixture)
    outputs: dict[str, torch.Tensor] = {}
    hooks = []
    for i, block in enumerate(model.backbone.blocks):

        def keep(_module: Any, _inputs: Any, tokens: Any, i: int = i) -> None:
            outputs[f"{i:02d}/fine_rgb"], outputs[f"{i:02d}/fine_dte"] = tokens.x.chunk(2)
            outputs["removed"] = tokens.removed

        def spy(x: torch.Tensor, i: int = i, cross: Any = block.cross) -> torch.Tensor:
            y = cross(x)
            outputs[f"{i:02d}/fine_rgb_dte"] = torch.cat(y.chunk(2), dim=1)
            return y

        hooks.append(block.register_forward_hook(keep))
        monkeypatch.setattr(block, "cross", spy)
    try:
        with torch.inference_mode():
            template = golden_input(f"template{suffix}", batch, 6, 128, 128)
            output = model(template, golden_input(f"search{suffix}", batch, 6, 256, 256))
    finally:
        for hook in hooks:
            hook.remove()
    removed = outputs.pop("removed")
    assert_maps(output, expected)
    assert set(outputs) == set(expected["block_names"])
    for name, tensor in outputs.items():
        assert_block(tensor, name, expected)
    assert len(removed) == len(model.config.ce_blocks)
    for layer, positions in zip(model.config.ce_blocks, removed, strict=True):
        for side, places in zip(("rgb", "dte"), positions.chunk(2), strict=True):
            np.testing.assert_array_equal(places.sort(1)[0], np.sort(expected[f"removed_{layer:02d}_fine_{side}"], 1))


@pytest.mark.parametrize("fixture", CKD)
def test_ckd(fixture: str, golden: Any, golden_model: Any, golden_input: Any, monkeypatch: Any) -> None:
    name, suffix, batch = CKD[fixture]
    model, expected = golden_model(name), golden(fixture)
    blocks: list[Any] = []
    encoded: list[Any] = []
    encode = model._encode

    def spy(*arguments: Any) -> Any:
        encoded.append(encode(*arguments, outputs=blocks))
        return encoded[0]

    monkeypatch.setattr(model, "_encode", spy)
    with torch.inference_mode():
        template = ckd_image(golden_input, "template", suffix, batch, 128)
        output = model(template, ckd_image(golden_input, "search", suffix, batch, 256))
    assert_maps(output, expected)
    assert len(blocks) * 2 == len(expected["block_names"])
    for i, (rgb, aux) in enumerate(blocks):
        assert_block(rgb, f"rgb_branch/{i:02d}", expected)
        assert_block(aux, f"tir_branch/{i:02d}", expected)
    assert len(encoded[0].removed) == len(model.config.ce_blocks)
    for layer, places in zip(model.config.ce_blocks, encoded[0].removed, strict=True):
        for side in ("rgb_branch", "tir_branch"):
            np.testing.assert_array_equal(places.sort(1)[0], np.sort(expected[f"removed_{layer:02d}_{side}"], 1))


def test_mask_given_equals_mode(golden: Any, golden_model: Any, golden_input: Any) -> None:
    """The fixtures' own template mask, given as a tensor, ranks like the mode that it stands for."""
    expected = golden("sdstrack_infer_ce")
    model = golden_model("sdstrack_b256", template_mask="gt_box")
    with torch.inference_mode():
        output = model(
            golden_input("template", 1, 6, 128, 128),
            golden_input("search", 1, 6, 256, 256),
            torch.from_numpy(expected["ce_template_mask"]),
        )
    assert_maps(output, expected)


def test_template_is_embedded_once(golden: Any, golden_model: Any, golden_input: Any) -> None:
    """Two targets in one batch, their kept template tokens stacked, give each target's own maps."""
    model, expected = golden_model("sdstrack_b256"), golden("sdstrack_infer_ce_batch2")
    template, search = golden_input("template_b2", 2, 6, 128, 128), golden_input("search_b2", 2, 6, 256, 256)
    with torch.inference_mode():
        kept = torch.cat([model.embed_template(one[None]) for one in template])
        assert_maps(model.track(kept, search), expected)
