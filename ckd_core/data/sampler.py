"""Training pairs from sequences: causal, deterministic by (seed, index), with a report of what cannot be read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckd_core.data.augmentation import (
    AugmentationSettings,
    CropChanges,
    apply_changes,
    draw_changes,
    jitter_box,
    mirror_box,
)
from ckd_core.data.datasets import visible_frames
from ckd_core.data.pairs import PairError, TrainingSample
from ckd_core.data.pseudo import PseudoSensor, draw_sensor
from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, MultiModalFrame
from ckd_core.settings import limits
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.crop import CropWindow, window_around
from ckd_core.tracking.view import FrameView

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.data.sequences import Sequence

MIN_VISIBLE = 5  # published: more than 2 * (1 + 1) frames with the object
MIN_FRAMES = 20
GAP_GROWTH = 5
MAX_DRAWS = 50
MAX_JITTERS = 20


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How pairs are drawn.

    Attributes:
        max_gap: Frames from template to search.
        published_boxes: Whether box positions in the crop count from (side - 1) / 2 as in the published training, half
            a pixel off what the tracker's way back assumes (docs/trackers.md "Half a pixel between crop and box").
            Off: the exact inverse.
        max_draws: Draws until an unreadable or unusable pair is an error.
        augmentation: Changes of the crops.
    """

    max_gap: int = field(default=200, metadata=limits(1))
    published_boxes: bool = False
    max_draws: int = field(default=20, metadata=limits(1))
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Crop sides in pixels and factors of sqrt(w h), as the network's configuration has them."""

    template_size: int
    search_size: int
    template_factor: float
    search_factor: float
    square_boxes: bool = False


@dataclass(frozen=True, slots=True)
class SequenceGroup:
    """Sequences with one weight.

    Attributes:
        name: For messages.
        sequences: Drawn equally often.
        ratio: Weight among the groups.
        min_size: w and h in pixels that a box must exceed to count as visible (published: LasHeR 0, DepthTrack 10,
            VisEvent 5).
    """

    name: str
    sequences: tuple[Sequence, ...]
    ratio: float = 1.0
    min_size: float = 0.0


@dataclass(frozen=True, slots=True)
class _Usable:
    sequence: Sequence
    visible: NDArray[np.int64]


class SequencePairs:
    """Map-style pairs of (template, later search) frames; any index from 0 up, a pure function of (seed, index).

    Frames that cannot be read are named in `TrainingSample.skipped`.
    """

    def __init__(
        self, groups: list[SequenceGroup], geometry: CropGeometry, settings: SamplerSettings, seed: int
    ) -> None:
        self.geometry, self.settings, self.seed = geometry, settings, seed
        self.names = [group.name for group in groups]
        self.usable = [_usable(group) for group in groups]
        for group, usable in zip(groups, self.usable, strict=True):
            if not usable:
                raise PairError(
                    f"none of the {len(group.sequences)} sequences of {group.name} can be used; expected at least "
                    f"{MIN_FRAMES} frames, {MIN_VISIBLE} of them with a box larger than {group.min_size:g} px"
                )
        if not groups:
            raise PairError("there are no training sequences; expected at least one source")
        ratios = np.array([group.ratio for group in groups], dtype=np.float64)
        self.chances = ratios / ratios.sum()

    def __getitem__(self, index: int) -> TrainingSample:
        """Draw the pair of that index.

        Raises:
            PairError: None of `max_draws` draws is usable.
        """
        rng = np.random.default_rng((self.seed, index))
        skipped: list[str] = []
        for _ in range(self.settings.max_draws):
            group = int(rng.choice(len(self.usable), p=self.chances))
            chosen = self.usable[group][int(rng.integers(len(self.usable[group])))]
            first, second = draw_frames(chosen.visible, self.settings.max_gap, rng)
            try:
                sample = self._pair(chosen.sequence, first, second, rng)
            except TrackingError as error:
                skipped.append(f"{self.names[group]}/{chosen.sequence.name} frames {first}, {second}: {error}")
                continue
            where = f"{self.names[group]}/{chosen.sequence.name} frames {first}, {second}"
            return replace(sample, source=where, skipped=tuple(skipped))
        raise PairError(f"no usable pair for index {index} in {len(skipped)} draws; the last: {skipped[-1]}")

    def _pair(self, sequence: Sequence, first: int, second: int, rng: np.random.Generator) -> TrainingSample:
        sensor = None if sequence.aux_paths else draw_sensor(sequence.modality, rng)
        changes = draw_changes(self.settings.augmentation, rng)
        geometry = self.geometry
        true_first, true_second = (BoundingBox(*sequence.boxes[i].tolist()) for i in (first, second))
        frames = [_with_sensor(sequence.frame(i), sensor) for i in (first, second)]
        for frame, box in zip(frames, (true_first, true_second), strict=True):
            _require_overlap(frame, box)
        window = self._window(true_first, geometry.template_factor)
        template, template_box = self._crop(frames[0], window, true_first, geometry.template_size, changes[0])
        window = self._search_window(frames[1], true_second, rng)
        search, search_box = self._crop(frames[1], window, true_second, geometry.search_size, changes[1])
        return TrainingSample(template, search, template_box, search_box)

    def _search_window(self, frame: MultiModalFrame, box: BoundingBox, rng: np.random.Generator) -> CropWindow:
        """Draw a window around the jittered box, again if it misses the box or the image."""
        augmentation, factor = self.settings.augmentation, self.geometry.search_factor
        for _ in range(MAX_JITTERS):
            jittered = jitter_box(box, augmentation.center_jitter, augmentation.scale_jitter, rng)
            if math.ceil((jittered.w * jittered.h) ** 0.5 * factor) < 1:
                continue
            window = self._window(jittered, factor)
            cx, cy, w, h = window.to_crop(box)
            inside = abs(cx - 0.5) < (1 + w) / 2 and abs(cy - 0.5) < (1 + h) / 2
            if inside and _touches(window, frame):
                return window
        raise PairError(f"no search window around box {tuple(box)} in {MAX_JITTERS} draws")

    def _window(self, box: BoundingBox, factor: float) -> CropWindow:
        return window_around(box, factor, published=True, square_boxes=self.geometry.square_boxes)

    def _crop(
        self, frame: MultiModalFrame, window: CropWindow, box: BoundingBox, side: int, changes: CropChanges
    ) -> tuple[torch.Tensor, torch.Tensor]:
        view = FrameView(frame.modality, TrackerConfig())
        crops = np.empty((2, side, side, 3), dtype=np.uint8)
        view.begin(frame, view.check(frame, None))
        view.cut(window, crops)
        inside = box_in_crop(box, window, side, self.settings.published_boxes)
        if changes.flip:
            inside = mirror_box(inside)
        return torch.from_numpy(apply_changes(crops, changes)), torch.from_numpy(inside)


def box_in_crop(box: BoundingBox, window: CropWindow, side: int, published: bool) -> NDArray[np.float32]:
    """Map a box to `xywh` as shares of the crop; `published` counts from (side - 1) / 2 (see `SamplerSettings`)."""
    cx, cy, w, h = window.to_crop(box)
    shift = 0.5 / side if published else 0.0
    return np.array((cx - w / 2 - shift, cy - h / 2 - shift, w, h), dtype=np.float32)


def draw_frames(visible: NDArray[np.int64], max_gap: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw (template, search): template uniform among the visible frames, search uniform among the visible later ones.

    Both are drawn again, each time with a reach 5 frames longer, until there is a later one within reach.
    """
    for attempt in range(MAX_DRAWS):
        first = int(rng.choice(visible))
        reach = max_gap + GAP_GROWTH * attempt
        later = visible[(visible > first) & (visible < first + reach)]
        if len(later):
            return first, int(rng.choice(later))
    return int(visible[0]), int(visible[1])


def _usable(group: SequenceGroup) -> list[_Usable]:
    usable = []
    for sequence in group.sequences:
        visible = np.flatnonzero(visible_frames(sequence, group.min_size))
        if len(sequence) >= MIN_FRAMES and len(visible) >= MIN_VISIBLE:
            usable.append(_Usable(sequence, visible))
    return usable


def _with_sensor(frame: MultiModalFrame, sensor: PseudoSensor | None) -> MultiModalFrame:
    if sensor is None or frame.rgb is None:
        return frame
    return replace(frame, aux=sensor.image(frame.rgb))


def _require_overlap(frame: MultiModalFrame, box: BoundingBox) -> None:
    height, width = _size(frame)
    if box.x >= width or box.y >= height or box.x + box.w <= 0 or box.y + box.h <= 0:
        shown = tuple(round(v, 1) for v in box)
        raise PairError(f"box xywh {shown} lies outside its {width} x {height} image; expected some of it inside")


def _touches(window: CropWindow, frame: MultiModalFrame) -> bool:
    height, width = _size(frame)
    return (
        window.left < width - 1
        and window.top < height - 1
        and window.left + window.width > 0
        and window.top + window.height > 0
    )


def _size(frame: MultiModalFrame) -> tuple[int, int]:
    image = frame.rgb if frame.rgb is not None else frame.aux
    if image is None:
        raise PairError("the frame has no image; expected a colour or an auxiliary one")
    return int(image.shape[0]), int(image.shape[1])
