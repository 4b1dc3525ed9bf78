"""`sdstrack_s128`: SDSTrack's design for robots without a GPU, on 64 px templates and 128 px search regions.

Both streams share a frozen ImageNet stem and a trained encoder, with adapters in the auxiliary stream. Template and
search region are compared by correlation at stride 8. Cross-modal stages and the usual centre head follow. Training
distils the clean path into one with masked cells, as SDSTrack does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ckd_core.models.config import SDSTrackSmallConfig
from ckd_core.models.layers.head import CenterHead
from ckd_core.models.layers.stem import FROZEN_CHANNELS, STEM_CHANNELS
from ckd_core.models.layers.streams import (
    ConvAdapter,
    CrossStage,
    align,
    aligning_index,
    conv_norm,
    expect_few_targets,
    similarities,
)
from ckd_core.models.sdstrack import SDSTrackTraining
from ckd_core.models.stem_network import SDSTrackStemNetwork, path_output

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.models.layers.head import HeadOutput
    from ckd_core.models.sdstrack import TokenMasks

CENTER_CELLS = 2  # template cells from the middle in each direction that certainly show the target


class StreamEncoder(nn.Module):
    """Features, correlation and mixing of streams that share weights: everything between stem and fusion.

    Args:
        config: configuration of the network.
        adapted: whether the second half of a batch (the auxiliary stream) goes through adapters.
    """

    shift: Tensor

    def __init__(self, config: SDSTrackSmallConfig, adapted: bool) -> None:
        super().__init__()
        trained, mix = config.trained_channels, config.mix_channels
        self.grid, self.template_grid = config.grid, config.template_grid
        self.whiten = nn.BatchNorm2d(STEM_CHANNELS, affine=False)
        self.neck = conv_norm(STEM_CHANNELS, trained, 1)
        self.neck2 = conv_norm(trained, trained, 3)
        self.embed = nn.Conv2d(trained, trained, 1)
        maps = 2 * config.template_tokens + 2
        self.mix = conv_norm(maps + 2 * trained, mix, 1)
        self.stages = nn.ModuleList(conv_norm(mix, mix, 3) for _ in range(config.depth))
        ratio = config.adapter_ratio
        self.stem_adapter = ConvAdapter(STEM_CHANNELS, ratio) if adapted else None
        self.stage_adapters = nn.ModuleList(ConvAdapter(mix, ratio) for _ in range(config.depth if adapted else 0))
        self.temperature = nn.Parameter(torch.tensor(8.0))
        self.register_buffer("shift", aligning_index(self.template_grid, self.grid), persistent=False)

    def features(self, stem: Tensor, keep: Tensor | None = None) -> Tensor:
        """[N, 192, h, w] of the stem to tokens [N, width, h, w]: trained channels, then frozen ones; unit length each.

        Args:
            stem: features of the stem.
            keep: [N, 1, h, w] 0 / 1, cells that stay.
        """
        x: Tensor = self.whiten(stem)
        if keep is not None:
            x = x * keep
        plain = x
        if self.stem_adapter is not None:
            rgb, aux = x.chunk(2)
            x = torch.cat((rgb, aux + self.stem_adapter(aux)))
        y = self.neck(x)
        y = self.embed(y + self.neck2(y))
        return torch.cat((F.normalize(y, dim=1), F.normalize(plain[:, -FROZEN_CHANNELS:], dim=1)), dim=1)

    def correlate(self, template: Tensor, search: Tensor) -> Tensor:
        """Compare template tokens [N, n, width] with search features [N, width, g, g]: [N, mix, g, g].

        Each template cell's similarity map is moved by that cell's place in the template, so that all maps of one
        rigid target peak at its centre.
        """
        n, g = search.shape[0], self.grid
        similar = torch.stack(similarities(template, search), dim=1)  # [N, 2, n, g * g]
        middle = slice(self.template_grid // 2 - CENTER_CELLS, self.template_grid // 2 + CENTER_CELLS)
        square = (self.template_grid, self.template_grid)
        best = similar.reshape(n, 2, *square, g * g)[:, :, middle, middle].amax(dim=(2, 3))  # [N, 2, g * g]
        aligned = align(similar, self.shift, self.template_grid, g)
        maps = torch.cat((aligned, best.reshape(n, 2, g, g)), dim=1) * self.temperature
        target = template.reshape(n, *square, -1)[:, middle, middle, :-FROZEN_CHANNELS].mean(dim=(1, 2))
        x = search[:, :-FROZEN_CHANNELS] * self.temperature
        out: Tensor = self.mix(torch.cat((maps, x, x * target[..., None, None] * self.temperature), dim=1))
        return out

    def stage(self, number: int, x: Tensor) -> Tensor:
        """Residual stage `number`."""
        y: Tensor = x + self.stages[number](x)
        if not self.stage_adapters:
            return y
        rgb, aux = y.chunk(2)
        return torch.cat((rgb, aux + self.stage_adapters[number](aux)))


class SDSTrackSmall(SDSTrackStemNetwork):
    """SDSTrack's design at 64 / 128 px: one trained encoder over a frozen stem serves both streams."""

    config: SDSTrackSmallConfig

    def __init__(self, name: str, config: SDSTrackSmallConfig) -> None:
        super().__init__(name, config)
        mix = config.mix_channels
        self.encoder = StreamEncoder(config, adapted=True)
        self.cross = nn.ModuleList(CrossStage(mix, config.adapter_ratio) for _ in range(config.depth))
        self.weigh = nn.Conv2d(2 * mix, mix, 1)
        self.trunk = conv_norm(mix, mix, 3)
        self.box_head = CenterHead(mix, config.head_channels)
        expect_few_targets(self.box_head)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder.features(self.stem_features(images))

    def _locate(self, template_tokens: Tensor, search: Tensor) -> HeadOutput:
        return self._decode(template_tokens, search)[0]

    def _decode(self, template_tokens: Tensor, search: Tensor) -> tuple[HeadOutput, list[Tensor]]:
        template = torch.cat((template_tokens[:, 0], template_tokens[:, 1]))  # [2B, n, width]
        x = self.encoder.correlate(template, search)
        stages = []
        for number, cross in enumerate(self.cross):
            x = cross(self.encoder.stage(number, x))
            stages.append(x)
        rgb, aux = x.chunk(2)
        share = torch.sigmoid(self.weigh(torch.cat((rgb, aux), dim=1)))
        fused = aux + share * (rgb - aux)
        return self.box_head(fused + self.trunk(fused)), stages

    def _forward_train(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None, keep_rate: float, masks: TokenMasks
    ) -> SDSTrackTraining:
        """Clean and masked path over the same images; without elimination there is nothing to rank or to keep."""
        del template_mask, keep_rate
        z, x = self.stem_features(template), self.stem_features(search)
        keep_z, keep_x = self._visible_cells(masks, z.dtype)
        paths = []
        for mask_z, mask_x in ((None, None), (keep_z, keep_x)):
            tokens = self._tokens(self.encoder.features(z, mask_z))
            head, stages = self._decode(tokens, self.encoder.features(x, mask_x))
            paths.append(path_output(head, stages))
        return SDSTrackTraining(paths[0], paths[1], masks)


ROWS = {"sdstrack_s128": (SDSTrackSmall, SDSTrackSmallConfig())}
