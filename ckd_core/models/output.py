"""The one result type of every network's inference call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class HeadOutput(NamedTuple):
    """Maps over the g x g search grid.

    score_map: [B, 1, g, g] in (0, 1); size_map: [B, 2, g, g] width, height as a share of the crop side;
    offset_map: [B, 2, g, g] sub-cell offsets x, y in cells.
    """

    score_map: Tensor
    size_map: Tensor
    offset_map: Tensor
