"""Weight files: safetensors with metadata, verified before anything is used, written atomically.

The metadata name the model, the modalities it was trained for, its whole configuration, where the weights come from,
and a SHA-256 over these and all tensors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import ckd_core
from ckd_core.errors import TrackingError
from ckd_core.files import atomic_path, regular
from ckd_core.frame import Modality
from ckd_core.models.registry import build_model, list_models, model_config
from ckd_core.models.tensor_file import METADATA, read_entries, read_tensors
from ckd_core.settings import SettingsError, typed_fields
from ckd_core.text import MAX_REASON, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from ckd_core.models.network import TrackingNetwork

FORMAT = "sdstrack-weights-1"
LISTED_KEYS = 8  # of a key list in an error message
MAX_HEADER_BYTES = 1 << 24  # a thousand times what the largest network's names and shapes need
MAX_FIELD = 1 << 16  # of a whole number in a configuration: widths, sizes in pixels
MAX_ENTRIES = 1024  # of a list in a configuration, and blocks of a network
MAX_TEXT = 1 << 16  # characters of each field of the metadata


class WeightsFileError(TrackingError):
    """A weight file that cannot be written, read, trusted or used for what was asked."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a weight file says about itself.

    Attributes:
        model: Name in the registry, or `ostrack_b256` / `droptrack_b256` for weights that only start a training.
        modalities: Values of `Modality` that the weights were trained for; empty where that has no meaning.
        source: Where the weights come from, for people.
        config: Fields of the network's configuration.
        sha256: Over all of this and the tensors; filled in when the file is written.
        tracking: What a tracker must know about the weights: `thresholds` (see `tracking.confidence.thresholds`,
            written by sdstrack calibrate) and `published_geometry` (whether they were trained on the published crops;
            true if absent).
        missing: Names of tensors that the converted file lacked, so that they hold initial weights.
    """

    model: str
    modalities: tuple[str, ...]
    source: str
    config: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    tracking: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

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
        if self.tracking:
            header["tracking"] = json.dumps(self.tracking, sort_keys=True)
        return {**header, "missing": ",".join(self.missing)} if self.missing else header

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> ModelMetadata:
        """Inverse of `to_header`.

        Raises:
            WeightsFileError: not a header of this package.
        """
        if header.get("format") != FORMAT:
            raise WeightsFileError(
                f"its format is {shown(repr(header.get('format')))}; it must be {FORMAT!r} (see sdstrack convert)"
            )
        wrong = [name for name, text in header.items() if not isinstance(text, str) or len(text) > MAX_TEXT]
        if wrong:
            raise WeightsFileError(
                f"its metadata's {_shortened(sorted(wrong))} must be texts of at most {MAX_TEXT} characters"
            )
        try:
            names = tuple(Modality(name).value for name in header["modalities"].split(",") if name)
            config, tracking = json.loads(header["config"]), json.loads(header.get("tracking", "{}"))
            if not (isinstance(config, dict) and isinstance(tracking, dict)):
                raise ValueError(f"config and tracking are {shown(config)} and {shown(tracking)}; expected mappings")
            missing = tuple(name for name in header.get("missing", "").split(",") if name)
            return cls(header["model"], names, header["source"], config, header["sha256"], tracking, missing)
        except (KeyError, ValueError, RecursionError) as error:
            raise WeightsFileError(f"its metadata are incomplete: {shown(error, MAX_REASON)}") from error


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
    from safetensors import torch as safetensors_torch  # writing alone needs it; it has no rosdep key

    data = safetensors_torch.save(stored, metadata.to_header())
    try:
        with atomic_path(path, sync=True) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise WeightsFileError(f"{path} cannot be written: {error}") from error
    return metadata


def read_metadata(path: Path) -> ModelMetadata:
    """What a weight file says about itself; no tensor is read, nor the checksum verified.

    Raises:
        WeightsFileError: missing, truncated, or of another format.
    """
    return _read_header(path)[0]


def load_tensors(path: Path) -> tuple[dict[str, Tensor], ModelMetadata]:
    """Named tensors and metadata of a weight file, verified against its checksum.

    Raises:
        WeightsFileError: missing, truncated, of another format, or changed after it was written.
    """
    metadata, _ = _read_header(path)
    try:
        tensors = read_tensors(path.read_bytes())
    except OSError as error:
        raise WeightsFileError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise WeightsFileError(
            f"{path} is an incomplete safetensors file ({error}); copy or convert it again"
        ) from error
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
    metadata, shapes = _read_header(path)
    if metadata.model not in list_models():
        raise WeightsFileError(
            f"{path} holds {shown(metadata.model)}, which is not a tracker; it can only start a training"
        )
    if model is not None and metadata.model != model:
        raise WeightsFileError(f"{path} holds weights of {metadata.model}, not of {model}")
    wanted = None if modality is None else Modality(modality).value
    if wanted is not None and wanted not in metadata.modalities:
        raise WeightsFileError(f"{path} holds weights for {', '.join(metadata.modalities)}, not for {wanted}")
    _check_config(path, metadata, len(shapes))
    with torch.device("meta"):
        network = build_model(metadata.model, **metadata.config)
    _check_fit(network, shapes, str(path))
    tensors, metadata = load_tensors(path)
    load_strictly(network, tensors, str(path))
    return network.to(device).eval(), metadata


def load_strictly(network: TrackingNetwork, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load exactly these weights into `network`, floating ones as float32.

    Raises:
        WeightsFileError: a key is missing, unexpected or of another shape, or a number is not finite; the network is
            then unchanged.
    """
    _check_fit(network, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, source)
    _check_finite(tensors, source)
    shared: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        first = shared.setdefault(id(parameter), name)
        if first != name and not torch.equal(tensors[first], tensors[name]):
            raise WeightsFileError(f"{source} does not fit {network.name}: {first} and {name} must be one tensor")
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    network.load_state_dict(floats, strict=True, assign=True)


def _check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsFileError(
                f"{source} holds numbers in {shown(name)} that are not finite; train or convert again"
            )


def _check_fit(network: TrackingNetwork, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Compare names and shapes of tensors with those of a network; raises what `load_strictly` does."""
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing, unexpected = sorted(set(own) - set(shapes)), sorted(set(shapes) - set(own))
    if missing or unexpected:
        raise WeightsFileError(
            f"{source} does not fit {network.name}: missing {_shortened(missing)}, unexpected {_shortened(unexpected)}"
        )
    wrong = [f"{key} {list(shapes[key])} instead of {list(own[key])}" for key in own if own[key] != shapes[key]]
    if wrong:
        raise WeightsFileError(f"{source} does not fit {network.name}: {_shortened(wrong)}")


def _check_config(path: Path, metadata: ModelMetadata, tensors: int) -> None:
    """Check types and bounds of a configuration before anything of its size is built.

    Raises:
        WeightsFileError: a field is unknown, of a wrong type or too large, or there are more blocks than tensors.
    """
    for name, value in metadata.config.items():
        numbers = value if isinstance(value, list) else [value]
        large = any(isinstance(number, (int, float)) and abs(number) > MAX_FIELD for number in numbers)
        if large or len(numbers) > MAX_ENTRIES:
            raise WeightsFileError(
                f"{path} asks for {shown(name)} = {shown(value)}; expected numbers up to {MAX_FIELD}, at most "
                f"{MAX_ENTRIES} of them"
            )
    try:
        fields = typed_fields(type(model_config(metadata.model)), metadata.config, str(path), "config")
    except SettingsError as error:
        raise WeightsFileError(str(error)) from error
    depth = fields.get("depth", 0)
    if depth > min(tensors, MAX_ENTRIES):
        raise WeightsFileError(
            f"{path} does not fit {metadata.model}: its configuration asks for {depth} blocks, and it holds {tensors} "
            "tensors"
        )


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


def _read_header(path: Path) -> tuple[ModelMetadata, dict[str, tuple[int, ...]]]:
    """Metadata and the shapes of all tensors, compared with the file's length; no tensor is read.

    Raises:
        WeightsFileError: missing, of another length than its header says, or not of this package.
    """
    try:
        with regular(path).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(8)
            if head.startswith((b"PK\x03\x04", b"\x80\x02")):
                raise WeightsFileError(
                    f"{path} is a torch file; expected .safetensors; convert it: "
                    f"sdstrack convert {path.name} --model NAME"
                )
            length = int.from_bytes(head, "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise WeightsFileError(
                    f"{path} is an incomplete safetensors file (a header of {length} bytes in a file of {size}); copy "
                    "or convert it again"
                )
            header = stream.read(length)
    except OSError as error:
        raise WeightsFileError(f"{shown(path, MAX_REASON)} cannot be read: {error.strerror or error}") from error
    try:
        entries = read_entries(header)
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(f"{path} is no safetensors file: {shown(error, MAX_REASON)}") from error
    try:
        pairs = entries.pop(METADATA)
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in entries.items()}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise WeightsFileError(f"{path} has no metadata; convert it with sdstrack convert") from error
    if 8 + length + end != size:
        raise WeightsFileError(
            f"{path} is an incomplete safetensors file ({size} bytes; its header says {8 + length + end}); copy or "
            "convert it again"
        )
    try:
        return ModelMetadata.from_header(pairs), shapes
    except WeightsFileError as error:
        raise WeightsFileError(f"{path} is not a weight file of this package: {error}") from error


def _shortened(names: list[str]) -> str:
    rest = f" and {len(names) - LISTED_KEYS} more" if len(names) > LISTED_KEYS else ""
    return (", ".join(names[:LISTED_KEYS]) or "nothing") + rest
