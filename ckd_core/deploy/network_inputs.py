"""Crops that a network would see in footage, to calibrate int8 and to compare engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.boxes import cxcywh_to_xyxy, iou
from ckd_core.errors import TrackingError
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.crop import window_around
from ckd_core.tracking.engines.base import middle_of
from ckd_core.tracking.response import hann_weights
from ckd_core.tracking.view import FrameView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.data.footage import Footage
    from ckd_core.tracking.engines import Engine, EngineSpec
    from ckd_core.tracking.engines.convert import CalibrationItem


class CropsError(TrackingError):
    """Footage from which no crops of a target can be taken."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """One input of a network.

    Attributes:
        template: Crops [1, 2, T, T, 3] uint8 (colour, auxiliary).
        search: Crops [1, 2, S, S, 3] uint8.
        response_weights: [1, 1, g, g] float32.
    """

    template: NDArray[np.uint8]
    search: NDArray[np.uint8]
    response_weights: NDArray[np.float32]


def network_inputs(
    footage: Sequence[Footage], spec: EngineSpec, published_geometry: bool, count: int
) -> list[NetworkInput]:
    """Take about `count` inputs, spread over all footage, with the search region where a perfect tracker would put it.

    Raises:
        CropsError: No footage shows its target in two frames in a row.
    """
    usable = [(item, np.flatnonzero(item.present[1:] & item.present[:-1]) + 1) for item in footage]
    usable = [(item, frames) for item, frames in usable if len(frames)]
    if not usable:
        raise CropsError("no footage shows its target in two frames in a row; give sequences with a box in every frame")
    share = max(1, -(-count // len(usable)))
    inputs: list[NetworkInput] = []
    for item, frames in usable:
        chosen = frames[np.unique(np.linspace(0, len(frames) - 1, min(share, len(frames))).round().astype(int))]
        inputs += _inputs_of(item, chosen.tolist(), spec, published_geometry)
    return inputs


def _inputs_of(item: Footage, frames: list[int], spec: EngineSpec, published: bool) -> list[NetworkInput]:
    view = FrameView(item.modality, TrackerConfig())
    first = int(np.flatnonzero(item.present)[0])

    def crop(index: int, around: int, factor: float, side: int) -> NDArray[np.uint8]:
        frame = item.frame(index)
        view.begin(frame, view.check(frame, None))
        out = np.empty((1, 2, side, side, 3), dtype=np.uint8)
        window = window_around(item.box(around), factor, published, square_boxes=spec.square_boxes)
        view.cut(window, out[0])
        return out

    template = crop(first, first, spec.template_factor, spec.template_size)
    weights = hann_weights(spec.grid)[None, None]
    return [
        NetworkInput(template, crop(index, index - 1, spec.search_factor, spec.search_size), weights)
        for index in frames
    ]


def calibration_items(engine: Engine, inputs: Sequence[NetworkInput]) -> list[CalibrationItem]:
    """Prepare inputs of a search program; `engine` (torch/fp32 on the CPU) embeds the templates."""
    return [(np.asarray(engine.embed_template(item.template)), item.search, item.response_weights) for item in inputs]


def median_agreement(engine: Engine, reference: Engine, inputs: Sequence[NetworkInput]) -> float:
    """Median IoU of the boxes of two engines on the same inputs, 0..1.

    Where both have smaller search regions as well, the lower of the medians on whole ones and on their middle.
    """
    sides = {engine.spec.search_size} | ({engine.narrow_size} & {reference.narrow_size}) - {0}
    return min(_median_iou(engine, reference, inputs, side) for side in sides)


def _median_iou(engine: Engine, reference: Engine, inputs: Sequence[NetworkInput], side: int) -> float:
    grid = engine.spec.narrowed(side).grid
    boxes = [
        np.concatenate([
            one.track(
                one.embed_template(item.template),
                np.ascontiguousarray(middle_of(item.search, side)),
                np.ascontiguousarray(middle_of(item.response_weights, grid)),
            ).copy()
            for item in inputs
        ])
        for one in (engine, reference)
    ]  # fmt: skip
    return float(np.median(iou(*(cxcywh_to_xyxy(rows[:, :4].astype(np.float64)) for rows in boxes))))
