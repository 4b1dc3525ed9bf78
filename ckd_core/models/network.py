"""What every network shares: its calls and the checks in front of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ckd_core.models import checks
from ckd_core.models.elimination import ranking_for

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.elimination import Ranking
    from ckd_core.models.head import HeadOutput


class TrackingNetwork(nn.Module):
    """Base of all networks: checked public calls around `_embed` and `_track` of a family.

    Images are [B, 6, side, side] normalised tensors in the dtype of the weights, colour channels first. Shapes and
    dtypes are always checked (static, free). NaN and infinity are refused for every template, and for search regions
    on the CPU; on an accelerator that would stall each frame, so there call `inputs.require_finite` where wanted.

    name: the name it was built by. config: what it was built from.
    """

    def __init__(self, name: str, config: NetworkConfig) -> None:
        super().__init__()
        self.name = name
        self.config = config

    def lower(self, dtype: torch.dtype) -> None:
        """Compute in `dtype` (bfloat16, float16) from now on, except in `config.exact_convolutions`."""
        self.to(dtype)

    def embed_template(self, template: Tensor) -> Tensor:
        """Template tokens [B, 2, template_tokens, width] (colour, auxiliary), kept for all frames of a target.

        Raises NetworkInputError: wrong shape or dtype, NaN or infinity.
        """
        checks.require_image(template, "template", self.config.template_size, checks.compute_dtype(self))
        if checks.is_eager(template):
            checks.require_finite(template, "template")
        return self._embed(template)

    def track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None = None) -> HeadOutput:
        """Maps for one search region a sample.

        template_mask: [B, template_tokens] bool, which template tokens rank the search tokens; None = as
            `config.template_mask` says.

        Raises NetworkInputError: wrong shape or dtype, tokens of another network; NaN or infinity on the CPU.
        Raises EliminationError: a mask of wrong shape or dtype.
        """
        checks.require_image(search, "search", self.config.search_size, checks.compute_dtype(self))
        checks.require_template(template_tokens, search, self.config)
        if checks.is_eager(search) and search.device.type == "cpu":
            checks.require_finite(search, "search")
        return self._track(template_tokens, search, template_mask)

    def forward(self, template: Tensor, search: Tensor, template_mask: Tensor | None = None) -> HeadOutput:
        """`embed_template` and `track` in one call."""
        return self.track(self.embed_template(template), search, template_mask)

    def _ranking(self, template_mask: Tensor | None) -> Ranking | None:
        if not self.config.ce_blocks:
            return None
        return ranking_for(self.config.template_mask, self.config.template_grid, template_mask)

    def _embed(self, template: Tensor) -> Tensor:
        raise NotImplementedError

    def _track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None) -> HeadOutput:
        raise NotImplementedError
