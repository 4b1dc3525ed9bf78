"""Centre head: score, size and offset maps over the search grid, and the box that they predict (OSTrack 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

EDGE = 1e-4  # score and size stay this far from 0 and 1, so that their logarithms are finite
BN_EPS = 1e-5


class HeadOutput(NamedTuple):
    """Maps over the g x g search grid.

    Attributes:
        score_map: [B, 1, g, g] in (0, 1).
        size_map: [B, 2, g, g] width and height as a share of the crop's side.
        offset_map: [B, 2, g, g] sub-cell offsets x and y in cells.
    """

    score_map: Tensor
    size_map: Tensor
    offset_map: Tensor


class Peak(NamedTuple):
    """Where a map is highest.

    Attributes:
        box_cxcywh: [B, 4] normalised box that the maps predict there.
        response: [B] height of the peak.
        cell: [B, 2] int64 column and row.
    """

    box_cxcywh: Tensor
    response: Tensor
    cell: Tensor


def _tower(name: str, channels: int, width: int, outputs: int) -> dict[str, nn.Module]:
    widths = (channels, width, width // 2, width // 4, width // 8)
    layers: dict[str, nn.Module] = {
        f"conv{i + 1}_{name}": nn.Sequential(
            nn.Conv2d(widths[i], widths[i + 1], kernel_size=3, padding=1),
            nn.BatchNorm2d(widths[i + 1], eps=BN_EPS),
            nn.ReLU(),
        )
        for i in range(4)
    }
    layers[f"conv5_{name}"] = nn.Conv2d(widths[4], outputs, kernel_size=1)
    return layers


class CenterHead(nn.Module):
    """Three towers over [B, channels, g, g] features; the maps are float32 whatever the network computes in."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        for name, outputs in (("ctr", 1), ("offset", 2), ("size", 2)):
            for key, layer in _tower(name, channels, width, outputs).items():
                self.add_module(key, layer)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def _run(self, name: str, x: Tensor) -> Tensor:
        for i in range(1, 6):
            x = self.get_submodule(f"conv{i}_{name}")(x)
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def forward(self, features: Tensor) -> HeadOutput:
        """Maps over the grid of `features`."""
        score = self._run("ctr", features).sigmoid().clamp(EDGE, 1 - EDGE)
        size = self._run("size", features).sigmoid().clamp(EDGE, 1 - EDGE)
        return HeadOutput(score, size, self._run("offset", features))


def to_map(tokens: Tensor, grid: int) -> Tensor:
    """Search tokens [B, grid * grid, C] as features [B, C, grid, grid]; a view (channels last in memory)."""
    return tokens.transpose(1, 2).view(tokens.shape[0], tokens.shape[2], grid, grid)


def decode_boxes(output: HeadOutput, response: Tensor | None = None) -> Peak:
    """Box at the highest response; gradients flow into its size and offset.

    Stays on the device; nothing waits for it.

    Args:
        output: maps of the head.
        response: [B, 1, g, g], the map whose peak counts (in tracking the score map times the response weights);
            None = the score map.
    """
    response = output.score_map if response is None else response
    grid = response.shape[-1]
    height, place = response.flatten(1).max(dim=1)  # [B]
    cells = place[:, None, None].expand(-1, 2, 1)
    size = output.size_map.flatten(2).gather(2, cells).squeeze(2)  # [B, 2]
    offset = output.offset_map.flatten(2).gather(2, cells).squeeze(2)
    row = torch.div(place, grid, rounding_mode="floor")
    cell = torch.stack((place - row * grid, row), dim=1)  # [B, 2] x, y
    return Peak(torch.cat(((cell + offset) / grid, size), dim=1), height, cell)
