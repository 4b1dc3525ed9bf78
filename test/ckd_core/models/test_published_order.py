"""The bench's plain restatement computes the same as our forward, so the comparison is fair."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import _published_order as published
from benchmarks.networks import _gflop
from ckd_core.models.registry import build_model


@pytest.mark.parametrize("overrides", [{}, {"ce_blocks": ()}, {"template_mask": "all"}, {"template_mask": "ctr_rec"}])
@pytest.mark.parametrize("name", ["sdstrack_tiny_test", "ckd_tiny_test"])
@torch.inference_mode()
def test_same_maps(name: str, overrides: dict[str, Any]) -> None:
    model = build_model(name, **overrides).eval()
    restated = published.sdstrack if name.startswith("sdstrack") else published.ckd
    generator = torch.Generator().manual_seed(8)
    template, search = (torch.randn(3, 6, side, side, generator=generator) for side in (64, 128))
    for ours, plain in zip(model(template, search), restated(model, template, search), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_published_cost(golden_model: Any, golden_input: Any) -> None:
    """The restatement costs what the published trackers were measured to cost; ours never costs more."""
    template, search = golden_input("template", 1, 6, 128, 128), golden_input("search", 1, 6, 256, 256)
    model = golden_model("sdstrack_b256")
    with torch.inference_mode():
        kept = model.embed_template(template)
        plain, ours = (
            _gflop(lambda: published.sdstrack(model, template, search)),
            _gflop(lambda: model.track(kept, search)),
        )
    assert plain == pytest.approx(115.0, rel=0.005)
    assert ours < plain
