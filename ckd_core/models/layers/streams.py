"""Convolutional parts of the networks on a frozen stem: adapters, exchange between the streams, correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import nn

from ckd_core.models.layers.stem import FROZEN_CHANNELS

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.models.layers.head import CenterHead

PRIOR_LOGIT = -4.0  # of a score before training


class ConvAdapter(nn.Module):
    """Pointwise bottleneck [N, C, h, w] to [N, C, h, w]; starts at zero, its skip connection is its caller's."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, int(channels * ratio), 1)
        self.up = nn.Conv2d(int(channels * ratio), channels, 1)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(cast("Tensor", self.up.bias))

    def forward(self, x: Tensor) -> Tensor:
        """The bottleneck's output."""
        out: Tensor = self.up(F.gelu(self.down(x)))
        return out


def conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution that keeps the size, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class CrossStage(nn.Module):
    """Exchange between the streams: a gated bottleneck in each direction."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        self.adapter = ConvAdapter(channels, ratio)
        self.gate = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[2 * B, C, g, g], colour first; each half receives from the other."""
        rgb, aux = x.chunk(2)
        other = torch.cat((aux, rgb))
        out: Tensor = x + torch.sigmoid(self.gate(torch.cat((x, other), dim=1))) * self.adapter(other)
        return out


def expect_few_targets(head: CenterHead) -> None:
    """Start with low scores everywhere: one cell in several hundred shows the target."""
    nn.init.constant_(cast("Tensor", head.get_submodule("conv5_ctr").bias), PRIOR_LOGIT)


def similarities(template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
    """Compare template tokens [N, n, width] with search features [N, width, g, g]: twice [N, n, g * g].

    Trained channels come first, frozen ones second.
    """
    trained = search.shape[1] - FROZEN_CHANNELS
    flat = search.flatten(2)  # [N, width, g * g]
    return template[..., :trained] @ flat[:, :trained], template[..., trained:] @ flat[:, trained:]


def align(similar: Tensor, shift: Tensor, template_grid: int, grid: int) -> Tensor:
    """Move each template cell's map by that cell's place, so that all maps of one rigid target peak at its centre.

    Args:
        similar: [N, 2, n, g * g], both results of `similarities`.
        shift: What `aligning_index` returns for these grids.
        template_grid: Side of the template in cells.
        grid: Side of the search region in cells.

    Returns:
        [N, 2 * n, g, g].
    """
    n, border = similar.shape[0], template_grid // 2
    padded = F.pad(similar.reshape(n, 2, -1, grid, grid), (border, border, border, border))
    return padded.flatten(2).index_select(2, shift).reshape(n, -1, grid, grid)


def aligning_index(template_grid: int, grid: int) -> Tensor:
    """Flat indices that read [n, g, g] from padded maps [n, p, p]: cell (i, j)'s map moves by that cell's place."""
    padded = grid + 2 * (template_grid // 2)
    with torch.device("cpu"):  # not in weight files: it must also exist in a network built without storage
        i = torch.arange(template_grid).repeat_interleave(template_grid)[:, None, None]
        j = torch.arange(template_grid).repeat(template_grid)[:, None, None]
        y, x = torch.arange(grid)[None, :, None], torch.arange(grid)[None, None]
        plane = torch.arange(template_grid**2)[:, None, None] * padded * padded
        return (plane + (y + i) * padded + x + j).flatten()
