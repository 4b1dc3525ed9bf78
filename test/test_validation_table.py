from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ckd_core.data.footage import recording_footage
from ckd_core.data.sequences import write_sequence
from ckd_core.data.synthetic import clip
from ckd_core.data.trials import validation_folders
from ckd_core.frame import Modality
from tools import validation

FRAMES = 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two validation sequences, one of them with colour alone, and one that is kept for tests."""
    for number, (name, modality, alone) in enumerate(
        (
            ("rgbt_m3svd_0111_1716", Modality.THERMAL, False),
            ("rgb_otb_dragonbaby", Modality.THERMAL, True),
            ("rgbt_m3svd_0113_1714", Modality.THERMAL, False),
        )
    ):
        recording = clip(number, modality, FRAMES)
        folder = write_sequence(tmp_path / "data" / "sequences" / name, recording.frames, recording.boxes)
        if alone:
            for image in (folder / "infrared").iterdir():
                image.unlink()
            (folder / "infrared").rmdir()
    return tmp_path / "data"


def test_every_row_says_how_many_runs_it_is_made_of(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "out"), "--root", str(root), "--engine", "torch/fp32", "--parts", "real,alone"]
    assert validation.main(words) == 0
    first = capsys.readouterr().out
    assert "| real sequences (2) |" in first, "the sequence for tests does not count"
    assert "| each camera alone (2) |" in first, "one sequence with two cameras, each in turn"
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("tracks/*.csv")}
    assert len(written) == 4
    assert validation.main(words) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in written} == written, "finished runs are not repeated"


def test_further_starts_lie_within_the_sequence_and_run_both_ways(root: Path) -> None:
    folders = validation_folders(root)
    further = list(validation.starts(folders))
    assert [footage.name.split("_")[-1] for footage in further] == [
        "1716 backwards from 0",
        "dragonbaby backwards from 0",
    ]
    for folder, footage in zip(folders, further, strict=True):
        whole = recording_footage(folder)
        stamps = [footage.frame(index).stamp for index in range(FRAMES)]
        assert stamps == sorted(stamps)
        for index in range(FRAMES):
            np.testing.assert_array_equal(footage.boxes[index], whole.boxes[FRAMES - 1 - index])
            np.testing.assert_array_equal(footage.frame(index).rgb, whole.frame(FRAMES - 1 - index).rgb)


def test_a_further_start_is_where_the_target_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "FEWEST", 2)
    folder = validation_folders(root)[0]
    boxes = folder / "groundtruth.txt"
    lines = boxes.read_text().splitlines()
    lines[2] = lines[3] = "nan,nan,nan,nan"
    boxes.write_text("\n".join(lines) + "\n")
    names = [footage.name.removeprefix("rgbt_m3svd_0111_1716 ") for footage in validation.starts([folder])]
    assert names == ["from 4", "backwards from 0", "backwards from 2", "backwards from 6"]
    for footage in validation.starts([folder]):
        assert np.isfinite(footage.boxes[0]).all()
    boxes.write_text("\n".join(lines[:2] + ["nan,nan,nan,nan"] * (FRAMES - 2)) + "\n")
    names = [footage.name.removeprefix("rgbt_m3svd_0111_1716 ") for footage in validation.starts([folder])]
    assert names == ["backwards from 6"], "a target that is seen in the first frames alone"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--parts", "reel"], "unknown parts reel; expected some of real, starts"),
        (["--parts", "clips"], "needs --teacher FOLDER"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit):
        validation.main([str(tmp_path / "out"), "--root", str(root), *more])
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
