"""Which open sequences may decide something: the file itself, its readers, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ckd_core.data.datasets import open_dataset
from ckd_core.data.open_sequences import (
    TEST,
    VALIDATION,
    OpenSequence,
    OpenSequences,
    SplitError,
    open_sequences,
    require_no_test,
)
from ckd_core.deploy.thresholds import calibrate
from ckd_core.training.choice import choose
from testkit.small_scenes import TINY, write_scene
from testkit.training import runs

if TYPE_CHECKING:
    from pathlib import Path


def test_every_sequence_has_one_split_a_reason_and_a_license() -> None:
    validation, test = (set(open_sequences().names(split)) for split in (VALIDATION, TEST))
    assert validation
    assert test
    assert not validation & test
    assert all(len(item.reason) > 10 and len(item.license) > 2 for item in open_sequences().sequences)


@pytest.mark.shared
def test_the_file_lists_every_open_sequence_with_its_own_license(shared_data: Path) -> None:
    folders = [path for place in ("sequences", "sequences_hard") for path in (shared_data / place).iterdir()]
    listed = {item.name: item for item in open_sequences().sequences}
    assert {path.name for path in folders} == set(listed)
    for path in folders:
        said = next(line for line in (path / "SOURCE.md").read_text().splitlines() if line.startswith("- Licence:"))
        first = listed[path.name].license.split()[0].split("-")[0].rstrip(",")
        known = {"images": "non-commercial", "BSL": "Boost"}.get(first, first)
        assert known.lower() in said.lower(), path.name
        if path.parent.name == "sequences_hard":
            assert listed[path.name].split == VALIDATION, "they are for validation only"


def test_contradictions_are_refused() -> None:
    one = OpenSequence("a", TEST, "a reason", "MIT")
    with pytest.raises(SplitError, match="listed more than once: a;"):
        OpenSequences((one, replace(one, split=VALIDATION)))
    with pytest.raises(SplitError, match="a is in the split 'held-out'; expected one of validation, test"):
        OpenSequences((replace(one, split="held-out"),))
    with pytest.raises(SplitError, match="a has no reason or no license"):
        OpenSequences((replace(one, license=""),))


def test_a_split_is_found_in_the_root_and_in_its_folders(tmp_path: Path) -> None:
    names = open_sequences().names(VALIDATION)
    write_scene(tmp_path / names[0])
    write_scene(tmp_path / "more" / names[1])
    write_scene(tmp_path / open_sequences().names(TEST)[0])
    dataset = open_dataset("folder", tmp_path, VALIDATION)
    assert dataset.names == names
    assert len(dataset.open(names[0])) == len(dataset.open(names[1])) == 12
    assert [problem.sequence for problem in dataset.problems()] == list(names[2:]), "what is missing is named"
    assert open_dataset("folder", tmp_path).names == tuple(sorted((names[0], open_sequences().names(TEST)[0])))
    with pytest.raises(SplitError, match="unknown split 'train' of the open sequences; expected one of validation"):
        open_dataset("folder", tmp_path, "train")


def test_choices_refuse_test_sequences(tmp_path: Path) -> None:
    judge = write_scene(tmp_path / "material" / open_sequences().names(TEST)[0])
    write_scene(tmp_path / "material" / "own")
    require_no_test(["own", *open_sequences().names(VALIDATION)], "it")
    recipe = runs.settings(tmp_path / "run", TINY)
    with pytest.raises(SplitError, match=rf"choice\.sequences must not look at {judge.name}: .* keeps it for tests"):
        choose(replace(recipe, choice=replace(recipe.choice, sequences=(judge.parent / "own", judge))))
    with pytest.raises(SplitError, match=rf"calibration must not look at {judge.name}"):
        calibrate("sdstrack_s128", sequences=[judge.parent], scenes=0, write=False)
