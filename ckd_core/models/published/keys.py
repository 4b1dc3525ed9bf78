"""Keys of published trackers against those of this package's networks: pure mappings.

Published SDSTrack and CKD trackers keep their keys; those of single-stream colour trackers (OSTrack, DropTrack) and of
timm's vision transformers are renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ckd_core.errors import TrackingError
from ckd_core.models.layers.vit import resize_positions
from ckd_core.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ckd_core.models.config import NetworkConfig

Tensors = dict[str, "Tensor"]
TRAINING_ONLY = ("teacher_rgb.", "teacher_tir.", "box_head_v.", "box_head_i.")
TEMPORAL = ("backbone.temporal_pos_embed_z", "backbone.temporal_pos_embed_x")
FIRST_CONVS = tuple(f"conv1_{tower}.0.weight" for tower in ("ctr", "offset", "size"))


class PretrainedError(TrackingError):
    """Published weights that do not fit the network that they are meant for."""


class UnfitKeysError(PretrainedError):
    """Keys that do not fit; `report` says which."""

    def __init__(self, message: str, report: KeyReport) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What became of the keys.

    Attributes:
        used: Were loaded.
        missing: Kept their initial weights.
        unexpected: Were ignored.
        left_out: Belong to the training alone (CKD's teachers), so that a tracker does not need them.
    """

    used: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def summary(self) -> str:
        """The numbers, and the first missing and unexpected key."""
        missing = f"{len(self.missing)} missing" + (f" ({self.missing[0]}, ...)" if self.missing else "")
        unexpected = f"{len(self.unexpected)} unexpected" + (f" ({self.unexpected[0]}, ...)" if self.unexpected else "")
        return f"{len(self.used)} keys used, {missing}, {unexpected}"

    @property
    def complete(self) -> bool:
        """Whether both sides have the same keys with the same shapes."""
        return not self.missing and not self.unexpected


def compare_keys(wanted: Mapping[str, Tensor], offered: Mapping[str, Tensor]) -> KeyReport:
    """What loading `offered` into a network with the state dict `wanted` would do.

    A key of another shape counts as both missing and unexpected.
    """
    used = {key for key in offered if key in wanted and offered[key].shape == wanted[key].shape}
    return KeyReport(tuple(sorted(used)), tuple(sorted(set(wanted) - used)), tuple(sorted(set(offered) - used)))


def without_training_parts(tensors: Mapping[str, Tensor]) -> Tensors:
    """A published CKD file without teachers and their heads, which tracking does not use."""
    return {key: value for key, value in tensors.items() if not key.startswith(TRAINING_ONLY)}


def fitted_single_stream(tensors: Mapping[str, Tensor], config: NetworkConfig) -> Tensors:
    """A single-stream tracker's tensors with position tables of `config`'s grids.

    Tables of other grids are resized bilinearly; a temporal table ([1, 1, C] or one entry per token, of either grid) is
    added once after that and dropped. Source: CKD's way of loading DropTrack.

    Raises:
        PretrainedError: a table whose length is not a square.
    """
    fitted = {key: value for key, value in tensors.items() if key not in TEMPORAL}
    for side, grid in (("z", config.template_grid), ("x", config.grid)):
        key, temporal = f"backbone.pos_embed_{side}", f"backbone.temporal_pos_embed_{side}"
        if key not in tensors:
            continue
        fitted[key] = _square_resized(tensors[key], grid, key)
        if temporal in tensors:
            extra = tensors[temporal]
            fitted[key] = fitted[key] + (extra if extra.shape[1] == 1 else _square_resized(extra, grid, temporal))
    return fitted


def single_stream_from_timm(tensors: Mapping[str, Tensor], config: NetworkConfig) -> Tensors:
    """A timm vision transformer's tensors under a single-stream tracker's names.

    Its position table, without prefix tokens, is resized bicubically to both grids; classifier weights are left out.

    Raises:
        PretrainedError: no table `pos_embed`.
    """
    if "pos_embed" not in tensors:
        raise PretrainedError("the timm model has no pos_embed; it must be a plain vision transformer")
    table = tensors["pos_embed"]
    side = int(table.shape[1] ** 0.5)
    prefix = table.shape[1] - side * side
    prefixes = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
    mapped = {f"backbone.{key}": value for key, value in tensors.items() if key.startswith(prefixes)}
    mapped["backbone.pos_embed_z"] = resize_positions(table, config.template_grid, prefix=prefix)
    mapped["backbone.pos_embed_x"] = resize_positions(table, config.grid, prefix=prefix)
    return mapped


def ckd_from_single_streams(roles: Mapping[str, Mapping[str, Tensor]]) -> Tensors:
    """CKD's tensors from one single-stream tracker each for `rgb_branch`, `tir_branch`, `teacher_rgb`, `teacher_tir`.

    Branches take the transformer. Teacher heads take their file's head. The fused head takes the colour student's,
    its first convolutions twice on the input axis (not halved), as published.
    """
    mapped: Tensors = {}
    for role, tensors in roles.items():
        mapped.update(renamed(tensors, "backbone.", f"{role}."))
    for role, head in (("teacher_rgb", "box_head_v."), ("teacher_tir", "box_head_i.")):
        mapped.update(renamed(roles.get(role, {}), "box_head.", head))
    for key, value in renamed(roles.get("rgb_branch", {}), "box_head.", "box_head.").items():
        mapped[key] = torch.cat((value, value), dim=1) if key.endswith(FIRST_CONVS) else value
    return mapped


def single_stream_layout() -> Tensors:
    """Keys and shapes of a published OSTrack-256: a CKD teacher and its head under their own names (meta tensors)."""
    with torch.device("meta"):
        state = build_model("ckd_b256", teachers=True).state_dict()
    return {**renamed(state, "teacher_rgb.", "backbone."), **renamed(state, "box_head_v.", "box_head.")}


def renamed(tensors: Mapping[str, Tensor], prefix: str, new: str) -> Tensors:
    """The tensors whose keys begin with `prefix`, which `new` replaces."""
    return {new + key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _square_resized(table: Tensor, grid: int, key: str) -> Tensor:
    side = round(table.shape[1] ** 0.5)
    if side * side != table.shape[1]:
        raise PretrainedError(f"{key} has {table.shape[1]} entries; a position table has a square number")
    return resize_positions(table, grid, mode="bilinear")
