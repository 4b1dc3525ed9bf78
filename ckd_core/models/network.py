"""What all networks share: their public calls and the checks in front of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ckd_core.models import checks
from ckd_core.models.config import ConfigError
from ckd_core.models.layers.elimination import ranking_for

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.layers.elimination import Ranking
    from ckd_core.models.layers.head import HeadOutput


class TrackingNetwork(nn.Module):
    """Base of all networks: checked public calls over what a family implements.

    A family implements `_embed` and `_track`, and for its own training forward `draw_masks` and `_forward_train`.

    Images are [B, 6, side, side] normalised tensors in the dtype of the weights, colour channels first. Shapes and
    dtypes are always checked (static, free). NaN and infinity are refused in every template, and in search regions on
    the CPU; on an accelerator that check would stall every frame, so call `checks.require_finite` there where wanted.

    Attributes:
        name: name in the registry that the network was built by.
        config: configuration that it was built from.
    """

    def __init__(self, name: str, config: NetworkConfig) -> None:
        super().__init__()
        self.name = name
        self.config = config

    def lower(self, dtype: torch.dtype) -> None:
        """Compute in `dtype` (bfloat16, float16) from now on, except in `config.exact_convolutions`."""
        self.to(dtype)

    def narrowed(self) -> TrackingNetwork:
        """The same network, sharing its weights, for smaller search regions (`config.narrow_size`) at the same scale.

        Raises:
            ConfigError: It works on one size alone (`config.narrow_size` is 0).
        """
        raise ConfigError(f"{self.name} has no smaller search region; expected a network whose narrow_size is not 0")

    def embed_template(self, template: Tensor) -> Tensor:
        """Template tokens [B, 2, template_tokens, width] (colour, auxiliary), kept for all frames of a target.

        Raises:
            NetworkInputError: wrong shape or dtype, NaN or infinity.
        """
        checks.require_image(template, "template", self.config.template_size, checks.compute_dtype(self))
        if checks.is_eager(template):
            checks.require_finite(template, "template")
        return self._embed(template)

    def track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None = None) -> HeadOutput:
        """Maps of the head, for one search region per sample.

        Args:
            template_tokens: what `embed_template` returned, same batch size.
            search: search regions.
            template_mask: [B, template_tokens] bool, which template tokens rank the search tokens; None = as
                `config.template_mask` says.

        Raises:
            NetworkInputError: wrong shape or dtype, tokens of another network; NaN or infinity on the CPU.
            EliminationError: a mask of wrong shape or dtype.
        """
        checks.require_image(search, "search", self.config.search_size, checks.compute_dtype(self))
        checks.require_template(template_tokens, search, self.config)
        if checks.is_eager(search) and search.device.type == "cpu":
            checks.require_finite(search, "search")
        return self._track(template_tokens, search, template_mask)

    def forward(self, template: Tensor, search: Tensor, template_mask: Tensor | None = None) -> HeadOutput:
        """`embed_template` and `track` in one call."""
        return self.track(self.embed_template(template), search, template_mask)

    def forward_train(
        self,
        template: Tensor,
        search: Tensor,
        *,
        template_mask: Tensor | None = None,
        keep_rate: float | None = None,
        masks: Any = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """The family's own training forward: `SDSTrackTraining` or `CKDTraining`.

        Args:
            template: template images.
            search: search regions, same batch size.
            template_mask: see `track`.
            keep_rate: share of search tokens that each elimination keeps; None = `config.ce_keep`, 1 = no elimination.
            masks: what is masked, as `draw_masks` returns it; None = drawn from `generator`.
            generator: CPU generator of the masks; None = PyTorch's own.

        Raises:
            NetworkInputError: wrong shape or dtype.
            CKDError: a CKD network that was built without teachers.
        """
        dtype = checks.compute_dtype(self)
        checks.require_image(template, "template", self.config.template_size, dtype)
        checks.require_image(search, "search", self.config.search_size, dtype)
        if masks is None:
            masks = self.draw_masks(template.shape[0], template.device, generator)
        rate = self.config.ce_keep if keep_rate is None else keep_rate
        return self._forward_train(template, search, template_mask, rate, masks)

    def draw_masks(self, batch: int, device: torch.device, generator: torch.Generator | None = None) -> Any:
        """What the training forward masks in a batch, in the family's form; drawn on the CPU, moved to `device`."""
        raise NotImplementedError

    def _ranking(self, template_mask: Tensor | None) -> Ranking | None:
        if not self.config.ce_blocks:
            return None
        return ranking_for(self.config.template_mask, self.config.template_grid, template_mask)

    def _embed(self, template: Tensor) -> Tensor:
        raise NotImplementedError

    def _track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None) -> HeadOutput:
        raise NotImplementedError

    def _forward_train(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None, keep_rate: float, masks: Any
    ) -> Any:
        raise NotImplementedError
