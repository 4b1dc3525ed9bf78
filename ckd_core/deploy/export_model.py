"""The work of `sdstrack export`: weights in, a folder with program, weights and metadata out, compared before use."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.data.footage import folder_footage, painted_footage
from ckd_core.deploy.network_inputs import calibration_items, median_agreement, network_inputs
from ckd_core.models.checkpoint import default_weights, load_model
from ckd_core.tracking.engines import EngineSpec, EngineUnavailableError, device_family, parse_engine
from ckd_core.tracking.engines.build import tracking_metadata
from ckd_core.tracking.engines.export import MEDIAN_IOU, ExportError, ExportMetadata, load_export, write_export
from ckd_core.tracking.engines.pytorch import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckd_core.deploy.network_inputs import NetworkInput

PAINTED_SEED = 9
PAINTED_FRAMES = 16
COMPARED_INPUTS = 24


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written. agreement: median IoU with torch/fp32 on `compared` inputs; None: it does not run here."""

    metadata: ExportMetadata
    agreement: float | None
    compared: int
    real: bool
    reason: str = ""

    @property
    def promised(self) -> float:
        """Lowest agreement that the precision promises."""
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

    weights: None = those of the package. engine: `kind/precision`. batches: numbers of targets to make programs for.
    sequences: folders whose frames calibrate int8 (`crops` of them) and serve the comparison; without them painted
    frames serve the comparison, and int8 is refused.
    Errors: ExportError, EngineError, WeightsFileError, SequenceError; nothing is then left behind.
    """
    kind, precision = parse_engine(engine)
    if precision == "int8" and not sequences:
        raise ExportError("int8 is calibrated on real crops; give --sequences FOLDER with visible/ and groundtruth.txt")
    family = device_family(device)
    if family == "auto":
        raise ExportError("an export is for one device; name it: cpu or cuda")
    if crops < 1:
        raise ExportError(f"crops must be at least 1, got {crops}")
    if out.exists():
        raise ExportError(f"{out} exists; give a new folder")
    network, source = load_model(weights or default_weights(model), model=model)
    thresholds, published = tracking_metadata(source.tracking)
    metadata = ExportMetadata(
        engine=f"{kind}/{precision}",
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
    items = calibration_items(reference, inputs) if precision == "int8" else []
    metadata = write_export(out, network, metadata, items)
    compared = inputs[:: max(1, len(inputs) // COMPARED_INPUTS)]
    try:
        loaded, _ = load_export(out, 0, device)
    except EngineUnavailableError as error:  # made here for another machine
        return ExportReport(metadata, None, 0, bool(sequences), str(error))
    return ExportReport(metadata, median_agreement(loaded, reference, compared), len(compared), bool(sequences))


def _inputs(metadata: ExportMetadata, sequences: Sequence[Path], crops: int) -> list[NetworkInput]:
    from ckd_core.frame import Modality

    if sequences:
        footage = folder_footage(sequences)
    else:
        footage = painted_footage(PAINTED_SEED, [Modality(name) for name in metadata.modalities], 1, PAINTED_FRAMES)
    return network_inputs(footage, metadata.spec, metadata.published_geometry, crops)
