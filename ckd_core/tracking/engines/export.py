"""Export folders: a network for one engine with its metadata, written whole or not at all, verified when loaded.

A folder holds `export.json`, `template.*` (one target), `search_N.*` for N targets and, where the network has smaller
search regions and a CPU is to run it, `narrow.*` for one of those, as .onnx or OpenVINO's .xml and .bin. Shapes are
static. For torch it holds `export.json` and the weights in the engine's precision: the program is this package, because
PyTorch's own program files cannot be loaded without unpickling.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.text import is_plain_name, shown
from ckd_core.tracking.confidence.thresholds import ConfidenceError, Thresholds
from ckd_core.tracking.engines.base import Engine, EngineSpec, EngineUnavailableError, middle_of, parse_engine
from ckd_core.tracking.engines.convert import (
    CalibrationItem,
    quantise,
    require_roundable,
    search_program,
    template_program,
    to_onnx,
    to_openvino,
)
from ckd_core.tracking.engines.exported import (
    OnnxEngine,
    OpenVinoEngine,
    onnx_lanes,
    onnx_program,
    openvino_lanes,
    openvino_program,
)
from ckd_core.tracking.engines.threads import thread_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ckd_core.models.network import TrackingNetwork
    from ckd_core.tracking.engines.exported import Program

FORMAT = "sdstrack-export-2"  # 2: the rival's box in every row
METADATA_FILE = "export.json"
SUFFIXES = {"onnx": ".onnx", "tensorrt": ".onnx", "openvino": ".xml"}
WEIGHTS_FILE = "weights.safetensors"
TEMPLATE, NARROW = "template", "narrow"  # stems of programs; the others are search_N
# Lowest median IoU with the boxes of torch/fp32 on the same real crops, by precision.
MEDIAN_IOU = {"fp32": 0.999, "bf16": 0.99, "fp16": 0.99, "int8": 0.97}


class ExportError(TrackingError):
    """An export that cannot be written, read or trusted."""


@dataclass(frozen=True, slots=True)
class ExportMetadata:
    """Content of `export.json`.

    Attributes:
        engine: `kind/precision` that the export is for.
        device: Device family that it is for (cpu, cuda).
        spec: The network's shapes.
        batches: Numbers of targets for which there is a search program.
        modalities: Names of the modalities that the weights were trained for.
        source: Where the weights come from.
        weights_sha256: Content checksum of the weights.
        thresholds: Those of the weights' metadata.
        published_geometry: Whether the weights were trained on whole-pixel windows (see `CropWindow`).
        narrow_size: Side of the search crops of `narrow.*`, see `Engine`; 0: none. Filled in by `write_export`.
        files: SHA-256 of every other file of the folder. Filled in by `write_export`.
    """

    engine: str
    device: str
    spec: EngineSpec
    batches: tuple[int, ...]
    modalities: tuple[str, ...]
    source: str
    weights_sha256: str
    thresholds: Thresholds
    published_geometry: bool
    narrow_size: int = 0
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of `export.json`."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ExportMetadata:
        """Invert `to_json`.

        Raises:
            ExportError: The text is not what `to_json` writes.
        """
        try:
            values = json.loads(text)
            found = values.pop("format")
            if found != FORMAT:
                raise ExportError(f"its format is {shown(found)}; expected {FORMAT!r}, which `sdstrack export` writes")
            values["spec"] = EngineSpec(**values["spec"])
            values["thresholds"] = Thresholds.from_mapping(values["thresholds"])
            values["batches"], values["modalities"] = tuple(values["batches"]), tuple(values["modalities"])
            values["files"] = {str(name): str(digest) for name, digest in values["files"].items()}
            metadata = cls(**values)
            if not isinstance(metadata.narrow_size, int) or not 0 <= metadata.narrow_size < metadata.spec.search_size:
                raise ExportError(
                    f"its narrow_size is {shown(metadata.narrow_size)}; expected less than search_size,"
                    f" {metadata.spec.search_size}"
                )
            return metadata
        except (KeyError, TypeError, ValueError, AttributeError, ConfidenceError) as error:
            raise ExportError(f"its {METADATA_FILE} is not what sdstrack export writes: {error}") from error


def write_export(
    folder: Path,
    network: TrackingNetwork,
    metadata: ExportMetadata,
    calibration: Iterable[CalibrationItem] = (),
) -> ExportMetadata:
    """Write program, weights and metadata to a new folder, all or nothing.

    Args:
        folder: Must not exist.
        network: Stays as it is.
        metadata: What to write, still without checksums.
        calibration: For int8, inputs of the search program for one target.

    Returns:
        The metadata with the checksums.

    Raises:
        ExportError: `folder` exists or cannot be written, or the metadata ask for what cannot be exported.
        EngineUnavailableError: The library that converts is not installed, or cannot do the precision.
    """
    if folder.exists():
        raise ExportError(f"{folder} exists; give a new folder")
    kind, precision = parse_engine(metadata.engine)
    if kind not in SUFFIXES and kind != "torch":
        raise ExportError(f"{metadata.engine} cannot be exported; expected one of: torch, {', '.join(SUFFIXES)}")
    if 1 not in metadata.batches or min(metadata.batches) < 1:
        raise ExportError(f"batches are {metadata.batches}; expected positive numbers with 1 among them")
    if kind == "openvino":
        require_roundable(network, precision)
    items = list(calibration)
    if precision == "int8" and not items:
        raise ExportError("int8 needs crops to calibrate on; give sequences")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            staging = Path(name) / "export"
            staging.mkdir()
            if kind != "torch" and metadata.device == "cpu":
                metadata = dataclasses.replace(metadata, narrow_size=network.config.narrow_size)
            if kind == "torch":
                _save_weights(staging / WEIGHTS_FILE, network, metadata, precision)
            else:
                _save_programs(staging, network, metadata, items)
            files = {path.name: _sha256(path) for path in sorted(staging.iterdir())}
            metadata = dataclasses.replace(metadata, files=files)
            (staging / METADATA_FILE).write_text(metadata.to_json())
            staging.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error}") from error
    return metadata


def _save_weights(path: Path, network: TrackingNetwork, metadata: ExportMetadata, precision: str) -> None:
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.tracking.engines.pytorch import DTYPES

    if precision != "fp32":
        network = copy.deepcopy(network)
        network.lower(DTYPES[precision])
    save_model(path, network, metadata_of(network, metadata.modalities, metadata.source))


def _save_programs(
    folder: Path, network: TrackingNetwork, metadata: ExportMetadata, items: list[CalibrationItem]
) -> None:
    kind, precision = parse_engine(metadata.engine)
    if precision == "fp16":
        network = copy.deepcopy(network).half()
    programs = {TEMPLATE: template_program(network)}
    programs.update({f"search_{batch}": search_program(network, batch) for batch in metadata.batches})
    if metadata.narrow_size:
        programs[NARROW] = search_program(network.narrowed(), 1)
    for stem, program in programs.items():
        path = folder / f"{stem}{SUFFIXES[kind]}"
        if kind != "openvino":
            path.write_bytes(to_onnx(program))
            continue
        model = to_openvino(program)
        if precision == "int8" and stem != TEMPLATE:
            _, crops, weights = program.example_inputs[0]
            rows = [_fitted(item, len(crops), crops.shape[2], weights.shape[-1]) for item in items]
            model = quantise(model, rows, network)
        _save_openvino(path, model, precision)


def _fitted(item: CalibrationItem, batch: int, side: int, grid: int) -> CalibrationItem:
    """An input of the search program for one target as one for `batch` targets, of which the middle is seen."""
    template, crops, weights = (np.repeat(part, batch, axis=0) for part in item)
    return template, middle_of(crops, side), middle_of(weights, grid)


def _save_openvino(path: Path, model: Any, precision: str) -> None:
    import openvino

    try:
        openvino.save_model(model, path, compress_to_fp16=precision != "fp32")
    except RuntimeError as error:  # how OpenVINO says that the disk is full
        raise ExportError(f"{path.name} cannot be written ({error}); is the disk full?") from error


def _sha256(path: Path) -> str:
    with regular(path).open("rb") as stream:
        digest = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_export_metadata(folder: Path) -> ExportMetadata:
    """Read what an export folder says about itself; its other files are not looked at.

    Raises:
        ExportError: The folder is no export, or its metadata are broken.
    """
    try:
        text = regular(folder / METADATA_FILE).read_text()
    except OSError as error:
        raise ExportError(f"{folder} is no export: {METADATA_FILE} cannot be read ({error.strerror})") from error
    try:
        return ExportMetadata.from_json(text)
    except ExportError as error:
        raise ExportError(f"{folder} cannot be used: {error}") from error


def load_export(folder: Path, threads: int = 0, device: str | None = None) -> tuple[Engine, ExportMetadata]:
    """Start the engine of an export folder after verifying the files against their checksums.

    Args:
        folder: Written by `write_export`.
        threads: CPU threads, 0 = all usable cores.
        device: None = the one that the export is for.

    Raises:
        ExportError: The folder is no export, not complete, or was changed.
        EngineUnavailableError: The runtime or the device is missing.
    """
    threads = thread_budget(threads)
    engine, metadata = _load(folder, threads, device)
    engine.threads = threads
    return engine, metadata


def _load(folder: Path, threads: int, device: str | None) -> tuple[Engine, ExportMetadata]:
    metadata = verified_export(folder)
    kind, precision = parse_engine(metadata.engine)
    device = device or metadata.device
    if kind == "torch":
        return _load_torch(folder / WEIGHTS_FILE, metadata, precision, device), metadata
    if kind == "openvino" and device != "cpu":
        raise EngineUnavailableError(f"device is {device}; OpenVINO runs on the CPU here")
    paths = _programs(folder, metadata)
    start: Callable[[Path], Program]
    start_lanes: Callable[[Path], Sequence[Program]]
    if kind == "openvino":
        from ckd_core.models.registry import model_config

        exact = model_config(metadata.spec.model).exact_convolutions > 0
        start = functools.partial(openvino_program, precision=precision, threads=threads, exact=exact)
        start_lanes = functools.partial(openvino_lanes, precision=precision, threads=threads, exact=exact)
    else:
        start = functools.partial(onnx_program, kind=kind, device=device, threads=threads)
        start_lanes = functools.partial(onnx_lanes, threads=threads)
    template, search = start(paths[TEMPLATE]), {batch: start(paths[f"search_{batch}"]) for batch in metadata.batches}

    def lanes(side: int) -> Sequence[Program]:
        return start_lanes(paths[NARROW if side == metadata.narrow_size else "search_1"])

    build = OpenVinoEngine if kind == "openvino" else OnnxEngine
    make_lanes = lanes if device == "cpu" else None
    return build(
        metadata.engine, device, metadata.spec, template, search, None, make_lanes, metadata.narrow_size
    ), metadata


def verified_export(folder: Path) -> ExportMetadata:
    """Read an export's metadata and verify its files against their checksums, without starting anything.

    Raises:
        ExportError: The folder is no export, not complete, or was changed.
    """
    metadata = read_export_metadata(folder)
    paths = _programs(folder, metadata).values()
    needed = [path.name for path in paths] or [WEIGHTS_FILE]
    if parse_engine(metadata.engine)[0] == "openvino":
        needed += [path.with_suffix(".bin").name for path in paths]
    _verify(folder, metadata, needed)
    return metadata


def _programs(folder: Path, metadata: ExportMetadata) -> dict[str, Path]:
    """Where the programs of an export are, by stem; none for torch."""
    kind, _ = parse_engine(metadata.engine)
    if kind == "torch":
        return {}
    stems = [TEMPLATE, *(f"search_{batch}" for batch in metadata.batches), *([NARROW] if metadata.narrow_size else [])]
    return {stem: folder / f"{stem}{SUFFIXES[kind]}" for stem in stems}


def _load_torch(path: Path, metadata: ExportMetadata, precision: str, device: str) -> Engine:
    import torch

    from ckd_core.models.checkpoint import load_model
    from ckd_core.tracking.engines.pytorch import TorchEngine

    if device != "cpu" and not torch.cuda.is_available():
        raise EngineUnavailableError(f"device {device} is not available here; give --device cpu")
    network, _ = load_model(path, model=metadata.spec.model)
    return TorchEngine(network, precision, device)


def _verify(folder: Path, metadata: ExportMetadata, needed: list[str]) -> None:
    """Refuse an export with files that are missing, unknown, or not those of the metadata."""
    paths = [name for name in metadata.files if not is_plain_name(name)]
    if paths:
        raise ExportError(f"{folder}: its {METADATA_FILE} names '{shown(paths[0])}'; expected files of the folder")
    missing = sorted(name for name in {*needed, *metadata.files} if not (folder / name).is_file())
    if missing:
        raise ExportError(f"{folder} is not complete: {', '.join(missing)} missing; export again")
    # A program may refer to any file beside it, such as weights that it keeps apart.
    visible = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    unknown = sorted({str(path.relative_to(folder)) for path in visible} - {*metadata.files, METADATA_FILE})
    if unknown:
        raise ExportError(
            f"{folder} holds files that its {METADATA_FILE} does not name: {shown(', '.join(unknown))}; remove them, or"
            " export again"
        )
    changed = [name for name in needed if name not in metadata.files]
    changed += [name for name, digest in metadata.files.items() if _sha256(folder / name) != digest]
    if changed:
        raise ExportError(f"{folder} was changed after it was written: {', '.join(changed)}; export again")
