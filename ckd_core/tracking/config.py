"""The options of a tracker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.modality import ModalityOptions
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.witnesses.distance import DistanceConfig

if TYPE_CHECKING:
    from ckd_core.tracking.confidence.thresholds import Thresholds
    from ckd_core.tracking.witnesses.colours import ColoursConfig
    from ckd_core.tracking.witnesses.features import FeaturesConfig


class TrackerConfigError(TrackingError):
    """A tracker option outside its range."""


class MissingPolicy(str, Enum):
    """What the network is shown in place of a missing image.

    Attributes:
        ZEROS: Black, as outside the frame.
        LAST: That camera's last image, cropped at the target's present place.
        DUPLICATE: The other camera's crop.
        ALONE: The other camera's crop, against its template in both places, so that the network sees one camera only.
    """

    ZEROS = "zeros"
    LAST = "last"
    DUPLICATE = "duplicate"
    ALONE = "alone"


class TemplateRefresh(str, Enum):
    """Whether the template follows the target's appearance.

    Attributes:
        NEVER: The first frame's template is kept (published).
        BLEND: A look that shows the target for sure is blended into it now and then.
    """

    NEVER = "never"
    BLEND = "blend"


@dataclass(frozen=True, slots=True)
class MotionConfig:
    """How a target is expected to move from one frame to the next.

    Attributes:
        size_rate: Share of the way to the predicted width and height that a box goes per frame, 1 = all of it.
        prediction: Share of the target's recent velocity by which the search region runs ahead of its last place.
        place_weight: How far responses count less away from the middle of the search region: 1 = by the whole Hann
            window (published), 0 = not at all.
        bounded: Whether a box of an implausible size or shape moves the target all the same, with its sides bounded to
            the usual ones. For networks whose boxes find back to the target's shape by themselves.
    """

    size_rate: float = 1.0
    prediction: float = 0.0
    place_weight: float = 1.0
    bounded: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.size_rate <= 1:
            raise TrackerConfigError(f"size_rate is {self.size_rate}; expected more than 0, at most 1")
        for name in ("prediction", "place_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrackerConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")


PUBLISHED_MOTION = MotionConfig()
# Chosen on the validation sequences for networks that see every box as a square, see docs/experiments.md.
SQUARE_MOTION = MotionConfig(size_rate=0.5, prediction=0.7, place_weight=0.6, bounded=True)


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Options of `Tracker` and `MultiTracker`.

    Attributes:
        published_geometry: Whole-pixel windows and the last-column border rule of the published trackers (see
            `crop.CropWindow`). False: windows exact to a fraction of a pixel. None: as the weights were trained.
        missing: Policy for a missing image.
        confidence: The state machine.
        distance: What depth says about boxes.
        colours: What colours say about boxes. None: `ColoursConfig()` for a network whose crops make every box square;
            nothing for others, on which it was not found to help.
        features: The same of what the network's features say.
        thresholds: None = those of the weights.
        template_refresh: Whether the template is renewed. None: it is where the state machine is on and crops make
            every box square, for which it was chosen.
        template_every: Frames between two refreshes.
        template_score: Lowest score, as a share of the target's usual one, that allows a refresh.
        template_share: How much of the template is the newest look's; the rest is the first frame's.
        fit_start: Whether a start box gives way to the network's where the network, in the same frame, places the
            target's box differently (see `start_box`). None: it does where the state machine is on and crops make every
            box square, for which it was chosen.
        motion: How the target is expected to move. None: `SQUARE_MOTION` where crops make every box square,
            `PUBLISHED_MOTION` for other networks.
        device_crops: Whether windows are cut on the engine's device, out of images that are uploaded once, where the
            engine can (`Engine.cuts`) and the frame has both. Their pixels may differ a little from the CPU's.
        clip_margin: Smallest side of a box in pixels (published: 10).
        kept_mb: Megabytes of kept images, from which on the frames since a target was last seen for sure are not kept.
        modality: How raw auxiliary images become network images.
    """

    published_geometry: bool | None = None
    missing: MissingPolicy = MissingPolicy.DUPLICATE
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    distance: DistanceConfig = field(default_factory=DistanceConfig)
    colours: ColoursConfig | None = None
    features: FeaturesConfig | None = None
    thresholds: Thresholds | None = None
    template_refresh: TemplateRefresh | None = None
    template_every: int = 10
    template_score: float = 0.9
    template_share: float = 0.5
    fit_start: bool | None = None
    motion: MotionConfig | None = None
    device_crops: bool = False
    clip_margin: float = 10.0
    kept_mb: float = 128.0
    modality: ModalityOptions = field(default_factory=ModalityOptions)

    def __post_init__(self) -> None:
        if self.template_every < 1:
            raise TrackerConfigError(f"template_every is {self.template_every}; expected at least 1 frame")
        for name in ("template_score", "template_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrackerConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not self.clip_margin >= 1:
            raise TrackerConfigError(f"clip_margin is {self.clip_margin}; expected at least 1 px")
        if not self.kept_mb >= 0:
            raise TrackerConfigError(f"kept_mb is {self.kept_mb}; expected at least 0 MB")

    def refreshes(self, square_boxes: bool) -> bool:
        """Whether the template is renewed, for a network of this kind."""
        if self.template_refresh is None:
            return self.confidence.enabled and square_boxes
        return self.template_refresh is TemplateRefresh.BLEND

    def fits_start(self, square_boxes: bool) -> bool:
        """Whether start boxes are fitted, for a network of this kind."""
        return self.confidence.enabled and square_boxes if self.fit_start is None else self.fit_start

    def as_published(self) -> TrackerConfig:
        """Return a copy with everything off that the published trackers do not have."""
        return replace(
            self,
            published_geometry=True,
            confidence=replace(self.confidence, enabled=False),
            template_refresh=TemplateRefresh.NEVER,
            fit_start=False,
            motion=PUBLISHED_MOTION,
            clip_margin=10.0,
        )
