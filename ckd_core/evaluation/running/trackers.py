"""Trackers that can be compared: ours by model and weights, and OpenCV's NanoTrack on one camera."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, FrameError
from ckd_core.tracking.result import StageTiming, TrackResult, TrackState

if TYPE_CHECKING:
    from collections.abc import Collection

    from ckd_core.frame import Modality, MultiModalFrame
    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.tracker import FrameTracker

NANOTRACK_FILES = ("nanotrack_backbone_sim.onnx", "nanotrack_head_sim.onnx")
BETTER = "better"  # a stream that is chosen per sequence, see `better_camera`


class TrackerSetupError(TrackingError):
    """A tracker that cannot be set up for an evaluation."""


class TrackerSpec(Protocol):
    """How to build a tracker to evaluate; small and picklable, so that every worker builds its own."""

    @property
    def label(self) -> str:
        """Name in tables."""

    def build(self, modality: Modality, device: str, threads: int) -> FrameTracker:
        """Make the tracker."""

    def describe(self) -> dict[str, object]:
        """Everything that its boxes depend on, for the manifest."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder by name."""
    digest = hashlib.sha256()
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One of our networks with its weights.

    Attributes:
        model: Name of the network.
        weights: None = those that come with the package.
        engine: Name of one engine, not a choice such as `auto` (see `resolve_engine`): numbers belong to one engine.
        config: Options of the tracker, None = its defaults.
        name: Name in tables, None = the network's.
        any_modality: Also run the weights on cameras that they were not trained with.
        ego_motion: Whether the camera's motion is foreseen by optical flow.
    """

    model: str
    weights: Path | None = None
    engine: str = "torch/fp32"
    config: TrackerConfig | None = None
    name: str | None = None
    any_modality: bool = False
    ego_motion: bool = False

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name or self.model

    def modalities(self) -> tuple[Modality, ...]:
        """Cameras on which it may run: all with `any_modality`; raises what `require_modalities` does."""
        from ckd_core.frame import Modality
        from ckd_core.tracking.engines.origin import weights_origin

        origin = weights_origin(self.model, self._path())
        return tuple(kind for kind in Modality if self.any_modality or not origin.unfit([kind]))

    def require_modalities(self, modalities: Collection[Modality]) -> None:
        """Refuse cameras that the weights were not trained with, unless `any_modality` is set.

        Raises:
            TrackerSetupError: The weights are missing.
            WeightsFileError: There is one, or the weights cannot be read.
        """
        from ckd_core.tracking.engines.origin import weights_origin

        if not self.any_modality:
            weights_origin(self.model, self._path()).require(modalities)

    def _path(self) -> Path:
        """Where the weights are; raises TrackerSetupError when they are not there."""
        from ckd_core.models.checkpoint import default_weights

        path = Path(self.weights) if self.weights is not None else default_weights(self.model)
        if not path.exists():
            raise TrackerSetupError(f"no weights {path} for {self.model}; expected a file or a folder")
        return path

    def build(self, modality: Modality, device: str, threads: int) -> FrameTracker:
        """Build the tracker on exactly this engine and device; errors as `ckd_core.tracking.build_tracker`.

        The plan has compared the weights with the sequences that have two cameras; others say thermal for want of one.
        """
        from ckd_core.tracking import build_tracker
        from ckd_core.tracking.camera_motion import ImageMotion

        tracker = build_tracker(
            self.model, self.weights, modality, self.config, self.engine, device, threads, strict_device=True,
            any_modality=True,
        )  # fmt: skip
        tracker.camera_motion = ImageMotion() if self.ego_motion else None
        return tracker

    def describe(self) -> dict[str, object]:
        """Model, checksum of the weights, engine and options.

        Raises:
            EngineError: `engine` is not the name of an engine.
            TrackerSetupError: The weights are missing.
        """
        from ckd_core.tracking.config import TrackerConfig
        from ckd_core.tracking.engines import parse_engine

        parse_engine(self.engine)
        path = self._path()
        permitted = {"any_modality": True} if self.any_modality else {}
        foreseen = {"ego_motion": True} if self.ego_motion else {}
        return {
            **permitted,
            **foreseen,
            "kind": "model",
            "model": self.model,
            "weights": path.name,
            "weights_sha256": file_sha256(path),
            "engine": self.engine,
            "config": asdict(self.config or TrackerConfig()),
        }


class NanoTracker:
    """OpenCV's TrackerNano on one camera; it has no states, so every box that it reports counts as TRACKING.

    While its camera delivers nothing the last box stays, with the state LOST.
    """

    def __init__(self, backbone: Path, head: Path, stream: str) -> None:
        parameters = cv2.TrackerNano.Params()
        parameters.backbone, parameters.neckhead = str(backbone), str(head)
        try:
            self._tracker = cv2.TrackerNano.create(parameters)
        except cv2.error as error:
            raise TrackerSetupError(f"OpenCV cannot load NanoTrack from {backbone.parent}: {error}") from error
        self._stream = stream
        self._box = BoundingBox(0, 0, 0, 0)

    def _image(self, frame: MultiModalFrame) -> np.ndarray | None:
        from ckd_core.modality import to_network_image

        if self._stream == "rgb":
            image = frame.rgb
        else:
            image = None if frame.aux is None else to_network_image(frame.aux, frame.modality)
        return None if image is None else np.ascontiguousarray(image[:, :, ::-1])

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> BoundingBox:
        """Follow `box` (rounded to whole pixels, as OpenCV takes it), and return it.

        Raises:
            FrameError: The frame lacks the image of NanoTrack's camera.
        """
        image = self._image(frame)
        if image is None:
            raise FrameError(f"NanoTrack starts on the {self._stream} image; it is missing at {frame.stamp}")
        x, y, w, h = (round(value) for value in box)
        self._tracker.init(image, (x, y, w, h))
        self._box = box
        return box

    def update(self, frame: MultiModalFrame) -> TrackResult:
        """Track one frame; the box stays where it was when OpenCV reports none."""
        image = self._image(frame)
        if image is None:
            return TrackResult(frame.stamp, self._box, 0.0, TrackState.LOST, *frame.presence, StageTiming())
        begin = cv2.getTickCount()
        tracked, box = self._tracker.update(image)
        seconds = (cv2.getTickCount() - begin) / cv2.getTickFrequency()
        if tracked:
            self._box = BoundingBox(*(float(value) for value in box))
        score = float(np.clip(self._tracker.getTrackingScore(), 0.0, 1.0))
        state = TrackState.TRACKING if tracked else TrackState.LOST
        return TrackResult(frame.stamp, self._box, score, state, *frame.presence, StageTiming(network=seconds))

    def reset(self) -> None:
        """Nothing to forget: `start` initialises OpenCV's tracker again."""


@dataclass(frozen=True, slots=True)
class NanoTrackSpec:
    """NanoTrack on one camera.

    Attributes:
        folder: Where the two ONNX files are.
        stream: "rgb", "aux", or `BETTER`: both, one after the other, for `better_camera.run_tracker`.
        files: Names of backbone and head.
    """

    folder: Path
    stream: str = "rgb"
    files: tuple[str, str] = NANOTRACK_FILES

    @property
    def label(self) -> str:
        """Name in tables."""
        return "NanoTrack (better camera)" if self.stream == BETTER else f"NanoTrack ({self.stream})"

    def _paths(self) -> tuple[Path, Path]:
        backbone, head = (self.folder / file for file in self.files)
        for path in (backbone, head):
            if not path.is_file():
                raise TrackerSetupError(
                    f"no NanoTrack weights {path}; expected {' and '.join(self.files)} in {self.folder}"
                )
        return backbone, head

    def build(self, modality: Modality, device: str, threads: int) -> FrameTracker:
        """Build the tracker on the CPU.

        Raises:
            TrackerSetupError: The weights are missing or broken, or the camera is to be chosen afterwards.
        """
        del modality, device
        if self.stream == BETTER:
            raise TrackerSetupError(
                "NanoTrack follows one camera at a time; which is better is known only after both have run"
            )
        if threads > 0:
            cv2.setNumThreads(threads)
        return NanoTracker(*self._paths(), self.stream)

    def describe(self) -> dict[str, object]:
        """Checksums of the weights, and the stream."""
        return {
            "kind": "nanotrack",
            "stream": self.stream,
            "opencv": cv2.__version__,
            "weights_sha256": {path.name: file_sha256(path) for path in self._paths()},
        }
