"""The overlay: box, score, state, health of both cameras and latency, drawn on the frame. No ROS import."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.modality import to_network_image
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Sequence

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
# More lines would cover the picture.
_MAX_NAMED = 8
# Coordinates beyond this overflow OpenCV's fixed-point numbers.
_FAR_PX = 30000


@dataclass(frozen=True, slots=True)
class Caption:
    """What the overlay shows besides the targets.

    Attributes:
        label: name of a target that there is not.
        latency_ms: None when unknown.
        aux_held: whether the auxiliary image is an older one.
    """

    label: str
    latency_ms: float | None = None
    aux_held: bool = False


def draw_overlay(
    images: MultiModalFrame,
    targets: Sequence[tuple[str, TrackResult]],
    caption: Caption,
    side_by_side: bool,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8] | None:
    """Draw a frame's overlay: on the colour image, or on the auxiliary one while colour is missing.

    Args:
        images: the frame.
        targets: their names and where they are.
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
    _draw_boxes(main, targets, _picture_from_reference(main_map, (width, height), size, main))
    _draw_text(main, _lines(images, targets, caption))
    if not side_by_side:
        return main
    other = np.zeros_like(main)
    if aux is not None:
        other = np.array(cv2.resize(aux, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        aux_size = (aux.shape[1], aux.shape[0])
        _draw_boxes(other, targets, _picture_from_reference(images.aux_from_reference, aux_size, size, other))
    else:
        _draw_text(other, [f"no {images.modality.value}"])
    return np.hstack([main, other])


def _lines(images: MultiModalFrame, targets: Sequence[tuple[str, TrackResult]], caption: Caption) -> list[str]:
    states = [f"{name}  {track.state.value} {track.score:.2f}" for name, track in islice(targets, _MAX_NAMED)]
    if len(targets) > _MAX_NAMED:
        states.append(f"and {len(targets) - _MAX_NAMED} more")
    rgb, aux = images.presence
    health = f"rgb {'ok' if rgb else 'MISSING'}  {images.modality.value} " + (
        "held" if caption.aux_held else "ok" if aux else "MISSING"
    )
    latency = [] if caption.latency_ms is None else [f"{caption.latency_ms:.1f} ms"]
    return [*(states or [f"{caption.label}  no target"]), health, *latency]


def _draw_text(picture: NDArray[np.uint8], lines: list[str]) -> None:
    scale = max(picture.shape[0] / 960, 0.35)
    step = round(34 * scale)
    for row, line in enumerate(lines):
        _put_text(picture, line, (round(8 * scale), step * (row + 1)), scale)


def _put_text(picture: NDArray[np.uint8], text: str, place: tuple[int, int], scale: float) -> None:
    # Light text on a dark outline is readable on any background.
    cv2.putText(picture, text, place, _FONT, scale, (0, 0, 0), max(2, round(4 * scale)), cv2.LINE_AA)
    cv2.putText(picture, text, place, _FONT, scale, _WHITE, max(1, round(1.5 * scale)), cv2.LINE_AA)


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


def _draw_boxes(
    picture: NDArray[np.uint8], targets: Sequence[tuple[str, TrackResult]], mapping: NDArray[np.float64]
) -> None:
    for name, track in targets:
        if track.box.is_finite() and track.state is not TrackState.LOST:
            _draw_box(picture, name if len(targets) > 1 else "", track, mapping)


def _draw_box(picture: NDArray[np.uint8], name: str, track: TrackResult, mapping: NDArray[np.float64]) -> None:
    x, y, w, h = track.box
    corners = np.array([[[x, y], [x + w, y], [x + w, y + h], [x, y + h]]], dtype=np.float64)
    mapped = cv2.perspectiveTransform(corners, mapping)
    if not np.all(np.isfinite(mapped)):
        return
    points = np.round(np.clip(mapped, -_FAR_PX, _FAR_PX)).astype(np.int32)
    cv2.polylines(picture, [points], True, _COLORS[track.state], max(1, picture.shape[0] // 240))
    if name:
        left, bottom = points[0].min(axis=0)[0], points[0].max(axis=0)[1]
        scale = max(picture.shape[0] / 1200, 0.3)
        _put_text(picture, name, (int(left), int(bottom) + round(30 * scale)), scale)
