"""Configurations of all networks: frozen dataclasses, one per family, each field documented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ckd_core.errors import TrackingError
from ckd_core.models.layers.elimination import TEMPLATE_MASK_MODES
from ckd_core.models.layers.stem import EXACT_CONVOLUTIONS, FROZEN_CHANNELS

ADAPTERS = ("both", "stream", "cross", "none")


class ConfigError(TrackingError):
    """A network configuration that cannot be built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Shapes and token elimination, common to all networks.

    Attributes:
        exact_convolutions: This many first convolutions compute in float32 in every engine, because rounding them would
            move boxes by more than a precision may; a constant of the family.
        narrow_share: Share of the search crop's side that a smaller one of the same scale has, which the same weights
            can work on, as only networks without positions can; 0: none. A constant of the family.
        template_size: Side of the square template crop in pixels; a multiple of `stride`.
        search_size: The same of the search crop.
        template_factor: Side of the template crop as a multiple of sqrt(w * h) of the box it is cut around.
        search_factor: The same of the search crop.
        square_boxes: A crop is these factors times the box's own width and height instead, and squeezed into its
            square, so that every box looks square in a crop around it and a size is learnt as a factor of the box's
            own.
        stride: Pixels that a token (and a cell of the score map) covers in each direction.
        width: Channels of a token.
        depth: Number of transformer blocks.
        heads: Attention heads; divides `width`.
        mlp_ratio: Hidden channels of a block's MLP as a multiple of `width`.
        drop_path: Stochastic depth of the last block; rises linearly from 0 at the first one. Training only.
        head_channels: Channels after the first convolution of each head tower; halves three times, so a multiple of 8.
        ce_blocks: Blocks in which candidate elimination drops search tokens; empty = no elimination.
        ce_keep: Share of the search tokens that an elimination keeps (rounded up); in (0, 1].
        template_mask: Which template tokens rank the search tokens where a call has no mask: `all`, `ctr_point` (the
            centre cell), `ctr_rec` (the centre 2 x 2) or `gt_box` (every call needs a mask, see
            `layers.elimination.box_template_mask`).
    """

    exact_convolutions: ClassVar[int] = 0
    narrow_share: ClassVar[float] = 0.0
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
    def narrow_size(self) -> int:
        """Side of the smaller search crop in pixels (`narrow_share`), a whole number of cell pairs; 0: none."""
        return int(self.search_size * self.narrow_share) // (2 * self.stride) * 2 * self.stride

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

    Attributes:
        adapter_ratio: Hidden channels of an adapter as a share of `width`.
        adapters: Which adapters exist, for ablations: `both` (published), `stream` (beside attention and MLP of the
            auxiliary stream), `cross` (in the cross-modal stages) or `none`.
        cross_blocks: Blocks after which both modalities attend to each other; independent of `ce_blocks`. Empty: none.
        mask_ratio: Probability that the masked path of training blanks a colour token; an auxiliary token is blanked
            with the same probability where the colour token was not.
        rgb_mlp_drop_path: Whether stochastic depth acts on the colour stream's MLP branch too. False is the published
            training (its colour blocks drop only the attention branch); True is the symmetric rule of the paper's
            figure.
        compact: Built without the cross-modal adapters of blocks that have no cross-modal stage. They never run.
    """

    adapter_ratio: float = 0.25
    adapters: str = "both"
    cross_blocks: tuple[int, ...] = (3, 6, 9, 11)
    mask_ratio: float = 0.3
    rgb_mlp_drop_path: bool = False
    compact: bool = False

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        object.__setattr__(self, "cross_blocks", tuple(self.cross_blocks))
        _require_blocks("cross_blocks", self.cross_blocks, self.depth)
        _require(self.adapters in ADAPTERS, "adapters", self.adapters, f"one of {', '.join(ADAPTERS)}")
        _require(0 <= self.mask_ratio < 1, "mask_ratio", self.mask_ratio, "in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CKDConfig(NetworkConfig):
    """CKD: one student per modality, fused in the head; two teachers beside them in training.

    Elimination (`ce_blocks` not empty) is the joint one: one ranking for both modalities.

    Attributes:
        teachers: Whether the two teachers and their heads exist; training needs them, tracking does not.
        shared_student: One module serves as the student of both modalities.
        mask_ratio: Share of the students' search tokens blanked in training.
        mask_probability: Probability that a training sample is masked at all. The published code inverts both numbers
            for probabilities strictly between 0 and 1 (no published configuration uses one); here they act as named.
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
class StemConfig(NetworkConfig):
    """Networks on a frozen stem. No transformer blocks and no elimination run here; `heads` is unused.

    Attributes:
        width: Channels of a template token: `width` - 96 trained ones and 96 of the frozen stem.
        depth: Residual stages of a stream after the correlation.
        mix_channels: Channels of those stages.
        adapter_ratio: Hidden channels of an adapter as a share of its input's.
        mask_ratio: Probability that the masked path of training blanks a colour cell; an auxiliary cell is blanked
            with the same probability where the colour cell was not.
    """

    exact_convolutions: ClassVar[int] = EXACT_CONVOLUTIONS
    width: int = 192
    heads: int = 1
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
class SDSTrackSmallConfig(StemConfig):
    """Crops of 64 and 128 px around boxes of any shape; `mlp_ratio` is unused."""

    template_size: int = 64
    search_size: int = 128
    stride: int = 8
    depth: int = 2
    mlp_ratio: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CKDSmallConfig(SDSTrackSmallConfig):
    """As `SDSTrackSmallConfig`, but without adapters.

    Attributes:
        mask_ratio: Share of the students' search cells blanked in training.
        teachers: Whether the two teachers and their heads exist; training needs them, tracking does not.
        mask_probability: Probability that a sample is masked at all.
    """

    mask_ratio: float = 0.25
    teachers: bool = False
    mask_probability: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SDSTrackMediumConfig(StemConfig):
    """Crops of 128 and 256 px in which every box is square.

    Attributes:
        mlp_ratio: Hidden channels of a stage as a multiple of `mix_channels`.
        read_channels: Channels that a search cell reads from the template cells it resembles.
        channel_drop: Share of the stem's channels that training blanks, the same ones in both crops of a pair.
        feature_noise: Standard deviation of the noise that training adds to the whitened features of the stem.
    """

    narrow_share: ClassVar[float] = 0.75
    square_boxes: bool = True
    depth: int = 3
    mlp_ratio: float = 2.0
    mix_channels: int = 96
    read_channels: int = 64
    channel_drop: float = 0.15
    feature_noise: float = 0.15


def _require(holds: bool, field: str, value: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{field} is {value!r}; it must be {expected}")


def _require_blocks(field: str, blocks: tuple[int, ...], depth: int) -> None:
    inside = all(0 <= block < depth for block in blocks)
    _require(inside and len(set(blocks)) == len(blocks), field, blocks, f"distinct block numbers below {depth}")
