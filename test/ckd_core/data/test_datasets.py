from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core.data.datasets import open_dataset, visible_frames
from ckd_core.data.layouts import DatasetError, get_layout
from ckd_core.data.sequences import SequenceError
from ckd_core.evaluation.scoring.annotations import read_truths
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from pathlib import Path


def images(folder: Path, count: int, suffix: str = "jpg", depth: bool = False, first: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if depth else np.uint8
    image = np.full((20, 30) if depth else (20, 30, 3), 77, dtype=kind)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index + first:08d}.{suffix}"), image)


def rows(count: int, sign: str = ",") -> str:
    return "".join(sign.join(map(str, (i, 2, 12, 11))) + "\n" for i in range(count))


def test_lasher_is_read_by_splits_and_lists(tmp_path: Path) -> None:
    for split in ("trainingset", "testingset"):
        for name in ("b", "a"):
            folder = tmp_path / split / f"{split[:2]}{name}"
            images(folder / "visible", 3)
            images(folder / "infrared", 3)
            (folder / "init.txt").write_text(rows(3))
    dataset = open_dataset("lasher", tmp_path)
    assert (dataset.split, dataset.names) == ("test", ("tea", "teb"))
    assert open_dataset("lasher", tmp_path, "train").names == ("tra", "trb")
    (tmp_path / "testingsetList.txt").write_text("teb\ntec\ntea\n")
    dataset = open_dataset("lasher", tmp_path, "test")
    assert dataset.names == ("teb", "tec", "tea")
    (problem,) = dataset.problems()
    assert problem.sequence == "tec"
    assert "no folder" in problem.reason
    sequence = dataset.open("teb")
    assert sequence.modality is Modality.THERMAL
    assert len(sequence) == 3
    for name in ("../evil", "/etc", ".hidden", "a\x1b[2J", "..", "a\\b"):
        (tmp_path / "testingsetList.txt").write_text(f"teb\n{name}\n")
        with pytest.raises(DatasetError, match=r"testingsetList\.txt names '.*'; expected names of folders") as refused:
            open_dataset("lasher", tmp_path, "test")
        assert str(refused.value).isprintable()
    (tmp_path / "testingsetList.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot be read as a list of sequences"):
        open_dataset("lasher", tmp_path, "test")
    with pytest.raises(DatasetError, match="unknown split 'val' of lasher; expected one of: train, test"):
        open_dataset("lasher", tmp_path, "val")
    with pytest.raises(DatasetError, match="no sequence nope"):
        dataset.select(["nope"])
    assert dataset.select(["tea"]).names == ("tea",)


def test_rgbt234_has_two_annotations(tmp_path: Path) -> None:
    images(tmp_path / "car" / "visible", 2)
    images(tmp_path / "car" / "infrared", 2)
    (tmp_path / "car" / "visible.txt").write_text(rows(2))
    (tmp_path / "car" / "infrared.txt").write_text("5,6,7,8\n5,6,7,8\n")
    sequence = open_dataset("rgbt234", tmp_path).open("car")
    assert sequence.aux_boxes is not None
    np.testing.assert_array_equal(sequence.aux_boxes[1], [5, 6, 7, 8])
    (tmp_path / "car" / "infrared.txt").write_text("5,6,7,8\n")
    (problem,) = open_dataset("rgbt234", tmp_path).problems()
    assert "has 1 lines, visible.txt has 2" in problem.reason


def test_rgbt210_polygons_become_rectangles(tmp_path: Path) -> None:
    images(tmp_path / "car" / "visible", 2)
    images(tmp_path / "car" / "infrared", 2)
    (tmp_path / "car" / "init.txt").write_text("1,2,9,2,9,8,1,8\n1,2,9,2,9,8,1,8\n")
    np.testing.assert_array_equal(open_dataset("rgbt210", tmp_path).open("car").boxes[0], [1, 2, 8, 6])


def test_gtot_is_read_with_its_corners(tmp_path: Path) -> None:
    images(tmp_path / "Car" / "v", 2, "png")
    images(tmp_path / "Car" / "i", 2, "png")
    for file in ("groundTruth_v.txt", "groundTruth_i.txt"):
        (tmp_path / "Car" / file).write_text("10 20 4 32\n11\t21\t5\t33\n".replace("\t", " "))
    np.testing.assert_array_equal(open_dataset("gtot", tmp_path).open("Car").boxes[0], [4, 20, 6, 12])


def test_vtuav_annotates_every_tenth_frame(tmp_path: Path) -> None:
    folder = tmp_path / "test_ST_001" / "bus_001"
    images(folder / "rgb", 21)
    images(folder / "ir", 21)
    for file in ("rgb.txt", "ir.txt"):
        (folder / file).write_text("1 2 8 9\n0 0 0 0\n3 2 8 9\n")
    dataset = open_dataset("vtuav", tmp_path)
    assert not dataset.problems()
    sequence = dataset.open("bus_001")
    assert np.flatnonzero(sequence.labelled).tolist() == [0, 10, 20]
    assert np.flatnonzero(sequence.absent).tolist() == [10]
    assert np.flatnonzero(visible_frames(sequence, get_layout("vtuav").min_size)).tolist() == [0, 20]


def vtuav(root: Path, part: str, name: str, row: str) -> None:
    images(root / part / name / "rgb", 11)
    images(root / part / name / "ir", 11)
    for file in ("rgb.txt", "ir.txt"):
        (root / part / name / file).write_text(row * 2)


def test_vtuav_reports_short_and_long_term_apart(tmp_path: Path) -> None:
    vtuav(tmp_path, "test_ST_001", "animal_001", "1 2 8 9\n")
    vtuav(tmp_path, "test_ST_002", "bus_001", "1 2 8 9\n")
    assert open_dataset("vtuav", tmp_path).split == "test_ST"
    vtuav(tmp_path, "test_LT_001", "animal_001", "5 6 7 8\n")
    with pytest.raises(DatasetError, match=r"test_ST and test_LT of vtuav; expected the choice of one"):
        open_dataset("vtuav", tmp_path)
    assert open_dataset("vtuav", tmp_path, "test_ST").names == ("animal_001", "bus_001")
    dataset = open_dataset("vtuav", tmp_path, "test_LT")
    assert dataset.names == ("animal_001",)
    assert dataset.open("animal_001").boxes[0].tolist() == [5, 6, 7, 8]


def test_sequences_of_one_name_in_two_parts_are_two_sequences(tmp_path: Path) -> None:
    vtuav(tmp_path, "train_ST_004", "car_01", "1 2 8 9\n")
    vtuav(tmp_path, "train_ST_006", "car_01", "5 6 7 8\n")
    vtuav(tmp_path, "train_ST_006", "dog", "5 6 7 8\n")
    dataset = open_dataset("vtuav", tmp_path, "train")
    assert dataset.names == ("train_ST_004-car_01", "train_ST_006-car_01", "dog")
    assert not dataset.problems()
    boxes = [dataset.open(name).boxes[0].tolist() for name in dataset.names]
    assert boxes == [[1, 2, 8, 9], [5, 6, 7, 8], [5, 6, 7, 8]]
    assert dataset.open("train_ST_006-car_01").name == "train_ST_006-car_01"
    truths = read_truths(tmp_path, get_rule("vtuav"))
    assert {truth.name: truth.boxes[0].tolist() for truth in truths} == dict(zip(dataset.names, boxes, strict=True))


def test_visevent_is_read_with_its_absences(tmp_path: Path) -> None:
    folder = tmp_path / "test_subset" / "dog"
    images(folder / "vis_imgs", 4, "bmp", first=0)
    images(folder / "event_imgs", 4, "bmp", first=0)
    (folder / "groundtruth.txt").write_text("0,0,0,0\n1,2,30,40\n1,2,4,40\n1,2,30,40\n")
    (folder / "absent_label.txt").write_text("0\n1\n1\n0\n")
    sequence = open_dataset("visevent", tmp_path).open("dog")
    assert sequence.modality is Modality.EVENT
    assert sequence.start == 1
    assert sequence.absent.tolist() == [True, False, False, True]
    assert visible_frames(sequence, get_layout("visevent").min_size).tolist() == [False, True, False, False]
    assert sequence.frame(1).aux is not None
    (folder / "absent_label.txt").write_text("0\n1\n")
    with pytest.raises(SequenceError, match="2 flags for 4 boxes"):
        open_dataset("visevent", tmp_path).open("dog")


def test_depthtrack_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "ball"
    images(folder / "color", 3)
    images(folder / "depth", 3, "png", depth=True)
    (folder / "groundtruth.txt").write_text("1,2,30,40\nnan,nan,nan,nan\n1,2,9,40\n")
    sequence = open_dataset("depthtrack", tmp_path).open("ball")
    assert sequence.aux(0).dtype == np.uint16  # type: ignore[union-attr]
    assert sequence.absent.tolist() == [False, True, False]
    assert visible_frames(sequence, get_layout("depthtrack").min_size).tolist() == [True, False, False]


def test_otb_and_got10k_are_read(tmp_path: Path) -> None:
    images(tmp_path / "otb" / "Crossing" / "img", 2)
    (tmp_path / "otb" / "Crossing" / "groundtruth_rect.txt").write_text("5\t6\t7\t8\n5\t6\t7\t8\n")
    sequence = open_dataset("otb", tmp_path / "otb").open("Crossing")
    np.testing.assert_array_equal(sequence.boxes[0], [4, 5, 7, 8])
    assert sequence.frame(0).presence == (True, False)
    images(tmp_path / "got" / "val" / "GOT_1", 2)
    (tmp_path / "got" / "val" / "GOT_1" / "groundtruth.txt").write_text(rows(2))
    (tmp_path / "got" / "val" / "GOT_1" / "absence.label").write_text("0\n1\n")
    sequence = open_dataset("got10k", tmp_path / "got", "val").open("GOT_1")
    assert sequence.absent.tolist() == [False, True]


def test_broken_sequences_are_all_named(tmp_path: Path) -> None:
    for name in ("fine", "short", "uneven", "words", "one", "empty"):
        count = 1 if name == "one" else 3
        images(tmp_path / name / "visible", count)
        images(tmp_path / name / "infrared", 2 if name == "uneven" else count)
        (tmp_path / name / "init.txt").write_text(rows(2 if name == "short" else count))
    (tmp_path / "words" / "init.txt").write_text("a,b,c,d\n" * 3)
    (tmp_path / "empty" / "visible" / "00000002.jpg").write_bytes(b"")
    problems = {p.sequence: p.reason for p in open_dataset("rgbt210", tmp_path).problems()}
    assert set(problems) == {"short", "uneven", "words", "one", "empty"}
    assert "2 lines for 3 images" in problems["short"]
    assert "3 images in visible/ and 2 in infrared/" in problems["uneven"]
    assert "line 1 is not numbers" in problems["words"]
    assert "at least two" in problems["one"]
    assert "is empty (0 bytes)" in problems["empty"]
    lenient = {p.sequence for p in open_dataset("rgbt210", tmp_path, cut=True).problems()}
    assert lenient == {"words", "one", "empty"}
    assert len(open_dataset("rgbt210", tmp_path, cut=True).open("short")) == 2


def test_links_keep_their_own_names(tmp_path: Path) -> None:
    images(tmp_path / "stored" / "000123" / "visible", 2)
    images(tmp_path / "stored" / "000123" / "infrared", 2)
    (tmp_path / "stored" / "000123" / "init.txt").write_text(rows(2))
    (tmp_path / "rgbt210").mkdir()
    (tmp_path / "rgbt210" / "walk").symlink_to(tmp_path / "stored" / "000123")
    dataset = open_dataset("rgbt210", tmp_path / "rgbt210")
    assert dataset.names == ("walk",)
    assert dataset.open("walk").name == "walk"


def test_a_broken_link_to_an_image_is_a_problem(tmp_path: Path) -> None:
    images(tmp_path / "walk" / "visible", 2)
    images(tmp_path / "walk" / "infrared", 2)
    (tmp_path / "walk" / "init.txt").write_text(rows(2))
    image = tmp_path / "walk" / "infrared" / "00000002.jpg"
    image.unlink()
    image.symlink_to(tmp_path / "gone.jpg")
    (problem,) = open_dataset("rgbt210", tmp_path).problems()
    assert f"cannot read image {image}: No such file" in problem.reason


def test_a_missing_frame_is_not_cut_as_a_surplus(tmp_path: Path) -> None:
    """The images after it would be paired with those of another frame."""
    folder = tmp_path / "walk"
    images(folder / "visible", 25)
    images(folder / "infrared", 25)
    (folder / "init.txt").write_text(rows(25))
    sorted((folder / "visible").iterdir())[3].unlink()
    with pytest.raises(SequenceError, match=r"number 4 is .* beside .*; expected one frame's images"):
        open_dataset("rgbt210", tmp_path, cut=True).open("walk")
    sorted((folder / "infrared").iterdir())[3].unlink()
    with pytest.raises(SequenceError, match="25 lines for 24 images"):
        open_dataset("rgbt210", tmp_path).open("walk")


def test_annotations_that_begin_at_another_frame_are_not_cut(tmp_path: Path) -> None:
    images(tmp_path / "David" / "img", 30)
    (tmp_path / "David" / "groundtruth_rect.txt").write_text(rows(20))
    with pytest.raises(SequenceError, match="20 lines for 30 images; at most 10% are cut"):
        open_dataset("otb", tmp_path, cut=True).open("David")


def test_missing_datasets_splits_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        open_dataset("gtot", tmp_path / "none")
    with pytest.raises(DatasetError, match="holds no sequence of gtot: expected SEQUENCE/groundTruth_v"):
        open_dataset("gtot", tmp_path)
    with pytest.raises(DatasetError, match="unknown dataset 'lahser'; expected one of: lasher"):
        open_dataset("lahser", tmp_path)


@pytest.mark.shared
def test_plain_folders_are_a_dataset(shared_data: Path) -> None:
    dataset = open_dataset("folder", shared_data / "sequences")
    assert len(dataset) == 11
    assert not dataset.problems()
