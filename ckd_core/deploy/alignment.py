"""The homography from colour pixels to those of an auxiliary camera: from a checkerboard, or from edges that both see.

A homography aligns two cameras beside each other for what is far away, or in one plane. Edges are compared as blurred
gradients, which a hot or near object has in both images wherever its outline is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.modality import to_network_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.frame import MultiModalFrame

    Homography = NDArray[np.float64]

MIN_FRAMES = 3  # of which edges must agree
WORK_WIDTH = 320  # pixels of the colour image in which edges are compared
ZOOMS = np.geomspace(0.5, 2.0, 25)  # of the auxiliary field of view, relative to the colour one
MARGIN = 0.5  # of the colour image, by which the auxiliary view may reach beyond it
# Correlation of edges. Of the open validation sequences, as recorded and with the auxiliary image moved, those aligned
# rightly had 0.50 and more, and one aligned wrongly, with frames that agreed, 0.35.
MIN_SCORE = 0.42
MIN_GAIN = 0.01  # correlation that a further degree of freedom must bring
MAX_SPREAD = 0.01  # distance between the frames' corners, as a share of the auxiliary image's width
MAX_BOARD_RESIDUAL_PX = 3.0


class AlignmentError(TrackingError):
    """Views that cannot be aligned; the error says what was seen, and what helps."""


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Where the auxiliary camera sees what the colour camera sees.

    Attributes:
        homography: [3, 3], from a colour pixel to an auxiliary pixel.
        method: 'checkerboard' or 'edges'.
        residual_px: in auxiliary pixels: of the board's corners (root mean square), or by how much the frames disagree
            about the corners of the view (median).
        frames: number of frames that it rests on.
        score: correlation of edges from 0 to 1; nan for a checkerboard.
    """

    homography: Homography
    method: str
    residual_px: float
    frames: int
    score: float

    def describe(self) -> str:
        """Say how good it is."""
        score = "" if np.isnan(self.score) else f", edges correlate with {self.score:.2f}"
        return f"{self.method}: residual {self.residual_px:.2f} px over {self.frames} frames{score}"


def align(frames: Sequence[MultiModalFrame], board: tuple[int, int] | None = None) -> Alignment:
    """Find the homography from the frames that have both images.

    Args:
        frames: of one rigid pair of cameras, as different as possible.
        board: inner corners of a checkerboard (columns, rows) that both cameras see; None compares edges.

    Raises:
        AlignmentError: no frame has both images, sizes change, no board is seen, or the frames do not agree.
    """
    pairs = [
        (_grey(frame.rgb), _auxiliary(frame)) for frame in frames if frame.rgb is not None and frame.aux is not None
    ]
    if not pairs:
        raise AlignmentError(f"none of {len(frames)} frames has both images; expected some of both cameras")
    if len({(color.shape, aux.shape) for color, aux in pairs}) > 1:
        raise AlignmentError("the images change their size; expected one size per camera")
    return _by_board(pairs, board) if board is not None else _by_edges(pairs)


def overlay(frame: MultiModalFrame, homography: Homography) -> NDArray[np.uint8]:
    """Draw the auxiliary image into the colour view, side by side with its edges in red on the colour image.

    Returns:
        [H, 2 W, 3] uint8 RGB.
    """
    if frame.rgb is None or frame.aux is None:
        raise AlignmentError("the frame lacks an image; expected both")
    height, width = frame.rgb.shape[:2]
    seen = _warped(_auxiliary(frame), homography, (width, height))
    blended = cv2.addWeighted(frame.rgb, 0.5, cv2.applyColorMap(seen, cv2.COLORMAP_INFERNO)[..., ::-1], 0.5, 0.0)
    marked = frame.rgb.copy()
    edges = _edges(seen)
    marked[edges > np.percentile(edges, 95)] = (255, 0, 0)
    return np.hstack([blended, marked])


def _by_board(pairs: Sequence[tuple[Any, Any]], board: tuple[int, int]) -> Alignment:
    color_points, aux_points = [], []
    seen = [0, 0]
    size = _scale(pairs[0])
    for color, aux in pairs:
        found = [_corners(image, board) for image in (color, aux)]
        seen = [count + (corners is not None) for count, corners in zip(seen, found, strict=True)]
        if found[0] is None or found[1] is None:
            continue
        # A board looks the same from below: its corners are taken in the order that turns the camera least.
        orders = [found[1], found[1][::-1]]
        expected = found[0] * size
        aux_points.append(min(orders, key=lambda order: float(np.abs(_centred(order) - _centred(expected)).sum())))
        color_points.append(found[0])
    if not color_points:
        raise AlignmentError(
            f"the board of {board[0]} x {board[1]} inner corners is seen by colour in {seen[0]} and by the other "
            f"camera in {seen[1]} of {len(pairs)} frames, and by both in none; expected it sharp and whole in both "
            "(warm it in the sun for a thermal camera)"
        )
    here, there = np.concatenate(color_points), np.concatenate(aux_points)
    homography, inliers = cv2.findHomography(here, there, cv2.RANSAC, MAX_BOARD_RESIDUAL_PX)
    if homography is None:
        raise AlignmentError("the corners of the board do not determine a homography; show it in other places, too")
    errors = np.linalg.norm(cv2.perspectiveTransform(here[:, None], homography)[:, 0] - there, axis=1)
    residual = float(np.sqrt(np.mean(errors[inliers.ravel() > 0] ** 2)))
    if inliers.mean() < 0.5:
        raise AlignmentError(
            f"only {inliers.mean():.0%} of the board's corners fit one homography within {MAX_BOARD_RESIDUAL_PX:g} px; "
            "show the board at the distance of the targets"
        )
    return Alignment(np.asarray(homography, np.float64), "checkerboard", residual, len(color_points), float("nan"))


def _corners(image: Any, board: tuple[int, int]) -> Any:
    """Return the inner corners [N, 2], also of a board whose white is dark; None where it is not seen."""
    for picture in (image, 255 - image):
        found, corners = cv2.findChessboardCornersSB(picture, board, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if found:
            return corners.reshape(-1, 2).astype(np.float64)
    return None


def _by_edges(pairs: Sequence[tuple[Any, Any]]) -> Alignment:
    if len(pairs) < MIN_FRAMES:
        raise AlignmentError(f"{len(pairs)} frames with both images; expected {MIN_FRAMES} or more to compare edges")
    height, width = pairs[0][0].shape
    aux_width = pairs[0][1].shape[1]
    factor = WORK_WIDTH / width
    size = WORK_WIDTH, max(round(height * factor), 8)
    colors = [_edges(cv2.resize(color, size, interpolation=cv2.INTER_AREA)) for color, _ in pairs]
    auxs = [_edges(aux) for _, aux in pairs]
    start = _coarse(colors, [aux for _, aux in pairs], size)
    candidates = [start]
    for motion in (cv2.MOTION_AFFINE, cv2.MOTION_HOMOGRAPHY):
        fits = [_refined(color, aux, candidates[-1], motion) for color, aux in zip(colors, auxs, strict=True)]
        agreed = _agreed([fit for fit in fits if fit is not None], size)
        if agreed is not None:
            candidates.append(agreed)
    scores = [_score(colors, auxs, candidate) for candidate in candidates]
    best = 0
    for index in range(1, len(candidates)):
        if scores[index] > scores[best] + MIN_GAIN:
            best = index
    spread = _spread(colors, auxs, candidates[best], size)
    if scores[best] < MIN_SCORE or spread > MAX_SPREAD * aux_width:
        raise AlignmentError(
            f"the edges of both cameras do not agree: correlation {scores[best]:.2f}, expected {MIN_SCORE:g} or more; "
            f"frames differ by {spread:.1f} px, expected {MAX_SPREAD * aux_width:.1f} or less; record a scene of "
            "clear, distant outlines in the view of both, or a checkerboard (--board)"
        )
    shrink = np.array([[size[0] / width, 0, 0], [0, size[1] / height, 0], [0, 0, 1.0]])
    homography = candidates[best] @ shrink
    return Alignment(homography / homography[2, 2], "edges", spread, len(pairs), scores[best])


def _coarse(colors: Sequence[Any], auxs: Sequence[Any], size: tuple[int, int]) -> Homography:
    """Find zoom and shift by the correlation of all frames; returns colour (at working size) to auxiliary pixels."""
    width, height = size
    aux_height, aux_width = auxs[0].shape
    left, top = round(MARGIN * width), round(MARGIN * height)
    padded = [cv2.copyMakeBorder(c, top, top, left, left, cv2.BORDER_CONSTANT, value=0.0) for c in colors]
    best: tuple[float, Homography] | None = None
    for zoom in ZOOMS:
        part = round(width * zoom), round(width * zoom * aux_height / aux_width)
        if part[0] > padded[0].shape[1] or part[1] > padded[0].shape[0] or min(part) < 16:
            continue
        total: Any = 0.0
        for color, aux in zip(padded, auxs, strict=True):
            small = _edges(cv2.resize(aux, part, interpolation=cv2.INTER_AREA))
            total = total + cv2.matchTemplate(color, small, cv2.TM_CCOEFF_NORMED)
        _, score, _, (x, y) = cv2.minMaxLoc(total / len(colors))
        if best is None or score > best[0]:
            scale_x, scale_y = aux_width / part[0], aux_height / part[1]
            shift = np.array([[scale_x, 0, (left - x) * scale_x], [0, scale_y, (top - y) * scale_y], [0, 0, 1]])
            best = score, shift
    if best is None:
        raise AlignmentError(f"images of {aux_width} x {aux_height} pixels are too narrow to be aligned")
    return best[1]


def _refined(color: Any, aux: Any, start: Homography, motion: int) -> Homography | None:
    """Improve a homography on one frame; None where that does not converge."""
    warp = start.astype(np.float32) if motion == cv2.MOTION_HOMOGRAPHY else start[:2].astype(np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    try:
        _, found = cv2.findTransformECC(color, aux, warp, motion, criteria)
    except cv2.error:  # it does not converge where the images have nothing in common
        return None
    whole = found if motion == cv2.MOTION_HOMOGRAPHY else np.vstack([found, [0, 0, 1]])
    return whole.astype(np.float64) if np.isfinite(whole).all() else None


def _agreed(fits: Sequence[Homography], size: tuple[int, int]) -> Homography | None:
    """Return the homography that maps the view's corners to the median of the frames' corners."""
    if len(fits) < MIN_FRAMES:
        return None
    corners = _view(size)
    targets = np.stack([cv2.perspectiveTransform(corners, fit)[:, 0] for fit in fits])
    median = np.median(targets, axis=0).astype(np.float32)
    found = cv2.getPerspectiveTransform(corners[:, 0].astype(np.float32), median)
    return np.asarray(found, np.float64) if np.isfinite(found).all() else None


def _spread(colors: Sequence[Any], auxs: Sequence[Any], found: Homography, size: tuple[int, int]) -> float:
    """Return by how many auxiliary pixels the frames' own corners differ from the common ones (median)."""
    fits = [_refined(color, aux, found, cv2.MOTION_AFFINE) for color, aux in zip(colors, auxs, strict=True)]
    corners = _view(size)
    common = cv2.perspectiveTransform(corners, found)[:, 0]
    errors = [
        float(np.linalg.norm(cv2.perspectiveTransform(corners, fit)[:, 0] - common, axis=1).mean())
        for fit in fits
        if fit is not None
    ]
    return float(np.median(errors)) if len(errors) * 2 >= len(colors) else float("inf")


def _score(colors: Sequence[Any], auxs: Sequence[Any], found: Homography) -> float:
    scores = []
    for color, aux in zip(colors, auxs, strict=True):
        size = color.shape[1], color.shape[0]
        seen = _warped(np.ones_like(aux), found, size) > 0.5
        if np.count_nonzero(seen) < 0.05 * seen.size:
            return 0.0
        a, b = color[seen], _warped(aux, found, size)[seen]
        scores.append(float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0)
    return float(np.mean(scores))


def _warped(image: Any, homography: Homography, size: tuple[int, int]) -> Any:
    return cv2.warpPerspective(image, homography, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _view(size: tuple[int, int]) -> NDArray[np.float64]:
    """The corners of the middle of the view, [4, 1, 2]; outside it the auxiliary camera may see nothing."""
    width, height = size
    return np.array([[[x * width, y * height]] for x in (0.25, 0.75) for y in (0.25, 0.75)])


def _edges(image: Any) -> Any:
    """Return the blurred gradient of a grey image as float32, its mean 0 and its deviation 1."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.5)
    gradient = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    # The root keeps one strong edge, such as that of a hot object, from being all there is.
    strength = cv2.GaussianBlur(np.sqrt(gradient), (0, 0), 1.5)
    deviation = float(strength.std())
    return (strength - strength.mean()) / (deviation if deviation > 0 else 1.0)


def _scale(pair: tuple[Any, Any]) -> NDArray[np.float64]:
    (height, width), (aux_height, aux_width) = pair[0].shape, pair[1].shape
    return np.array([aux_width / width, aux_height / height])


def _centred(points: Any) -> Any:
    return points - points.mean(axis=0)


def _grey(image: Any) -> Any:
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def _auxiliary(frame: MultiModalFrame) -> Any:
    assert frame.aux is not None  # noqa: S101  # the callers chose frames that have one
    return _grey(to_network_image(np.asarray(frame.aux), frame.modality))
