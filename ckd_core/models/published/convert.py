"""From published files to weight files of this package."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

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
from ckd_core.models.published.keys import (
    KeyReport,
    PretrainedError,
    Tensors,
    UnfitKeysError,
    compare_keys,
    fitted_single_stream,
    single_stream_layout,
    without_training_parts,
)
from ckd_core.models.registry import build_model, model_config
from ckd_core.models.torch_files import ForeignFileError, read_foreign, state_dict_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from ckd_core.models.network import TrackingNetwork

SINGLE_STREAM = ("ostrack_b256", "droptrack_b256")  # names for published colour trackers as weight files
NAME_MARKS = {
    Modality.DEPTH: {"rgbd", "depth", "depthtrack"},
    Modality.THERMAL: {"rgbt", "thermal", "tir", "lasher", "rgbt234"},
    Modality.EVENT: {"rgbe", "event", "visevent"},
}
MCE_TWINS = ("ckd_b256", "ckd_b256_mce")


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
    tensors, replaced = foreign_weights(path, entry)
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


def foreign_weights(path: Path, entry: str | None = None) -> tuple[Tensors, list[str]]:
    """Tensors of a published file, and the names of the classes in it that were not rebuilt.

    Raises:
        ForeignFileError: not a readable torch file, or without weights.
    """
    content, replaced = read_foreign(path)
    try:
        return state_dict_of(content, entry), list(replaced)
    except ForeignFileError as error:
        raise ForeignFileError(f"{path}: {error}") from error
