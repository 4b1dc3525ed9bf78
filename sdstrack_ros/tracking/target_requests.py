"""Requests for a target, their outcomes, and the box that each request means."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality
from ckd_core.modality import depth_in_metres
from ckd_core.text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import MultiModalFrame

MIN_SIZE_PX = 4.0
# Long enough for a UUID; short enough for the status to name all targets.
MAX_ID_CHARACTERS = 40
# Pixels within this depth of the click belong to the target; what is a hand's breadth away does not.
SURFACE_TOLERANCE = 0.06
SURFACE_TOLERANCE_M = 0.03
# Extents outside these shares of the image are a speck of noise or the background.
MIN_SURFACE_SHARE = 2e-4
MAX_SURFACE_SHARE = 0.5


class TargetError(TrackingError):
    """A request for a target that cannot be met; the message becomes the reason of its outcome."""


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """What became of a request.

    Attributes:
        origin: topic, service or parameter that the request came by; refusals are counted under it.
        detail: in words, what about it the origin does not say; may be ''.
        accepted: whether it was.
        reason: what was done, or why it was refused.

    """

    origin: str
    detail: str
    accepted: bool
    reason: str

    @property
    def verdict(self) -> str:
        """For example `refused: adopt_candidates is false`, after the detail."""
        return f"{self.detail} {'accepted' if self.accepted else 'refused'}: {self.reason}".lstrip()

    def __str__(self) -> str:
        """For example `init_box accepted: target 1 at (10.0, 20.0, 30.0, 40.0)`."""
        return f"{self.origin} {self.verdict}"


@dataclass(frozen=True, slots=True)
class _Request:
    """What all requests have in common; `origin` and `detail` as in `RequestOutcome`."""

    origin: str
    detail: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        """Where it comes from, in words."""
        return f"{self.origin} {self.detail}".rstrip()

    def accepted(self, reason: str) -> RequestOutcome:
        """The outcome of a request that was met."""
        return RequestOutcome(self.origin, self.detail, accepted=True, reason=reason)

    def refused(self, reason: str) -> RequestOutcome:
        """The outcome of a request that was not."""
        return RequestOutcome(self.origin, self.detail, accepted=False, reason=reason)


@dataclass(frozen=True, slots=True)
class _StartRequest(_Request):
    """A request for one target.

    Attributes:
        target_id: the id that it shall have, which replaces the target of that id; '' replaces the one without an id.
        label: its class; '' takes that of the parameter.

    """

    target_id: str = field(default="", kw_only=True)
    label: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class BoxRequest(_StartRequest):
    """Start on `box`, in the frame of `stamp_ns` (None: the newest). `patient` waits for the first usable frame."""

    box: BoundingBox
    stamp_ns: int | None = None
    patient: bool = False


@dataclass(frozen=True, slots=True)
class PixelRequest(_StartRequest):
    """Start on what is at a pixel.

    Attributes:
        x: column in an image of `size`.
        y: row in an image of `size`.
        size: (width, height), where that may be another resolution of the same view (a calibration's); None: the
            frame's own.
        stamp_ns: of the frame; None: the newest.

    """

    x: float
    y: float
    size: tuple[int, int] | None = None
    stamp_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One detection of another node's detector; `target_id` is '' where the detector does not tell objects apart."""

    box: BoundingBox
    class_id: str
    score: float
    target_id: str = ""


@dataclass(frozen=True, slots=True)
class CandidatesRequest(_Request):
    """Start on detections in the frame of `stamp_ns` (None: the newest), if targets are wanted.

    On the best of those without an id, and on each of the others.
    """

    candidates: tuple[Candidate, ...]
    stamp_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveRequest(_Request):
    """Forget one target."""

    target_id: str


@dataclass(frozen=True, slots=True)
class ResetRequest(_Request):
    """Forget all targets."""


TargetRequest = BoxRequest | PixelRequest | CandidatesRequest | RemoveRequest | ResetRequest


def checked_id(target_id: str) -> str:
    """Return the id of a target as a message has it.

    Raises:
        TargetError: it is longer than MAX_ID_CHARACTERS, or has other characters than letters, digits and signs of
            ASCII. Labels may have any.

    """
    if len(target_id) > MAX_ID_CHARACTERS:
        raise TargetError(
            f"id '{shown(target_id)}' has {len(target_id)} characters; expected at most {MAX_ID_CHARACTERS}"
        )
    if not target_id.isascii() or not target_id.isprintable() or " " in target_id:
        raise TargetError(f"id '{shown(target_id)}' is unusable; expected ASCII letters, digits and signs, no blanks")
    return target_id


def detection_box(detection: Any) -> BoundingBox:
    """Return the box of a Detection2D of any library, its angle ignored; all values nan when one is not finite."""
    center, w, h = detection.bbox.center.position, float(detection.bbox.size_x), float(detection.bbox.size_y)
    box = BoundingBox(float(center.x) - w / 2, float(center.y) - h / 2, w, h)
    return box if math.isfinite(sum(box)) else BoundingBox(math.nan, math.nan, math.nan, math.nan)


def checked_box(box: BoundingBox, size: tuple[int, int]) -> BoundingBox:
    """Return `box`, which must be usable in an image of `size` (width, height).

    Raises:
        TargetError: it is not finite, has a side below 4 pixels, is more than twice as large as the image, or has its
            centre outside it.

    """
    text = f"box ({box.x:.1f}, {box.y:.1f}, {box.w:.1f}, {box.h:.1f})"
    if not box.is_finite():
        raise TargetError(f"{text} is not finite")
    if box.w < MIN_SIZE_PX or box.h < MIN_SIZE_PX:
        raise TargetError(f"{text} is smaller than {MIN_SIZE_PX:.0f} x {MIN_SIZE_PX:.0f} pixels")
    width, height = size
    cx, cy = box.center
    if not (0 <= cx < width and 0 <= cy < height):
        raise TargetError(f"{text} has its centre outside the {width} x {height} image")
    if box.w > 2 * width or box.h > 2 * height:
        raise TargetError(f"{text} is more than twice as large as the {width} x {height} image")
    return box


def box_at_pixel(
    frame: MultiModalFrame,
    size: tuple[int, int],
    request: PixelRequest,
    default_size: tuple[float, float],
) -> BoundingBox:
    """Return the box of the target at a pixel: the extent of the surface there, else `default_size` around it.

    Raises:
        TargetError: the pixel is not finite, or outside the image of `size` (width, height).

    """
    width, height = size
    x, y = request.x, request.y
    if not (math.isfinite(x) and math.isfinite(y)):
        raise TargetError(f"pixel ({x}, {y}) is not finite")
    if request.size is not None and request.size != size:
        # Coordinates are those of pixel centres, as in PinholeCamera.scaled.
        x, y = (x + 0.5) * width / request.size[0] - 0.5, (y + 0.5) * height / request.size[1] - 0.5
    if not (0 <= x < width and 0 <= y < height):
        raise TargetError(f"pixel ({x:.0f}, {y:.0f}) is outside the {width} x {height} image")
    extent = None
    if frame.modality is Modality.DEPTH and frame.aux is not None and frame.aux_from_reference is None:
        metres = depth_in_metres(frame.aux)
        extent = surface_extent(metres, x * metres.shape[1] / width, y * metres.shape[0] / height)
        if extent is not None:
            sx, sy = width / metres.shape[1], height / metres.shape[0]
            return BoundingBox(extent.x * sx, extent.y * sy, extent.w * sx, extent.h * sy)
    w, h = default_size
    return BoundingBox(x + 0.5 - w / 2, y + 0.5 - h / 2, w, h)  # (x, y) is a pixel's centre


def surface_extent(metres: NDArray[np.float32], x: float, y: float) -> BoundingBox | None:
    """Return the bounding box of the connected surface at pixel (x, y); None when depth does not show one.

    Args:
        metres: [h, w] float32, 0 where invalid.
        x: column.
        y: row.

    """
    height, width = metres.shape
    column, row = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    around = metres[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
    valid = around[around > 0]
    if valid.size == 0:
        return None
    seed = float(np.median(valid))
    tolerance = seed * SURFACE_TOLERANCE + SURFACE_TOLERANCE_M
    near = ((np.abs(metres - seed) <= tolerance) & (metres > 0)).astype(np.uint8)
    # Closing bridges the pinholes of a stereo camera without joining separate surfaces.
    near = cv2.morphologyEx(near, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=4)
    label = int(labels[row, column])
    if label == 0:
        return None
    left, top, w, h, area = (int(v) for v in stats[label])
    share = area / (width * height)
    if not MIN_SURFACE_SHARE <= share <= MAX_SURFACE_SHARE or min(w, h) < MIN_SIZE_PX:
        return None
    return BoundingBox(float(left), float(top), float(w), float(h))


def best_candidate(candidates: tuple[Candidate, ...], class_id: str, min_score: float) -> Candidate | None:
    """Return the candidate of the class ('' for any) with the highest score of at least `min_score`, or None."""
    fitting = [
        candidate
        for candidate in candidates
        if (not class_id or candidate.class_id == class_id) and candidate.score >= min_score
    ]
    return max(fitting, key=lambda candidate: candidate.score, default=None)


def fitting_candidates(
    candidates: tuple[Candidate, ...], class_id: str, min_score: float
) -> tuple[list[Candidate], list[str]]:
    """Return the `best_candidate` of each id, the best of them first; and why others cannot be used."""
    fitting, refusals = [], []
    times = Counter(target_id for target_id, _ in {(candidate.target_id, candidate.box) for candidate in candidates})
    by_id: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_id.setdefault(candidate.target_id, []).append(candidate)
    for target_id, same in by_id.items():
        try:
            checked_id(target_id)
            if target_id and times[target_id] > 1:
                raise TargetError(f"id '{target_id}' comes {times[target_id]} times in one message; expected once")
        except TargetError as error:
            refusals.append(str(error))
            continue
        best = best_candidate(tuple(same), class_id, min_score)
        if best is not None:
            fitting.append(best)
    return sorted(fitting, key=lambda candidate: candidate.score, reverse=True), refusals
