"""Both networks restated plainly, in the order in which the published trackers compute: the reference of the bench.

Every attention matrix is computed whole, streams run one after the other, the cross-modal stage masks one long
sequence, the template is embedded again in each frame. Weights are those of a network of this package. Own code,
written from the papers and docs/trackers.md; only for comparison, tracking never uses it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch

from ckd_core.modality import to_network_image
from ckd_core.models.layers.elimination import template_spans
from ckd_core.models.normalisation import IMAGE_MEAN, IMAGE_STD

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.models.layers.head import HeadOutput


class Stream(NamedTuple):
    """Tokens [B, template + n, C] and the search-grid position [B, n] of each search token."""

    x: Tensor
    cell: Tensor


def attention(layer: Any, x: Tensor, blocked: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention result and the whole matrix [B, heads, N, N]; `blocked` [N, N] marks pairs that must not meet."""
    b, n, c = x.shape
    q, k, v = layer.qkv(x).reshape(b, n, 3, layer.heads, c // layer.heads).permute(2, 0, 3, 1, 4)
    logits = (q @ k.transpose(-2, -1)) * (c // layer.heads) ** -0.5
    if blocked is not None:
        logits = logits.masked_fill(blocked, float("-inf"))
    matrix = logits.softmax(dim=-1)
    return layer.proj((matrix @ v).transpose(1, 2).reshape(b, n, c)), matrix


def eliminate(stream: Stream, matrix: Tensor, config: Any) -> Stream:
    """Keep the search tokens that the chosen template queries attend to most."""
    n_template = config.template_tokens
    chosen = torch.zeros(n_template, dtype=torch.bool, device=matrix.device)
    for first, end in template_spans(config.template_mask, config.template_grid):
        chosen[first:end] = True
    n = matrix.shape[-1] - n_template
    keep = math.ceil(config.ce_keep * n)
    if keep == n:
        return stream
    scores = matrix[:, :, :n_template, n_template:][:, :, chosen].mean(dim=2).mean(dim=1)  # [B, n]
    order = torch.sort(scores, dim=1, descending=True)[1][:, :keep]
    search = stream.x[:, n_template:].gather(1, order.unsqueeze(-1).expand(-1, -1, stream.x.shape[2]))
    return Stream(torch.cat([stream.x[:, :n_template], search], dim=1), stream.cell.gather(1, order))


def refill(stream: Stream, config: Any) -> Tensor:
    """Template tokens and all search tokens in order, [B, template + search, C]; removed ones are zeros."""
    template, search = stream.x[:, : config.template_tokens], stream.x[:, config.template_tokens :]
    removed = config.search_tokens - search.shape[1]
    if removed:
        b, _, c = search.shape
        everywhere = torch.arange(config.search_tokens, device=search.device).expand(b, -1)
        gone = torch.ones_like(everywhere, dtype=torch.bool).scatter(1, stream.cell, False)
        index = torch.cat([stream.cell, everywhere[gone].view(b, removed)], dim=1)
        padded = torch.cat([search, search.new_zeros(b, removed, c)], dim=1)
        search = torch.zeros_like(padded).scatter(1, index.unsqueeze(-1).expand(-1, -1, c), padded)
    return torch.cat([template, search], dim=1)


def head_maps(head: Any, features: Tensor, config: Any) -> HeadOutput:
    """Maps of a head over the search tokens at the end of `features`."""
    search = features[:, -config.search_tokens :]
    b, _, c = search.shape
    image = search.unsqueeze(-1).permute(0, 3, 2, 1).contiguous().view(b, c, config.grid, config.grid)
    output: HeadOutput = head(image)
    return output


def start(patch_embed: Any, positions: Tensor, image: Tensor) -> Tensor:
    """Tokens of one image with positions."""
    tokens: Tensor = patch_embed(image) + positions
    return tokens


def sdstrack(model: Any, template: Tensor, search: Tensor) -> HeadOutput:
    """SDSTrack in the published order, inference."""
    config, net = model.config, model.backbone
    streams = []
    for embed, first in ((net.patch_embed, 0), (net.patch_embed_multimodal, 3)):
        z = start(embed, net.pos_embed_z, template[:, first : first + 3])
        x = start(embed, net.pos_embed_x, search[:, first : first + 3])
        everywhere = torch.arange(config.search_tokens, device=x.device).expand(len(x), -1)
        streams.append(Stream(torch.cat([z, x], dim=1), everywhere))
    rgb, aux = streams
    for i, block in enumerate(net.blocks):
        y, matrix = attention(block.attn, block.norm1(rgb.x))
        rgb = rgb._replace(x=rgb.x + y)
        if i in config.ce_blocks:
            rgb = eliminate(rgb, matrix, config)
        rgb = rgb._replace(x=rgb.x + block.mlp(block.norm2(rgb.x)))

        y, matrix = attention(block.attn, block.norm1(aux.x))
        aux = aux._replace(x=aux.x + (y + block.Space_X_DTE_Adapter(y)))
        if i in config.ce_blocks:
            aux = eliminate(aux, matrix, config)
        n = block.norm2(aux.x)
        aux = aux._replace(x=aux.x + (block.mlp(n) + 0.5 * block.MLP_X_DTE_Adapter(n)))

        if i in config.cross_blocks:
            rgb, aux = _cross(block, rgb, aux)
    fused = net.norm((refill(rgb, config) + refill(aux, config)) / 2)
    return head_maps(model.box_head, fused, config)


def _cross(block: Any, rgb: Stream, aux: Stream) -> tuple[Stream, Stream]:
    joined = torch.cat([rgb.x, aux.x], dim=1)
    kind = torch.arange(joined.shape[1], device=joined.device) < rgb.x.shape[1]
    y, _ = attention(block.attn, block.norm1(joined), blocked=kind[:, None] == kind[None, :])
    joined = joined + (y + block.Space_X_X_DTE_Adapter(y))
    n = block.norm2(joined)
    joined = joined + (block.mlp(n) + 0.5 * block.MLP_X_X_DTE_Adapter(n))
    return rgb._replace(x=joined[:, : rgb.x.shape[1]]), aux._replace(x=joined[:, rgb.x.shape[1] :])


def ckd(model: Any, template: Tensor, search: Tensor) -> HeadOutput:
    """CKD in the published order, inference; joint elimination where the configuration has blocks for it."""
    config = model.config
    branches = (model.rgb_branch, model.tir_branch)
    streams = []
    for branch, first in zip(branches, (0, 3), strict=True):
        z = start(branch.patch_embed, branch.pos_embed_z, template[:, first : first + 3])
        x = start(branch.patch_embed, branch.pos_embed_x, search[:, first : first + 3])
        everywhere = torch.arange(config.search_tokens, device=x.device).expand(len(x), -1)
        streams.append(Stream(torch.cat([z, x], dim=1), everywhere))
    for i in range(config.depth):
        matrices = []
        for side, branch in enumerate(branches):
            block, stream = branch.blocks[i], streams[side]
            y, matrix = attention(block.attn, block.norm1(stream.x))
            streams[side] = stream._replace(x=stream.x + y)
            matrices.append(matrix)
        if i in config.ce_blocks:
            joint = torch.stack(matrices).max(dim=0)[0]
            streams = [eliminate(stream, joint, config) for stream in streams]
        for side, branch in enumerate(branches):
            block, stream = branch.blocks[i], streams[side]
            streams[side] = stream._replace(x=stream.x + block.mlp(block.norm2(stream.x)))
    normed = [
        refill(stream._replace(x=branch.norm(stream.x)), config)
        for branch, stream in zip(branches, streams, strict=True)
    ]
    return head_maps(model.box_head, torch.cat(normed, dim=2), config)


def crop(frame: MultiModalFrame, box: BoundingBox, factor: float, side: int, ready: NDArray[np.uint8] | None) -> Tensor:
    """The published order of preprocessing, restated from docs/trackers.md "Crops".

    The whole auxiliary image becomes three colours (`ready`: it has them), both images become one six-channel frame,
    the window is cut out and padded with zeros on all six channels, resized, moved to a float tensor and normalised.
    """
    assert frame.rgb is not None
    assert frame.aux is not None
    aux = to_network_image(frame.aux, frame.modality) if ready is None else ready
    six = np.concatenate((frame.rgb, aux), axis=2)
    height, width = six.shape[:2]
    x, y, w, h = box
    window = math.ceil(math.sqrt(w * h) * factor)
    x1, y1 = round(x + 0.5 * w - window * 0.5), round(y + 0.5 * h - window * 0.5)
    x2, y2 = x1 + window, y1 + window
    left, right = max(0, -x1), max(x2 - width + 1, 0)
    top, bottom = max(0, -y1), max(y2 - height + 1, 0)
    part = six[y1 + top : y2 - bottom, x1 + left : x2 - right]
    padded: NDArray[np.uint8] = np.pad(part, ((top, bottom), (left, right), (0, 0)))
    resized = cv2.resize(padded, (side, side))
    tensor = torch.tensor(resized).float().permute(2, 0, 1).unsqueeze(0)
    mean, std = (torch.tensor(values).repeat(2).view(1, 6, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    return ((tensor / 255.0) - mean) / std
