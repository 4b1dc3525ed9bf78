"""The overlay: box, score, state, health of both cameras and latency, drawn on the frame. No ROS import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.modality import to_network_image
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import MultiModalFrame
    from ckd_core.tracking.result import TrackResult

_COLORS = {
    TrackState.TRACKING: (60, 220, 80),
    TrackState.UNCERTAIN: (255, 190, 40),
    TrackState.LOST: (255, 70, 60),
}
_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Coordinates beyond this overflow OpenCV's fixed-point numbers.
_FAR_PX = 30000


@dataclass(frozen=True, slots=True)
class Caption:
    """What the overlay shows besides the box.

    Attributes:
        label: name of the target.
        latency_ms: None when unknown.
        aux_held: whether the auxiliary image is an older one.
    """

    label: str
    latency_ms: float | None = None
    aux_held: bool = False


def draw_overlay(
    images: MultiModalFrame,
    result: TrackResult | None,
    caption: Caption,
    side_by_side: bool,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8] | None:
    """Draw a frame's overlay: on the colour image, or on the auxiliary one while colour is missing.

    Args:
        images: the frame.
        result: None without a target.
        caption: text to draw.
        side_by_side: show both images.
        size: width and height of the reference image, for frames without it; None takes the picture's own size.

    Returns:
        RGB picture [H, W, 3] uint8, or None when the frame has no image at all.
    """
    aux = None
    # Converted here, because the tracker converts the crops that it cuts, never the whole image.
    if images.aux is not None and (side_by_side or images.rgb is None):
        aux = to_network_image(images.aux, images.modality)
    if images.rgb is not None:
        main = np.array(images.rgb, dtype=np.uint8, order="C")
    elif aux is not None:
        main = np.array(aux, dtype=np.uint8, order="C")
    else:
        return None
    height, width = main.shape[:2]
    if images.rgb is not None and images.rgb_from_reference is None:
        size = (width, height)
    main_map = images.aux_from_reference if images.rgb is None else images.rgb_from_reference
    _draw_box(main, result, _picture_from_reference(main_map, (width, height), size, main))
    _draw_text(main, _lines(images, result, caption))
    if not side_by_side:
        return main
    other = np.zeros_like(main)
    if aux is not None:
        other = np.array(cv2.resize(aux, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        aux_size = (aux.shape[1], aux.shape[0])
        _draw_box(other, result, _picture_from_reference(images.aux_from_reference, aux_size, size, other))
    else:
        _draw_text(other, [f"no {images.modality.value}"])
    return np.hstack([main, other])


def _lines(images: MultiModalFrame, result: TrackResult | None, caption: Caption) -> list[str]:
    state = "no target" if result is None else f"{result.state.value} {result.score:.2f}"
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
        # Light text on a dark outline is readable on any background.
        cv2.putText(picture, line, place, _FONT, scale, (0, 0, 0), max(2, round(4 * scale)), cv2.LINE_AA)
        cv2.putText(picture, line, place, _FONT, scale, _WHITE, max(1, round(1.5 * scale)), cv2.LINE_AA)


def _picture_from_reference(
    homography: NDArray[np.float64] | None,
    image_size: tuple[int, int],
    size: tuple[int, int] | None,
    picture: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """Return the 3x3 matrix from reference pixels to pixels of `picture`, which shows an image, resized.

    Args:
        homography: from reference pixels to the image; None: the same view, scaled.
        image_size: width and height of the image.
        size: width and height of the reference image, if known.
        picture: what is drawn on.
    """
    if homography is None:
        image_size, homography = size or image_size, np.eye(3)
    resized = np.diag([picture.shape[1] / image_size[0], picture.shape[0] / image_size[1], 1.0])
    return np.asarray(resized @ homography, dtype=np.float64)


def _draw_box(picture: NDArray[np.uint8], result: TrackResult | None, mapping: NDArray[np.float64]) -> None:
    if result is None or not result.box.is_finite() or result.state is TrackState.LOST:
        return
    x, y, w, h = result.box
    corners = np.array([[[x, y], [x + w, y], [x + w, y + h], [x, y + h]]], dtype=np.float64)
    mapped = cv2.perspectiveTransform(corners, mapping)
    if not np.all(np.isfinite(mapped)):
        return
    points = np.round(np.clip(mapped, -_FAR_PX, _FAR_PX)).astype(np.int32)
    cv2.polylines(picture, [points], True, _COLORS[result.state], max(1, picture.shape[0] // 240))
