from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.models.layers import elimination as e
from ckd_core.models.layers.vit import Attention, attend, plain_attention


def test_template_modes_are_the_published_ones(golden: Any) -> None:
    expected = golden("prepost")
    boxes = torch.from_numpy(expected["maskcond_gt"])
    for mode in ("ctr_point", "ctr_rec"):
        mask = torch.zeros(64, dtype=torch.bool)
        for first, end in e.template_spans(mode, 8):
            mask[first:end] = True
        np.testing.assert_array_equal(mask.expand(4, 64), expected[f"maskcond_{mode.upper()}"])
    assert e.template_spans("all", 8) == ((0, 64),)
    np.testing.assert_array_equal(e.box_template_mask(boxes, 128, 16), expected["maskcond_GT_BOX"])


@pytest.mark.parametrize(
    ("grid", "point", "area"), [(7, (3,), (3,)), (12, (5,), (5, 6)), (14, (6,), (6, 7)), (8, (3,), (3, 4))]
)
def test_centre_of_other_grids(grid: int, point: tuple[int, ...], area: tuple[int, ...]) -> None:
    for mode, cells in (("ctr_point", point), ("ctr_rec", area)):
        tokens = {token for first, end in e.template_spans(mode, grid) for token in range(first, end)}
        assert tokens == {row * grid + column for row in cells for column in cells}


def test_box_that_misses_every_token_selects_the_one_under_its_centre() -> None:
    mask = e.box_template_mask(torch.tensor([[0.5, 0.25, 0.001, 0.001], [0.99, 0.99, 0.01, 0.01]]), 128, 16)
    assert mask.sum(1).tolist() == [1, 1]
    assert mask.nonzero().tolist() == [[0, 2 * 8 + 4], [1, 63]]


def test_keep_rates_are_the_published_ones(golden: Any) -> None:
    expected = golden("prepost")
    epochs = expected["keep_rate_epochs"]
    rates = [e.keep_rate_at(int(epoch)) for epoch in epochs]
    np.testing.assert_allclose(rates, expected["keep_rate_sdstrack_f64"], rtol=0, atol=1e-12)
    assert [e.keep_count(256, rate) for rate in rates] == expected["lens_keep_256"].tolist()
    ckd = [e.keep_rate_at(int(epoch), start=0, warm=0) for epoch in epochs]
    np.testing.assert_allclose(ckd, expected["keep_rate_ckd_f64"], rtol=0, atol=1e-12)
    assert [e.keep_count(n, 0.7) for n in (256, 180, 126)] == [180, 126, 89]


@pytest.mark.parametrize("mode", ["all", "ctr_point", "ctr_rec", "mask"])
def test_rows_equal_those_of_the_whole_matrix(mode: str) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, 2, 3, 16 + 64, 8, generator=generator)  # template 4 x 4, search 8 x 8
    mask = torch.rand(2, 16, generator=generator) < 0.4
    ranking = e.ranking_for("all", 4, mask) if mode == "mask" else e.ranking_for(mode, 4, None)
    whole = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1)
    for sample in range(2):
        rows = torch.cat([torch.arange(*span) for span in ranking.spans])
        chosen = rows[mask[sample]] if mode == "mask" else rows
        expected = whole[sample, :, chosen, 16:].mean(1).mean(0)
        scores = e.search_scores(e.ranking_rows(q, k, ranking, 16), ranking)[sample]
        torch.testing.assert_close(scores, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(4, 40), st.lists(st.floats(0.1, 1.0), min_size=1, max_size=4), st.integers(0, 99))
def test_every_token_is_kept_or_removed_once_and_returns_to_its_place(
    batch: int, total: int, rates: list[float], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    n_template = 3
    x = torch.randn(batch, n_template + total, 5, generator=generator)
    tokens = e.Tokens(x)
    for rate in rates:
        n = tokens.x.shape[1] - n_template
        scores = torch.rand(batch, n, generator=generator)
        keep = e.keep_count(n, rate)
        before, tokens = tokens, e.eliminate(tokens, scores, n_template, keep)
        assert tokens.x.shape[1] - n_template == keep
        if keep < n:
            lowest_kept = scores.sort(1, descending=True)[0][:, keep - 1]
            assert bool((scores.sort(1, descending=True)[0][:, keep:] <= lowest_kept[:, None]).all())
        else:
            assert tokens is before
    torch.testing.assert_close(tokens.x[:, :n_template], x[:, :n_template])
    position = torch.arange(total).expand(batch, -1) if tokens.position is None else tokens.position
    everything = torch.cat((position, *tokens.removed), dim=1).sort(1)[0]
    assert torch.equal(everything, torch.arange(total).expand(batch, -1))
    full = e.refill(tokens.x[:, n_template:], tokens.position, total)
    expected = torch.zeros(batch, total, 5).scatter(
        1, position[:, :, None].expand(-1, -1, 5), x[:, n_template:].gather(1, position[:, :, None].expand(-1, -1, 5))
    )
    assert torch.equal(full, expected)


def test_bad_masks_are_refused() -> None:
    with pytest.raises(e.EliminationError, match="gt_box needs a template_mask"):
        e.ranking_for("gt_box", 4, None)
    with pytest.raises(e.EliminationError, match=r"torch.bool \[B, 16\]"):
        e.ranking_for("all", 4, torch.ones(2, 16))
    with pytest.raises(e.EliminationError, match=r"\(2, 9\).*\[B, 16\]"):
        e.ranking_for("all", 4, torch.ones(2, 9, dtype=torch.bool))
    with pytest.raises(e.EliminationError, match=r"'centre'.*one of all, ctr_point"):
        e.template_spans("centre", 8)


def test_plain_attention_equals_fused_and_is_undone() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 2, 3, 20, 16, generator=generator)
    fused = attend(q, k, v)
    layer = Attention(48, 3)
    x = torch.randn(2, 20, 48, generator=generator)
    with plain_attention():
        torch.testing.assert_close(attend(q, k, v), fused)
        plain, _ = layer(x)
        operators = _operators(lambda: attend(q, k, v))
        assert not any("scaled_dot_product" in name for name in operators)
    torch.testing.assert_close(layer(x)[0], plain)
    assert any("scaled_dot_product" in name for name in _operators(lambda: attend(q, k, v)))


def _operators(call: Any) -> list[str]:
    from torch.utils._python_dispatch import TorchDispatchMode

    names: list[str] = []

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    with Listen():
        call()
    return names
