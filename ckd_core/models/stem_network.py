"""What the networks on a frozen stem share: precision, features of both streams, and SDSTrack's two paths."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar

import torch

from ckd_core.models.layers.stem import FrozenStem
from ckd_core.models.network import TrackingNetwork
from ckd_core.models.sdstrack import PathOutput, TokenMasks, draw_token_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckd_core.models.config import StemConfig
    from ckd_core.models.layers.head import HeadOutput


class StemNetwork(TrackingNetwork):
    """Base of the networks with one frozen stem for both streams."""

    config: StemConfig
    stem_class: ClassVar[type[FrozenStem]] = FrozenStem

    def __init__(self, name: str, config: StemConfig) -> None:
        super().__init__(name, config)
        self.stem = self.stem_class()

    def stem_features(self, images: Tensor) -> Tensor:
        """[B, 6, s, s] images to features of the stem [2 * B, C, s / stride, s / stride], colour first."""
        out: Tensor = self.stem(torch.cat((images[:, :3], images[:, 3:])))
        return out

    def lower(self, dtype: torch.dtype) -> None:
        """See `TrackingNetwork`."""
        stem = copy.deepcopy(self.stem)
        self.to(dtype)
        stem.lower(dtype)
        self.stem = stem


class SDSTrackStemNetwork(StemNetwork):
    """What SDSTrack's networks on a stem share: both streams go through one encoder in one batch, colour first."""

    def draw_masks(self, batch: int, device: torch.device, generator: torch.Generator | None = None) -> TokenMasks:
        """Cells that the masked path blanks; see `draw_token_masks`."""
        return draw_token_masks(self.config, batch, device, generator)

    def _encode(self, images: Tensor) -> Tensor:
        """[B, 6, s, s] images to features of the encoder [2 * B, width, h, w]."""
        raise NotImplementedError

    def _locate(self, template_tokens: Tensor, search: Tensor) -> HeadOutput:
        """Tokens [B, 2, n, width] and encoded search region [2 * B, width, g, g] to the head's maps."""
        raise NotImplementedError

    @staticmethod
    def _tokens(features: Tensor) -> Tensor:
        """[2 * B, width, h, w] to [B, 2, h * w, width]."""
        return torch.stack(features.flatten(2).transpose(1, 2).chunk(2), dim=1)

    def _embed(self, template: Tensor) -> Tensor:
        return self._tokens(self._encode(template))

    def _track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None) -> HeadOutput:
        del template_mask  # the whole template is compared
        return self._locate(template_tokens, self._encode(search))

    def _visible_cells(self, masks: TokenMasks, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """0 / 1 factors of template [2 * B, 1, n, n] and search region [2 * B, 1, g, g]: 0 where a cell is blanked."""
        n, g = self.config.template_grid, self.config.grid
        template = ~torch.cat((masks.rgb_template, masks.aux_template))
        search = ~torch.cat((masks.rgb_search, masks.aux_search))
        return template.to(dtype).view(-1, 1, n, n), search.to(dtype).view(-1, 1, g, g)


def path_output(head: HeadOutput, stages: Sequence[Tensor]) -> PathOutput:
    """One path of a training forward out of stages [2 * B, mix, g, g]; without elimination positions stay empty."""
    merged = tuple(torch.cat(s.flatten(2).transpose(1, 2).chunk(2), dim=1) for s in stages)
    nothing = (None,) * len(merged)
    return PathOutput(head, merged, nothing, nothing, (), ())
