"""A sequence: images of two cameras, and the box of one object in every frame.

`open_sequence` reads the plain layout: `visible/` and one of `infrared/`, `depth/`, `event/`, images in the order of
their names, and `groundtruth.txt` with one `x,y,w,h` per frame, nan where the object is absent. `datasets.py` reads
public datasets.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.boxes import is_present
from ckd_core.data.box_files import BoxFileError, Layout, read_table, to_xywh
from ckd_core.errors import TrackingError
from ckd_core.files import regular, write_text
from ckd_core.frame import Modality, MultiModalFrame
from ckd_core.modality import ModalityError, thermal_levels
from ckd_core.text import is_unicode, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ckd_core.frame import Image

logger = logging.getLogger(__name__)
# Surplus of a sequence that may be cut. OTB's David has a third more images than lines, but at its beginning.
MAX_CUT_SHARE, MAX_CUT_FRAMES = 0.1, 5
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
AUX_FOLDERS = {"infrared": Modality.THERMAL, "depth": Modality.DEPTH, "event": Modality.EVENT}
DEFAULT_FPS = 30.0


class SequenceError(TrackingError):
    """A sequence that is missing, broken, or not in its layout."""


class Truth:
    """Ground truth per frame; base of classes with these attributes.

    Attributes:
        name: For messages.
        boxes: [N, 4] float64 xywh in pixels, nan where the target is not annotated.
        labelled: [N] bool, False where there is no annotation.
    """

    __slots__ = ()
    name: str
    boxes: NDArray[np.float64]
    labelled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N] bool: the target is annotated in this frame."""
        return is_present(self.boxes)

    @property
    def absent(self) -> NDArray[np.bool_]:
        """[N] bool: the annotation says that the target is not visible in this frame."""
        return self.labelled & ~self.present

    @property
    def start(self) -> int:
        """Index of the first frame with a box, where a tracker starts.

        Raises:
            SequenceError: No frame has a box.
        """
        indices = np.flatnonzero(self.present)
        if not len(indices):
            raise SequenceError(f"sequence {self.name} has no frame with a box, so no tracker can start on it")
        return int(indices[0])


@dataclass(frozen=True, slots=True, eq=False)
class Sequence(Truth):
    """Paths and boxes of one sequence; images are read on access.

    Attributes:
        name: The folder's name.
        modality: Kind of the auxiliary images. A colour-only sequence has no `aux_paths`; its modality is then the one
            that a tracker should assume.
        rgb_paths: N paths, or empty without a colour camera.
        aux_paths: N paths, or empty without an auxiliary camera.
        boxes: [N, 4] float64 xywh in pixels of the colour image (the benchmark's annotation); nan = absent.
        labelled: [N] bool, False where the frame is not annotated (neither present nor absent).
        stamps: [N] float64 seconds.
        aux_boxes: [N, 4] like `boxes` in pixels of the auxiliary image, where the benchmark annotates both.
        attributes: The benchmark's challenge attributes.
    """

    name: str
    modality: Modality
    rgb_paths: tuple[Path, ...]
    aux_paths: tuple[Path, ...]
    boxes: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    stamps: NDArray[np.float64]
    aux_boxes: NDArray[np.float64] | None = None
    attributes: tuple[str, ...] = ()

    def rgb(self, index: int) -> Image | None:
        """Colour image [H, W, 3] uint8 RGB, or None without a colour camera."""
        return read_color(self.rgb_paths[index]) if self.rgb_paths else None

    def aux(self, index: int) -> Image | None:
        """Auxiliary image as stored (see `read_auxiliary`), or None without an auxiliary camera."""
        return read_auxiliary(self.aux_paths[index], self.modality) if self.aux_paths else None

    def frame(self, index: int) -> MultiModalFrame:
        """Read frame `index` (0-based; negative counts from the end) with both images.

        Raises:
            SequenceError: There is no such frame, or an image cannot be read.
        """
        if not -len(self) <= index < len(self):
            raise SequenceError(f"sequence {self.name} has no frame {index}; it has 0..{len(self) - 1}")
        return MultiModalFrame(float(self.stamps[index]), self.rgb(index), self.aux(index), self.modality)

    def frames(self) -> Iterator[MultiModalFrame]:
        """Read all frames in order."""
        return (self.frame(index) for index in range(len(self)))


def _read_image(path: Path, flags: int) -> Image:
    try:
        data = np.fromfile(regular(path), dtype=np.uint8)
    except OSError as error:
        raise SequenceError(f"cannot read image {path}: {error.strerror or error}") from error
    image = cv2.imdecode(data, flags) if len(data) else None
    if image is None:
        raise SequenceError(f"{path} ({len(data)} bytes) is not an image that OpenCV can decode")
    return image


def read_color(path: Path) -> Image:
    """Read a colour image [H, W, 3] uint8 in RGB order, turned as its EXIF orientation says.

    A grey file gives three equal channels; of 16 bits the upper byte counts.

    Raises:
        SequenceError: The file cannot be read or decoded.
    """
    return cv2.cvtColor(_read_image(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_auxiliary(path: Path, modality: Modality) -> Image:
    """Read an auxiliary image in the form that `MultiModalFrame` expects, turned as its EXIF orientation says.

    Depth: [H, W] uint16 (or float32 from TIFF); the first channel of a colour file. Thermal: [H, W] as stored (see
    `thermal_levels` for temperatures), or [H, W, 3] uint8 RGB. Event: [H, W, 3] uint8 RGB. Three equal channels of 16
    bits are one thermal channel; of others the upper byte counts, as in colour images.

    Raises:
        SequenceError: The file cannot be read or decoded.
    """
    # Not IMREAD_UNCHANGED: that alone ignores the orientation, which read_color follows.
    image = _read_image(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if image.ndim == 3 and modality is Modality.DEPTH:
        return np.ascontiguousarray(image[:, :, 0])
    if image.ndim == 2 and modality is Modality.THERMAL:
        try:
            return thermal_levels(image)
        except ModalityError as error:
            raise SequenceError(f"{path}: {error}") from error
    if image.ndim == 3 and image.dtype == np.uint16:
        if modality is Modality.THERMAL and (image == image[:, :, :1]).all():
            return np.ascontiguousarray(image[:, :, 0])
        image = (image >> 8).astype(np.uint8)
    if modality is Modality.DEPTH:
        return image
    if image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if modality is Modality.EVENT else image


def natural_key(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts frame 2 before frame 10."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in parts)


def list_images(folder: Path) -> tuple[Path, ...]:
    """List all images of a folder in the order of their numbers; there may be none, and hidden files are none.

    Raises:
        SequenceError: The folder cannot be listed.
    """
    try:
        images = [
            path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
    except OSError as error:
        raise SequenceError(f"cannot list {folder}: {error.strerror or error}") from error
    return tuple(sorted(images, key=natural_key))


def image_bytes(path: Path) -> int:
    """Return the size of an image's file in bytes.

    Raises:
        SequenceError: There is no file, for example behind a broken link.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise SequenceError(f"cannot read image {path}: {error.strerror or error}") from error


def paired_frames(rgb: tuple[Path, ...], aux: tuple[Path, ...], cut: bool) -> int:
    """Count the frames of two cameras, or of the only one.

    Raises:
        SequenceError: One camera has more images, unless `cut` allows a surplus at the end.
    """
    if not rgb or not aux or len(rgb) == len(aux):
        return len(rgb) or len(aux)
    folders = rgb[0].parent, aux[0].parent
    if not cut:
        raise SequenceError(
            f"{folders[0].parent} has {len(rgb)} images in {folders[0].name}/ and {len(aux)} in {folders[1].name}/; "
            "must be equal"
        )
    numbers = [[re.findall(r"\d+", path.stem)[-1:] for path in side] for side in (rgb, aux)]
    for i, (one, other) in enumerate(zip(*numbers, strict=False)):
        if [int(n) for n in one] != [int(n) for n in other]:
            raise SequenceError(
                f"{folders[0]} has {len(rgb)} images, {folders[1]} has {len(aux)}, and number {i + 1} is "
                f"{rgb[i].name} beside {aux[i].name}; expected one frame's images; a frame is missing"
            )
    logger.warning("%s: %d images beside %d; the surplus at the end is cut", folders[0], len(rgb), len(aux))
    return min(len(rgb), len(aux))


def annotated_frames(truth: Path, rows: int, count: int, cut: bool) -> int:
    """Count the frames that have their images (`count`) and a row of the annotation (`rows`).

    Raises:
        SequenceError: The numbers differ, unless `cut` allows a small surplus at the end.
    """
    if rows == count:
        return count
    if not cut:
        raise SequenceError(f"{truth} has {rows} lines for {count} images; must be equal")
    if abs(rows - count) > max(MAX_CUT_FRAMES, MAX_CUT_SHARE * count):
        raise SequenceError(
            f"{truth} has {rows} lines for {count} images; at most {MAX_CUT_SHARE:.0%} are cut off an end, "
            "a larger surplus means that the two begin at different frames"
        )
    logger.warning("%s: %d lines for %d images; the surplus at the end is cut", truth, rows, count)
    return min(rows, count)


def read_ground_truth(path: Path, layout: Layout | None = None) -> NDArray[np.float64]:
    """Read boxes [N, 4] xywh from a plain file (four numbers per line, or eight of a polygon); nan = absent.

    Args:
        path: the file.
        layout: what four numbers are, see `to_xywh`; None for x, y, width, height.

    Raises:
        SequenceError: The file cannot be read, is not a table of boxes, or has infinite numbers.
    """
    try:
        table = read_table(path)
        boxes = to_xywh(table.values, layout if table.columns == 4 else None, str(path)).copy()
    except BoxFileError as error:
        raise SequenceError(str(error)) from error
    if np.isinf(boxes).any():
        row = int(np.argmax(np.isinf(boxes).any(axis=1)))
        raise SequenceError(
            f"{path} line {row + 1} is {boxes[row].tolist()}; expected finite numbers, or nan where absent"
        )
    return boxes


def read_stamps(path: Path, count: int, fps: float, cut: bool = False) -> NDArray[np.float64]:
    """Read stamps [count] in seconds from `path` (one number per line), or `index / fps` where there is no such file.

    Args:
        path: A text file.
        count: Number of frames.
        fps: Frames per second without a file.
        cut: Whether to ignore further lines.

    Raises:
        SequenceError: There is another number of lines, or the stamps do not rise.
    """
    if not path.is_file():
        return np.arange(count) / fps
    try:
        stamps = read_table(path).values[: count if cut else None, 0]
    except BoxFileError as error:
        raise SequenceError(str(error)) from error
    if len(stamps) != count or not np.isfinite(stamps).all() or (np.diff(stamps) <= 0).any():
        raise SequenceError(f"{path} must hold {count} rising numbers (seconds, one per frame); it has {len(stamps)}")
    return stamps


def open_sequence(
    folder: Path | str, *, ground_truth: bool = True, fps: float = DEFAULT_FPS, cut: bool = False
) -> Sequence:
    """Open a sequence in the plain layout.

    Args:
        folder: Holds `visible/` and/or one of `infrared/`, `depth/`, `event/`; `groundtruth.txt`; optionally
            `timestamps.txt` (seconds, one per line; `index / fps` without it).
        ground_truth: False allows a missing `groundtruth.txt`: all boxes are then nan and unlabelled.
        fps: Frames per second without `timestamps.txt`.
        cut: Whether surplus images or rows at the end are ignored instead of refused.

    Raises:
        SequenceError: Something is missing, broken, or of unequal length.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SequenceError(f"no folder {folder}")
    if not is_unicode(folder.resolve().name):
        raise SequenceError(f"the name {shown(folder.resolve())} is not UTF-8; rename the folder")
    rgb = list_images(folder / "visible") if (folder / "visible").is_dir() else ()
    kinds = [name for name in AUX_FOLDERS if (folder / name).is_dir()]
    if len(kinds) > 1:
        raise SequenceError(f"{folder} has {' and '.join(kinds)}; a sequence has one auxiliary stream")
    aux = list_images(folder / kinds[0]) if kinds else ()
    if not rgb and not aux:
        raise SequenceError(f"{folder} has no images; expected some in visible/, infrared/, depth/ or event/")
    count = paired_frames(rgb, aux, cut)
    truth = folder / "groundtruth.txt"
    if ground_truth or truth.is_file():
        boxes = read_ground_truth(truth)
        count = annotated_frames(truth, len(boxes), count, cut)
        boxes = boxes[:count]
        labelled = np.ones(count, dtype=np.bool_)
    else:
        boxes = np.full((count, 4), np.nan)
        labelled = np.zeros(count, dtype=np.bool_)
    modality = AUX_FOLDERS[kinds[0]] if kinds else Modality.THERMAL
    stamps = read_stamps(folder / "timestamps.txt", count, fps, cut)
    return Sequence(folder.resolve().name, modality, rgb[:count], aux[:count], boxes, labelled, stamps)


def open_folder(root: Path | str) -> list[Sequence]:
    """Open every plain sequence directly in `root`, by name; or `root` itself when it is one.

    Raises:
        SequenceError: There is none, or one is broken.
    """
    root = Path(root)
    if (root / "groundtruth.txt").is_file():
        return [open_sequence(root)]
    if not root.is_dir():
        raise SequenceError(f"no folder {root}")
    visible = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    folders = [path for path in visible if (path / "groundtruth.txt").is_file()]
    if not folders:
        raise SequenceError(f"{root} holds no sequence; expected folders with visible/ and groundtruth.txt")
    return [open_sequence(path) for path in folders]


def write_sequence(folder: Path, frames: Iterable[MultiModalFrame], boxes: NDArray[np.float64]) -> Path:
    """Write frames and boxes [N, 4] xywh (nan = absent) as a sequence in the plain layout; returns its folder.

    PNG keeps every value of uint8 and uint16 images. `groundtruth.txt` is written last, so that its presence means a
    complete sequence.

    Raises:
        SequenceError: There are not as many boxes as frames, or an image cannot be written.
    """
    names = {modality: name for name, modality in AUX_FOLDERS.items()}
    stamps = []
    for index, frame in enumerate(frames):
        stamps.append(f"{frame.stamp:.9f}\n")
        for name, image in (("visible", frame.rgb), (names[frame.modality], frame.aux)):
            if image is not None:
                _write_png(folder / name / f"{index:05d}.png", image)
    if len(stamps) != len(boxes):
        raise SequenceError(f"{len(boxes)} boxes for {len(stamps)} frames of {folder}; must be equal")
    (folder / "timestamps.txt").write_text("".join(stamps))
    lines = [",".join(f"{value:.4f}" for value in box) + "\n" for box in boxes]
    write_text(folder / "groundtruth.txt", "".join(lines))
    return folder


def _write_png(path: Path, image: Image) -> None:
    if image.dtype not in (np.uint8, np.uint16):
        raise SequenceError(f"cannot write {path}: the image is {image.dtype}; expected uint8 or uint16")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    if not cv2.imwrite(str(path), data):
        raise SequenceError(f"cannot write {path}; expected a folder with space that may be written to")
