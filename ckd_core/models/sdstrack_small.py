"""`sdstrack_s128`: SDSTrack's design for robots without a GPU, on 64 px templates and 128 px search regions.

Both streams share a frozen ImageNet stem and a trained encoder, with adapters in the auxiliary stream. Template and
search region are compared by correlation at stride 8. Cross-modal stages and the usual centre head follow. Training
distils the clean path into one with masked cells, as SDSTrack does.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import nn

from ckd_core.models.config import SDSTrackSmallConfig
from ckd_core.models.layers.head import CenterHead
from ckd_core.models.layers.stem import FROZEN_CHANNELS, STEM_CHANNELS, FrozenStem
from ckd_core.models.network import TrackingNetwork
from ckd_core.models.sdstrack import PathOutput, SDSTrackTraining, TokenMasks, draw_token_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckd_core.models.config import NetworkConfig, SDSTrackMediumConfig
    from ckd_core.models.layers.head import HeadOutput

PRIOR_LOGIT = -4.0
CENTER_CELLS = 2  # template cells from the middle in each direction that certainly show the target


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
        trained = search.shape[1] - FROZEN_CHANNELS
        flat = search.flatten(2)  # [N, width, g * g]
        trained_maps = template[..., :trained] @ flat[:, :trained]  # [N, n, g * g]
        frozen_maps = template[..., trained:] @ flat[:, trained:]
        similar = torch.stack((trained_maps, frozen_maps), dim=1)  # [N, 2, n, g * g]
        middle = slice(self.template_grid // 2 - CENTER_CELLS, self.template_grid // 2 + CENTER_CELLS)
        square = (self.template_grid, self.template_grid)
        best = similar.reshape(n, 2, *square, g * g)[:, :, middle, middle].amax(dim=(2, 3))  # [N, 2, g * g]
        border = self.template_grid // 2
        padded = F.pad(similar.reshape(n, 2, -1, g, g), (border, border, border, border))
        aligned = padded.flatten(2).index_select(2, self.shift)  # [N, 2, n * g * g]
        maps = torch.cat((aligned.reshape(n, -1, g, g), best.reshape(n, 2, g, g)), dim=1) * self.temperature
        target = template.reshape(n, *square, -1)[:, middle, middle, :trained].mean(dim=(1, 2))[
            ..., None, None
        ]  # [N, trained, 1, 1]
        x = search[:, :trained] * self.temperature
        out: Tensor = self.mix(torch.cat((maps, x, x * target * self.temperature), dim=1))
        return out

    def stage(self, number: int, x: Tensor) -> Tensor:
        """Residual stage `number`."""
        y: Tensor = x + self.stages[number](x)
        if not self.stage_adapters:
            return y
        rgb, aux = y.chunk(2)
        return torch.cat((rgb, aux + self.stage_adapters[number](aux)))


def aligning_index(template_grid: int, grid: int) -> Tensor:
    """Flat indices that read [n, g, g] from padded maps [n, p, p]: cell (i, j)'s map moves by that cell's place."""
    padded = grid + 2 * (template_grid // 2)
    with torch.device("cpu"):  # not in weight files: it must also exist in a network built without storage
        i = torch.arange(template_grid).repeat_interleave(template_grid)[:, None, None]
        j = torch.arange(template_grid).repeat(template_grid)[:, None, None]
        y, x = torch.arange(grid)[None, :, None], torch.arange(grid)[None, None]
        plane = torch.arange(template_grid**2)[:, None, None] * padded * padded
        return (plane + (y + i) * padded + x + j).flatten()


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


class StemNetwork(TrackingNetwork):
    """Base of the networks with one frozen stem for both streams."""

    stem_class: ClassVar[type[FrozenStem]] = FrozenStem

    def __init__(self, name: str, config: NetworkConfig) -> None:
        super().__init__(name, config)
        self.stem = self.stem_class()

    def lower(self, dtype: torch.dtype) -> None:
        """See `TrackingNetwork`."""
        stem = copy.deepcopy(self.stem)
        self.to(dtype)
        stem.lower(dtype)
        self.stem = stem


class SDSTrackStemNetwork(StemNetwork):
    """What SDSTrack's networks on a stem share: both streams go through one encoder in one batch, colour first."""

    config: SDSTrackSmallConfig | SDSTrackMediumConfig

    def stem_features(self, images: Tensor) -> Tensor:
        """[B, 6, s, s] images to features of the stem [2 * B, C, s / stride, s / stride], colour first."""
        out: Tensor = self.stem(torch.cat((images[:, :3], images[:, 3:])))
        return out

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
