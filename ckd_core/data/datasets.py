"""Readers of public datasets: one row of `LAYOUTS` each, and one reader for all of them.

Layouts are those of the datasets' own downloads (docs/trackers.md "Dataset layouts"). A dataset's root either holds the
sequences, or the folders of its splits; a list file picks and orders them where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.box_files import BoxFileError, Layout, read_table, to_xywh
from ckd_core.data.sequences import (
    DEFAULT_FPS,
    Sequence,
    SequenceError,
    annotated_frames,
    image_bytes,
    list_images,
    open_sequence,
    paired_frames,
)
from ckd_core.errors import TrackingError
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class DatasetError(SequenceError):
    """A dataset that is not where it was said to be."""


@dataclass(frozen=True, slots=True)
class DatasetLayout:
    """Where a dataset keeps what.

    rgb, aux: folders of images inside a sequence ("" = the sequence folder itself; aux None = colour only).
    truth: annotation files of the colour image, the first found counts; aux_truth: of the auxiliary image.
    boxes: how four numbers are meant. one_based: the first pixel is (1, 1).
    every: annotation rows may stand for every n-th frame only.
    absent_file: one flag a frame; present_flag: the value that says the object is there.
    folders, lists: split -> candidates below the root.
    min_size: sides in pixels that a box must exceed to count as visible in training
        (docs/trackers.md "Training pairs").
    """

    name: str
    modality: Modality
    rgb: str
    aux: str | None
    truth: tuple[str, ...] = ("groundtruth.txt",)
    aux_truth: tuple[str, ...] = ()
    boxes: Layout = "xywh"
    one_based: bool = False
    every: int = 1
    absent_file: str | None = None
    present_flag: int = 1
    folders: tuple[tuple[str, tuple[str, ...]], ...] = ()
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()
    min_size: float = 0.0


_LAYOUTS = (
    DatasetLayout(
        name="lasher",
        modality=Modality.THERMAL,
        rgb="visible",
        aux="infrared",
        truth=("visible.txt", "init.txt"),
        aux_truth=("infrared.txt",),
        folders=(
            ("train", ("trainingset", "TrainingSet/trainingset", "TrainingSet", "train")),
            ("test", ("testingset", "TestingSet/testingset", "TestingSet", "test")),
        ),
        lists=(("train", ("trainingsetList.txt",)), ("test", ("testingsetList.txt", "lashertest.txt"))),
    ),
    DatasetLayout(
        name="rgbt234",
        modality=Modality.THERMAL,
        rgb="visible",
        aux="infrared",
        truth=("visible.txt", "init.txt"),
        aux_truth=("infrared.txt",),
    ),
    DatasetLayout(name="rgbt210", modality=Modality.THERMAL, rgb="visible", aux="infrared", truth=("init.txt",)),
    DatasetLayout(
        name="gtot",
        modality=Modality.THERMAL,
        rgb="v",
        aux="i",
        truth=("groundTruth_v.txt",),
        aux_truth=("groundTruth_i.txt",),
        boxes="corners",
    ),
    DatasetLayout(
        name="vtuav",
        modality=Modality.THERMAL,
        rgb="rgb",
        aux="ir",
        truth=("rgb.txt",),
        aux_truth=("ir.txt",),
        every=10,
        folders=(("train", ("train", "train_*")), ("test", ("test", "test_*"))),
    ),
    DatasetLayout(
        name="visevent",
        modality=Modality.EVENT,
        rgb="vis_imgs",
        aux="event_imgs",
        absent_file="absent_label.txt",
        folders=(("train", ("train_subset", "train")), ("test", ("test_subset", "test"))),
        lists=(("train", ("trainlist.txt",)), ("test", ("testlist.txt",))),
        min_size=5.0,
    ),
    DatasetLayout(
        name="depthtrack",
        modality=Modality.DEPTH,
        rgb="color",
        aux="depth",
        folders=(("train", ("train",)), ("test", ("test", "sequences"))),
        lists=(("train", ("list.txt",)), ("test", ("list.txt",))),
        min_size=10.0,
    ),
    DatasetLayout(
        name="otb", modality=Modality.THERMAL, rgb="img", aux=None, truth=("groundtruth_rect.txt",), one_based=True
    ),
    DatasetLayout(
        name="got10k",
        modality=Modality.THERMAL,
        rgb="",
        aux=None,
        absent_file="absence.label",
        present_flag=0,
        folders=(("train", ("train",)), ("test", ("test",)), ("val", ("val",))),
        lists=(("train", ("list.txt",)), ("test", ("list.txt",)), ("val", ("list.txt",))),
    ),
    DatasetLayout(name="folder", modality=Modality.THERMAL, rgb="visible", aux=None),
)
LAYOUTS = {layout.name: layout for layout in _LAYOUTS}


def get_layout(name: str) -> DatasetLayout:
    """Look a dataset up by name. Raises DatasetError that lists the known ones."""
    try:
        return LAYOUTS[name.lower()]
    except KeyError:
        raise DatasetError(f"no dataset {name!r}; known are {', '.join(LAYOUTS)}") from None


@dataclass(frozen=True, slots=True)
class Problem:
    """A sequence that cannot be used, and why."""

    sequence: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The sequences of one split: names and folders, nothing read yet.

    cut: surplus images or annotation rows at a sequence's end are ignored instead of refused.
    """

    layout: DatasetLayout
    root: Path
    split: str | None
    folders: tuple[tuple[str, Path], ...]
    cut: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all sequences in the benchmark's order."""
        return tuple(name for name, _ in self.folders)

    def __len__(self) -> int:
        return len(self.folders)

    def open(self, name: str) -> Sequence:
        """Open a sequence by name. Raises DatasetError or SequenceError."""
        folder = dict(self.folders).get(name)
        if folder is None:
            raise DatasetError(f"{self.layout.name} at {self.root} has no sequence {name!r}")
        # A link's folder has the name of what it leads to; lists, results and tables know the link's.
        return replace(read_sequence(folder, self.layout, self.cut), name=name)

    def image_size(self, name: str) -> tuple[int, int] | None:
        """(width, height) of a sequence's colour images, None without a colour camera. Errors as `open`."""
        image = self.open(name).rgb(0)
        return None if image is None else (image.shape[1], image.shape[0])

    def problems(self, check: Callable[[str, Path, Sequence], object] = lambda *_: None) -> list[Problem]:
        """Every sequence that is missing or broken; images are counted and looked at for size, not decoded.

        check: called with name, folder and sequence; what it raises is a problem too.
        """
        found = []
        for name, folder in self.folders:
            try:
                sequence = read_sequence(folder, self.layout, self.cut)
                _check_frames(sequence)
                check(name, folder, sequence)
            except TrackingError as error:
                found.append(Problem(name, str(error)))
        return found

    def select(self, names: list[str]) -> Dataset:
        """Only the named sequences, in the dataset's order. Raises DatasetError for an unknown name."""
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise DatasetError(f"{self.layout.name} at {self.root} has no sequence {', '.join(unknown)}")
        kept = tuple(pair for pair in self.folders if pair[0] in set(names))
        return Dataset(self.layout, self.root, self.split, kept, self.cut)


def _check_frames(sequence: Sequence) -> None:
    if len(sequence) < 2:
        raise SequenceError(f"{sequence.name} has {len(sequence)} frame; tracking needs at least two")
    if sequence.start == len(sequence) - 1:
        raise SequenceError(f"{sequence.name} shows its object in the last frame only; nothing is left to track")
    for path in sequence.rgb_paths + sequence.aux_paths:
        if image_bytes(path) == 0:
            raise SequenceError(f"{path} is empty (0 bytes)")


def open_dataset(name: str, root: Path | str, split: str | None = None, cut: bool = False) -> Dataset:
    """Find a dataset's sequences.

    name: a row of `LAYOUTS`. root: its folder. split: "train", "test", ...; None: the test split, or all that lies
    directly in the root. cut: see `Dataset`.
    Sequences of a list file that do not exist are kept, so that `Dataset.problems` names them.
    Raises DatasetError when there is no such folder, split or sequence.
    """
    layout, root = get_layout(name), Path(root)
    if not root.is_dir():
        raise DatasetError(f"no folder {root} for dataset {layout.name}")
    known = [item for item, _ in layout.folders]
    if split is not None and split not in known:
        raise DatasetError(f"{layout.name} has no split {split!r}; known are {', '.join(known) or 'none'}")
    wanted = split or ("test" if "test" in known else None)
    places = _split_folders(layout, root, wanted)
    if not places:
        if split is not None:
            raise DatasetError(f"{root} has no folder of {layout.name}'s split {split!r}: {_candidates(layout, split)}")
        places = [root]
    folders = _listed(layout, root, places, wanted) or [
        (path.name, path) for place in places for path in sorted(place.iterdir()) if _looks_like(path, layout)
    ]
    if not folders and _looks_like(root, layout):
        folders = [(root.resolve().name, root)]
    if not folders:
        raise DatasetError(
            f"{root} holds no sequence of {layout.name}: expected SEQUENCE/{layout.truth[0]} and "
            f"SEQUENCE/{layout.rgb or '*.jpg'}" + (f", SEQUENCE/{layout.aux}" if layout.aux else "")
        )
    return Dataset(layout, root, wanted, tuple(folders), cut)


def _candidates(layout: DatasetLayout, split: str) -> str:
    return ", ".join(dict(layout.folders).get(split, ()))


def _split_folders(layout: DatasetLayout, root: Path, split: str | None) -> list[Path]:
    for candidate in dict(layout.folders).get(split or "", ()):
        found = sorted(path for path in root.glob(candidate) if path.is_dir())
        if found:
            return found
    return []


def _listed(layout: DatasetLayout, root: Path, places: list[Path], split: str | None) -> list[tuple[str, Path]]:
    """Sequences of the first list file found beside them or in the root."""
    for place in (*places, root):
        for file in dict(layout.lists).get(split or "", ()):
            if (place / file).is_file():
                names = (place / file).read_text(encoding="utf-8-sig").split()
                return [(name, _place_of(name, places)) for name in names]
    return []


def _place_of(name: str, places: list[Path]) -> Path:
    return next((place / name for place in places if (place / name).is_dir()), places[0] / name)


def _looks_like(path: Path, layout: DatasetLayout) -> bool:
    if not path.is_dir():
        return False
    if layout.name == "folder":
        return (path / "groundtruth.txt").is_file()
    if layout.rgb and (path / layout.rgb).is_dir():
        return True
    return any((path / file).is_file() for file in layout.truth)


def _read_boxes(path: Path, layout: DatasetLayout) -> NDArray[np.float64]:
    """Boxes [N, 4] with nan where the object is absent (nan, or without area)."""
    try:
        table = read_table(path)
        boxes = to_xywh(table.values, layout.boxes if table.columns == 4 else None, str(path)).copy()
    except BoxFileError as error:
        raise SequenceError(str(error)) from error
    if np.isinf(boxes).any():
        raise SequenceError(f"{path} line {int(np.argmax(np.isinf(boxes).any(axis=1))) + 1} is infinite")
    if layout.one_based:
        boxes[:, :2] -= 1
    boxes[~(boxes[:, 2:] > 0).all(axis=1)] = np.nan
    return boxes


def read_sequence(folder: Path, layout: DatasetLayout, cut: bool = False) -> Sequence:
    """Open one sequence of a dataset. Raises SequenceError with the path and what is wrong."""
    if layout.name == "folder":
        return open_sequence(folder, cut=cut)
    if not folder.is_dir():
        raise SequenceError(f"no folder {folder}")
    rgb = list_images(folder / layout.rgb)
    aux = list_images(folder / layout.aux) if layout.aux else ()
    truth = next((folder / file for file in layout.truth if (folder / file).is_file()), None)
    if truth is None:
        raise SequenceError(f"{folder} has no {' or '.join(layout.truth)}")
    if not rgb or (layout.aux and not aux):
        raise SequenceError(f"{folder / (layout.rgb if not rgb else layout.aux or '')} has no images")
    boxes = _read_boxes(truth, layout)
    aux_file = next((folder / file for file in layout.aux_truth if (folder / file).is_file()), None)
    aux_boxes = _read_boxes(aux_file, layout) if aux_file else None
    if aux_boxes is not None and len(aux_boxes) != len(boxes):
        raise SequenceError(f"{aux_file} has {len(aux_boxes)} lines, {truth.name} has {len(boxes)}; must be equal")
    count = paired_frames(rgb, aux, cut)
    boxes, aux_boxes, labelled = _spread(boxes, aux_boxes, count, layout.every)
    count = annotated_frames(truth, len(boxes), count, cut)
    boxes, labelled = _hide_absent(boxes[:count], folder, layout), labelled[:count]
    aux_boxes = None if aux_boxes is None else aux_boxes[:count]
    stamps = np.arange(count) / DEFAULT_FPS
    return Sequence(
        folder.resolve().name, layout.modality, rgb[:count], aux[:count], boxes, labelled, stamps, aux_boxes
    )


def _spread(
    boxes: NDArray[np.float64], aux_boxes: NDArray[np.float64] | None, count: int, every: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Rows for every n-th frame become rows for all frames; those between are nan and unlabelled."""
    if every == 1 or len(boxes) == count or len(boxes) != -(-count // every):
        return boxes, aux_boxes, np.ones(len(boxes), dtype=np.bool_)
    labelled = np.zeros(count, dtype=np.bool_)
    labelled[::every] = True

    def spread(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        wide = np.full((count, 4), np.nan)
        wide[::every] = rows
        return wide

    return spread(boxes), None if aux_boxes is None else spread(aux_boxes), labelled


def _hide_absent(boxes: NDArray[np.float64], folder: Path, layout: DatasetLayout) -> NDArray[np.float64]:
    """Boxes with nan where the dataset's own flag file says that the object is not to be seen."""
    if layout.absent_file is None or not (folder / layout.absent_file).is_file():
        return boxes
    try:
        flags = read_table(folder / layout.absent_file).values.ravel()
    except BoxFileError as error:
        raise SequenceError(str(error)) from error
    if len(flags) < len(boxes):
        raise SequenceError(f"{folder / layout.absent_file} has {len(flags)} flags for {len(boxes)} boxes")
    return np.where((flags[: len(boxes)] == layout.present_flag)[:, None], boxes, np.nan)


def visible_frames(sequence: Sequence, min_size: float) -> NDArray[np.bool_]:
    """[N] bool: frames that training may use: annotated, present, both sides above the dataset's least size."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sequence.present & sequence.labelled & (sequence.boxes[:, 2:] > min_size).all(axis=1))
