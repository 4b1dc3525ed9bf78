"""Windows cut out of whole images on the device: one upload of the frame serves every target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class CropProgram(nn.Module):
    """The images of a `FrameImages` -> crops as `CropSampler` cuts them, uint8 [N, 2, S, S, 3].

    Args:
        side: Of the crops.
        colored: See `FrameImages`.
    """

    places: Tensor
    colors: Tensor

    def __init__(self, side: int, colored: bool) -> None:
        super().__init__()
        self.side, self.colored = side, colored
        steps = torch.arange(side, dtype=torch.float32)
        v, u = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("places", torch.stack((u, v)).flatten(1))  # [2, S * S]
        levels = np.arange(256, dtype=np.uint8)[None]
        self.register_buffer("colors", torch.from_numpy(cv2.applyColorMap(levels, cv2.COLORMAP_JET)[0]))  # [256, 3]

    def forward(self, rgb: Tensor, aux: Tensor, geometry: Tensor, tone: Tensor) -> Tensor:
        """Cut all windows.

        Args:
            rgb: [H, W, 3] uint8.
            aux: [h, w] or [h, w, 3] uint8; or [h, w] int16, the bits of uint16 values.
            geometry: [N, 2, GEOMETRY] float32.
            tone: [4] float32.
        """
        network_image = self._toned(aux, tone) if aux.dtype == torch.int16 else aux
        crops = [self._sample(image, geometry[:, i]) for i, image in enumerate((rgb, network_image))]
        return torch.stack(crops, dim=1)

    def _toned(self, aux: Tensor, tone: Tensor) -> Tensor:
        """[h, w] raw values to uint8 [h, w] or [h, w, 3], as `ModalityConverter.convert` does."""
        low, high, factor, offset = tone.unbind()
        values = (aux.to(torch.int32) & 0xFFFF).to(torch.float32)
        grey = (torch.minimum(torch.maximum(values, low), high) * factor + offset).abs().round().clamp(0, 255)
        return self.colors[grey.to(torch.int64)] if self.colored else grey.to(torch.uint8)

    def _sample(self, image: Tensor, rows: Tensor) -> Tensor:
        """[H, W] or [H, W, 3] uint8 and [N, GEOMETRY] to [N, S, S, 3] uint8, bilinear, black outside."""
        left, top, right, bottom = rows[:, 9:13, None].unbind(1)
        x, y, scale = self._places(rows[:, :9].view(-1, 3, 3, 1))
        x = torch.minimum(torch.maximum(x / scale, left), right)
        y = torch.minimum(torch.maximum(y / scale, top), bottom)
        x0, y0 = x.floor(), y.floor()
        weight_x, weight_y = x - x0, y - y0
        total: Tensor | float = 0.0
        for dx, wx in ((0, 1 - weight_x), (1, weight_x)):
            for dy, wy in ((0, 1 - weight_y), (1, weight_y)):
                total = total + self._pixels(image, x0 + dx, y0 + dy, rows[:, 13:]) * (wx * wy).unsqueeze(-1)
        assert isinstance(total, torch.Tensor)  # noqa: S101 - four terms were added
        crops = total.round().clamp(0, 255).to(torch.uint8)
        return crops.expand(-1, -1, 3).reshape(len(rows), self.side, self.side, 3)

    def _places(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and scale [N, S * S] of every pixel of the crops under [N, 3, 3, 1].

        Written out: a matrix product may be rounded to TF32 on a GPU, which loses whole pixels.
        """
        u, v = self.places
        x, y, scale = (row[:, 0] * u + row[:, 1] * v + row[:, 2] for row in matrix.unbind(1))
        return x, y, scale

    @staticmethod
    def _pixels(image: Tensor, x: Tensor, y: Tensor, valid: Tensor) -> Tensor:
        """Values [N, S * S, C] of whole pixels; 0 for those that do not count."""
        first_x, first_y, end_x, end_y = valid.unsqueeze(-1).unbind(1)
        counts = (x >= first_x) & (x < end_x) & (y >= first_y) & (y < end_y)
        height, width = image.shape[:2]
        place = y.clamp(0, height - 1).to(torch.int64) * width + x.clamp(0, width - 1).to(torch.int64)
        values = image.reshape(height * width, -1)[place].to(torch.float32)
        return values * counts.unsqueeze(-1)
