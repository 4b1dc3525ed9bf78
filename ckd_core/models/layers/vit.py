"""Vision-transformer parts that both trackers share. Parameter names are those of the published files.

Attention is torch's fused one; inside `plain_attention()` it is explicit products, whose backward is faster in bf16 on
a CPU.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ckd_core.models.layers.elimination import Ranking, Tokens, eliminate, keep_count, ranking_rows, search_scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ckd_core.models.config import NetworkConfig

NORM_EPS = 1e-6
INIT_STD = 0.02
_plain = False


@contextmanager
def plain_attention(enabled: bool = True) -> Iterator[None]:
    """Explicit attention products inside this context, in the whole process; False changes nothing."""
    global _plain  # noqa: PLW0603 - compiled programs read it as a constant
    before = _plain
    _plain = before or enabled
    try:
        yield
    finally:
        _plain = before


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention; q, k, v and the result are [B, heads, N, head_dim]."""
    if not _plain:
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    mixed: Tensor = weights.softmax(-1) @ v
    return mixed


class PatchEmbed(nn.Module):
    """Image [B, channels, H, W] to tokens [B, H * W / stride**2, width], row-major."""

    def __init__(self, stride: int, width: int, channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=stride, stride=stride)

    def forward(self, image: Tensor) -> Tensor:
        """Tokens of `image`."""
        tokens: Tensor = self.proj(image)  # [B, width, h, w]
        return tokens.flatten(2).transpose(1, 2)  # [B, h * w, width]


class Attention(nn.Module):
    """Multi-head self-attention over [B, N, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [B, heads, N, head_dim]."""
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)  # [3, B, h, N, d]
        q, k, v = qkv.unbind(0)
        return q, k, v

    def merge(self, heads: Tensor) -> Tensor:
        """Heads [B, heads, N, head_dim] to [B, N, width], projected."""
        merged: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return merged

    def forward(self, x: Tensor, ranking: Ranking | None = None, n_template: int = 0) -> tuple[Tensor, Tensor | None]:
        """Attention result [B, N, width], and with `ranking` also the rows that rank search tokens."""
        q, k, v = self.split(x)
        rows = None if ranking is None else ranking_rows(q, k, ranking, n_template)
        return self.merge(attend(q, k, v)), rows


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, over [B, N, width]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Result of the same shape."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class DropPath(nn.Module):
    """Stochastic depth: in training, zero a residual for whole samples and scale the rest up accordingly."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Residual [B, ...], one draw per sample."""
        if self.rate == 0 or not self.training:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep.div_(1 - self.rate)


class Block(nn.Module):
    """Pre-norm block of a colour tracker: attention, optional elimination, MLP; stochastic depth on both residuals."""

    def __init__(self, config: NetworkConfig, drop_path: float) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, config.heads)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))

    def attend(self, x: Tensor, ranking: Ranking | None, n_template: int) -> tuple[Tensor, Tensor | None]:
        """First residual, [B, N, width]; with `ranking` also the attention rows [B, heads, rows, n_search]."""
        y, rows = self.attn(self.norm1(x), ranking, n_template)
        return x + self.drop_path(y), rows

    def feed(self, x: Tensor) -> Tensor:
        """Second residual."""
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def forward(self, tokens: Tokens, ranking: Ranking | None, n_template: int, rate: float) -> Tokens:
        """One block; `ranking` None = no elimination here, else a share `rate` of the search tokens stays."""
        x, rows = self.attend(tokens.x, ranking, n_template)
        tokens = tokens._replace(x=x)
        if ranking is not None and rows is not None:
            keep = keep_count(rows.shape[-1], rate)
            tokens = eliminate(tokens, search_scores(rows, ranking), n_template, keep)
        return tokens._replace(x=self.feed(tokens.x))


def drop_path_rates(config: NetworkConfig) -> list[float]:
    """Stochastic depth of every block: 0 to `config.drop_path` in equal steps."""
    steps = max(config.depth - 1, 1)
    return [config.drop_path * block / steps for block in range(config.depth)]


@torch.no_grad()
def draw_normal(tensor: Tensor) -> None:
    """Fill with normal values of deviation `INIT_STD`, cut off at 2.

    By the inverse of the distribution: a seed then gives the same values with every torch, whose own
    `nn.init.trunc_normal_` has changed its method.
    """
    tensor.uniform_(-1, 1).erfinv_().mul_(INIT_STD * math.sqrt(2)).clamp_(-2, 2)


def initialise(module: nn.Module) -> None:
    """Published initialisation of linear and norm layers; convolutions keep PyTorch's. Use with `Module.apply`."""
    if isinstance(module, nn.Linear):
        draw_normal(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def resize_positions(table: Tensor, grid: int, mode: str = "bicubic", prefix: int = 0) -> Tensor:
    """Position table [1, prefix + n * n, C] resized to [1, grid * grid, C]; the prefix tokens are dropped."""
    body = table[:, prefix:]
    side = round(body.shape[1] ** 0.5)
    if side == grid:
        return body
    square = body.transpose(1, 2).reshape(1, -1, side, side)  # [1, C, side, side]
    resized = F.interpolate(square, size=(grid, grid), mode=mode, align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def zeros_table(tokens: int, width: int) -> nn.Parameter:
    """A learnable table [1, tokens, width] of zeros."""
    return nn.Parameter(torch.zeros(1, tokens, width))
