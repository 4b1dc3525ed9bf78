from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ckd_core.data.layouts import DatasetError
from ckd_core.data.name_lists import FOLDER, expand_names

if TYPE_CHECKING:
    from pathlib import Path


def test_lists_of_the_package_and_of_files_stand_for_their_names(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("b\nc\n")
    assert expand_names(["a", f"@{tmp_path / 'mine.txt'}", "d"]) == ("a", "b", "c", "d")
    names = expand_names(["@lasher_val"])
    assert len(names) == 96
    assert len(expand_names(["@visevent_test"])) == 320
    train = expand_names(["@lasher_train"])
    assert len(train) == 879
    assert not set(train) & set(names)
    assert len(expand_names(["@vtuav_st_train", "@vtuav_st_val", "@vtuav_lt_train", "@vtuav_lt_val"])) == 250
    assert {"boywalkinginsnow3", "dotat43", "hatboy`shead"} <= set(names)


@pytest.mark.parametrize("split", [("visevent", 294, 0, 320), ("depthtrack", 147, 5, 50), ("lasher", 879, 96, 0)])
def test_no_sequence_of_a_benchmark_is_in_two_of_its_lists(split: tuple[str, int, int, int]) -> None:
    name, *counts = split
    parts = [set((FOLDER / f"{name}_{part}.txt").read_text().split()) if count else set[str]()
             for part, count in zip(("train", "val", "test"), counts, strict=True)]  # fmt: skip
    assert [len(part) for part in parts] == counts
    assert len(set().union(*parts)) == sum(counts)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_no_list_names_a_sequence_twice(path: Path) -> None:
    names = path.read_text().splitlines()
    assert len(set(names)) == len(names)
    assert all(name == name.strip() and name for name in names)


def test_lists_that_do_not_exist_are_named_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no list of sequences @lasher_vall; expected .*@lasher_val.*, or @FILE"):
        expand_names(["@lasher_vall"])
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DatasetError, match="is empty; expected one sequence name per line"):
        expand_names([f"@{tmp_path / 'empty.txt'}"])
