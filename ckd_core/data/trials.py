"""Footage that tries a tracker's states: targets that vanish, are covered, return elsewhere, or move fast.

Synthetic scenes with lookalikes, and recordings changed so that each shows one of these; deterministic. What is
written is in the plain layout and says in each frame where the target is, or that it is absent.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.data.footage import recording_footage, synthetic_footage, synthetic_recordings
from ckd_core.data.open_sequences import VALIDATION, open_sequences
from ckd_core.data.sequences import SequenceError, write_sequence
from ckd_core.data.synthetic.clips import MIN_VISIBLE_SHARE
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.footage import Footage
    from ckd_core.frame import Image, MultiModalFrame

SCENES_PER_MODALITY, ABSENCE_FRAMES, RECORDING_FRAMES = 3, 75, 60
MIN_FRAMES = 30  # of a recording that is long enough to lose its target and to find it again
AWAY_FRAMES, COVERED_FRAMES, EVERY = 25, 12, 3
MARGIN = 0.15  # of the box, on each side, that is painted over with it
SHIFT_SIDES = 2.5  # of the target: how far away it is when it returns elsewhere


@dataclass(frozen=True, slots=True)
class Scenes:
    """Which synthetic scenes trials are made of; no training and no calibration renders these.

    Attributes:
        world: Seed of their surfaces and of the absences.
        seed: Of the recordings.
        recordings: How many.
    """

    world: int
    seed: int
    recordings: int


TRIED = Scenes(611, 56_000, 9)  # on which rules have been chosen
# Each was fresh until a rule had been judged by it, in this order.
SEEN = (
    Scenes(6177, 571_000, 18), Scenes(8231, 742_000, 9), Scenes(9467, 913_000, 9), Scenes(10_771, 1_061_000, 9),
)  # fmt: skip
FRESH = Scenes(12_113, 1_307_000, 9)  # to see what a rule that was chosen on others is worth


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of trial: what it does to footage, which it returns changed; None where that is impossible."""

    name: str
    change: Callable[[Footage], Footage | None]


def write_trials(out: Path, footage: Iterable[Footage], echo: Callable[[str], object] = lambda _: None) -> list[Path]:
    """Write footage below `out`, one folder each; `out` appears when all of it is written.

    Args:
        out: A new or empty folder.
        footage: Of this module or of `smoke_trials`; names become those of the folders.
        echo: Takes a line per sequence.

    Raises:
        SequenceError: `out` has files in it, or a file cannot be read or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SequenceError(f"{out} is not empty; expected a new folder")
    part = out.with_name(f".{out.name}.part")  # a killed call leaves it, the next one begins again
    shutil.rmtree(part, ignore_errors=True)
    written = []
    for trial in footage:
        frames = (trial.frame(index) for index in range(len(trial)))
        name = write_sequence(part / trial.name.replace(" ", "_"), frames, trial.boxes).name
        written.append(out / name)
        echo(f"{name}: {len(trial)} frames, {int(trial.absent.sum())} without the target")
    part.rename(out)
    return written


def validation_folders(root: Path) -> list[Path]:
    """Folders of the open sequences for validation, in `root` or in the folders in it.

    Raises:
        SequenceError: There is none.
    """
    names = open_sequences().names(VALIDATION)
    found = [path for name in names for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_dir()]
    if not found:
        raise SequenceError(f"{root} holds no validation sequence; expected at least one of {', '.join(names)}")
    return found


def trials(folders: list[Path], scenes: Scenes | None = None) -> Iterator[Footage]:
    """All trials: synthetic absences, then each change of synthetic recordings and of the sequences in `folders`.

    The scenes are `TRIED` unless given.
    """
    scenes = scenes or TRIED
    for footage in synthetic_footage(scenes.world, tuple(Modality), SCENES_PER_MODALITY, ABSENCE_FRAMES):
        yield replace(footage.since(footage.start), name=f"absence {footage.name}")
    synthetic = synthetic_recordings(scenes.seed, scenes.world, scenes.recordings, RECORDING_FRAMES)
    for footage in (*synthetic, *map(recording_footage, folders)):
        for trial in TRIALS:
            changed = trial.change(footage)
            if changed is not None:
                yield replace(changed, name=f"{trial.name} {footage.name}")


def _hidden(footage: Footage, frames: int) -> tuple[int, int] | None:
    """The frames (begin, end) in which the target is hidden; None where the recording is too short for that."""
    count = len(footage)
    begin = int(0.35 * count)
    end = min(begin + frames, int(0.75 * count))
    return (begin, end) if count >= MIN_FRAMES and end > begin else None


def away(footage: Footage) -> Footage | None:
    """The target is painted over with what is beside it for a while."""
    return _without_target(footage, AWAY_FRAMES, _painted_over)


def covered(footage: Footage) -> Footage | None:
    """Another part of the picture hides the target for a while."""
    return _without_target(footage, COVERED_FRAMES, _covered)


def _without_target(
    footage: Footage, frames: int, change: Callable[[Image, NDArray[np.float64]], Image]
) -> Footage | None:
    hidden = _hidden(footage, frames)
    if hidden is None:
        return None
    begin, end = hidden
    boxes = footage.boxes.copy()
    boxes[begin:end] = np.nan
    width = _width(footage)

    def changed(image: Image | None, box: NDArray[np.float64]) -> Image | None:
        return None if image is None else change(image, box * (image.shape[1] / width))

    def frame(index: int) -> MultiModalFrame:
        seen = footage.frame(index)
        box = footage.boxes[index]
        if not begin <= index < end or not np.isfinite(box).all():
            return seen
        return replace(seen, rgb=changed(seen.rgb, box), aux=changed(seen.aux, box))

    return replace(footage, boxes=boxes, frame=frame)


def elsewhere(footage: Footage) -> Footage | None:
    """The target is painted over for a while; then the camera has turned, and it is seen at another place."""
    gone = away(footage)
    hidden = _hidden(footage, AWAY_FRAMES)
    if gone is None or hidden is None:
        return None
    end = hidden[1]
    boxes = gone.boxes.copy()
    present = boxes[end:][np.isfinite(boxes[end:]).all(axis=1)]
    if not len(present):
        return None
    width = _width(footage)
    reach = round(SHIFT_SIDES * float(np.sqrt(present[0, 2] * present[0, 3])))
    right = present[:, 0].min() < width - (present[:, 0] + present[:, 2]).max()  # where there is more room
    dx = reach if right else -reach
    boxes[end:] = _in_view(np.add(boxes[end:], (dx, 0, 0, 0)), width)

    def turned(image: Image | None, box: NDArray[np.float64]) -> Image | None:
        return None if image is None else _turned(image, box * (image.shape[1] / width), dx / width)

    def frame(index: int) -> MultiModalFrame:
        seen = gone.frame(index)
        if index < end:
            return seen
        box = footage.boxes[index]
        return replace(seen, rgb=turned(seen.rgb, box), aux=turned(seen.aux, box))

    return replace(gone, boxes=boxes, frame=frame)


def fast(footage: Footage) -> Footage | None:
    """Every third frame."""
    if len(footage) < MIN_FRAMES:
        return None
    return replace(
        footage,
        boxes=footage.boxes[::EVERY],
        labelled=footage.labelled[::EVERY],
        frame=lambda index: footage.frame(EVERY * index),
    )


TRIALS = (Trial("away", away), Trial("covered", covered), Trial("elsewhere", elsewhere), Trial("fast", fast))


def _width(footage: Footage) -> int:
    frame = footage.frame(0)
    image = frame.rgb if frame.rgb is not None else frame.aux
    assert image is not None  # noqa: S101 - a frame has at least one image
    return int(image.shape[1])


def _in_view(boxes: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """What of the boxes is left of `width` and right of 0; nan where that is less than `MIN_VISIBLE_SHARE`."""
    left, right = np.clip(boxes[:, 0], 0, width), np.clip(boxes[:, 0] + boxes[:, 2], 0, width)
    seen = np.stack((left, boxes[:, 1], right - left, boxes[:, 3]), axis=1)
    seen[~(right - left >= MIN_VISIBLE_SHARE * boxes[:, 2])] = np.nan
    return seen


def _corners(box: NDArray[np.float64], image: Image, margin: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom pixel of the box with its margin, inside the image."""
    (x, y, w, h), (height, width) = box.tolist(), image.shape[:2]
    left, top = max(0, int(x - margin * w)), max(0, int(y - margin * h))
    right, bottom = min(width, int(x + (1 + margin) * w) + 1), min(height, int(y + (1 + margin) * h) + 1)
    return left, top, max(right, left), max(bottom, top)


def _blend(image: Image, other: Image, corners: tuple[int, int, int, int], softness: float) -> Image:
    left, top, right, bottom = corners
    mask = np.zeros(image.shape[:2], dtype=np.float32)
    mask[top:bottom, left:right] = 1
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), softness), dtype=np.float32)
    weight = mask[..., None] if image.ndim == 3 else mask
    return np.asarray(image * (1 - weight) + other * weight).astype(image.dtype)


def _painted_over(image: Image, box: NDArray[np.float64]) -> Image:
    corners = left, _, right, _ = _corners(box, image, MARGIN)
    room = image.shape[1] - right
    dx = 1.4 * (right - left) * (-1 if room > left else 1)  # from the side with more picture
    matrix = np.array(((1, 0, dx), (0, 1, 0)))
    beside = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
    return _blend(image, beside, corners, 2.0)


def _covered(image: Image, box: NDArray[np.float64]) -> Image:
    """What is half a picture away, with hard edges: something that does not belong there hides it."""
    corners = _corners(box, image, MARGIN / 2)
    height, width = image.shape[:2]
    return _blend(image, np.roll(image, (height // 2, width // 2), axis=(0, 1)), corners, 0.7)


def _turned(image: Image, box: NDArray[np.float64], share: float) -> Image:
    """The picture moved by a share of its width. The target is not in what comes in from the other side."""
    dx = round(share * image.shape[1])
    turned = np.roll(_painted_over(image, box) if np.isfinite(box).all() else image, dx, axis=1)
    new, old = (slice(dx, None), slice(None, -dx)) if dx > 0 else (slice(None, dx), slice(-dx, None))
    if dx:
        turned[:, new] = image[:, old]
    return turned
