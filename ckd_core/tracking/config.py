"""Everything about a tracker that a user may choose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from ckd_core.errors import TrackingError
from ckd_core.modality import ModalityOptions
from ckd_core.tracking.confidence import ConfidenceConfig, Thresholds


class TrackerConfigError(TrackingError):
    """A tracker option outside its range."""


class MissingPolicy(str, Enum):
    """What the network is shown in place of an image that did not come.

    zeros: black, as outside the frame. last: that camera's last image, cut where the target is believed now.
    duplicate: the other camera's window. alone: the same, against that camera's template in both places, so that the
    network sees nothing but the camera that is there.
    """

    ZEROS = "zeros"
    LAST = "last"
    DUPLICATE = "duplicate"
    ALONE = "alone"


class TemplateRefresh(str, Enum):
    """Whether the template follows the target's looks.

    off: the first frame's template for ever (published). replace: the newest template takes its place.
    second: both are asked in one batch, the higher response answers; twice the cost of a frame.
    """

    OFF = "off"
    REPLACE = "replace"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Options of `Tracker` and `MultiTracker`.

    published_geometry: whole-pixel windows and the last-column border rule of the published trackers (see
        `crop.CropWindow`). Off: windows exact to a fraction of a pixel. None: what the weights say they were made for.
    missing: policy for a missing image.
    confidence: the state machine. thresholds: None = those of the weights.
    template_refresh, template_every, template_score: mode, frames between refreshes, lowest score that allows one.
    clip_margin: smallest side of an answered box in pixels (published: 10).
    modality: how raw auxiliary images become network colours.
    """

    published_geometry: bool | None = None
    missing: MissingPolicy = MissingPolicy.DUPLICATE
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    thresholds: Thresholds | None = None
    template_refresh: TemplateRefresh = TemplateRefresh.OFF
    template_every: int = 50
    template_score: float = 0.6
    clip_margin: float = 10.0
    modality: ModalityOptions = field(default_factory=ModalityOptions)

    def __post_init__(self) -> None:
        if self.template_every < 1:
            raise TrackerConfigError(f"template_every must be at least 1 frame, got {self.template_every}")
        if not 0 <= self.template_score <= 1:
            raise TrackerConfigError(f"template_score must be in 0..1, got {self.template_score}")
        if not self.clip_margin >= 1:
            raise TrackerConfigError(f"clip_margin must be at least 1 px, got {self.clip_margin}")

    def as_published(self) -> TrackerConfig:
        """The same with everything off that the published trackers do not have."""
        return replace(
            self,
            published_geometry=True,
            confidence=replace(self.confidence, enabled=False),
            template_refresh=TemplateRefresh.OFF,
            clip_margin=10.0,
        )
