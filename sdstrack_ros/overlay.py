"""The picture for people: box, score, state, modality health and latency drawn on the frame. No ROS import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import BoundingBox, MultiModalFrame
    from ckd_core.tracking.result import TrackResult

_COLORS = {
    TrackState.TRACKING: (60, 220, 80),
    TrackState.UNCERTAIN: (255, 190, 40),
    TrackState.LOST: (255, 70, 60),
}
_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Beyond this, drawing numbers overflow OpenCV's fixed-point coordinates.
_FAR_PX = 30000


@dataclass(frozen=True, slots=True)
class Caption:
    """What the overlay says besides the box; latency_ms None = unknown."""

    label: str
    latency_ms: float | None = None
    aux_held: bool = False
    paused: bool = False


def draw_overlay(
    images: MultiModalFrame, result: TrackResult | None, caption: Caption, side_by_side: bool
) -> NDArray[np.uint8] | None:
    """Return an RGB picture [H, W, 3] uint8, or None when the frame has no image at all.

    The picture is the colour image, or the auxiliary one while colour is dead; `side_by_side` shows both.
    """
    from ckd_core.modality import to_network_image

    aux = None
    if images.aux is not None and (side_by_side or images.rgb is None):
        aux = to_network_image(images.aux, images.modality)
    if images.rgb is not None:
        main = np.array(images.rgb, dtype=np.uint8, order="C")
    elif aux is not None:
        main = np.array(aux, dtype=np.uint8, order="C")
    else:
        return None
    height, width = main.shape[:2]
    _draw_box(main, result)
    _draw_text(main, _lines(images, result, caption))
    if not side_by_side:
        return main
    other = np.zeros_like(main)
    if aux is not None:
        other = np.array(cv2.resize(aux, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        _draw_box(other, result)
    else:
        _draw_text(other, [f"no {images.modality.value}"])
    return np.hstack([main, other])


def _lines(images: MultiModalFrame, result: TrackResult | None, caption: Caption) -> list[str]:
    state = (
        "PAUSED" if caption.paused else "no target" if result is None else f"{result.state.value} {result.score:.2f}"
    )
    rgb, aux = images.presence
    health = f"rgb {'ok' if rgb else 'MISSING'}  {images.modality.value} " + (
        "held" if caption.aux_held else "ok" if aux else "MISSING"
    )
    latency = [] if caption.latency_ms is None else [f"{caption.latency_ms:.1f} ms"]
    return [f"{caption.label}  {state}", health, *latency]


def _draw_text(picture: NDArray[np.uint8], lines: list[str]) -> None:
    scale = max(picture.shape[0] / 960, 0.35)
    step = round(34 * scale)
    for row, line in enumerate(lines):
        place = (round(8 * scale), step * (row + 1))
        # Twice: dark below light is readable on any ground.
        cv2.putText(picture, line, place, _FONT, scale, (0, 0, 0), max(2, round(4 * scale)), cv2.LINE_AA)
        cv2.putText(picture, line, place, _FONT, scale, _WHITE, max(1, round(1.5 * scale)), cv2.LINE_AA)


def _draw_box(picture: NDArray[np.uint8], result: TrackResult | None) -> None:
    if result is None or not result.box.is_finite() or result.state is TrackState.LOST:
        return
    color = _COLORS[result.state]
    cv2.rectangle(picture, *_corners(result.box), color, max(1, picture.shape[0] // 240))


def _corners(box: BoundingBox) -> tuple[tuple[int, int], tuple[int, int]]:
    x0, y0, x1, y1 = (round(min(max(v, -_FAR_PX), _FAR_PX)) for v in (box.x, box.y, box.x + box.w, box.y + box.h))
    return (x0, y0), (x1, y1)
