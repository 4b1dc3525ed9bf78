"""From a model's name to a running engine: weights, thresholds, device, engine, and what to do when one is missing."""

from __future__ import annotations

import copy
import importlib.util
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckd_core.models.checkpoint import default_weights, load_model
from ckd_core.models.registry import model_config
from ckd_core.tracking.confidence import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.base import (
    CHOICES,
    KINDS,
    Engine,
    EngineError,
    EngineUnavailableError,
    cpu_flags,
    device_family,
    parse_engine,
)
from ckd_core.tracking.engines.export import (
    METADATA_FILE,
    ExportError,
    engine_from_network,
    load_export,
    read_export_metadata,
)
from ckd_core.tracking.engines.pytorch import CompiledEngine, CudaGraphEngine, TorchEngine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.network import TrackingNetwork
    from ckd_core.tracking.engines.export import ExportMetadata

logger = logging.getLogger(__name__)

MEASURED_RUNS = 5


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine with what its weights say about tracking with them."""

    engine: Engine
    thresholds: Thresholds
    published_geometry: bool

    def config_for(self, config: TrackerConfig | None) -> TrackerConfig:
        """The user's options, completed by what the weights were made for."""
        config = config or TrackerConfig()
        if config.published_geometry is not None:
            return config
        return replace(config, published_geometry=self.published_geometry)


def build_engine(
    model: str,
    weights: Path | None = None,
    *,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
) -> BuiltEngine:
    """Load weights and start an engine on them; parameters as `ckd_core.tracking.build_tracker`.

    Errors: WeightsFileError or ExportError for the weights, EngineError for an unknown engine or, with `strict_device`,
    for an engine or device that is not available.
    """
    path = Path(weights) if weights is not None else default_weights(model)
    if (path / METADATA_FILE).is_file():
        return _build_exported(model, path, engine=engine, device=device, threads=threads)
    if path.is_dir():
        raise ExportError(f"{path} has no {METADATA_FILE}; give a weight file or a folder written by sdstrack export")
    network, metadata = load_model(path, model=model)
    thresholds, published = tracking_metadata(metadata.tracking)
    built = engine_for(network, engine=engine, device=device, threads=threads, strict_device=strict_device)
    return BuiltEngine(built, thresholds, published)


def resolve_engine(model: str, weights: Path | None, engine: str, device: str) -> str:
    """`kind/precision` of the engine that `build_engine` would start with `strict_device`, found without starting it.

    Parameters as `build_engine`. Errors: EngineError for an engine that does not exist, for `measure`, whose answer may
    be another every time, and where `auto` cannot choose because the device is not there; ExportError, ConfigError.
    """
    path = Path(weights) if weights is not None else default_weights(model)
    if (path / METADATA_FILE).is_file():
        return _exported_for(model, path, engine).engine
    if engine == "auto":
        return auto_engine(_resolve_device(device, strict=True), model_config(model))
    return "/".join(parse_engine(engine))


def tracking_metadata(values: Mapping[str, Any]) -> tuple[Thresholds, bool]:
    """Thresholds and crop geometry out of a weight file's `tracking` metadata."""
    return Thresholds.from_mapping(values.get("thresholds", {})), bool(values.get("published_geometry", True))


def _build_exported(model: str, folder: Path, *, engine: str, device: str, threads: int) -> BuiltEngine:
    """The engine an export was made for; there is no other to fall back to."""
    if threads < 0:
        raise EngineError(f"threads must be 0 (the engine's own choice) or more, got {threads}")
    _exported_for(model, folder, engine)
    if threads > 0:
        torch.set_num_threads(threads)
    loaded, metadata = load_export(folder, threads, None if device == "auto" else device)
    return BuiltEngine(loaded, metadata.thresholds, metadata.published_geometry)


def _exported_for(model: str, folder: Path, engine: str) -> ExportMetadata:
    """An export's metadata. Errors: EngineError when it is of another model or for another engine."""
    metadata = read_export_metadata(folder)
    if metadata.spec.model != model:
        raise EngineError(f"{folder} is an export of {metadata.spec.model}, asked for was {model}")
    if engine not in (*CHOICES, metadata.engine, metadata.engine.split("/")[0]):
        raise EngineError(f"{folder} is an export for {metadata.engine}, asked for was {engine}; export again for that")
    return metadata


def engine_for(
    network: TrackingNetwork,
    *,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
) -> Engine:
    """Start an engine on a network, which it takes over. Parameters and errors as `build_engine`.

    Without `strict_device`, what is not available is replaced by the CPU or by torch/fp32, with one warning in the log.
    """
    if threads < 0:
        raise EngineError(f"threads must be 0 (the engine's own choice) or more, got {threads}")
    device = _resolve_device(device, strict_device)
    if threads > 0:
        torch.set_num_threads(threads)
    if engine == "measure":
        return measured_engine(network, device, threads)
    chosen = auto_engine(device, network.config) if engine == "auto" else engine
    kind, precision = parse_engine(chosen)
    try:
        return _start(network, kind, precision, device, threads)
    except EngineUnavailableError as error:
        if strict_device:
            raise
        logger.warning("engine %s is not available on %s (%s); torch/fp32 on %s is used", chosen, device, error, device)
        return TorchEngine(network.float(), "fp32", device)


def auto_engine(device: str, config: NetworkConfig) -> str:
    """The engine that is usually fastest on a device, by what is installed and by the CPU's instructions.

    config: the network's. One with `exact_convolutions` cannot have OpenVINO's bf16.
    """
    if device.startswith("cuda"):
        return "cudagraph/fp16"
    native_bf16 = bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})
    if importlib.util.find_spec("openvino") is not None:
        return "openvino/bf16" if native_bf16 and not config.exact_convolutions else "openvino/fp32"
    return "torch/bf16" if native_bf16 else "torch/fp32"


def candidates(device: str, config: NetworkConfig) -> list[str]:
    """Engines worth measuring on a device for a network (see `auto_engine`).

    int8 is not among them, it needs calibration.
    """
    if device.startswith("cuda"):
        return ["cudagraph/fp16", "cudagraph/bf16", "compile/fp16", "tensorrt/fp16", "torch/fp32"]
    names = ["openvino/bf16", "torch/bf16", "openvino/fp32", "onnx/fp32", "torch/fp32"]
    return names[1:] if config.exact_convolutions else names


def measured_engine(network: TrackingNetwork, device: str, threads: int) -> Engine:
    """The fastest of `candidates` that start here, by the median of a few frames."""
    best: tuple[float, Engine] | None = None
    for name in candidates(device, network.config):
        kind, precision = parse_engine(name)
        try:
            engine = _start(copy.deepcopy(network), kind, precision, device, threads)
        except EngineUnavailableError as error:
            logger.info("engine %s does not run here: %s", name, error)
            continue
        seconds = frame_seconds(engine, MEASURED_RUNS)
        logger.info("engine %s on %s: %.1f ms a frame", name, device, seconds * 1e3)
        if best is None or seconds < best[0]:
            best = seconds, engine
    if best is None:
        raise EngineError(f"no engine runs on {device}; there are {', '.join(KINDS)}")
    return best[1]


def frame_seconds(engine: Engine, runs: int) -> float:
    """Median seconds of a frame's network call on black crops."""
    template = engine.embed_template(engine.template_crops(1))
    crops, windows = engine.search_crops(1), engine.windows(1)
    seconds = []
    for _ in range(runs + 2):
        begin = time.perf_counter()
        engine.track(template, crops, windows)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[2:]))


def _resolve_device(device: str, strict: bool) -> str:
    family, number = device_family(device), device.partition(":")[2]
    if family == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if family == "cpu" or (torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()):
        return device
    message = f"device {device} is not available here (CUDA devices: {torch.cuda.device_count()})"
    if strict:
        raise EngineUnavailableError(message)
    logger.warning("%s; the CPU is used", message)
    return "cpu"


def _start(network: TrackingNetwork, kind: str, precision: str, device: str, threads: int) -> Engine:
    if kind == "cudagraph":
        return CudaGraphEngine(network, precision, device)
    if kind == "torch":
        return TorchEngine(network, precision, device)
    if kind == "compile":
        return _compiled(network, precision, device)
    return engine_from_network(network, kind, precision, device, threads)


def _compiled(network: TrackingNetwork, precision: str, device: str) -> Engine:
    """The compiled engine after its first frame, so that a missing compiler shows now.

    It takes a copy: the network must be whole for the engine that takes its place, and lowering rounds it.
    """
    engine = CompiledEngine(copy.deepcopy(network), precision, device)
    try:
        engine.track(engine.embed_template(engine.template_crops(1)), engine.search_crops(1), engine.windows(1))
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineUnavailableError(f"torch.compile failed: {reason}") from error
    return engine
