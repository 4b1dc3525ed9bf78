"""The tracker of one target: frames in, honest boxes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ckd_core.tracking.multi import MultiTracker

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
    from ckd_core.tracking.confidence import Thresholds
    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.engines import Engine
    from ckd_core.tracking.result import TrackResult

TARGET = 0


class FrameTracker(Protocol):
    """What follows one target from frame to frame: `Tracker`, or another in its place."""

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> None:
        """Forget everything and follow `box` as seen in `frame`."""

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
    def started(self) -> bool:
        """Whether there is a target."""
        return bool(self._multi.targets)

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> None:
        """Forget everything and follow `box` (xywh in reference pixels), as seen in `frame`.

        Errors: FrameError for a frame that cannot be used; TrackerError for an empty, 1-pixel, not finite or outside
        box.
        """
        self._multi.start(frame, {TARGET: box})

    def update(self, frame: MultiModalFrame) -> TrackResult:
        """Where the target is in `frame`, and how sure that is. One image may be missing.

        Errors: TrackerError before `start`; FrameError for a frame that cannot be used (also a stamp before the last
        one, or an image of another size than before).
        """
        return self._multi.update(frame)[TARGET]

    def reset(self) -> None:
        """Forget the target and the stream."""
        self._multi.reset()
