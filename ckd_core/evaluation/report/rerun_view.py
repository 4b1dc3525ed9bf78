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

    from ckd_core.evaluation.running.conditions import Condition

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


def write_recording(result: Path, out: Path, root: Path | None = None, sequences: list[str] | None = None) -> list[str]:
    """Write a run's sequences into one `.rrd` file; returns their names.

    Args:
        result: The run's folder.
        out: The file.
        root: The dataset's folder, for images as the tracker saw them under the run's condition; None: no images.
        sequences: Names; None = all.

    Raises:
        ViewError: rerun-sdk is not installed, or no sequence is finished.
        ManifestError: `result` is not the folder of a run.
        RecordError: A track cannot be read.
        DatasetError: `root` does not hold the dataset.
    """
    rerun = _import_rerun()
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
        stream.flush()
        stream.disconnect()
    return names


def _log_sequence(rerun: Any, stream: Any, record: TrackRecord, dataset: Dataset | None, condition: Condition) -> None:
    """Log every frame below the sequence's name."""
    from ckd_core.modality import to_network_image

    base = record.name
    sequence = dataset.open(record.name) if dataset else None
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


def _box(rerun: Any, box: np.ndarray, color: tuple[int, int, int]) -> Any:
    if not np.isfinite(box).all():
        return rerun.Clear(recursive=False)
    return rerun.Boxes2D(array=box[None], array_format=rerun.Box2DFormat.XYWH, colors=[color])
