"""The work of `sdstrack tune`: time every engine on this machine, compare its boxes, keep the fastest for `auto`."""

from __future__ import annotations

import copy
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ckd_core.data.footage import folder_footage, synthetic_footage
from ckd_core.deploy.network_inputs import calibration_items, median_agreement, network_inputs
from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import default_weights, load_model
from ckd_core.tracking.engines import EngineError, EngineSpec, EngineUnavailableError, parse_engine
from ckd_core.tracking.engines.build import candidates, choose_engine, engine_for, resolve_device, tracking_metadata
from ckd_core.tracking.engines.export import MEDIAN_IOU, ExportMetadata, load_export, write_export
from ckd_core.tracking.engines.tuned import Measured, TunedChoice, TuneKey, exports_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckd_core.deploy.network_inputs import NetworkInput
    from ckd_core.models.checkpoint import ModelMetadata
    from ckd_core.models.network import TrackingNetwork
    from ckd_core.tracking.engines import Engine

    Progress = Callable[[str, float], object]

SYNTHETIC_SEED, SYNTHETIC_FRAMES = 9, 16
INT8 = "openvino/int8"
CALIBRATION_SEED, CALIBRATION_SCENES, CALIBRATION_INPUTS = 10, 2, 48
COMPARED_INPUTS = 24
CALLS = 10  # of one engine before the next one's turn
MIN_ROUNDS, MAX_ROUNDS = 3, 40
# Engines this close to the fastest count as equal, and the most exact of them is taken: that close, a second run
# might choose another.
EQUAL_SHARE = 0.05


class TuneError(TrackingError):
    """Nothing to tune: the weights are an export, or no engine gives the right boxes."""


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What was found.

    Attributes:
        choice: As it was stored.
        path: The file.
        before: What `auto` was until now.
        real: Whether the boxes were compared on the user's sequences and not on synthetic clips.
    """

    choice: TunedChoice
    path: Path
    before: str
    real: bool


def tune(
    model: str,
    weights: Path | None = None,
    device: str = "auto",
    threads: int = 0,
    seconds: float = 20.0,
    sequences: Sequence[Path] = (),
    int8: bool = False,
    progress: Progress = lambda *_: None,
) -> TuneReport:
    """Measure all `candidates` of a network on a device and store the fastest whose boxes are right.

    Args:
        model: A name of `ckd_core.models.registry`.
        weights: A weight file; None = the package's own.
        device: `cpu`, `cuda`, `cuda:N` or `auto`.
        threads: CPU threads, as they will be asked for; 0 = all usable cores.
        seconds: How long to time; starting the engines comes on top.
        sequences: Folders whose frames serve the comparison; without them, synthetic clips do.
        int8: Also make an export in openvino/int8, calibrated on other synthetic clips; it takes about a minute.
        progress: Receives what is being done and the share that is done, 0..1.

    Raises:
        TuneError: The weights are an export, or no engine can run here and give the right boxes.
        EngineError: The device is unknown or not there.
        WeightsFileError: The weights cannot be used.
        OSError: The cache cannot be written.
    """
    path = weights or default_weights(model)
    if path.is_dir():
        raise TuneError(f"{path} is a folder; an export has one engine, expected a weight file")
    device = resolve_device(device, strict=True)
    before = choose_engine(model, path, device, threads).engine
    network, metadata = load_model(path, model=model)
    _, published = tracking_metadata(metadata.tracking)
    progress("crops to compare boxes on", 0.0)
    footage = (
        folder_footage(sequences)
        if sequences
        else synthetic_footage(SYNTHETIC_SEED, [Modality(name) for name in metadata.modalities], 1, SYNTHETIC_FRAMES)
    )
    inputs = network_inputs(footage, EngineSpec.of(network.name, network.config), published, COMPARED_INPUTS)
    reference = engine_for(copy.deepcopy(network), engine="torch/fp32", device="cpu", threads=threads)
    engines: dict[str, Engine] = {}
    agreement: dict[str, float] = {}
    refused: dict[str, str] = {}
    names = [*candidates(device, network.config), *([INT8] if int8 and device == "cpu" else [])]
    export = Path()
    for index, name in enumerate(names):
        progress(f"starting {name}", 0.05 + 0.35 * index / len(names))
        try:
            if name == INT8:
                export = _int8_export(network, metadata, reference)
                engine, _ = load_export(export, threads, device)
            else:
                engine = engine_for(
                    copy.deepcopy(network), engine=name, device=device, threads=threads, strict_device=True
                )
        except EngineUnavailableError as error:
            refused[name] = str(error)
            continue
        agreement[name] = median_agreement(engine, reference, inputs)
        least = MEDIAN_IOU[parse_engine(name)[1]]
        if agreement[name] < least:
            refused[name] = f"its boxes differ: median IoU {agreement[name]:.4f} with torch/fp32, expected {least}"
        else:
            engines[name] = engine
    if not engines:
        raise TuneError(f"no engine on {device} gives the boxes of torch/fp32: {refused}")
    times = _interleaved(engines, inputs[0], seconds, lambda share: progress("timing", 0.4 + 0.6 * share))
    measured = {name: _measured(milliseconds, agreement[name]) for name, milliseconds in times.items()}
    key = TuneKey.here(model, path, device, threads)
    best = fastest(measured)
    choice = TunedChoice(key, best, measured, refused, export=export.name if best == INT8 else "")
    return TuneReport(choice, choice.save(), before, bool(sequences))


def _int8_export(network: TrackingNetwork, metadata: ModelMetadata, reference: Engine) -> Path:
    """Write the int8 export of a network into the cache, in the place of an older one; returns its folder."""
    thresholds, published = tracking_metadata(metadata.tracking)
    spec = EngineSpec.of(network.name, network.config)
    kinds = [Modality(name) for name in metadata.modalities]
    footage = synthetic_footage(CALIBRATION_SEED, kinds, CALIBRATION_SCENES, SYNTHETIC_FRAMES)
    items = calibration_items(reference, network_inputs(footage, spec, published, CALIBRATION_INPUTS))
    folder = exports_folder() / f"{network.name}-{metadata.sha256[:12]}-int8"
    about = ExportMetadata(
        engine=INT8,
        device="cpu",
        spec=spec,
        batches=(1,),
        modalities=metadata.modalities,
        source=metadata.source,
        weights_sha256=metadata.sha256,
        thresholds=thresholds,
        published_geometry=published,
    )
    if folder.is_dir():
        shutil.rmtree(folder)
    write_export(folder, network, about, items)
    return folder


def fastest(measured: Mapping[str, Measured]) -> str:
    """The engine with the lowest median; of those within `EQUAL_SHARE` of it, the one with the most exact boxes."""
    if not measured:
        raise EngineError("nothing was measured; expected at least one engine")
    limit = min(row.median_ms for row in measured.values()) * (1 + EQUAL_SHARE)
    near = [name for name, row in measured.items() if row.median_ms <= limit]
    return min(near, key=lambda name: (parse_engine(name)[1] != "fp32", measured[name].median_ms))


def _interleaved(
    engines: Mapping[str, Engine], item: NetworkInput, seconds: float, progress: Callable[[float], object]
) -> dict[str, list[float]]:
    """Milliseconds per call of each engine; they take turns, so that a machine that drifts moves all of them alike."""
    templates = {name: engine.embed_template(item.template) for name, engine in engines.items()}
    times: dict[str, list[float]] = {name: [] for name in engines}
    begin = time.perf_counter()
    for index in range(MAX_ROUNDS):
        for name, engine in engines.items():
            crops, weights = engine.search_crops(1), engine.response_weights(1)
            crops[:], weights[:] = item.search, item.response_weights
            engine.track(templates[name], crops, weights)  # the caches were another engine's
            for _ in range(CALLS):
                start = time.perf_counter()
                engine.track(templates[name], crops, weights)
                times[name].append((time.perf_counter() - start) * 1e3)
        spent = (time.perf_counter() - begin) / seconds
        progress(min(max(spent, (index + 1) / MAX_ROUNDS), 1.0))
        if index + 1 >= MIN_ROUNDS and spent >= 1:
            break
    progress(1.0)
    return times


def _measured(milliseconds: list[float], agreement: float) -> Measured:
    first, median, third = statistics.quantiles(milliseconds, n=4)
    return Measured(round(median, 3), round(third - first, 3), round(agreement, 5))
