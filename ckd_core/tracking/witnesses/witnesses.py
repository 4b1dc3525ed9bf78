"""What depth, colours and the network's features say of the boxes in a frame, beside its score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.frame import Modality
from ckd_core.tracking.crop import window_around
from ckd_core.tracking.witnesses.colours import (
    INNER_SHARE,
    INNER_SIDE,
    Colours,
    ColoursConfig,
    Recognition,
    histogram,
    recognised,
    scene_of,
)
from ckd_core.tracking.witnesses.distance import Sighting, sighted
from ckd_core.tracking.witnesses.features import (
    FeaturesConfig,
    Reading,
    Resemblance,
    cells_of,
    detail_of,
    is_blind,
    is_due,
    resembling,
)

if TYPE_CHECKING:
    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.config import TrackerConfig
    from ckd_core.tracking.engines import Engine
    from ckd_core.tracking.view import FrameView, StreamMemory
    from ckd_core.tracking.witnesses.colours import Histogram, Portrait
    from ckd_core.tracking.witnesses.distance import Course
    from ckd_core.tracking.witnesses.features import Gallery


class Witnesses:
    """Asks the witnesses that the options name; the others say nothing.

    Args:
        view: Cuts windows out of the frame that is being tracked.
        engine: How the network runs, whose features are compared.
        modality: Of the auxiliary images.
        config: The tracker's options.

    Attributes:
        compares: Whether features are watched.
        veiled: Whether thermal sees the frame, too, which sees through much of what blinds colour.
    """

    def __init__(self, view: FrameView, engine: Engine, modality: Modality, config: TrackerConfig) -> None:
        self._view, self._engine, self._config = view, engine, config
        self._depth = modality is Modality.DEPTH and config.distance.enabled and config.confidence.enabled
        measured = engine.spec.square_boxes
        self._colours = config.colours or ColoursConfig(enabled=measured)
        self._features = config.features or FeaturesConfig(enabled=measured)
        self._recognises = self._colours.enabled and config.confidence.enabled
        self.compares = self._features.enabled and config.confidence.enabled
        self._thermal = modality is Modality.THERMAL
        self._inner = np.zeros((2, INNER_SIDE, INNER_SIDE, 3), dtype=np.uint8)
        self._scene: Histogram | None = None
        self._presence = (True, True)
        self._detail, self._blind, self.veiled = 0.0, False, False

    def begin(self, frame: MultiModalFrame) -> None:
        """Prepare for the boxes of a frame."""
        self._presence = frame.presence
        self.veiled = self._thermal and all(frame.presence)
        self._scene = scene_of(frame.rgb) if self._recognises and frame.rgb is not None else None

    def sighted(
        self, frame: MultiModalFrame, box: BoundingBox, memory: StreamMemory, course: Course | None
    ) -> Sighting:
        """What depth says of a box."""
        return sighted(frame, box, memory.size, course, self._config.distance) if self._depth else Sighting(course)

    def look_into(self, box: BoundingBox, gallery: Gallery | None) -> None:
        """Prepare for what colours and features say of a box, once the view is prepared for the frame, too.

        Args:
            box: In reference pixels.
            gallery: How its target has looked; None at the start.
        """
        measures = self.compares and self._thermal
        if self._scene is None and not measures:
            return
        self._view.cut(window_around(box, INNER_SHARE, False, square_boxes=True), self._inner)
        if measures:
            self._detail = detail_of(self._inner[0])
            self._blind = self.veiled and is_blind(self._detail, gallery, self._features)

    def recognised(self, portrait: Portrait | None) -> Recognition:
        """What colours say of the box."""
        if self._scene is None or self._blind:
            return Recognition(portrait)
        return recognised(Colours(histogram(self._inner[0]), self._scene), portrait, self._colours)

    def resembled(self, box: BoundingBox, gallery: Gallery | None, asked: bool) -> Resemblance:
        """What the network's features say of the box.

        Args:
            box: In reference pixels, as in `look_into`.
            gallery: How its target has looked; None at the start.
            asked: Whether there is reason to doubt the box.
        """
        config = self._features
        if not (asked or is_due(gallery, config)):
            return resembling(None, gallery, self._presence, asked, config)
        spec, crops = self._engine.spec, self._engine.template_crops(1)
        self._view.cut(window_around(box, spec.template_factor, False, square_boxes=spec.square_boxes), crops[0])
        tokens = self._engine.tokens_of(self._engine.embed_template(crops))
        reading = Reading(cells_of(tokens, spec.template_factor), self._detail)
        return resembling(reading, gallery, self._presence, asked, config, self._blind)
