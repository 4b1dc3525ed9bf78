"""Networks as programs without PyTorch: made, written to a folder with their metadata, and loaded back.

A folder holds `export.json`, `template.*` (one target) and `search_N.*` for N targets, as .onnx or OpenVINO's .xml and
.bin. Shapes are static. For torch it holds `export.json` and the weights in the engine's precision: the program is this
package, because PyTorch's own program files cannot be loaded without unpickling.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.tracking.confidence import ConfidenceError, Thresholds
from ckd_core.tracking.engines.base import Engine, EngineSpec, EngineUnavailableError, parse_engine
from ckd_core.tracking.engines.exported import OnnxEngine, OpenVinoEngine, onnx_program, openvino_core, openvino_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ckd_core.models.network import TrackingNetwork

FORMAT = "sdstrack-export-1"
METADATA_FILE = "export.json"
SUFFIXES = {"onnx": ".onnx", "tensorrt": ".onnx", "openvino": ".xml"}
WEIGHTS_FILE = "weights.safetensors"
# Lowest median IoU with the boxes of torch/fp32 on the same real crops that a precision promises.
MEDIAN_IOU = {"fp32": 0.999, "bf16": 0.99, "fp16": 0.99, "int8": 0.97}
# Calibration inputs of a search program: template tokens, crops, windows.
CalibrationItem = tuple["NDArray[Any]", "NDArray[np.uint8]", "NDArray[np.float32]"]


class ExportError(TrackingError):
    """An export that cannot be made, written, read or trusted."""


@dataclass(frozen=True, slots=True)
class ExportMetadata:
    """What an export folder says about itself.

    engine: `kind/precision` it was made for. device: family it was made for (cpu, cuda). batches: numbers of targets a
    search program exists for. modalities, weights_sha256, source: of the weights. thresholds, published_geometry: as
    the weights' metadata. files: SHA-256 of every other file of the folder, filled in when it is written.
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
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Text of `export.json`."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ExportMetadata:
        """Inverse of `to_json`. Errors: ExportError for anything else."""
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise ExportError(f"its format must be {FORMAT!r}")
            values["spec"] = EngineSpec(**values["spec"])
            values["thresholds"] = Thresholds.from_mapping(values["thresholds"])
            values["batches"], values["modalities"] = tuple(values["batches"]), tuple(values["modalities"])
            values["files"] = {str(name): str(digest) for name, digest in values["files"].items()}
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError, ConfidenceError) as error:
            raise ExportError(f"its {METADATA_FILE} is not what sdstrack export writes: {error}") from error


def template_program(network: TrackingNetwork) -> Any:
    """torch.export of the template program for one target; the network in eval mode on the CPU or a GPU."""
    import torch

    from ckd_core.tracking.engines.programs import TemplateProgram

    side, device = network.config.template_size, next(network.parameters()).device
    crops = torch.zeros((1, 2, side, side, 3), dtype=torch.uint8, device=device)
    program = TemplateProgram(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(program, (crops,), strict=False)


def search_program(network: TrackingNetwork, batch: int) -> Any:
    """torch.export of the search program for `batch` targets."""
    import torch

    from ckd_core.models.checks import compute_dtype
    from ckd_core.tracking.engines.programs import SearchProgram

    config, dtype, device = network.config, compute_dtype(network), next(network.parameters()).device
    tokens = torch.zeros((batch, 2, config.template_tokens, config.width), dtype=dtype, device=device)
    crops = torch.zeros((batch, 2, config.search_size, config.search_size, 3), dtype=torch.uint8, device=device)
    windows = torch.ones((batch, 1, config.grid, config.grid), device=device)
    program = SearchProgram(network)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.export.export(program, (tokens, crops, windows), strict=False)


def to_onnx(program: Any) -> bytes:
    """ONNX model of an exported program. Errors: EngineUnavailableError without `onnx` or `onnxscript`."""
    import torch

    try:
        import onnxscript  # noqa: F401 - the exporter needs it and says so less clearly
    except ImportError as error:
        raise EngineUnavailableError("onnxscript is not installed; see requirements/engines.txt") from error
    for library in ("onnxscript", "onnx_ir"):  # they report every node they fold
        logging.getLogger(library).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(program, dynamo=True, verbose=False, optimize=True)
    assert made is not None  # noqa: S101 - dynamo=True always returns a program
    data: bytes = made.model_proto.SerializeToString()
    return data


def to_openvino(program: Any) -> Any:
    """OpenVINO model of an exported program. Errors: EngineUnavailableError without OpenVINO."""
    openvino_core()
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(program)
    example, _ = program.example_inputs
    model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, example, strict=True)})
    return model


def quantise(model: Any, items: Sequence[CalibrationItem], network: TrackingNetwork) -> Any:
    """int8 OpenVINO model of a network's search program, calibrated on real template tokens and crops.

    The head and the network's exact convolutions stay in floating point: a head in int8 costs a tenth of the boxes'
    overlap and saves next to nothing. The exact ones are the first, the head's the last in any topological order.
    Errors: EngineUnavailableError without the `nncf` package.
    """
    try:
        import nncf
    except ImportError as error:
        raise EngineUnavailableError("nncf is not installed; see requirements/engines.txt") from error
    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset(list(items), lambda item: [np.ascontiguousarray(part) for part in item])
    convolutions = [op.get_friendly_name() for op in model.get_ordered_ops() if "Convolution" in op.get_type_name()]
    kept = convolutions[: network.config.exact_convolutions] + convolutions[-_head_convolutions(network) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            data,
            subset_size=len(items),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=kept),
        )


def engine_from_network(network: TrackingNetwork, kind: str, precision: str, device: str, threads: int) -> Engine:
    """ONNX Runtime or OpenVINO engine made in memory; further batch sizes are made when first asked for."""
    name, spec = f"{kind}/{precision}", EngineSpec.of(network.name, network.config)
    if kind == "openvino":
        if precision == "int8":
            raise EngineUnavailableError("openvino/int8 must be calibrated first: give a folder of sdstrack export")
        if device != "cpu":
            raise EngineUnavailableError(f"OpenVINO runs on the CPU here, asked for was {device}")
        require_roundable(network, precision)

        def make_openvino(batch: int) -> Any:
            return openvino_program(to_openvino(search_program(network, batch)), precision, threads)

        template = openvino_program(to_openvino(template_program(network)), precision, threads)
        return OpenVinoEngine(name, device, spec, template, {1: make_openvino(1)}, make_openvino)
    if precision == "fp16":
        network = copy.deepcopy(network).half()  # the caller falls back on its own if this fails

    def make_onnx(batch: int) -> Any:
        return onnx_program(to_onnx(search_program(network, batch)), kind, device, threads)

    template = onnx_program(to_onnx(template_program(network)), kind, device, threads)
    return OnnxEngine(name, device, spec, template, {1: make_onnx(1)}, make_onnx)


def require_roundable(network: TrackingNetwork, precision: str) -> None:
    """Refuse what OpenVINO cannot do: it rounds a whole program to bf16, or nothing of it.

    Errors: EngineUnavailableError for bf16 with a network that has exact convolutions.
    """
    if precision == "bf16" and network.config.exact_convolutions:
        raise EngineUnavailableError(
            f"{network.name} must keep its first layers in fp32, which openvino/bf16 cannot; "
            "openvino/fp32 is as fast for a network of this size"
        )


def write_export(
    folder: Path,
    network: TrackingNetwork,
    metadata: ExportMetadata,
    calibration: Iterable[CalibrationItem] = (),
) -> ExportMetadata:
    """Write program, weights and metadata to a new folder, all or nothing; returns the metadata with the checksums.

    calibration: for int8, inputs of the search program for one target. Errors: ExportError when `folder` exists or
    cannot be written; EngineUnavailableError when the library that writes is missing.
    """
    if folder.exists():
        raise ExportError(f"{folder} exists; give a new folder")
    kind, precision = parse_engine(metadata.engine)
    if kind not in SUFFIXES and kind != "torch":
        raise ExportError(f"{metadata.engine} has no file form; export to one of torch, {', '.join(SUFFIXES)}")
    if 1 not in metadata.batches or min(metadata.batches) < 1:
        raise ExportError(f"batches must be positive and have 1 among them, got {metadata.batches}")
    if kind == "openvino":
        require_roundable(network, precision)
    items = list(calibration)
    if precision == "int8" and not items:
        raise ExportError("int8 needs crops to calibrate on; give sequences")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
            made = Path(name) / "made"
            made.mkdir()
            if kind == "torch":
                _save_weights(made / WEIGHTS_FILE, network, metadata, precision)
            else:
                _save_programs(made, network, metadata, items)
            files = {path.name: _sha256(path) for path in sorted(made.iterdir())}
            metadata = dataclasses.replace(metadata, files=files)
            (made / METADATA_FILE).write_text(metadata.to_json())
            shutil.move(made, folder)
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
    programs = {"template": template_program(network)}
    programs.update({f"search_{batch}": search_program(network, batch) for batch in metadata.batches})
    for stem, program in programs.items():
        path = folder / f"{stem}{SUFFIXES[kind]}"
        if kind != "openvino":
            path.write_bytes(to_onnx(program))
            continue
        model = to_openvino(program)
        if precision == "int8" and stem != "template":
            batch = program.example_inputs[0][1].shape[0]
            rows = [tuple(np.repeat(part, batch, axis=0) for part in item) for item in items]
            model = quantise(model, rows, network)  # type: ignore[arg-type]  # three parts stay three
        _save_openvino(path, model, precision)


def _head_convolutions(network: TrackingNetwork) -> int:
    """Number of convolutions in a network's head."""
    from torch import nn

    return sum(isinstance(module, nn.Conv2d) for module in network.get_submodule("box_head").modules())


def _save_openvino(path: Path, model: Any, precision: str) -> None:
    import openvino

    openvino.save_model(model, path, compress_to_fp16=precision != "fp32")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_export_metadata(folder: Path) -> ExportMetadata:
    """What an export folder says about itself. Errors: ExportError."""
    try:
        text = (folder / METADATA_FILE).read_text()
    except OSError as error:
        raise ExportError(f"{folder} is no export: {METADATA_FILE} cannot be read ({error.strerror})") from error
    try:
        return ExportMetadata.from_json(text)
    except ExportError as error:
        raise ExportError(f"{folder} cannot be used: {error}") from error


def load_export(folder: Path, threads: int = 0, device: str | None = None) -> tuple[Engine, ExportMetadata]:
    """Engine on an export folder, whose files are verified against their checksums.

    device: None = the one it was made for. Errors: ExportError; EngineUnavailableError when its runtime or device is
    missing.
    """
    metadata = read_export_metadata(folder)
    kind, precision = parse_engine(metadata.engine)
    device = device or metadata.device
    stems = [] if kind == "torch" else ["template", *(f"search_{batch}" for batch in metadata.batches)]
    paths = [folder / f"{stem}{SUFFIXES[kind]}" for stem in stems]
    _verify(folder, metadata, [path.name for path in paths] or [WEIGHTS_FILE])
    if kind == "torch":
        return _load_torch(folder / WEIGHTS_FILE, metadata, precision, device), metadata
    if kind == "openvino" and device != "cpu":
        raise EngineUnavailableError(f"OpenVINO runs on the CPU here, asked for was {device}")
    if kind == "openvino":
        from ckd_core.models.registry import model_config

        exact = model_config(metadata.spec.model).exact_convolutions > 0
        programs = [openvino_program(path, precision, threads, exact) for path in paths]
    else:
        programs = [onnx_program(path, kind, device, threads) for path in paths]
    build = OpenVinoEngine if kind == "openvino" else OnnxEngine
    search = dict(zip(metadata.batches, programs[1:], strict=True))
    return build(metadata.engine, device, metadata.spec, programs[0], search), metadata


def _load_torch(path: Path, metadata: ExportMetadata, precision: str, device: str) -> Engine:
    import torch

    from ckd_core.models.checkpoint import load_model
    from ckd_core.tracking.engines.pytorch import TorchEngine

    if device != "cpu" and not torch.cuda.is_available():
        raise EngineUnavailableError(f"device {device} is not available here; give --device cpu")
    network, _ = load_model(path, model=metadata.spec.model)
    return TorchEngine(network, precision, device)


def _verify(folder: Path, metadata: ExportMetadata, needed: list[str]) -> None:
    """Refuse an export whose files are not those that were written."""
    missing = sorted(name for name in {*needed, *metadata.files} if not (folder / name).is_file())
    if missing:
        raise ExportError(f"{folder} is not whole: {', '.join(missing)} missing")
    changed = [name for name in needed if name not in metadata.files]
    changed += [name for name, digest in metadata.files.items() if _sha256(folder / name) != digest]
    if changed:
        raise ExportError(f"{folder} was changed after it was written: {', '.join(changed)}; export again")
