"""From a model's name to a running engine: weights, thresholds, device, engine, and the fallback for a missing one."""

from __future__ import annotations

import copy
import importlib.util
import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckd_core.models.checkpoint import default_weights, load_model
from ckd_core.models.registry import model_config
from ckd_core.text import MAX_REASON, shown
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.base import (
    CHOICES,
    Engine,
    EngineError,
    EngineUnavailableError,
    device_family,
    has_native_bf16,
    parse_engine,
)
from ckd_core.tracking.engines.convert import engine_from_network
from ckd_core.tracking.engines.export import (
    METADATA_FILE,
    ExportError,
    load_export,
    read_export_metadata,
    verified_export,
)
from ckd_core.tracking.engines.guarded import GuardedEngine
from ckd_core.tracking.engines.pytorch import CompiledEngine, CudaGraphEngine, TorchEngine
from ckd_core.tracking.engines.threads import thread_budget, use_threads
from ckd_core.tracking.engines.tuned import TuneKey, exports_folder, find_tuned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.network import TrackingNetwork
    from ckd_core.tracking.engines.export import ExportMetadata

logger = logging.getLogger(__name__)

MEASURED_RUNS = 5
# What takes over where another engine fails: it needs no device and no library but PyTorch.
SPARE = ("torch/fp32", "cpu")


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine with what the metadata of its weights say about tracking."""

    engine: Engine
    thresholds: Thresholds
    published_geometry: bool

    def config_for(self, config: TrackerConfig | None) -> TrackerConfig:
        """Complete the user's options by the geometry that the weights were trained for."""
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
    other_processes: bool = False,
) -> BuiltEngine:
    """Load weights and start an engine on them.

    Args:
        model: A name of `ckd_core.models.registry`.
        weights: A safetensors file or a folder written by `sdstrack export`; None = the package's own weights.
        engine: `kind/precision`, `auto` or `measure`. An export runs on the engine that it was made for.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        threads: CPU threads of all libraries that work on a frame; 0 = all usable cores.
        strict_device: Refuse an engine or device that is not available, instead of falling back with a warning, and
            keep it when it fails while it runs, instead of going on with torch/fp32 on the CPU (see `guarded.py`). An
            export has nothing to fall back to.
        other_processes: Whether `threads` = 0 leaves a core to others on this machine (see `thread_budget`).

    Raises:
        WeightsFileError: The weights cannot be used.
        ExportError: The export folder cannot be used.
        EngineError: The engine does not exist, or it is not available and nothing may replace it.
    """
    budget = thread_budget(threads, other_processes)
    use_threads(budget)
    path = _weights_path(model, weights)
    if _find_export(path, model, engine) is not None:
        loaded, export = load_export(path, budget, None if device == "auto" else device)
        loaded.chosen_by = "the export's own"
        return BuiltEngine(GuardedEngine(loaded), export.thresholds, export.published_geometry)
    spare = None if strict_device else partial(_start_spare, model, path, budget)
    choice = Choice(engine, "measured at the start" if engine == "measure" else "asked for")
    if engine == "auto":
        device = resolve_device(device, strict_device)
        choice = choose_engine(model, path, device, threads)
    if choice.export is not None:
        loaded, export = load_export(choice.export, budget, device)
        loaded.chosen_by = choice.reason
        return BuiltEngine(GuardedEngine(loaded, spare), export.thresholds, export.published_geometry)
    network, metadata = load_model(path, model=model)
    if metadata.missing:
        logger.warning(
            "%s holds initial weights for tensors that the converted file lacked: %s%s",
            path, metadata.missing[0], f" and {len(metadata.missing) - 1} more" if len(metadata.missing) > 1 else "",
        )  # fmt: skip
    thresholds, published = tracking_metadata(metadata.tracking)
    built = engine_for(network, engine=choice.engine, device=device, threads=budget, strict_device=strict_device)
    started = engine == "measure" or built.name == "/".join(parse_engine(choice.engine))
    built.chosen_by = choice.reason if started else f"in place of {choice.engine}, which is not available"
    guarded = GuardedEngine(built, None if (built.name, built.device) == SPARE else spare)
    return BuiltEngine(guarded, thresholds, published)


def _start_spare(model: str, weights: Path, threads: int) -> Engine:
    """Start the engine that takes over from one that fails while it runs."""
    name, device = SPARE
    network, _ = load_model(weights, model=model)
    return engine_for(network, engine=name, device=device, threads=threads, strict_device=True)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and how it came to be this one.

    Attributes:
        engine: `kind/precision`.
        reason: For the user: asked for, tuned, or by which rule.
        export: The folder that it runs from; None where it runs from the weights.
    """

    engine: str
    reason: str
    export: Path | None = None


def choose_engine(model: str, weights: Path, device: str, threads: int) -> Choice:
    """Choose for `auto`: what `sdstrack tune` found here for these weights, else by `auto_engine`'s rule.

    A tuned choice that does not fit is ignored with a warning in the log, and the reason says so.

    Args:
        model: A name of `ckd_core.models.registry`.
        weights: A weight file.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: As the user says.

    Raises:
        WeightsFileError: The weights cannot be read.
        ConfigError: There is no such model.
    """
    rule = auto_engine(device, model_config(model))
    key = TuneKey.here(model, weights, device, threads)
    tuned, ignored = find_tuned(key)
    if tuned is not None:
        found = tuned.measured[tuned.engine]
        reason = f"tuned here on {tuned.made[:10]}, {found.median_ms:.1f} ms of the network per frame"
        if not tuned.export:
            return Choice(tuned.engine, reason)
        folder = exports_folder() / tuned.export
        try:
            export = verified_export(folder)
        except ExportError as error:
            ignored = str(error)
        else:
            if (export.weights_sha256, export.spec.model, export.engine) == (key.weights_sha256, model, tuned.engine):
                return Choice(tuned.engine, reason, folder)
            ignored = f"{folder} is {export.engine} of other weights"
    if not ignored:
        return Choice(rule, "by rule, not tuned")
    logger.warning("the tuned choice is ignored, %s is used by rule: %s; run sdstrack tune again", rule, ignored)
    return Choice(rule, f"by rule; a tuned choice is ignored: {ignored}")


def resolve_engine(model: str, weights: Path | None, engine: str, device: str, threads: int = 0) -> Choice:
    """Name the engine (`kind/precision`) that `build_engine` would start with `strict_device`, without starting it.

    Args are those of `build_engine`.

    Raises:
        EngineError: The engine does not exist, its name is `measure` (whose choice may differ every time), or `auto`
            cannot choose because the device is not there.
        ExportError: The export folder cannot be used.
        ConfigError: There is no such model.
    """
    export = _find_export(_weights_path(model, weights), model, engine)
    if export is not None:
        return Choice(export.engine, "the export's own")
    if engine == "auto":
        device = resolve_device(device, strict=True)
        model_config(model)  # names the networks there are, where missing weights would be all that is said
        choice = choose_engine(model, _weights_path(model, weights), device, threads)
        if choice.export is None:
            return choice
        # Numbers belong to what can be named: the boxes of int8 depend on the crops that it was calibrated on.
        rule = auto_engine(device, model_config(model))
        return Choice(rule, f"by rule; the tuned {choice.engine} is used with --weights {choice.export} alone")
    return Choice("/".join(parse_engine(engine)), "asked for")


def tracking_metadata(values: Mapping[str, Any]) -> tuple[Thresholds, bool]:
    """Read thresholds and crop geometry (published or exact) from a weight file's `tracking` metadata."""
    return Thresholds.from_mapping(values.get("thresholds", {})), bool(values.get("published_geometry", True))


def _weights_path(model: str, weights: Path | None) -> Path:
    return Path(weights) if weights is not None else default_weights(model)


def _find_export(path: Path, model: str, engine: str) -> ExportMetadata | None:
    """Read the metadata of the export in folder `path`, or return None where `path` is a weight file.

    Raises:
        EngineError: The export is of another model or for another engine.
        ExportError: The folder is no export.
    """
    if not (path / METADATA_FILE).is_file():
        if path.is_dir():
            raise ExportError(
                f"{path} has no {METADATA_FILE}; expected a weight file or a folder written by sdstrack export"
            )
        return None
    metadata = read_export_metadata(path)
    if metadata.spec.model != model:
        raise EngineError(f"{path} is an export of {metadata.spec.model}; expected one of {model}")
    if engine not in (*CHOICES, metadata.engine, metadata.engine.split("/")[0]):
        raise EngineError(f"{path} is an export for {metadata.engine}; export again for {engine}")
    return metadata


def engine_for(
    network: TrackingNetwork,
    *,
    engine: str = "auto",
    device: str = "auto",
    threads: int = 0,
    strict_device: bool = False,
) -> Engine:
    """Start an engine on a network, which belongs to the engine from then on.

    Without `strict_device`, what is not available is replaced by the CPU or by torch/fp32, with one warning in the log.
    Args are those of `build_engine`.

    Raises:
        EngineError: The engine does not exist, or it is not available and `strict_device` is set.
    """
    threads = thread_budget(threads)
    use_threads(threads)
    device = resolve_device(device, strict_device)
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
        return _start_plain(network.float(), device, threads)


def _start_plain(network: TrackingNetwork, device: str, threads: int) -> Engine:
    """Start torch/fp32 on a device, and on the CPU, with a warning, where the device has no room for it."""
    try:
        return _start(network, "torch", "fp32", device, threads)
    except EngineUnavailableError as error:
        if device == "cpu":
            raise
        logger.warning("torch/fp32 does not start on %s (%s); the CPU is used", device, error)
        return _start(network, "torch", "fp32", "cpu", threads)


def auto_engine(device: str, config: NetworkConfig) -> str:
    """Name the engine that is usually fastest on a device, by what is installed and by the CPU's instructions.

    A network with `exact_convolutions` (see its `config`) cannot have OpenVINO's bf16.
    """
    if device.startswith("cuda"):
        return "cudagraph/fp16"
    native_bf16 = has_native_bf16()
    if importlib.util.find_spec("openvino") is not None:
        return "openvino/bf16" if native_bf16 and not config.exact_convolutions else "openvino/fp32"
    return "torch/bf16" if native_bf16 else "torch/fp32"


def candidates(device: str, config: NetworkConfig) -> list[str]:
    """List the engines worth measuring on a device for a network (see `auto_engine`).

    int8 is not among them: it needs calibration.
    """
    if device.startswith("cuda"):
        return ["cudagraph/fp16", "cudagraph/bf16", "compile/fp16", "tensorrt/fp16", "torch/fp32"]
    names = ["openvino/bf16", "torch/bf16", "openvino/fp32", "onnx/fp32", "torch/fp32"]
    return names[1:] if config.exact_convolutions else names


def measured_engine(network: TrackingNetwork, device: str, threads: int) -> Engine:
    """Start all `candidates` that can run here and keep the one with the lowest median time per frame.

    Raises:
        EngineError: None of them can run on the device.
    """
    best: tuple[float, Engine] | None = None
    for name in candidates(device, network.config):
        kind, precision = parse_engine(name)
        try:
            engine = _start(copy.deepcopy(network), kind, precision, device, threads)
        except EngineUnavailableError as error:
            logger.info("engine %s does not run here: %s", name, error)
            continue
        seconds = frame_seconds(engine, MEASURED_RUNS)
        logger.info("engine %s on %s: %.1f ms per frame", name, device, seconds * 1e3)
        if best is None or seconds < best[0]:
            best = seconds, engine
    if best is None:
        raise EngineError(f"no engine can run on {device}; tried {', '.join(candidates(device, network.config))}")
    return best[1]


def frame_seconds(engine: Engine, runs: int) -> float:
    """Measure the network call of a frame on black crops: median seconds over `runs` calls after two more."""
    template = engine.embed_template(engine.template_crops(1))
    crops, weights = engine.search_crops(1), engine.response_weights(1)
    seconds = []
    for _ in range(runs + 2):
        begin = time.perf_counter()
        engine.track(template, crops, weights)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[2:]))


def resolve_device(device: str, strict: bool) -> str:
    """Return the device that is meant; the CPU, with a warning, for one that is absent and not `strict`.

    Raises:
        EngineError: No device can have this name, or it is absent and `strict`.
    """
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
    # A start that fails may have rounded part of the network, or left part of it on the device.
    own = network if device == "cpu" else copy.deepcopy(network)
    try:
        engine = _engine(own, kind, precision, device, threads)
    except RuntimeError as error:  # as PyTorch says that memory ran out, or that the device is broken
        if device == "cpu":
            raise
        raise EngineUnavailableError(shown(f"{type(error).__name__}: {error}", MAX_REASON)) from error
    engine.threads = threads
    return engine


def _engine(network: TrackingNetwork, kind: str, precision: str, device: str, threads: int) -> Engine:
    if kind == "cudagraph":
        return CudaGraphEngine(network, precision, device)
    if kind == "torch":
        return TorchEngine(network, precision, device)
    if kind == "compile":
        return _compiled(network, precision, device)
    return engine_from_network(network, kind, precision, device, threads)


def _compiled(network: TrackingNetwork, precision: str, device: str) -> Engine:
    """Start the compiled engine and run its first frame, so that a missing compiler shows now.

    It works on a copy: lowering rounds the network, and the engine that would replace it needs the exact one.
    """
    engine = CompiledEngine(copy.deepcopy(network), precision, device)
    try:
        template = engine.embed_template(engine.template_crops(1))
        engine.track(template, engine.search_crops(1), engine.response_weights(1))
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        reason = str(error).strip().splitlines()[0]
        raise EngineUnavailableError(f"torch.compile failed: {reason}") from error
    return engine
