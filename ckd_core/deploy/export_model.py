"""The work of `sdstrack export`: write a network for one engine, load it back and compare it with torch/fp32."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.data.footage import folder_footage, synthetic_footage
from ckd_core.deploy.network_inputs import calibration_items, median_agreement, network_inputs
from ckd_core.locks import new_folder_lock
from ckd_core.models.checkpoint import default_weights, load_model
from ckd_core.tracking.engines import EngineSpec, EngineUnavailableError, device_family, parse_engine
from ckd_core.tracking.engines.build import tracking_metadata
from ckd_core.tracking.engines.export import MEDIAN_IOU, ExportError, ExportMetadata, load_export, write_export
from ckd_core.tracking.engines.pytorch import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckd_core.deploy.network_inputs import NetworkInput

SYNTHETIC_SEED = 9
SYNTHETIC_FRAMES = 16
COMPARED_INPUTS = 24


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written and how well it agrees with torch/fp32.

    Attributes:
        metadata: Of the export.
        agreement: Median IoU with the boxes of torch/fp32; None where the export cannot run on this machine.
        compared: Number of inputs of the comparison.
        real: Whether the inputs come from the user's sequences and not from synthetic clips.
        reason: Why the export cannot run here.
    """

    metadata: ExportMetadata
    agreement: float | None
    compared: int
    real: bool
    reason: str = ""

    @property
    def promised(self) -> float:
        """Lowest agreement that is acceptable for the precision."""
        return MEDIAN_IOU[parse_engine(self.metadata.engine)[1]]


def export_model(
    out: Path,
    model: str,
    weights: Path | None,
    engine: str,
    *,
    device: str = "cpu",
    batches: Sequence[int] = (1,),
    sequences: Sequence[Path] = (),
    crops: int = 64,
) -> ExportReport:
    """Write an export of `model` to the new folder `out`, load it back and compare it with torch/fp32.

    Args:
        out: New folder.
        model: A name of `ckd_core.models.registry`.
        weights: None = the package's own.
        engine: `kind/precision`.
        device: `cpu` or `cuda`: where the export will run.
        batches: Numbers of targets that the programs are for; 1 is always among them.
        sequences: Folders whose frames calibrate int8 and serve the comparison. Without them synthetic frames serve the
            comparison, and int8 is refused.
        crops: Number of crops to calibrate int8 on.

    Raises:
        ExportError: An argument cannot be used, or `out` cannot be written. Nothing is written after an error.
        EngineError: There is no such engine or device, or a package is missing.
        WeightsFileError: The weights cannot be used.
        SequenceError: A sequence cannot be used.
        LockError: Another process writes there.
    """
    kind, precision = parse_engine(engine)
    if precision == "int8" and not sequences:
        raise ExportError("int8 is calibrated on real crops; give --sequences FOLDER with visible/ and groundtruth.txt")
    family = device_family(device)
    if family == "auto":
        raise ExportError("device is 'auto'; an export is for one device, cpu or cuda")
    if crops < 1:
        raise ExportError(f"crops is {crops}; expected at least 1")
    if out.exists():
        raise ExportError(f"{out} exists; give a new folder")
    with new_folder_lock(out, "sdstrack export"):
        return _export_model(out, model, weights, f"{kind}/{precision}", family, device, batches, sequences, crops)


def _export_model(
    out: Path,
    model: str,
    weights: Path | None,
    engine: str,
    family: str,
    device: str,
    batches: Sequence[int],
    sequences: Sequence[Path],
    crops: int,
) -> ExportReport:
    network, source = load_model(weights or default_weights(model), model=model)
    thresholds, published = tracking_metadata(source.tracking)
    metadata = ExportMetadata(
        engine=engine,
        device=family,
        spec=EngineSpec.of(network.name, network.config),
        batches=tuple(sorted({1, *batches})),
        modalities=source.modalities,
        source=source.source,
        weights_sha256=source.sha256,
        thresholds=thresholds,
        published_geometry=published,
    )
    inputs = _inputs(metadata, sequences, crops)
    reference = TorchEngine(copy.deepcopy(network), "fp32", "cpu")
    items = calibration_items(reference, inputs) if engine.endswith("/int8") else []
    metadata = write_export(out, network, metadata, items)
    compared = inputs[:: max(1, len(inputs) // COMPARED_INPUTS)]
    try:
        loaded, _ = load_export(out, 0, device)
    except EngineUnavailableError as error:  # it is for another machine
        return ExportReport(metadata, None, 0, bool(sequences), str(error))
    return ExportReport(metadata, median_agreement(loaded, reference, compared), len(compared), bool(sequences))


def _inputs(metadata: ExportMetadata, sequences: Sequence[Path], crops: int) -> list[NetworkInput]:
    from ckd_core.frame import Modality

    if sequences:
        footage = folder_footage(sequences)
    else:
        footage = synthetic_footage(
            SYNTHETIC_SEED, [Modality(name) for name in metadata.modalities], 1, SYNTHETIC_FRAMES
        )
    return network_inputs(footage, metadata.spec, metadata.published_geometry, crops)
