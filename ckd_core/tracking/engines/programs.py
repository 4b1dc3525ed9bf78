"""What runs on the device for a frame, as two modules of static shape: the unit that is compiled, captured or exported.

Crops go in as the sampler writes them, uint8 [B, 2, side, side, 3] (colour, auxiliary); seven numbers per target come
out (see `Prediction`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ckd_core.models.checks import compute_dtype
from ckd_core.models.layers.head import decode_boxes
from ckd_core.models.normalisation import scale_and_shift

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.models.network import TrackingNetwork


class Normalise(nn.Module):
    """uint8 [B, 2, S, S, 3] -> [B, 6, S, S] of the network's dtype, zero mean and unit variance."""

    scale: Tensor
    shift: Tensor

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        scale, shift = scale_and_shift()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.dtype = dtype

    def forward(self, crops: Tensor) -> Tensor:
        """Normalise the images; computed in float32 whatever comes out."""
        planes = crops.permute(0, 1, 4, 2, 3).flatten(1, 2)  # [B, 6, S, S]
        return torch.addcmul(self.shift, planes.to(torch.float32), self.scale).to(self.dtype)


class _Program(nn.Module):
    """A part of the tracker ready for use: on the network's device, in evaluation mode, without gradients."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(compute_dtype(network))
        self.device = next(network.parameters()).device
        self.to(self.device).eval().requires_grad_(False)


class TemplateProgram(_Program):
    """Template crops -> template tokens."""

    def forward(self, crops: Tensor) -> Tensor:
        """[B, 2, T, T, 3] uint8 -> [B, 2, tokens, width]."""
        return self.network.embed_template(self.normalise(crops))


class SearchProgram(_Program):
    """Template tokens, search crops and response weights -> [B, 11] float32, each row a `Prediction`."""

    places: Tensor

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__(network)
        self.grid = network.config.grid
        self.reach = max(1, round(self.grid / 8))
        steps = torch.arange(self.grid, device=self.device)
        places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"))  # [2, g, g] column, row
        self.register_buffer("places", places[None])

    def forward(self, template_tokens: Tensor, crops: Tensor, windows: Tensor) -> Tensor:
        """Tokens [B, 2, n, width], crops [B, 2, S, S, 3] uint8, response weights [B, 1, g, g] float32 -> [B, 11].

        The weights are called `windows` because that is the input's name in exported files.
        """
        output = self.network.track(template_tokens, self.normalise(crops))
        response = output.score_map * windows
        boxes, score, cell = decode_boxes(output, response)
        far = (self.places - cell[:, :, None, None]).abs().amax(dim=1, keepdim=True) > self.reach  # [B, 1, g, g]
        rival_boxes, rival, _ = decode_boxes(output, response * far)
        heights = torch.stack((score, output.score_map.flatten(1).amax(dim=1), rival), dim=1)
        return torch.cat((boxes.float(), heights.float(), rival_boxes.float()), dim=1)
