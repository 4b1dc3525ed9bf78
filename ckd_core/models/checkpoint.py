"""Weight files: safetensors with metadata, verified before anything is used, written atomically.

The metadata name the model, the modalities it was trained for, its whole configuration, where the weights come from,
and a SHA-256 over these and all tensors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

import ckd_core
from ckd_core.errors import TrackingError
from ckd_core.files import atomic_path
from ckd_core.frame import Modality
from ckd_core.models.registry import build_model, list_models

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from ckd_core.models.network import TrackingNetwork

FORMAT = "sdstrack-weights-1"
LISTED_KEYS = 8  # of a key list in an error message


class WeightsFileError(TrackingError):
    """A weight file that cannot be written, read, trusted or used for what was asked."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a weight file says about itself.

    model: name in the registry, or `ostrack_b256` / `droptrack_b256` for weights that only start a training.
    modalities: values of `Modality` that the weights were trained for; empty where that has no meaning.
    config: fields of the network's configuration. source: where the weights come from, for people.
    sha256: over all of this and the tensors; filled in when the file is written.
    tracking: what a tracker must know about the weights: `thresholds` (see `tracking.confidence.Thresholds`, written by
        sdstrack calibrate) and `published_geometry` (whether they were trained on the published crops; true if absent).
    """

    model: str
    modalities: tuple[str, ...]
    source: str
    config: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    tracking: dict[str, Any] = field(default_factory=dict)

    def to_header(self) -> dict[str, str]:
        """String pairs as safetensors keeps them."""
        header = {
            "format": FORMAT,
            "model": self.model,
            "modalities": ",".join(self.modalities),
            "config": json.dumps(self.config, sort_keys=True),
            "source": self.source,
            "sha256": self.sha256,
        }
        return {**header, "tracking": json.dumps(self.tracking, sort_keys=True)} if self.tracking else header

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> ModelMetadata:
        """Inverse of `to_header`.

        Raises:
            WeightsFileError: not a header of this package.
        """
        if header.get("format") != FORMAT:
            raise WeightsFileError(
                f"its format is {header.get('format')!r}; it must be {FORMAT!r} (see sdstrack convert)"
            )
        try:
            names = tuple(Modality(name).value for name in header["modalities"].split(",") if name)
            config, tracking = json.loads(header["config"]), json.loads(header.get("tracking", "{}"))
            return cls(header["model"], names, header["source"], config, header["sha256"], tracking)
        except (KeyError, ValueError) as error:
            raise WeightsFileError(f"its metadata are incomplete: {error}") from error


def metadata_of(model: TrackingNetwork, modalities: Iterable[Modality | str], source: str) -> ModelMetadata:
    """Metadata for the weights of `model`."""
    names = tuple(Modality(modality).value for modality in modalities)
    config = json.loads(json.dumps(dataclasses.asdict(model.config)))  # as it will be read: lists, not tuples
    return ModelMetadata(model.name, names, source, config)


def default_weights(name: str) -> Path:
    """Path of the weights of `name` inside the package, whether they exist or not."""
    return Path(ckd_core.__file__).parent / "weights" / f"{name}.safetensors"


def save_model(
    path: Path, model: TrackingNetwork, metadata: ModelMetadata, dtype: torch.dtype | None = None
) -> ModelMetadata:
    """Write the weights of `model`; `dtype` float16 halves the file (loading returns float32 again).

    Returns:
        The metadata with the checksum.

    Raises:
        WeightsFileError: the file cannot be written.
    """
    return save_tensors(path, model.state_dict(), metadata, dtype)


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: ModelMetadata, dtype: torch.dtype | None = None
) -> ModelMetadata:
    """Write named tensors: all of them or nothing; return the metadata with the checksum.

    Raises:
        WeightsFileError: the file cannot be written.
    """
    stored = {name: _stored(tensor, dtype) for name, tensor in tensors.items()}
    metadata = dataclasses.replace(metadata, sha256=_digest(stored, metadata))
    data = safetensors_torch.save(stored, metadata.to_header())
    try:
        with atomic_path(path, sync=True) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise WeightsFileError(f"{path} cannot be written: {error}") from error
    return metadata


def load_tensors(path: Path) -> tuple[dict[str, Tensor], ModelMetadata]:
    """Named tensors and metadata of a weight file, verified against its checksum.

    Raises:
        WeightsFileError: missing, truncated, of another format, or changed after it was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsFileError(f"{path} cannot be read: {error}") from error
    try:
        tensors = safetensors_torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsFileError(
            f"{path} is an incomplete safetensors file ({error}); copy or convert it again"
        ) from error
    metadata = _parse_header(path, data[8 : 8 + int.from_bytes(data[:8], "little")])
    digest = _digest(tensors, metadata)
    if digest != metadata.sha256:
        raise WeightsFileError(f"{path} was changed: its SHA-256 is {digest}, its header says {metadata.sha256!r}")
    return tensors, metadata


def load_model(
    path_or_name: Path | str,
    *,
    model: str | None = None,
    modality: Modality | str | None = None,
    device: torch.device | str = "cpu",
) -> tuple[TrackingNetwork, ModelMetadata]:
    """Network with the weights of a file, in evaluation mode, float32, and what the file says about itself.

    Args:
        path_or_name: a file, or a name whose weights are part of the package.
        model: network that the weights must be of; None = any.
        modality: modality that they must be trained for; None = any.
        device: where the network goes.

    Raises:
        WeightsFileError: see `load_tensors`; weights of another model or modality, or keys that do not fit.
    """
    named = isinstance(path_or_name, str) and path_or_name in list_models()
    path = default_weights(str(path_or_name)) if named else Path(path_or_name)
    if named and not path.is_file():
        raise WeightsFileError(f"{path_or_name} has no weights inside the package; expected a file")
    tensors, metadata = load_tensors(path)
    if metadata.model not in list_models():
        raise WeightsFileError(f"{path} holds {metadata.model}, which is not a tracker; it can only start a training")
    if model is not None and metadata.model != model:
        raise WeightsFileError(f"{path} holds weights of {metadata.model}, not of {model}")
    wanted = None if modality is None else Modality(modality).value
    if wanted is not None and wanted not in metadata.modalities:
        raise WeightsFileError(f"{path} holds weights for {', '.join(metadata.modalities)}, not for {wanted}")
    with torch.device("meta"):
        network = build_model(metadata.model, **metadata.config)
    load_strictly(network, tensors, str(path))
    return network.to(device).eval(), metadata


def load_strictly(network: TrackingNetwork, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load exactly these weights into `network`, floating ones as float32.

    Raises:
        WeightsFileError: a key is missing, unexpected or of another shape; the network is then unchanged.
    """
    own = {name: tensor.shape for name, tensor in network.state_dict().items()}
    missing, unexpected = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or unexpected:
        raise WeightsFileError(
            f"{source} does not fit {network.name}: missing {_shortened(missing)}, unexpected {_shortened(unexpected)}"
        )
    wrong = [
        f"{key} {list(tensors[key].shape)} instead of {list(own[key])}" for key in own if own[key] != tensors[key].shape
    ]
    if wrong:
        raise WeightsFileError(f"{source} does not fit {network.name}: {_shortened(wrong)}")
    shared: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        first = shared.setdefault(id(parameter), name)
        if not torch.equal(tensors[first], tensors[name]):
            raise WeightsFileError(f"{source} does not fit {network.name}: {first} and {name} must be one tensor")
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    network.load_state_dict(floats, strict=True, assign=True)


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor as the file keeps it: on the CPU, contiguous, in memory of its own (a shared student appears twice)."""
    cast = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", cast, copy=True).contiguous()


def _digest(tensors: Mapping[str, Tensor], metadata: ModelMetadata) -> str:
    digest = hashlib.sha256(json.dumps(dataclasses.replace(metadata, sha256="").to_header(), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parse_header(path: Path, header: bytes) -> ModelMetadata:
    try:
        pairs = json.loads(header)["__metadata__"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsFileError(f"{path} has no metadata; convert it with sdstrack convert") from error
    try:
        return ModelMetadata.from_header(pairs)
    except WeightsFileError as error:
        raise WeightsFileError(f"{path} is not a weight file of this package: {error}") from error


def _shortened(names: list[str]) -> str:
    rest = f" and {len(names) - LISTED_KEYS} more" if len(names) > LISTED_KEYS else ""
    return (", ".join(names[:LISTED_KEYS]) or "nothing") + rest
