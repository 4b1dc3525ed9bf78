"""A run as a rerun recording (`.rrd`): images, boxes, annotation, score, state and cameras on one time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.data.datasets import Dataset, open_dataset
from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.conditions import parse_condition
from ckd_core.evaluation.running.manifest import read_manifest
from ckd_core.evaluation.running.records import TrackRecord, read_record
from ckd_core.evaluation.scoring.metrics import overlap
from ckd_core.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.models.network import TrackingNetwork

JPEG_QUALITY = 75
_GREEN, _ORANGE, _GREY = (0, 158, 115), (213, 94, 0), (140, 140, 140)


class ViewError(TrackingError):
    """A run that cannot be shown."""


def _import_rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise ViewError("`sdstrack view` needs the package rerun-sdk (pip install rerun-sdk)") from error
    return rerun


def network_of_run(result: Path, weights: Path | None) -> TrackingNetwork:
    """The network that a run was made with.

    Args:
        result: The run's folder.
        weights: Its weight file; None = the package's own.

    Raises:
        ViewError: The run is not of a network, or of other weights than these.
        WeightsFileError: The weights cannot be read.
    """
    from ckd_core.evaluation.running.trackers import file_sha256
    from ckd_core.models.checkpoint import default_weights, load_model

    tracker = read_manifest(result)["run"]["tracker"]
    if tracker.get("kind") != "model":
        raise ViewError(
            f"{result} is a run of {tracker.get('kind')}, which has no score maps; expected one of a network"
        )
    path = weights or default_weights(str(tracker["model"]))
    if not path.is_file() or file_sha256(path) != tracker["weights_sha256"]:
        raise ViewError(
            f"{path} are not the weights of {result}; expected {tracker['weights']} with the SHA-256 "
            f"{tracker['weights_sha256'][:12]}... (--weights)"
        )
    return load_model(path, model=str(tracker["model"]))[0]


def write_recording(
    result: Path,
    out: Path,
    root: Path | None = None,
    sequences: list[str] | None = None,
    network: TrackingNetwork | None = None,
) -> list[str]:
    """Write a run's sequences into one `.rrd` file; returns their names.

    Args:
        result: The run's folder.
        out: The file.
        root: The dataset's folder, for images as the tracker saw them under the run's condition; None: no images.
        sequences: Names; None = all.
        network: Also tracks the images again, as the published tracker does, and logs its score map over the search
            region of each camera.

    Raises:
        ViewError: rerun-sdk is not installed, no sequence is finished, or there are no images for score maps.
        ManifestError: `result` is not the folder of a run.
        RecordError: A track cannot be read.
        DatasetError: `root` does not hold the dataset.
    """
    rerun = _import_rerun()
    if network is not None and root is None:
        raise ViewError("score maps need the images; expected --root, the dataset's folder")
    manifest = read_manifest(result)
    names = sequences or [name for name in manifest["sequences"] if (result / "tracks" / f"{name}.csv").is_file()]
    if not names:
        raise ViewError(f"{result} has no finished sequence; expected tracks/SEQUENCE.csv")
    run = manifest["run"]
    dataset = open_dataset(run["dataset"], root, run["split"], bool(run["cut"])) if root else None
    condition = parse_condition(run["condition"], int(run["seed"]))
    stream = rerun.RecordingStream(f"sdstrack {manifest.get('label', '')}".strip())
    with atomic_path(out) as temporary:
        stream.save(temporary)
        for name in names:
            _log_sequence(rerun, stream, read_record(result, name), dataset, condition)
            if network is not None and dataset is not None:
                _log_maps(rerun, stream, network, dataset.open(name), condition)
        stream.flush()
        stream.disconnect()
    return names


def _log_sequence(rerun: Any, stream: Any, record: TrackRecord, dataset: Dataset | None, condition: Condition) -> None:
    """Log every frame below the sequence's name."""
    from ckd_core.modality import to_network_image

    base = record.name
    sequence = condition.thinned(dataset.open(record.name)) if dataset else None
    overlaps = overlap(record.boxes, sequence.boxes) if sequence else np.full(len(record), np.nan)
    for index in range(len(record)):
        stream.set_time("frame", sequence=index)
        stream.set_time("time", duration=float(record.stamps[index] - record.stamps[0]))
        if sequence is not None:
            frame = condition.frame(sequence, index, record.presence)
            aux = None if frame.aux is None else to_network_image(frame.aux, frame.modality)
            for camera, image in (("colour", frame.rgb), ("auxiliary", aux)):
                shown = rerun.Image(image).compress(JPEG_QUALITY) if image is not None else rerun.Clear(recursive=False)
                stream.log(f"{base}/image/{camera}", shown)
            stream.log(f"{base}/image/annotation", _box(rerun, sequence.boxes[index], _GREEN))
        color = _GREY if record.states[index] == "LOST" else _ORANGE
        stream.log(f"{base}/image/tracker", _box(rerun, record.boxes[index], color))
        stream.log(f"{base}/plot/score", rerun.Scalars(float(record.scores[index])))
        if np.isfinite(overlaps[index]):
            stream.log(f"{base}/plot/overlap", rerun.Scalars(float(overlaps[index])))
        if index == 0 or record.states[index] != record.states[index - 1]:
            stream.log(f"{base}/state", rerun.TextLog(record.states[index]))


def _log_maps(rerun: Any, stream: Any, network: TrackingNetwork, sequence: Sequence, condition: Condition) -> None:
    from ckd_core.evaluation.plots.pictures import map_over, score_maps

    for item in score_maps(network, sequence, condition):
        stream.set_time("frame", sequence=item.index)
        stream.set_time("time", duration=float(sequence.stamps[item.index] - sequence.stamps[0]))
        for camera, crop in zip(("colour", "auxiliary"), item.crops, strict=True):
            picture = rerun.Image(map_over(crop, item.response)).compress(JPEG_QUALITY)
            stream.log(f"{sequence.name}/score_map/{camera}", picture)


def _box(rerun: Any, box: np.ndarray, color: tuple[int, int, int]) -> Any:
    if not np.isfinite(box).all():
        return rerun.Clear(recursive=False)
    return rerun.Boxes2D(array=box[None], array_format=rerun.Box2DFormat.XYWH, colors=[color])
