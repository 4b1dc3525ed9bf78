"""Configurations of all networks: frozen dataclasses, one per family, each field documented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ckd_core.errors import TrackingError
from ckd_core.models.layers.elimination import TEMPLATE_MASK_MODES
from ckd_core.models.layers.stem import EXACT_CONVOLUTIONS, FROZEN_CHANNELS


class ConfigError(TrackingError):
    """A network configuration that cannot be built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Shapes and token elimination, common to all networks.

    template_size, search_size: side of the square crops in pixels; multiples of `stride`.
    template_factor, search_factor: side of a crop as a multiple of sqrt(w * h) of the box it is cut around.
    square_boxes: a crop is these factors times the box's own width and height instead, and squeezed into its square, so
        that every box looks square in a crop around it and a size is learnt as a factor of the box's own.
    stride: pixels that a token (and a cell of the score map) covers in each direction.
    width: channels of a token. depth: number of transformer blocks. heads: attention heads; divides `width`.
    mlp_ratio: hidden channels of a block's MLP as a multiple of `width`.
    drop_path: stochastic depth of the last block; rises linearly from 0 at the first one. Training only.
    head_channels: channels after the first convolution of each head tower; halves three times, so a multiple of 8.
    ce_blocks: blocks in which candidate elimination drops search tokens; empty = no elimination.
    ce_keep: share of the search tokens that an elimination keeps (rounded up); in (0, 1].
    template_mask: which template tokens rank the search tokens where a call has no mask:
        `all`, `ctr_point` (the centre cell), `ctr_rec` (the centre 2 x 2) or `gt_box` (every call needs a mask, see
         `layers.elimination.box_template_mask`).
    exact_convolutions: this many first convolutions compute in float32 in every engine, because rounding them would
        move boxes by more than a precision may; a constant of the family.
    """

    exact_convolutions: ClassVar[int] = 0
    template_size: int = 128
    search_size: int = 256
    template_factor: float = 2.0
    search_factor: float = 4.0
    square_boxes: bool = False
    stride: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    head_channels: int = 256
    ce_blocks: tuple[int, ...] = (3, 6, 9)
    ce_keep: float = 0.7
    template_mask: str = "ctr_point"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ce_blocks", tuple(self.ce_blocks))  # JSON has lists
        for field in ("template_size", "search_size"):
            side = getattr(self, field)
            _require(side > 0 and side % self.stride == 0, field, side, f"a positive multiple of {self.stride}")
        _require(self.width % self.heads == 0, "width", self.width, f"a multiple of {self.heads} heads")
        _require(self.depth > 0, "depth", self.depth, "at least 1")
        _require(0 <= self.drop_path < 1, "drop_path", self.drop_path, "in [0, 1)")
        _require(self.head_channels % 8 == 0, "head_channels", self.head_channels, "a multiple of 8")
        _require_blocks("ce_blocks", self.ce_blocks, self.depth)
        _require(0 < self.ce_keep <= 1, "ce_keep", self.ce_keep, "in (0, 1]")
        modes = ", ".join(TEMPLATE_MASK_MODES)
        _require(self.template_mask in TEMPLATE_MASK_MODES, "template_mask", self.template_mask, f"one of {modes}")

    @property
    def grid(self) -> int:
        """Cells of the score map in each direction."""
        return self.search_size // self.stride

    @property
    def template_grid(self) -> int:
        """Template tokens in each direction."""
        return self.template_size // self.stride

    @property
    def template_tokens(self) -> int:
        """Number of template tokens of one modality."""
        return self.template_grid**2

    @property
    def search_tokens(self) -> int:
        """Number of search tokens of one modality before elimination."""
        return self.grid**2


@dataclass(frozen=True, slots=True, kw_only=True)
class SDSTrackConfig(NetworkConfig):
    """SDSTrack: a frozen colour tracker, adapters for the auxiliary stream, four cross-modal stages.

    adapter_ratio: hidden channels of an adapter as a share of `width`.
    cross_blocks: blocks after which both modalities attend to each other; independent of `ce_blocks`.
    mask_ratio: probability that the masked path of training blanks a colour token; an auxiliary token is blanked with
        the same probability where the colour token was not.
    rgb_mlp_drop_path: whether stochastic depth acts on the colour stream's MLP branch too. False is the published
        training (its colour blocks drop only the attention branch); True is the symmetric rule of the paper's figure.
    compact: built without the cross-modal adapters of blocks that have no cross-modal stage. They never run.
    """

    adapter_ratio: float = 0.25
    cross_blocks: tuple[int, ...] = (3, 6, 9, 11)
    mask_ratio: float = 0.3
    rgb_mlp_drop_path: bool = False
    compact: bool = False

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        object.__setattr__(self, "cross_blocks", tuple(self.cross_blocks))
        _require_blocks("cross_blocks", self.cross_blocks, self.depth)
        _require(0 <= self.mask_ratio < 1, "mask_ratio", self.mask_ratio, "in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CKDConfig(NetworkConfig):
    """CKD: one student per modality, fused in the head; two teachers beside them in training.

    Elimination (`ce_blocks` not empty) is the joint one: one ranking for both modalities.

    teachers: whether the two teachers and their heads exist; training needs them, tracking does not.
    shared_student: one module serves as the student of both modalities.
    mask_ratio: share of the students' search tokens blanked in training.
    mask_probability: probability that a training sample is masked at all. The published code inverts both numbers for
        probabilities strictly between 0 and 1 (no published configuration uses one); here they act as named.
    """

    ce_blocks: tuple[int, ...] = ()
    teachers: bool = False
    shared_student: bool = False
    mask_ratio: float = 0.25
    mask_probability: float = 1.0

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        _require(0 <= self.mask_ratio < 1, "mask_ratio", self.mask_ratio, "in [0, 1)")
        _require(0 <= self.mask_probability <= 1, "mask_probability", self.mask_probability, "in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SDSTrackSmallConfig(NetworkConfig):
    """Networks on a frozen stem. No transformer blocks and no elimination run here; `heads` and `mlp_ratio` are unused.

    width: channels of a template token: `width` - 96 trained ones and 96 of the frozen stem.
    depth: residual stages of a stream after the correlation.
    mix_channels: channels of those stages. adapter_ratio: hidden channels of an adapter as a share of its input's.
    mask_ratio: probability that the masked path of training blanks a colour cell; an auxiliary cell is blanked with
        the same probability where the colour cell was not.
    """

    template_size: int = 64
    search_size: int = 128
    stride: int = 8
    exact_convolutions: ClassVar[int] = EXACT_CONVOLUTIONS
    width: int = 192
    depth: int = 2
    heads: int = 1
    mlp_ratio: float = 1.0
    drop_path: float = 0.0
    head_channels: int = 64
    ce_blocks: tuple[int, ...] = ()
    mix_channels: int = 128
    adapter_ratio: float = 0.25
    mask_ratio: float = 0.3

    @property
    def trained_channels(self) -> int:
        """Channels of the trained part of a token."""
        return self.width - FROZEN_CHANNELS


@dataclass(frozen=True, slots=True, kw_only=True)
class CKDSmallConfig(SDSTrackSmallConfig):
    """As `SDSTrackSmallConfig`, but without adapters.

    teachers: whether the two teachers and their heads exist; training needs them, tracking does not.
    mask_ratio: share of the students' search cells blanked in training. mask_probability: probability that a sample
        is masked at all.
    """

    mask_ratio: float = 0.25
    teachers: bool = False
    mask_probability: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SDSTrackMediumConfig(NetworkConfig):
    """A network on a frozen stem. No transformer blocks and no elimination run here; `heads` is unused.

    Attributes:
        width: Channels of a template token: `width` - 96 trained ones and 96 of the frozen stem.
        depth: Residual stages of a stream after the correlation.
        mlp_ratio: Hidden channels of a stage as a multiple of `mix_channels`.
        mix_channels: Channels of those stages.
        read_channels: Channels that a search cell reads from the template cells it resembles.
        adapter_ratio: Hidden channels of an adapter as a share of its input's.
        mask_ratio: Probability that the masked path of training blanks a colour cell; an auxiliary cell is blanked
            with the same probability where the colour cell was not.
        channel_drop: Share of the stem's channels that training blanks, the same ones in both crops of a pair.
        feature_noise: Standard deviation of the noise that training adds to the whitened features of the stem.
    """

    template_size: int = 128
    search_size: int = 256
    square_boxes: bool = True
    exact_convolutions: ClassVar[int] = EXACT_CONVOLUTIONS
    width: int = 192
    depth: int = 3
    heads: int = 1
    mlp_ratio: float = 2.0
    drop_path: float = 0.0
    head_channels: int = 64
    ce_blocks: tuple[int, ...] = ()
    mix_channels: int = 96
    read_channels: int = 64
    adapter_ratio: float = 0.25
    mask_ratio: float = 0.3
    channel_drop: float = 0.15
    feature_noise: float = 0.15

    @property
    def trained_channels(self) -> int:
        """Channels of the trained part of a token."""
        return self.width - FROZEN_CHANNELS


def _require(holds: bool, field: str, value: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{field} is {value!r}; it must be {expected}")


def _require_blocks(field: str, blocks: tuple[int, ...], depth: int) -> None:
    inside = all(0 <= block < depth for block in blocks)
    _require(inside and len(set(blocks)) == len(blocks), field, blocks, f"distinct block numbers below {depth}")
