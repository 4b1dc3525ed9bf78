"""Where the public datasets keep their images and annotations: one row of `LAYOUTS` each.

Layouts are those of the datasets' own downloads (docs/trackers.md "Dataset layouts").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.data.sequences import SequenceError
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from ckd_core.data.box_files import Layout


class DatasetError(SequenceError):
    """A dataset, split or sequence that does not exist."""


@dataclass(frozen=True, slots=True)
class DatasetLayout:
    """Where a dataset keeps what.

    Attributes:
        name: Of the dataset.
        modality: Kind of the auxiliary images.
        rgb: Folder of the colour images in a sequence; "" = the sequence folder itself.
        aux: Folder of the auxiliary images; None = colour only.
        truth: Annotation files of the colour image; the first one that exists counts.
        aux_truth: The same of the auxiliary image.
        boxes: Meaning of the four numbers of a row.
        one_based: Whether the first pixel is (1, 1).
        every: Distance of the annotated frames; sequences with one row per frame are read as well.
        absent_file: File with one flag per frame.
        present_flag: The value with which that file says that the object is visible.
        folders: Candidate folders below the root, by split.
        lists: Candidate list files, by split.
        min_size: Side in pixels that a box must exceed to count as visible in training (docs/trackers.md "Training
            pairs").
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
        folders=(
            ("train", ("train", "train_*")),
            ("test", ("test",)),
            ("test_ST", ("test_ST", "test_ST_*")),
            ("test_LT", ("test_LT", "test_LT_*")),
        ),
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
    """Look a dataset up by name.

    Raises:
        DatasetError: There is no such dataset.
    """
    try:
        return LAYOUTS[name.lower()]
    except KeyError:
        raise DatasetError(f"unknown dataset {name!r}; expected one of: {', '.join(LAYOUTS)}") from None
