"""The work of `sdstrack calibrate`: thresholds for a network's scores, from footage in which targets come and go.

Thresholds decide where the tracker looks next, so every set of them is tried by tracking all footage with it. Sets that
trust the same boxes look at the same windows: predictions are cached, and the network runs once per window.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.boxes import iou_xywh
from ckd_core.data.footage import folder_footage, synthetic_footage
from ckd_core.data.open_sequences import require_no_test
from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from ckd_core.locks import folder_lock
from ckd_core.models.checkpoint import default_weights, load_model, load_tensors, save_tensors
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.build import tracking_metadata
from ckd_core.tracking.engines.origin import weights_origin
from ckd_core.tracking.engines.pytorch import TorchEngine
from ckd_core.tracking.multi import MultiTracker
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.tracker import TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ckd_core.data.footage import Footage
    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.models.checkpoint import ModelMetadata
    from ckd_core.tracking.crop import CropWindow
    from ckd_core.tracking.engines import Engine, Prediction
    from ckd_core.tracking.looks import Look
    from ckd_core.tracking.view import StreamMemory

    # Predictions by frame (its stamp), by the windows that were searched, by what was hidden and sought in them, and by
    # what had been learnt of the target.
    Sought = tuple[float, BoundingBox] | None
    Asked = tuple[CropWindow, bool, BoundingBox | None, Sought, Sought]
    Memory = dict[tuple[float, tuple[Asked, ...]], list[Prediction]]

TOUCHING_IOU = 0.1  # below it a box on a present target is beside it
CALIBRATION_SEED, HELD_OUT_SEED = 5100, 7300  # of synthetic clips; training and its validation use others
FRAMES_PER_CLIP = 60
HELD_OUT_SCENES = 2
CANDIDATES: dict[str, tuple[float, ...]] = {
    "doubt": (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55),
    "confirm": (0.4, 0.5, 0.55, 0.6, 0.65, 0.7),
    "history": (0.0, 0.5, 0.6, 0.7),
    "regain": (0.0, 0.55, 0.65, 0.75, 0.85),
    "rival": (0.5, 0.6, 0.7, 0.8, 1.0),
    "unseen": (0.1, 0.15, 0.2, 0.25, 0.3),
}
ORDER = ("doubt", "history", "rival", "confirm", "regain", "unseen", "doubt")


class CalibrationError(TrackingError):
    """Footage or options with which nothing can be calibrated."""


@dataclass(frozen=True, slots=True)
class Claims:
    """How often a tracker's TRACKING is right, in frames.

    Attributes:
        absent: Frames in which the target is not visible.
        false_tracking: Frames among these that claim TRACKING.
        present: Frames in which the target is visible.
        missed: Frames among these that do not claim TRACKING.
        beside: Frames among these that claim TRACKING with a box that does not touch the target.
    """

    absent: int = 0
    false_tracking: int = 0
    present: int = 0
    missed: int = 0
    beside: int = 0

    def __add__(self, other: Claims) -> Claims:
        return Claims(
            self.absent + other.absent,
            self.false_tracking + other.false_tracking,
            self.present + other.present,
            self.missed + other.missed,
            self.beside + other.beside,
        )

    @property
    def false_share(self) -> float:
        """Share of the frames without the target that claim TRACKING."""
        return self.false_tracking / max(self.absent, 1)

    @property
    def missed_share(self) -> float:
        """Share of the frames with the target that do not claim TRACKING."""
        return self.missed / max(self.present, 1)

    @property
    def beside_share(self) -> float:
        """Share of the frames with the target that claim TRACKING with a box beside it."""
        return self.beside / max(self.present, 1)

    @property
    def cost(self) -> float:
        """Sum of the three shares; 1 for a tracker that always or never claims TRACKING."""
        return self.false_share + self.missed_share + self.beside_share


class RememberingTracker(MultiTracker):
    """A tracker that runs the network once per window of a frame; `cache` belongs to one footage and one network."""

    def __init__(
        self, engine: Engine, modality: Modality, config: TrackerConfig, limits: Thresholds, cache: Memory
    ) -> None:
        super().__init__(engine, modality, config, limits)
        self._cache = cache

    def _predict(
        self, frame: MultiModalFrame, memory: StreamMemory, looks: list[Look]
    ) -> tuple[list[Prediction], float]:
        asked = tuple((look.window, look.scanning, look.hidden, look.sought, look.learnt) for look in looks)
        key = frame.stamp, asked
        if key in self._cache:
            self._view.begin(frame, memory)  # what its colours and features say is not remembered
        else:
            self._cache[key] = super()._predict(frame, memory, looks)[0]
        return self._cache[key], 0.0


def claims_of(engine: Engine, footage: Footage, config: TrackerConfig, thresholds: Thresholds, cache: Memory) -> Claims:
    """Track footage from its first box on and count.

    Raises:
        SequenceError: The footage has no box.
        TrackingError: The tracker cannot use a frame.
    """
    first = footage.start
    tracker = RememberingTracker(engine, footage.modality, config, thresholds, cache)
    tracker.start(footage.frame(first), {TARGET: footage.box(first)})
    results = [tracker.update(footage.frame(index))[TARGET] for index in range(first + 1, len(footage))]
    tracking = np.array([result.state is TrackState.TRACKING for result in results])
    boxes = np.array([result.box for result in results])
    present, absent = footage.present[first + 1 :], footage.absent[first + 1 :]
    overlap = np.nan_to_num(iou_xywh(boxes, footage.boxes[first + 1 :]))
    return Claims(
        absent=int(absent.sum()),
        false_tracking=int((absent & tracking).sum()),
        present=int(present.sum()),
        missed=int((present & ~tracking).sum()),
        beside=int((present & tracking & (overlap < TOUCHING_IOU)).sum()),
    )


@dataclass(slots=True)
class Trial:
    """Tries sets of thresholds on the same footage: every set once, every window of a frame once."""

    engine: Engine
    footage: Sequence[Footage]
    config: TrackerConfig
    _claims: dict[Thresholds, Claims] = field(default_factory=dict)
    _caches: list[Memory] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._caches = [{} for _ in self.footage]

    def claims(self, thresholds: Thresholds) -> Claims:
        """Count the claims over all footage."""
        if thresholds not in self._claims:
            parts = (
                claims_of(self.engine, item, self.config, thresholds, cache)
                for item, cache in zip(self.footage, self._caches, strict=True)
            )
            self._claims[thresholds] = sum(parts, Claims())
        return self._claims[thresholds]


def find_thresholds(
    trial: Trial, start: Thresholds, progress: Callable[[int, int], object] = lambda *_: None
) -> Thresholds:
    """Lower the cost by one threshold at a time, in `ORDER`; deterministic for a network and footage.

    Of values with equal cost the nearest to the present one is chosen.
    """
    best = start
    total = sum(len(CANDIDATES[name]) for name in ORDER)
    done = 0
    for name in ORDER:
        chosen = best
        for candidate in _variants(best, name):
            if (trial.claims(candidate).cost, _distance(candidate, best)) < (
                trial.claims(chosen).cost,
                _distance(chosen, best),
            ):
                chosen = candidate
        best = chosen
        done += len(CANDIDATES[name])
        progress(done, total)
    return best


def _variants(around: Thresholds, name: str) -> Iterator[Thresholds]:
    """Replace one threshold of `around` by other values; doubt lowers unseen where they would cross."""
    for value in CANDIDATES[name]:
        if name == "doubt":
            yield replace(around, doubt=value, unseen=min(around.unseen, value))
        elif name != "unseen" or value <= around.doubt:
            yield replace(around, **{name: value})


def _distance(a: Thresholds, b: Thresholds) -> float:
    return sum(abs(value - b.as_mapping()[name]) for name, value in a.as_mapping().items())


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Result of a calibration.

    Attributes:
        before: Thresholds of the weights.
        after: Thresholds with the lowest cost.
        table: (footage, claims before, claims after) for the footage of the calibration and for held-out clips.
        path: The file that was written, or None.
        sha256: Content checksum of that file, or of the unchanged weights.
    """

    before: Thresholds
    after: Thresholds
    table: tuple[tuple[str, Claims, Claims], ...]
    path: Path | None
    sha256: str


def calibrate(
    model: str,
    weights: Path | None = None,
    *,
    sequences: Sequence[Path] = (),
    scenes: int = 3,
    out: Path | None = None,
    write: bool = True,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> CalibrationReport:
    """Find the thresholds of a weights file and write them into its metadata.

    Args:
        model: A name of `ckd_core.models.registry`.
        weights: None = the package's own.
        sequences: Folders of sequences to use as well.
        scenes: Synthetic clips per modality of the weights, 0 = none.
        out: File to write, None = `weights` itself.
        write: False = only report.
        progress: Is called with the number of finished steps and of all steps.

    Raises:
        CalibrationError: There is no footage in which the target is absent for a while.
        SplitError: A sequence is kept for tests.
        WeightsFileError: The weights cannot be read or written.
        SequenceError: A sequence cannot be used.
        LockError: Another process writes into the file's folder.
    """
    if scenes < 0:
        raise CalibrationError(f"scenes is {scenes}; expected 0 or more synthetic clips per modality")
    path = weights or default_weights(model)
    with folder_lock((out or path).parent, "sdstrack calibrate") if write else nullcontext():
        return _calibrate(model, path, sequences, scenes, out or path if write else None, progress)


def _calibrate(
    model: str,
    path: Path,
    sequences: Sequence[Path],
    scenes: int,
    out: Path | None,
    progress: Callable[[int, int], object],
) -> CalibrationReport:
    network, metadata = load_model(path, model=model)
    before, published = tracking_metadata(metadata.tracking)
    modalities = [Modality(name) for name in metadata.modalities]
    folders = folder_footage(sequences)
    require_no_test((item.name for item in folders), "calibration")
    unfit = weights_origin(model, path).unfit(item.modality for item in folders if item.frame(0).aux is not None)
    if unfit:
        raise CalibrationError(unfit)
    clips = synthetic_footage(CALIBRATION_SEED, modalities, scenes, FRAMES_PER_CLIP)
    if not any(item.absent.any() for item in folders + clips):
        raise CalibrationError(
            "no footage in which the target is absent for a while; give sequences with absences, or synthetic scenes"
        )
    config = TrackerConfig(published_geometry=published)
    engine = TorchEngine(network, "fp32", "cpu")
    after = find_thresholds(Trial(engine, folders + clips, config), Thresholds(), progress)
    held_out = synthetic_footage(HELD_OUT_SEED, modalities, min(scenes, HELD_OUT_SCENES), FRAMES_PER_CLIP)
    groups = {
        "synthetic, calibrated on": clips,
        "synthetic, held out": held_out,
        **{f"{item.name}, calibrated on": [item] for item in folders},
    }
    trials = {name: Trial(engine, items, config) for name, items in groups.items() if items}
    table = tuple((name, trial.claims(before), trial.claims(after)) for name, trial in trials.items())
    if out is None:
        return CalibrationReport(before, after, table, None, metadata.sha256)
    names = [item.name for item in folders]
    written = write_thresholds(path, out, after, {"painted_scenes": scenes, "sequences": names})
    return CalibrationReport(before, after, table, out, written.sha256)


def write_thresholds(path: Path, out: Path, thresholds: Thresholds, calibration: dict[str, Any]) -> ModelMetadata:
    """Copy the weights of `path` to `out` with other thresholds and a new checksum, all or nothing; may be one file."""
    tensors, metadata = load_tensors(path)
    tracking = {**metadata.tracking, "thresholds": thresholds.as_mapping(), "calibration": calibration}
    return save_tensors(out, tensors, replace(metadata, tracking=tracking))
