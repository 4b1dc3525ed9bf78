"""The tracker of one target: frames in, boxes and how far to trust them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ckd_core.tracking.multi import MultiTracker

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
    from ckd_core.tracking.camera_motion import CameraMotion
    from ckd_core.tracking.confidence.thresholds import Thresholds
    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.engines import Engine
    from ckd_core.tracking.result import TrackResult

TARGET = 0


class FrameTracker(Protocol):
    """Anything that follows one target from frame to frame, such as `Tracker`."""

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> BoundingBox:
        """Forget everything and follow `box` as seen in `frame`; returns the box that it starts on."""

    def update(self, frame: MultiModalFrame) -> TrackResult:
        """Follow the target into the next frame."""

    def reset(self) -> None:
        """Forget the target."""


class Tracker:
    """Follows one target: `start` on a box, then `update` with every frame.

    Every method leaves the tracker as it was when it raises. Not for use by two threads at once.
    """

    def __init__(
        self,
        engine: Engine,
        modality: Modality,
        config: TrackerConfig | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._multi = MultiTracker(engine, modality, config, thresholds)

    @property
    def multi(self) -> MultiTracker:
        """The tracker of several targets of which this one uses one."""
        return self._multi

    @property
    def engine(self) -> Engine:
        """How the network runs."""
        return self._multi.engine

    @property
    def modality(self) -> Modality:
        """Kind of the auxiliary stream."""
        return self._multi.modality

    @property
    def config(self) -> TrackerConfig:
        """Options in force."""
        return self._multi.config

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds in force; new ones count from the next frame on."""
        return self._multi.thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds) -> None:
        self._multi.thresholds = thresholds

    @property
    def camera_motion(self) -> CameraMotion | None:
        """How the camera's own motion is foreseen, from the next frame on; None takes the camera for still."""
        return self._multi.camera_motion

    @camera_motion.setter
    def camera_motion(self, camera_motion: CameraMotion | None) -> None:
        self._multi.camera_motion = camera_motion

    @property
    def started(self) -> bool:
        """Whether there is a target."""
        return bool(self._multi.targets)

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> BoundingBox:
        """Forget everything and follow `box` (xywh in reference pixels), as it is in `frame`.

        Returns:
            The box that it starts on, which need not be the given one (`TrackerConfig.fit_start`).

        Raises:
            FrameError: The frame cannot be used.
            TrackerError: The box is at most 1 px wide or high, not finite, or outside the frame.
        """
        return self._multi.start(frame, {TARGET: box})[TARGET]

    def update(self, frame: MultiModalFrame) -> TrackResult:
        """Find the target in `frame`, which may lack one image.

        Raises:
            TrackerError: There is no target yet, or the network's output is not finite.
            FrameError: The frame cannot be used; its stamp is before the last one, or an image changed its size.
        """
        return self._multi.update(frame)[TARGET]

    def reset(self) -> None:
        """Forget the target and the stream."""
        self._multi.reset()
