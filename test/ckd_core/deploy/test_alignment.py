"""The homography between cameras is found again, in several scenes and modalities, or refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ckd_core.deploy.alignment import Alignment, AlignmentError, align, overlay
from ckd_core.frame import Modality, MultiModalFrame

SIZE, AUX_SIZE = (320, 240), (256, 208)  # width, height
BOARD = (7, 5)
MOVES = {
    "the same view, scaled": np.diag([0.8, 208 / 240, 1.0]),
    "beside and narrower": np.array([[1.0, 0.0, -40.0], [0.0, 1.0, -20.0], [0.0, 0.0, 1.0]]),
    "wider and a little turned": np.array([[0.62, 0.02, 25.0], [-0.02, 0.62, 30.0], [1e-5, 0.0, 1.0]]),
}


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Objects on a ground, larger than the view: brightness, and temperatures that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    light, heat = np.full((480, 640), 90, np.float32), np.full((480, 640), 60, np.float32)
    for _ in range(40):
        center = rng.integers((0, 0), (640, 480))
        axes, angle = rng.integers(12, 60, 2), float(rng.uniform(0, 180))
        box = cv2.boxPoints((tuple(map(float, center)), tuple(map(float, axes)), angle)).astype(np.int32)
        for image in (light, heat):
            cv2.fillConvexPoly(image, box, float(rng.integers(20, 235)))
    return light, heat


def pair(seed: int, move: np.ndarray, modality: Modality) -> MultiModalFrame:
    light, heat = scene(seed)
    window = np.array([[1.0, 0.0, -160.0], [0.0, 1.0, -120.0], [0.0, 0.0, 1.0]])
    rng = np.random.default_rng(seed)
    gray = cv2.warpPerspective(light, window, SIZE) + rng.normal(0, 6, SIZE[::-1])
    rgb = np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    aux = cv2.warpPerspective(heat, move @ window, AUX_SIZE) + rng.normal(0, 3, AUX_SIZE[::-1])
    if modality is Modality.DEPTH:
        return MultiModalFrame(0.0, rgb, np.clip(aux * 20 + 500, 0, 65535).astype(np.uint16), modality)
    if modality is Modality.EVENT:
        return MultiModalFrame(0.0, rgb, np.repeat(np.clip(aux, 0, 255).astype(np.uint8)[..., None], 3, 2), modality)
    return MultiModalFrame(0.0, rgb, np.clip(aux * 100, 0, 65535).astype(np.uint16), modality)


def error_px(found: Alignment, move: np.ndarray) -> float:
    """Largest distance in auxiliary pixels, over the middle of the colour view."""
    points = np.array([[[x * SIZE[0], y * SIZE[1]]] for x in (0.25, 0.75) for y in (0.25, 0.75)])
    differ = cv2.perspectiveTransform(points, found.homography) - cv2.perspectiveTransform(points, move)
    return float(np.linalg.norm(differ, axis=2).max())


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("move", MOVES)
def test_edges_give_the_homography_back(modality: Modality, move: str) -> None:
    frames = [pair(seed, MOVES[move], modality) for seed in range(6)]
    found = align(frames)
    assert found.method == "edges"
    assert error_px(found, MOVES[move]) < 4
    assert found.residual_px < 3
    assert found.frames == 6
    drawn = overlay(frames[0], found.homography)
    assert drawn.shape == (240, 640, 3)
    assert drawn.dtype == np.uint8


def test_views_with_nothing_in_common_are_refused() -> None:
    frames = [
        MultiModalFrame(0.0, pair(seed, MOVES["beside and narrower"], Modality.THERMAL).rgb, other.aux, other.modality)
        for seed in range(6)
        for other in [pair(seed + 100, MOVES["beside and narrower"], Modality.THERMAL)]
    ]
    with pytest.raises(AlignmentError, match=r"edges of both cameras do not agree: correlation .*--board"):
        align(frames)


def board_pair(place: np.ndarray, move: np.ndarray, inverted: bool) -> MultiModalFrame:
    squares = np.indices((BOARD[1] + 3, BOARD[0] + 3)).sum(axis=0) % 2
    squares[[0, -1]], squares[:, [0, -1]] = 1, 1
    picture = cv2.resize((squares * 200 + 30).astype(np.uint8), None, fx=16, fy=16, interpolation=cv2.INTER_NEAREST)
    rgb = cv2.warpPerspective(picture, place, SIZE, borderValue=120)
    heat = 255 - picture if inverted else picture
    aux = cv2.warpPerspective(heat, move @ place, AUX_SIZE, borderValue=120)
    return MultiModalFrame(
        0.0, np.repeat(rgb[..., None], 3, axis=2), cv2.GaussianBlur(aux, (3, 3), 0), Modality.THERMAL
    )


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("move", ["the same view, scaled", "wider and a little turned"])
def test_a_checkerboard_gives_the_homography_back_to_a_pixel(move: str, inverted: bool) -> None:
    places = [
        np.array([[1.0, 0.1, x], [-0.1, 1.0, y], [s, 0.0, 1.0]])
        for x, y, s in [(60, 50, 0), (100, 60, 5e-4), (30, 90, -3e-4), (130, 40, 0)]
    ]
    found = align([board_pair(place, MOVES[move], inverted) for place in places], BOARD)
    assert found.method == "checkerboard"
    assert error_px(found, MOVES[move]) < 1
    assert found.residual_px < 0.5
    assert "checkerboard: residual 0." in found.describe()


def test_what_is_missing_is_named() -> None:
    frames = [pair(seed, MOVES["beside and narrower"], Modality.THERMAL) for seed in range(4)]
    with pytest.raises(AlignmentError, match=r"board of 7 x 5 inner corners is seen by colour in 0 .* by both in none"):
        align(frames, BOARD)
    with pytest.raises(AlignmentError, match="2 frames with both images; expected 3 or more"):
        align(frames[:2])
    with pytest.raises(AlignmentError, match="none of 1 frames has both images"):
        align([MultiModalFrame(0.0, frames[0].rgb, None, Modality.THERMAL)])
    other = MultiModalFrame(0.0, frames[0].rgb, np.asarray(frames[0].aux)[:100], Modality.THERMAL)
    with pytest.raises(AlignmentError, match="change their size"):
        align([*frames, other])


@pytest.mark.parametrize("value", [0, 128])
def test_images_without_edges_are_refused(value: int) -> None:
    flat = MultiModalFrame(
        0.0, np.full((240, 320, 3), value, np.uint8), np.full((208, 256), value, np.uint8), Modality.THERMAL
    )
    with pytest.raises(AlignmentError, match="do not agree"):
        align([flat] * 4)
