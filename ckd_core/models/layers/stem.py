"""The frozen convolutional stem of the small networks: MobileNetV2 (CVPR 2018) up to stride 16, batch norm folded in.

Training starts from its ImageNet weights (`published.starts.load_imagenet`); a weight file of a small network holds its
own copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

# (expansion, channels, repeats, stride) of the stages up to stride 16
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
TAPS = (6, 10, 13)  # blocks whose outputs are used: 32 channels at stride 8, 64 and 96 at stride 16
STEM_CHANNELS = 32 + 64 + 96
COARSE_CHANNELS = 4 * 32 + 64 + 96
FROZEN_CHANNELS = 96  # of the last tap, which the small networks also compare untrained
EXACT_BLOCKS = 2
EXACT_CONVOLUTIONS = 6  # the first one, two of block 1, three of block 2


class _Inverted(nn.Module):
    """Expand, filter each channel, project; the sum with the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [nn.Conv2d(inputs, hidden, 1)] if expansion > 1 else []
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden), nn.Conv2d(hidden, outputs, 1)]
        self.layers = nn.ModuleList(layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers[:-1]:
            y = F.relu6(layer(y))
        y = self.layers[-1](y)
        out: Tensor = x + y if self.residual else y
        return out


class FrozenStem(nn.Module):
    """Normalised images [N, 3, H, W] to features [N, 192, H / 8, W / 8]; never trained.

    Channels: 32 of stride 8, then 64 and 96 of stride 16, enlarged.

    Everything before block `EXACT_BLOCKS` keeps computing in the precision of its weights after `lower`:
    rounding these few layers alone to bfloat16 moves the boxes of real crops to a median IoU of 0.987; rounding all
    the others costs 0.002.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, 2, 1)
        blocks, inputs = [], 32
        for expansion, channels, repeats, stride in STAGES:
            for i in range(repeats):
                blocks.append(_Inverted(inputs, channels, stride if i == 0 else 1, expansion))
                inputs = channels
        self.blocks = nn.ModuleList(blocks)
        self.lowered: torch.dtype | None = None  # what the blocks after the exact ones were lowered to
        self.requires_grad_(requires_grad=False)

    def lower(self, dtype: torch.dtype) -> None:
        """Compute in `dtype` from block `EXACT_BLOCKS` on."""
        for block in self.blocks[EXACT_BLOCKS:]:
            block.to(dtype)
        self.lowered = dtype

    def taps(self, x: Tensor) -> list[Tensor]:
        """Outputs of the blocks `TAPS`: 32 channels at stride 8, 64 and 96 at stride 16."""
        x = F.relu6(self.first(x))
        taps = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number == EXACT_BLOCKS and self.lowered is not None:
                x = x.to(self.lowered)
            if number in TAPS:
                taps.append(x)
        return taps

    def forward(self, x: Tensor) -> Tensor:
        """Features of all taps at stride 8."""
        fine, *coarse = self.taps(x)
        wide = F.interpolate(torch.cat(coarse, dim=1), scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.cat((fine, wide), dim=1)


class CoarseStem(FrozenStem):
    """The same at stride 16: [N, 3, H, W] to [N, 288, H / 16, W / 16].

    Channels: the 32 of stride 8 at the four places of a cell, then 64 and 96 of stride 16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Features of all taps at stride 16."""
        fine, *coarse = self.taps(x)
        return torch.cat((F.pixel_unshuffle(fine, 2), *coarse), dim=1)
