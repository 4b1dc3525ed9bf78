"""Candidate elimination: rank search tokens by the template's attention, keep the best, refill before the head.

The number of kept tokens depends on shapes alone, so that a frame is one static program. Source: OSTrack (ECCV 2022)
section 3.3; the joint ranking of both modalities: CKD (ACM MM 2024) section 3.4.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from torch import Tensor

TEMPLATE_MASK_MODES = ("all", "ctr_point", "ctr_rec", "gt_box")
Span = tuple[int, int]


class EliminationError(TrackingError):
    """A template mask or a schedule that elimination cannot use."""


class Ranking(NamedTuple):
    """Which template queries rank the search tokens.

    Attributes:
        spans: Half-open ranges of template tokens whose attention rows are computed.
        weights: [B, rows] share of each row, summing to one per sample; None = equal shares.
    """

    spans: tuple[Span, ...]
    weights: Tensor | None = None


class Tokens(NamedTuple):
    """Tokens of a stream between two blocks.

    Attributes:
        x: [B, template + n, C], template first.
        position: [B, n] int64 place of every remaining search token in the search grid; None while all are there in
            order.
        removed: One [B, k] int64 tensor per elimination so far, positions in falling order of attention.
    """

    x: Tensor
    position: Tensor | None = None
    removed: tuple[Tensor, ...] = ()


def template_spans(mode: str, grid: int) -> tuple[Span, ...]:
    """Template tokens that a mode selects on a `grid` x `grid` template.

    `ctr_point`: the centre cell (the upper left one of the four where the grid is even). `ctr_rec`: the centre 2 x 2,
    one cell where the grid is odd. `all` and `gt_box`: every row (a box selects by weights).

    Raises:
        EliminationError: an unknown mode.
    """
    low, high = (grid - 1) // 2, grid // 2
    if mode == "ctr_point":
        cell = low * grid + low
        return ((cell, cell + 1),)
    if mode == "ctr_rec":
        return tuple((row * grid + low, row * grid + high + 1) for row in range(low, high + 1))
    if mode in ("all", "gt_box"):
        return ((0, grid * grid),)
    raise EliminationError(f"template mask mode is {mode!r}; it must be one of {', '.join(TEMPLATE_MASK_MODES)}")


def ranking_for(mode: str, grid: int, mask: Tensor | None) -> Ranking:
    """Ranking of a forward pass: by `mask` [B, grid * grid] bool if there is one, else by `mode`.

    A mask that selects nothing ranks by nothing; `box_template_mask` never returns one.

    Raises:
        EliminationError: mode `gt_box` without a mask, or a mask of the wrong shape or dtype.
    """
    if mask is None:
        if mode == "gt_box":
            raise EliminationError("mode gt_box needs a template_mask; box_template_mask makes one")
        return Ranking(template_spans(mode, grid))
    if mask.dtype != torch.bool or mask.ndim != 2 or mask.shape[1] != grid * grid:
        raise EliminationError(
            f"template_mask is {mask.dtype} {tuple(mask.shape)}; it must be torch.bool [B, {grid * grid}]"
        )
    share = mask.float()  # [B, g * g]
    return Ranking(template_spans("all", grid), share / share.sum(1, keepdim=True).clamp(min=1))


def box_template_mask(boxes: Tensor, template_size: int, stride: int) -> Tensor:
    """Template tokens that a box touches (mode `gt_box`): [B, g * g] bool from `boxes` [B, 4] normalised xywh.

    The box is drawn in pixels and shrunk bilinearly by `stride`, so a token counts where one of its four middle pixels
    is covered. A box that covers none of them selects the token under its centre (published: no token, then an error).
    """
    pixels = boxes.float() * template_size
    x, y, w, h = pixels.unbind(1)
    side = torch.arange(template_size, device=boxes.device)
    columns = (side >= x.long()[:, None]) & (side < (x + w - 1).long()[:, None])  # [B, template_size]
    rows = (side >= y.long()[:, None]) & (side < (y + h - 1).long()[:, None])
    drawn = (rows[:, :, None] & columns[:, None, :]).float()  # [B, template_size, template_size]
    small = F.interpolate(drawn[:, None], scale_factor=1 / stride, mode="bilinear", align_corners=False)
    mask = small.flatten(1) > 0  # [B, g * g]
    grid = template_size // stride
    column = (x + w / 2).div(stride).long().clamp(0, grid - 1)
    row = (y + h / 2).div(stride).long().clamp(0, grid - 1)
    centre = F.one_hot(row * grid + column, grid * grid).bool()
    return mask | (centre & ~mask.any(1, keepdim=True))


def keep_rate_at(epoch: int, keep: float = 0.7, start: int = 4, warm: int = 16) -> float:
    """Keep rate in a 1-based training epoch: 1 before `start`, a cosine over `warm` epochs, then `keep`."""
    if epoch < start:
        return 1.0
    if epoch >= start + warm:
        return keep
    return keep + (1 - keep) * 0.5 * (math.cos(math.pi * (epoch - start) / warm) + 1)


def keep_count(tokens: int, rate: float) -> int:
    """How many of `tokens` search tokens are kept, rounded up."""
    return math.ceil(rate * tokens)


def ranking_rows(q: Tensor, k: Tensor, ranking: Ranking, n_template: int) -> Tensor:
    """Attention of the ranking template queries to the search tokens; no other rows of the attention are computed.

    Args:
        q: Queries [B, heads, n_template + n_search, head_dim].
        k: Keys of the same shape.
        ranking: Which template queries rank.
        n_template: Number of template tokens, which come first.

    Returns:
        [B, heads, rows, n_search], float32 or better.
    """
    rows = torch.cat([q[:, :, first:end] for first, end in ranking.spans], dim=2)  # [B, h, rows, d]
    logits = (rows * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # [B, h, rows, n]
    precise = torch.promote_types(logits.dtype, torch.float32)  # bf16 would tie neighbours
    attention: Tensor = logits.softmax(-1, dtype=precise)
    return attention[..., n_template:]


def search_scores(rows: Tensor, ranking: Ranking) -> Tensor:
    """Score of every search token, [B, n_search]: mean over the ranking queries, then over the heads."""
    if ranking.weights is None:
        return rows.mean(2).mean(1)
    weights = ranking.weights.to(rows.dtype)[:, None, :, None]  # [B, 1, rows, 1]
    return (rows * weights).sum(2).mean(1)


def eliminate(tokens: Tokens, scores: Tensor, n_template: int, keep: int) -> Tokens:
    """Keep the `keep` search tokens of highest score, in falling order; all of them change nothing."""
    if keep >= scores.shape[1]:
        return tokens
    order = scores.argsort(dim=1, descending=True)  # [B, n]
    position = renumber(tokens.position, order)
    x = take(tokens.x, order[:, :keep], n_template)
    return Tokens(x, position[:, :keep], (*tokens.removed, position[:, keep:]))


def take(x: Tensor, kept: Tensor, n_template: int) -> Tensor:
    """Tokens [B, template + n, C] to [B, template + k, C]: all of the template, then search tokens `kept` [B, k]."""
    search = x[:, n_template:].gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))
    return torch.cat((x[:, :n_template], search), dim=1)


def renumber(position: Tensor | None, order: Tensor) -> Tensor:
    """Search-grid positions of the tokens at places `order` of `position` (None = all, in order)."""
    return order if position is None else position.gather(1, order)


def refill(search: Tensor, position: Tensor | None, total: int) -> Tensor:
    """Search tokens [B, n, C] at their places among `total`; removed ones are exact zeros."""
    if position is None:
        return search
    places = position[:, :, None].expand(-1, -1, search.shape[2])
    empty: Tensor = search.new_zeros(search.shape[0], total, search.shape[2])
    return empty.scatter(1, places, search)
