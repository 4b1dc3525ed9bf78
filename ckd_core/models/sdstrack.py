"""SDSTrack (CVPR 2024): one frozen colour tracker serves both streams; adapters fit it to the auxiliary one.

Both streams are one batch, [colour; auxiliary] on the first axis, through the shared blocks. In a cross-modal stage
a token attends only to the other modality, so its keys and values are swapped between the halves: no mask is needed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from ckd_core.models.config import SDSTrackConfig
from ckd_core.models.layers.elimination import Ranking, Tokens, refill
from ckd_core.models.layers.head import CenterHead, HeadOutput, to_map
from ckd_core.models.layers.vit import (
    NORM_EPS,
    Block,
    PatchEmbed,
    attend,
    draw_normal,
    drop_path_rates,
    initialise,
    zeros_table,
)
from ckd_core.models.network import TrackingNetwork

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.models.config import StemConfig


class TokenMasks(NamedTuple):
    """Tokens that the masked path of training blanks, bool, True = blanked; [B, template or search tokens]."""

    rgb_template: Tensor
    aux_template: Tensor
    rgb_search: Tensor
    aux_search: Tensor


class PathOutput(NamedTuple):
    """One path of a training forward.

    Attributes:
        head: Its maps.
        stages: Tokens [B, 2 * (template + n), width] after every cross-modal stage, colour first.
        rgb_position: Per stage, search-grid position [B, n] of each colour search token; None before an elimination.
        aux_position: The same of the auxiliary stream.
        rgb_removed: Per elimination, positions [B, k] in falling order of attention.
        aux_removed: The same of the auxiliary stream.
    """

    head: HeadOutput
    stages: tuple[Tensor, ...]
    rgb_position: tuple[Tensor | None, ...]
    aux_position: tuple[Tensor | None, ...]
    rgb_removed: tuple[Tensor, ...]
    aux_removed: tuple[Tensor, ...]


class SDSTrackTraining(NamedTuple):
    """Training forward: the clean path, the masked path, and what was masked."""

    fine: PathOutput
    masked: PathOutput
    masks: TokenMasks


class Adapter(nn.Module):
    """Bottleneck [.., width] to [.., width]; the skip connection is the caller's."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.D_fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """The bottleneck's output."""
        out: Tensor = self.D_fc2(self.act(self.D_fc1(x)))
        return out


class SDSTrackBlock(Block):
    """Shared block over both streams, [2 * B, N, width], colour first.

    The auxiliary half goes through its two adapters; `cross` is the cross-modal stage with the other two. Either pair
    may be left out (`SDSTrackConfig.adapters`).
    """

    def __init__(self, config: SDSTrackConfig, drop_path: float, has_cross: bool) -> None:
        super().__init__(config, drop_path)
        width, hidden = config.width, int(config.width * config.adapter_ratio)
        self.rgb_mlp_drop_path = config.rgb_mlp_drop_path
        self.has_stream_adapters = config.adapters in ("both", "stream")
        self.has_cross_adapters = config.adapters in ("both", "cross")
        if self.has_stream_adapters:
            self.MLP_X_DTE_Adapter = Adapter(width, hidden)
            self.Space_X_DTE_Adapter = Adapter(width, hidden)
        if self.has_cross_adapters and (has_cross or not config.compact):
            self.MLP_X_X_DTE_Adapter = Adapter(width, hidden)
            self.Space_X_X_DTE_Adapter = Adapter(width, hidden)

    def attend(self, x: Tensor, ranking: Ranking | None, n_template: int) -> tuple[Tensor, Tensor | None]:
        """First residual; the auxiliary half of the attention result passes its adapter."""
        y, rows = self.attn(self.norm1(x), ranking, n_template)  # [2B, N, C]
        if self.has_stream_adapters:
            rgb, aux = y.chunk(2)
            y = torch.cat((rgb, aux + self.Space_X_DTE_Adapter(aux)))
        out: Tensor = x + self.drop_path(y)
        return out, rows

    def feed(self, x: Tensor) -> Tensor:
        """Second residual; beside the MLP of the auxiliary half runs its adapter at half weight."""
        n = self.norm2(x)  # [2B, N, C]
        rgb, aux = self.mlp(n).chunk(2)
        if self.has_stream_adapters:
            aux = torch.add(aux, self.MLP_X_DTE_Adapter(n.chunk(2)[1]), alpha=0.5)
        both = (
            self.drop_path(torch.cat((rgb, aux))) if self.rgb_mlp_drop_path else torch.cat((rgb, self.drop_path(aux)))
        )
        return x + both

    def cross(self, x: Tensor) -> Tensor:
        """Cross-modal stage over [2 * B, N, width]: each token attends to all tokens of the other modality alone."""
        half = x.shape[0] // 2
        q, k, v = self.attn.split(self.norm1(x))
        y = self.attn.merge(attend(q, k.roll(half, 0), v.roll(half, 0)))
        if not self.has_cross_adapters:
            x = x + self._drop_pairs(y)
            return x + self._drop_pairs(self.mlp(self.norm2(x)))
        x = x + self._drop_pairs(y + self.Space_X_X_DTE_Adapter(y))
        n = self.norm2(x)
        return x + self._drop_pairs(torch.add(self.mlp(n), self.MLP_X_X_DTE_Adapter(n), alpha=0.5))

    def _drop_pairs(self, y: Tensor) -> Tensor:
        """Stochastic depth that treats both modalities of a sample alike: in a cross stage they are one sequence."""
        pairs = y.reshape(2, -1, *y.shape[1:]).transpose(0, 1)  # [B, 2, N, C]
        dropped: Tensor = self.drop_path(pairs)
        return dropped.transpose(0, 1).flatten(0, 1)


class SDSTrackBackbone(nn.Module):
    """Patch embeddings, position tables and blocks under their published names.

    `cls_token`, `pos_embed` and the two `_dte` tables are in every published file and never run.
    """

    def __init__(self, config: SDSTrackConfig) -> None:
        super().__init__()
        width = config.width
        side = 224 // config.stride  # the ImageNet image that the unused tables were made for
        self.cls_token = zeros_table(1, width)
        self.pos_embed = zeros_table(side * side + 1, width)
        self.pos_embed_z = zeros_table(config.template_tokens, width)
        self.pos_embed_x = zeros_table(config.search_tokens, width)
        self.pos_embed_z_z_dte = zeros_table(2 * config.template_tokens, width)
        self.pos_embed_x_x_dte = zeros_table(2 * config.search_tokens, width)
        self.patch_embed = PatchEmbed(config.stride, width)
        self.patch_embed_multimodal = PatchEmbed(config.stride, width)
        rates = drop_path_rates(config)
        self.blocks = nn.ModuleList(
            SDSTrackBlock(config, rate, i in config.cross_blocks) for i, rate in enumerate(rates)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.apply(initialise)
        draw_normal(self.cls_token)
        draw_normal(self.pos_embed)

    def patches(self, image: Tensor) -> Tensor:
        """Patch tokens of both modalities before positions: [2 * B, N, width]."""
        return torch.cat((self.patch_embed(image[:, :3]), self.patch_embed_multimodal(image[:, 3:])))


class SDSTrack(TrackingNetwork):
    """SDSTrack; parameters are those of the published files, see `TrackingNetwork` for the calls."""

    config: SDSTrackConfig

    def __init__(self, name: str, config: SDSTrackConfig) -> None:
        super().__init__(name, config)
        self.backbone = SDSTrackBackbone(config)
        self.box_head = CenterHead(config.width, config.head_channels)

    def _embed(self, template: Tensor) -> Tensor:
        tokens = self.backbone.patches(template) + self.backbone.pos_embed_z  # [2B, nz, C]
        return torch.stack(tokens.chunk(2), dim=1)  # [B, 2, nz, C]

    def _track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None) -> HeadOutput:
        template = template_tokens.transpose(0, 1).flatten(0, 1)  # [2B, nz, C]
        x = torch.cat((template, self.backbone.patches(search) + self.backbone.pos_embed_x), dim=1)  # [2B, nz + nx, C]
        tokens, _ = self._encode(x, self._ranking(template_mask), self.config.ce_keep)
        return self._decode(tokens)

    def _encode(self, x: Tensor, ranking: Ranking | None, rate: float) -> tuple[Tokens, list[Tokens]]:
        """Tokens after all blocks, and those after every cross-modal stage."""
        if ranking is not None and ranking.weights is not None:
            ranking = ranking._replace(weights=ranking.weights.repeat(x.shape[0] // ranking.weights.shape[0], 1))
        n_template = self.config.template_tokens
        tokens, stages = Tokens(x), []
        for i, module in enumerate(self.backbone.blocks):
            block = cast("SDSTrackBlock", module)
            tokens = block(tokens, ranking if i in self.config.ce_blocks else None, n_template, rate)
            if i in self.config.cross_blocks:
                tokens = tokens._replace(x=block.cross(tokens.x))
                stages.append(tokens)
        return tokens, stages

    def _decode(self, tokens: Tokens) -> HeadOutput:
        search = tokens.x[:, self.config.template_tokens :]
        rgb, aux = refill(search, tokens.position, self.config.search_tokens).chunk(2)  # [B, nx, C]
        features = self.backbone.norm((rgb + aux) / 2)
        output: HeadOutput = self.box_head(to_map(features, self.config.grid))
        return output

    def compact(self) -> SDSTrack:
        """Drop, in place, the cross-modal adapters that never run (4.73 M parameters of the published model).

        Outputs are the same. The weights then no longer fit the published layout; the configuration says so.
        """
        for i, module in enumerate(self.backbone.blocks):
            if i not in self.config.cross_blocks and hasattr(module, "MLP_X_X_DTE_Adapter"):
                del module.MLP_X_X_DTE_Adapter, module.Space_X_X_DTE_Adapter
        self.config = replace(self.config, compact=True)
        return self

    def draw_masks(self, batch: int, device: torch.device, generator: torch.Generator | None = None) -> TokenMasks:
        """Tokens that the masked path blanks; see `draw_token_masks`."""
        return draw_token_masks(self.config, batch, device, generator)

    def _forward_train(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None, keep_rate: float, masks: TokenMasks
    ) -> SDSTrackTraining:
        """Clean and masked path over the same images, as one batch of 2 * B samples."""
        z = self._both_paths(self.backbone.patches(template), masks.rgb_template, masks.aux_template)
        x = self._both_paths(self.backbone.patches(search), masks.rgb_search, masks.aux_search)  # [4B, nx, C]
        joined = torch.cat((z + self.backbone.pos_embed_z, x + self.backbone.pos_embed_x), dim=1)
        tokens, stages = self._encode(joined, self._ranking(template_mask), keep_rate)
        output = self._decode(tokens)  # maps of 2 * B: clean, masked
        return SDSTrackTraining(_path(0, output, tokens, stages), _path(1, output, tokens, stages), masks)

    @staticmethod
    def _both_paths(patches: Tensor, rgb_mask: Tensor, aux_mask: Tensor) -> Tensor:
        """[2B, N, C] of both modalities to [4B, N, C]: colour clean, masked, auxiliary clean, masked."""
        rgb, aux = patches.chunk(2)
        return torch.cat((rgb, rgb * ~rgb_mask[:, :, None], aux, aux * ~aux_mask[:, :, None]))


def draw_token_masks(
    config: SDSTrackConfig | StemConfig,
    batch: int,
    device: torch.device,
    generator: torch.Generator | None,
) -> TokenMasks:
    """Masks of one training batch: drawn on the CPU in the order of `TokenMasks`, disjoint between modalities."""

    def draw(tokens: int) -> tuple[Tensor, Tensor]:
        rgb = torch.rand(batch, tokens, generator=generator) < config.mask_ratio
        aux = torch.rand(batch, tokens, generator=generator) < config.mask_ratio
        return rgb.to(device), (aux & ~rgb).to(device)

    rgb_template, aux_template = draw(config.template_tokens)
    rgb_search, aux_search = draw(config.search_tokens)
    return TokenMasks(rgb_template, aux_template, rgb_search, aux_search)


def _path(path: int, output: HeadOutput, tokens: Tokens, stages: list[Tokens]) -> PathOutput:
    """One path out of the joint batch [colour clean, colour masked, auxiliary clean, auxiliary masked]."""

    def halves(tensor: Tensor) -> tuple[Tensor, Tensor]:
        parts = tensor.chunk(4)
        return parts[path], parts[path + 2]

    def positions(side: int) -> tuple[Tensor | None, ...]:
        return tuple(None if stage.position is None else halves(stage.position)[side] for stage in stages)

    return PathOutput(
        head=HeadOutput(*(maps.chunk(2)[path] for maps in output)),
        stages=tuple(torch.cat(halves(stage.x), dim=1) for stage in stages),
        rgb_position=positions(0),
        aux_position=positions(1),
        rgb_removed=tuple(halves(removed)[0] for removed in tokens.removed),
        aux_removed=tuple(halves(removed)[1] for removed in tokens.removed),
    )


ROWS = {
    "sdstrack_b256": (SDSTrack, SDSTrackConfig()),
    "sdstrack_tiny_test": (
        SDSTrack,
        SDSTrackConfig(
            template_size=64,
            search_size=128,
            width=48,
            depth=4,
            heads=3,
            head_channels=32,
            ce_blocks=(1, 2),
            cross_blocks=(1, 3),
        ),
    ),
}
