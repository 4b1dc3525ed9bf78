"""`sdstrack_m256`: SDSTrack's design at 128 / 256 px, in crops stretched so that the box they are cut around is square.

The same template cells lie inside every target (`square_boxes`), and width and height are learnt as factors of the
believed box's. One frozen ImageNet stem serves both streams; trained are an encoder with adapters in the auxiliary
stream, cross-modal stages, and a fusion weighted by each camera's confidence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from ckd_core.models.config import SDSTrackMediumConfig
from ckd_core.models.layers.head import EDGE, HeadOutput
from ckd_core.models.layers.stem import COARSE_CHANNELS, FROZEN_CHANNELS, CoarseStem
from ckd_core.models.layers.streams import (
    PRIOR_LOGIT,
    ConvAdapter,
    CrossStage,
    align,
    aligning_index,
    conv_norm,
    similarities,
)
from ckd_core.models.sdstrack import SDSTrackTraining
from ckd_core.models.stem_network import SDSTrackStemNetwork, path_output

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.models.layers.stem import FrozenStem
    from ckd_core.models.sdstrack import TokenMasks

KERNEL_SIZE = 5  # cells, of a stage's depth-wise convolution
MAX_LOG_FACTOR = 1.5  # of a predicted size


class Stage(nn.Module):
    """Residual stage: a depth-wise convolution, then two pointwise ones."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.up = nn.Conv2d(channels, int(channels * ratio), 1)
        self.down = nn.Conv2d(int(channels * ratio), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, g, g] to the same shape."""
        out: Tensor = x + self.down(F.relu(self.up(self.norm(self.filter(x)))))
        return out


class MediumEncoder(nn.Module):
    """Features, correlation and mixing of both streams, colour in the first half of a batch."""

    shift: Tensor
    target_cells: Tensor
    context_cells: Tensor

    def __init__(self, config: SDSTrackMediumConfig) -> None:
        super().__init__()
        trained, mix, cells = config.trained_channels, config.mix_channels, config.template_tokens
        self.grid, self.template_grid = config.grid, config.template_grid
        self.channel_drop, self.feature_noise = config.channel_drop, config.feature_noise
        self.whiten = nn.BatchNorm2d(COARSE_CHANNELS, affine=False)
        self.stem_adapter = ConvAdapter(COARSE_CHANNELS, config.adapter_ratio)
        self.neck = conv_norm(COARSE_CHANNELS, trained, 1)
        self.neck2 = conv_norm(trained, trained, 3)
        self.embed = nn.Conv2d(trained, trained, 1)
        self.value = nn.Linear(config.width, config.read_channels)
        self.place = nn.Parameter(torch.randn(cells, config.read_channels) * 0.5)
        self.mix = conv_norm(2 * cells + 4 + 2 * trained + config.read_channels, mix, 1)
        self.stages = nn.ModuleList(Stage(mix, config.mlp_ratio) for _ in range(config.depth))
        self.stage_adapters = nn.ModuleList(ConvAdapter(mix, config.adapter_ratio) for _ in range(config.depth))
        self.temperature = nn.Parameter(torch.tensor(8.0))
        self.sharpness = nn.Parameter(torch.tensor(10.0))
        self.register_buffer("shift", aligning_index(self.template_grid, self.grid), persistent=False)
        edge = round(self.template_grid * (1 - 1 / config.template_factor) / 2)  # a template is mostly context
        inside = torch.zeros(self.template_grid, self.template_grid, dtype=torch.bool, device="cpu")
        inside[edge : self.template_grid - edge, edge : self.template_grid - edge] = True
        self.register_buffer("target_cells", inside.flatten().nonzero().flatten(), persistent=False)
        self.register_buffer("context_cells", (~inside).flatten().nonzero().flatten(), persistent=False)

    def channel_dropout(self, count: int, like: Tensor) -> Tensor | None:
        """Factors [count, C, 1, 1] on the stem's channels for one training forward; None outside training."""
        if not self.training or self.channel_drop == 0:
            return None
        keep = torch.rand(count, COARSE_CHANNELS, 1, 1, device=like.device) >= self.channel_drop
        return keep.to(like.dtype) / (1 - self.channel_drop)

    def features(self, stem: Tensor, keep: Tensor | None = None, channels: Tensor | None = None) -> Tensor:
        """[N, 288, h, w] of the stem to tokens [N, width, h, w]: trained channels, then frozen ones; unit length each.

        Args:
            stem: features of the stem.
            keep: [N, 1, h, w] 0 / 1, cells that stay.
            channels: factors on the stem's channels, see `channel_dropout`.
        """
        x: Tensor = self.whiten(stem)
        if self.training and self.feature_noise > 0:
            x = x + torch.randn_like(x) * self.feature_noise
        for factor in (channels, keep):
            if factor is not None:
                x = x * factor
        plain = x
        rgb, aux = x.chunk(2)
        y = self.neck(torch.cat((rgb, aux + self.stem_adapter(aux))))
        y = self.embed(y + self.neck2(y))
        return torch.cat((F.normalize(y, dim=1), F.normalize(plain[:, -FROZEN_CHANNELS:], dim=1)), dim=1)

    def correlate(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        """Compare template tokens [N, n, width] with search features [N, width, g, g].

        Each template cell's similarity map is moved by that cell's place in the template, so that all maps of one
        target peak at its centre. Besides, every search cell attends to the template cells that it resembles and reads
        their features and places: a cell like the target's left edge shows where the box begins.

        Returns:
            The mixture [N, mix, g, g], and the cosines of the trained channels [N, n, g * g].
        """
        n, g = search.shape[0], self.grid
        trained_maps, frozen_maps = similarities(template, search)
        similar = torch.stack((trained_maps, frozen_maps), dim=1)  # [N, 2, n, g * g]
        best = similar.index_select(2, self.target_cells).amax(dim=2)  # [N, 2, g * g]
        around = similar.index_select(2, self.context_cells).amax(dim=2)
        aligned = align(similar, self.shift, self.template_grid, g)
        maps = torch.cat((aligned, best.reshape(n, 2, g, g), around.reshape(n, 2, g, g)), dim=1)
        # one distribution over the template cells per search cell
        weights = torch.softmax((trained_maps + frozen_maps) * self.sharpness, dim=1)
        value = self.value(template) + self.place  # [N, n, read]
        read = (value.transpose(1, 2) @ weights).reshape(n, -1, g, g)
        target = template.index_select(1, self.target_cells)[..., :-FROZEN_CHANNELS].mean(dim=1)  # [N, trained]
        x = search[:, :-FROZEN_CHANNELS] * self.temperature
        parts = (maps * self.temperature, x, x * target[..., None, None] * self.temperature, read)
        return self.mix(torch.cat(parts, dim=1)), trained_maps

    def stage(self, number: int, x: Tensor) -> Tensor:
        """Residual stage `number`."""
        y: Tensor = self.stages[number](x)
        rgb, aux = y.chunk(2)
        return torch.cat((rgb, aux + self.stage_adapters[number](aux)))


class FactorHead(nn.Module):
    """Score, centre offset, and width and height as factors of the believed box; maps are float32.

    Args:
        channels: Channels of the input.
        width: Channels of the hidden layers.
        believed_side: Side of the believed box as a share of the crop's.
    """

    def __init__(self, channels: int, width: int, believed_side: float) -> None:
        super().__init__()
        self.believed_side = believed_side

        def tower(outputs: int) -> nn.Sequential:
            return nn.Sequential(
                conv_norm(channels, width, 3), conv_norm(width, width, 3), nn.Conv2d(width, outputs, 1)
            )

        self.score, self.box = tower(1), tower(4)
        nn.init.constant_(cast("Tensor", self.score[-1].bias), PRIOR_LOGIT)
        nn.init.zeros_(cast("Tensor", self.box[-1].weight))  # at first: the believed box
        nn.init.zeros_(cast("Tensor", self.box[-1].bias))

    def forward(self, features: Tensor) -> HeadOutput:
        """Maps over the grid of `features`."""
        score = self.score(features).float().sigmoid().clamp(EDGE, 1 - EDGE)
        box = self.box(features).float()
        factor = (MAX_LOG_FACTOR * torch.tanh(box[:, 2:] / MAX_LOG_FACTOR)).exp()
        return HeadOutput(score, factor * self.believed_side, box[:, :2])


class MediumOutput(NamedTuple):
    """One forward of training.

    Attributes:
        head: Maps of both streams together.
        confidence: [2 * B, 1, g, g] logits of each stream's own score, colour first.
        stages: [2 * B, mix, g, g] after each cross-modal stage.
        similar: [2 * B, n, g * g] cosines of the trained channels, each template cell with each search cell.
    """

    head: HeadOutput
    confidence: Tensor
    stages: tuple[Tensor, ...]
    similar: Tensor


class SDSTrackMedium(SDSTrackStemNetwork):
    """SDSTrack's design at 128 / 256 px over a frozen stem."""

    config: SDSTrackMediumConfig
    stem_class: ClassVar[type[FrozenStem]] = CoarseStem

    def __init__(self, name: str, config: SDSTrackMediumConfig) -> None:
        super().__init__(name, config)
        mix = config.mix_channels
        self.encoder = MediumEncoder(config)
        self.cross = nn.ModuleList(CrossStage(mix, config.adapter_ratio) for _ in range(config.depth - 1))
        self.confidence = nn.Conv2d(mix, 1, 1)
        nn.init.constant_(cast("Tensor", self.confidence.bias), PRIOR_LOGIT)
        self.weigh = nn.Conv2d(2 * mix + 4, mix, 1)
        self.trunk = conv_norm(mix, mix, 3)
        self.box_head = FactorHead(mix, config.head_channels, 1 / config.search_factor)

    def narrowed(self) -> SDSTrackMedium:
        """See `TrackingNetwork`. Nothing but the head's scale and the index of `align` depends on the grid."""
        side = self.config.narrow_size
        factor = self.config.search_factor * side / self.config.search_size
        other = type(self)(self.name, replace(self.config, search_size=side, search_factor=factor))
        other.to(next(self.parameters()).device).load_state_dict(self.state_dict(), assign=True)
        other.stem = self.stem
        return other.train(self.training)

    def stem_features(self, images: Tensor) -> Tensor:
        """[B, 6, s, s] images, or [B, 2 * 288, h, w] features of a cache, to [2 * B, 288, h, w], colour first."""
        if images.shape[1] == 2 * COARSE_CHANNELS:
            return torch.cat(images.float().chunk(2, dim=1))
        return super().stem_features(images)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder.features(self.stem_features(images))

    def _locate(self, template_tokens: Tensor, search: Tensor) -> HeadOutput:
        return self._decode(template_tokens, search).head

    def _decode(self, template_tokens: Tensor, search: Tensor) -> MediumOutput:
        template = torch.cat((template_tokens[:, 0], template_tokens[:, 1]))  # [2B, n, width]
        mixture, similar = self.encoder.correlate(template, search)
        x = self.encoder.stage(0, mixture)
        confidence: Tensor = self.confidence(x)  # before the first exchange between the streams
        stages = []
        for number, cross in enumerate(self.cross):
            x = cross(x)
            stages.append(x)
            x = self.encoder.stage(number + 1, x)
        rgb, aux = x.chunk(2)
        peak = confidence.amax(dim=(2, 3), keepdim=True).expand_as(confidence)
        scores = torch.cat((*confidence.chunk(2), *peak.chunk(2)), dim=1)  # [B, 4, g, g]
        share = torch.sigmoid(self.weigh(torch.cat((rgb, aux, scores), dim=1)))
        fused = aux + share * (rgb - aux)
        return MediumOutput(self.box_head(fused + self.trunk(fused)), confidence, tuple(stages), similar)

    def see(self, template: Tensor, search: Tensor, masks: TokenMasks | None = None) -> MediumOutput:
        """One forward over images or stem features (see `stem_features`); `masks` blanks cells of both streams."""
        z, x = self.stem_features(template), self.stem_features(search)
        channels = self.encoder.channel_dropout(len(z), z)
        keep_z = keep_x = None
        if masks is not None:
            keep_z, keep_x = self._visible_cells(masks, z.dtype)
        tokens = self._tokens(self.encoder.features(z, keep_z, channels))
        return self._decode(tokens, self.encoder.features(x, keep_x, channels))

    def _forward_train(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None, keep_rate: float, masks: TokenMasks
    ) -> SDSTrackTraining:
        """Clean and masked path over the same images; without elimination there is nothing to rank or to keep."""
        del template_mask, keep_rate
        paths = []
        for path_masks in (None, masks):
            output = self.see(template, search, path_masks)
            paths.append(path_output(output.head, output.stages))
        return SDSTrackTraining(paths[0], paths[1], masks)


ROWS = {"sdstrack_m256": (SDSTrackMedium, SDSTrackMediumConfig())}
