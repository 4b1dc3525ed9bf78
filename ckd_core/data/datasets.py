"""The reader of public datasets; `layouts.py` says where each one keeps what.

A dataset's root holds the sequences, or the folders of its splits. A list file, where there is one, selects and orders
the sequences.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.box_files import BoxFileError, read_table
from ckd_core.data.layouts import DatasetError, get_layout
from ckd_core.data.open_sequences import open_sequences
from ckd_core.data.sequences import (
    DEFAULT_FPS,
    Sequence,
    SequenceError,
    annotated_frames,
    image_bytes,
    list_images,
    open_sequence,
    paired_frames,
    read_ground_truth,
)
from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.text import is_plain_name, is_unicode, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import PurePath

    from numpy.typing import NDArray

    from ckd_core.data.layouts import DatasetLayout


LISTED_NAMES = 5  # of sequences, in an error message


@dataclass(frozen=True, slots=True)
class Problem:
    """A sequence that cannot be used, with the reason."""

    sequence: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The sequences of one split; nothing is read before `open`.

    Attributes:
        layout: Where the dataset keeps what.
        root: Its folder.
        split: None = the sequences lie directly in the root.
        folders: (name, folder) of every sequence in the benchmark's order; names are unique (see `distinct_names`).
        cut: Whether surplus images or rows at a sequence's end are ignored instead of refused.
    """

    layout: DatasetLayout
    root: Path
    split: str | None
    folders: tuple[tuple[str, Path], ...]
    cut: bool = False

    def __post_init__(self) -> None:
        for name, _ in self.folders:
            if not is_unicode(name):
                raise DatasetError(f"{self.root}: the name {shown(name)} is not UTF-8; rename the folder")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all sequences in the benchmark's order."""
        return tuple(name for name, _ in self.folders)

    def __len__(self) -> int:
        return len(self.folders)

    def _known(self) -> str:
        shown = ", ".join(self.names[:LISTED_NAMES])
        return f"expected one of its {len(self)}: {shown}" + (", ..." if len(self) > LISTED_NAMES else "")

    def open(self, name: str) -> Sequence:
        """Open a sequence by name.

        Raises:
            DatasetError: There is no such sequence.
            SequenceError: It is broken.
        """
        folder = dict(self.folders).get(name)
        if folder is None:
            raise DatasetError(f"{self.layout.name} at {self.root} has no sequence {name!r}; {self._known()}")
        # A link resolves to a folder of another name; lists, results and tables use the link's.
        return replace(read_sequence(folder, self.layout, self.cut), name=name)

    def image_size(self, name: str) -> tuple[int, int] | None:
        """Read (width, height) of a sequence's colour images; None without a colour camera. Raises what `open` does."""
        image = self.open(name).rgb(0)
        return None if image is None else (image.shape[1], image.shape[0])

    def problems(self, check: Callable[[str, Path, Sequence], object] = lambda *_: None) -> list[Problem]:
        """List every sequence that is missing or broken. Images are counted and must not be empty; none is decoded.

        Args:
            check: Is called with name, folder and sequence; a TrackingError from it is a problem as well.
        """
        problems = []
        for name, folder in self.folders:
            try:
                sequence = read_sequence(folder, self.layout, self.cut)
                _check_frames(sequence)
                check(name, folder, sequence)
            except TrackingError as error:
                problems.append(Problem(name, str(error)))
        return problems

    def select(self, names: list[str]) -> Dataset:
        """Keep only the named sequences, in the dataset's order.

        Raises:
            DatasetError: There is no sequence of that name.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise DatasetError(
                f"{self.layout.name} at {self.root} has no sequence {', '.join(unknown)}; {self._known()}"
            )
        kept = tuple(pair for pair in self.folders if pair[0] in set(names))
        return Dataset(self.layout, self.root, self.split, kept, self.cut)


def _check_frames(sequence: Sequence) -> None:
    if len(sequence) < 2:
        raise SequenceError(f"{sequence.name} has {len(sequence)} frame; tracking needs at least two")
    if sequence.start == len(sequence) - 1:
        raise SequenceError(f"{sequence.name} shows its object in the last frame only; tracking needs one more")
    for path in sequence.rgb_paths + sequence.aux_paths:
        if image_bytes(path) == 0:
            raise SequenceError(f"{path} is empty (0 bytes); expected an image")


def open_dataset(name: str, root: Path | str, split: str | None = None, cut: bool = False) -> Dataset:
    """Find a dataset's sequences; those of a list file that do not exist are kept, so that `problems` names them.

    Args:
        name: A row of `LAYOUTS`.
        root: The dataset's folder.
        split: "train", "test", ...; None = the only test split that is there, or the sequences directly in the root.
            The plain layout has those of `open_sequences.yaml`, in the root or in folders of it.
        cut: See `Dataset`.

    Raises:
        DatasetError: There is no such dataset, folder or split, no sequence in it, or a choice between test splits that
            are reported apart.
    """
    layout, root = get_layout(name), Path(root)
    if not root.is_dir():
        raise DatasetError(f"no folder {root} for dataset {layout.name}; expected its root")
    if layout.name == "folder" and split is not None:
        return Dataset(layout, root, split, _open_split(root, split), cut)
    splits = [item for item, _ in layout.folders]
    if split is not None and split not in splits:
        expected = f"expected one of: {', '.join(splits)}" if splits else "it has no splits"
        raise DatasetError(f"unknown split {split!r} of {layout.name}; {expected}")
    wanted = split or _test_split(layout, root)
    places = _split_folders(layout, root, wanted)
    if not places:
        if split is not None:
            raise DatasetError(f"{root} has no folder of {layout.name}'s split {split!r}: {_candidates(layout, split)}")
        places = [root]
    folders = _listed(layout, root, places, wanted)
    if not folders:
        paths = [
            path
            for place in places
            for path in sorted(place.iterdir())
            if _looks_like(path, layout) and not path.name.startswith(".")
        ]
        folders = list(zip(distinct_names(paths), paths, strict=True))
    if not folders and _looks_like(root, layout):
        folders = [(root.resolve().name, root)]
    if not folders:
        raise DatasetError(
            f"{root} holds no sequence of {layout.name}: expected SEQUENCE/{layout.truth[0]} and "
            f"SEQUENCE/{layout.rgb or '*.jpg'}" + (f", SEQUENCE/{layout.aux}" if layout.aux else "")
        )
    return Dataset(layout, root, wanted, tuple(folders), cut)


def _test_split(layout: DatasetLayout, root: Path) -> str | None:
    """The test split whose folders are below the root, else "test"; None where the dataset has no splits.

    Raises:
        DatasetError: Several are, whose numbers do not belong into one mean.
    """
    splits = [name for name, _ in layout.folders if name.startswith("test")]
    here = [name for name in splits if _split_folders(layout, root, name)]
    if len(here) > 1:
        raise DatasetError(f"{root} holds {' and '.join(here)} of {layout.name}; expected the choice of one (--split)")
    return next(iter(here), "test" if splits else None)


def distinct_names(paths: Collection[PurePath]) -> list[str]:
    """A name per sequence folder: its own, or PARENT-NAME where several have that (VTUAV's parts).

    Raises:
        DatasetError: Two still have the same name.
    """
    count = Counter(path.name for path in paths)
    names = [path.name if count[path.name] == 1 else f"{path.parent.name}-{path.name}" for path in paths]
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise DatasetError(f"{twice[0]} names several sequences; expected one folder of a name in each part")
    return names


def _open_split(root: Path, split: str) -> tuple[tuple[str, Path], ...]:
    places = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return tuple((name, _place_of(name, places)) for name in open_sequences().names(split))


def _candidates(layout: DatasetLayout, split: str) -> str:
    return ", ".join(dict(layout.folders).get(split, ()))


def _split_folders(layout: DatasetLayout, root: Path, split: str | None) -> list[Path]:
    for candidate in dict(layout.folders).get(split or "", ()):
        folders = sorted(path for path in root.glob(candidate) if path.is_dir())
        if folders:
            return folders
    return []


def _listed(layout: DatasetLayout, root: Path, places: list[Path], split: str | None) -> list[tuple[str, Path]]:
    """Sequences of the first list file beside them or in the root.

    Raises:
        DatasetError: The list is no text, or holds what cannot be a sequence's name.
    """
    for place in (*places, root):
        for file in dict(layout.lists).get(split or "", ()):
            if (place / file).is_file():
                return [(name, _place_of(name, places)) for name in _names_in(place / file)]
    return []


def _names_in(path: Path) -> list[str]:
    try:
        names = regular(path).read_text(encoding="utf-8-sig").split()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as a list of sequences: {error}") from error
    wrong = next((name for name in names if not is_plain_name(name)), None)
    if wrong is not None:
        raise DatasetError(f"{path} names '{shown(wrong)}'; expected names of folders, one per line")
    return names


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
    boxes = read_ground_truth(path, layout.boxes)
    if layout.one_based:
        boxes[:, :2] -= 1
    boxes[~(boxes[:, 2:] > 0).all(axis=1)] = np.nan
    return boxes


def read_sequence(folder: Path, layout: DatasetLayout, cut: bool = False) -> Sequence:
    """Open one sequence of a dataset.

    Raises:
        SequenceError: Something is missing, broken, or of unequal length.
    """
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
        raise SequenceError(
            f"{folder / (layout.rgb if not rgb else layout.aux or '')} has no images; expected one per frame"
        )
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
    """Turn rows for every n-th frame into rows for all frames; those between are nan and unlabelled."""
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
    """Set boxes to nan where the dataset's own flag file says that the object is not visible."""
    if layout.absent_file is None or not (folder / layout.absent_file).is_file():
        return boxes
    try:
        flags = read_table(folder / layout.absent_file).values.ravel()
    except BoxFileError as error:
        raise SequenceError(str(error)) from error
    if len(flags) < len(boxes):
        raise SequenceError(
            f"{folder / layout.absent_file} has {len(flags)} flags for {len(boxes)} boxes; expected one each"
        )
    return np.where((flags[: len(boxes)] == layout.present_flag)[:, None], boxes, np.nan)


def visible_frames(sequence: Sequence, min_size: float) -> NDArray[np.bool_]:
    """[N] bool: frames that training may use: annotated, present, both sides larger than `min_size` pixels."""
    with np.errstate(invalid="ignore"):
        return np.asarray(sequence.present & sequence.labelled & (sequence.boxes[:, 2:] > min_size).all(axis=1))
