"""Footage that tries states: where the target is must be true of what the pictures show."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.footage import Footage
from ckd_core.data.sequences import SequenceError, open_folder
from ckd_core.data.trials import (
    AWAY_FRAMES,
    COVERED_FRAMES,
    FRESH,
    TRIALS,
    TRIED,
    trials,
    validation_folders,
    write_trials,
)
from ckd_core.frame import Modality, MultiModalFrame

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COUNT, WIDTH, HEIGHT = 80, 160, 120
CHANGES = {trial.name: trial.change for trial in TRIALS}


CENTRAL = (70.0, 51.0, 12.0, 18.0)
WIDE = (50.0, 42.0, 44.0, 36.0)  # it leaves the picture when the camera turns


def recording(count: int = COUNT, start: tuple[float, float, float, float] = (20.0, 50.0, 12.0, 18.0)) -> Footage:
    """A white target that moves to the right over a dark ramp, in both cameras; the auxiliary one has half the size."""
    boxes = np.array([(start[0] + index / 4, *start[1:]) for index in range(count)])

    def picture(index: int, scale: float) -> NDArray[np.uint8]:
        height, width = int(HEIGHT * scale), int(WIDTH * scale)
        image = np.tile(np.linspace(10, 60, width).astype(np.uint8), (height, 1))
        x, y, w, h = np.round(boxes[index] * scale).astype(int)
        image[y : y + h, x : x + w] = 255
        return image

    def frame(index: int) -> MultiModalFrame:
        colour = np.repeat(picture(index, 1)[..., None], 3, axis=2)
        return MultiModalFrame(index / 20, colour, picture(index, 0.5), Modality.THERMAL)

    return Footage("ramp", Modality.THERMAL, boxes, np.ones(count, dtype=np.bool_), frame)


@pytest.mark.parametrize(("name", "hidden"), [("away", AWAY_FRAMES), ("covered", COVERED_FRAMES)])
@pytest.mark.parametrize("start", [(20.0, 50.0, 12.0, 18.0), CENTRAL])
def test_an_absent_target_is_in_no_picture(name: str, hidden: int, start: tuple[float, float, float, float]) -> None:
    changed = CHANGES[name](recording(start=start))
    assert changed is not None
    assert int(changed.absent.sum()) == hidden
    for index in range(len(changed)):
        shown = changed.frame(index)
        assert shown.rgb is not None
        assert shown.aux is not None
        bright = [bool((image > 200).any()) for image in (shown.rgb, shown.aux)]
        assert bright == [not changed.absent[index]] * 2


def test_what_the_camera_turns_away_from_does_not_come_in_from_the_other_side() -> None:
    changed = CHANGES["elsewhere"](recording(start=WIDE))
    assert changed is not None
    turned = range(int(0.35 * COUNT) + AWAY_FRAMES, COUNT)
    assert {bool(changed.absent[index]) for index in turned} == {True, False}, "in some frames a part of it is left"
    for index in turned:
        shown = changed.frame(index)
        for image, scale in ((shown.rgb, 1.0), (shown.aux, 0.5)):
            assert image is not None
            columns = np.flatnonzero((image > 200).reshape(image.shape[0], image.shape[1], -1).any(axis=(0, 2)))
            x, _, w, _ = changed.boxes[index] * scale
            if changed.absent[index]:
                assert len(columns) < scale * WIDE[2] / 2, "what is left is not worth a box"
            else:
                assert abs(columns[0] - x) + abs(columns[-1] + 1 - x - w) <= 2


def test_a_target_that_returns_elsewhere_is_where_its_box_says() -> None:
    before = recording()
    changed = CHANGES["elsewhere"](before)
    assert changed is not None
    last = int(np.flatnonzero(changed.absent)[-1])
    moved = changed.boxes[last + 1 :, 0] - before.boxes[last + 1 :, 0]
    assert (moved == moved[0]).all()
    assert moved[0] > 30  # to the right, where there is room
    for index in (last + 1, COUNT - 1):
        shown = changed.frame(index)
        for image, scale in ((shown.rgb, 1.0), (shown.aux, 0.5)):
            assert image is not None
            columns = np.flatnonzero((image > 200).reshape(image.shape[0], image.shape[1], -1).any(axis=(0, 2)))
            x, _, w, _ = changed.boxes[index] * scale
            assert abs(columns[0] - x) <= 1
            assert abs(columns[-1] + 1 - x - w) <= 1


def test_a_fast_recording_is_every_third_frame_and_short_ones_are_left_out() -> None:
    before, changed = recording(), CHANGES["fast"](recording())
    assert changed is not None
    assert len(changed) == len(range(0, COUNT, 3))
    assert changed.frame(5).stamp == before.frame(15).stamp
    assert (changed.boxes[5] == before.boxes[15]).all()
    assert [change(recording(20)) for change in CHANGES.values()] == [None] * 4


def test_trials_are_written_as_sequences_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SCENES_PER_MODALITY": 1,
        "ABSENCE_FRAMES": 12,
        "TRIED": replace(TRIED, recordings=1),
        "RECORDING_FRAMES": 32,
    }.items():
        monkeypatch.setattr(f"ckd_core.data.trials.{name}", value)
    lines: list[str] = []
    written = write_trials(tmp_path / "a", trials([]), lambda line: lines.append(str(line)))
    sequences = open_folder(tmp_path / "a")
    assert len(sequences) == len(written) == len(lines) == 3 + len(TRIALS)
    assert {sequence.name.split("_")[0] for sequence in sequences} == {"absence", *CHANGES}
    assert all(np.isfinite(sequence.boxes[0]).all() for sequence in sequences)
    write_trials(tmp_path / "b", trials([]))
    others = trials([], replace(FRESH, recordings=1))
    assert not {footage.name for footage in others} & {line.partition(":")[0].replace("_", " ") for line in lines}
    for sequence, again in zip(sequences, open_folder(tmp_path / "b"), strict=True):
        assert np.array_equal(sequence.boxes, again.boxes, equal_nan=True)
        assert (sequence.rgb(7) == again.rgb(7)).all()
    with pytest.raises(SequenceError, match="a is not empty; expected a new folder"):
        write_trials(tmp_path / "a", trials([]))


def test_trials_that_were_stopped_are_no_folder_and_begin_again(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_trials(tmp_path / "a", [recording(3)], stop)
    assert not (tmp_path / "a").exists()
    assert write_trials(tmp_path / "a", [recording(3)])[0].is_dir()


def test_only_validation_sequences_are_changed(tmp_path: Path) -> None:
    for place in ("rgbt_m3svd_0117_1620", "some/rgbt_m3svd_0111_1716", "rgb_otb_dragonbaby"):
        (tmp_path / place).mkdir(parents=True)
    assert [path.name for path in validation_folders(tmp_path)] == ["rgbt_m3svd_0111_1716", "rgb_otb_dragonbaby"]
    with pytest.raises(SequenceError, match="holds no validation sequence; expected at least one of rgbt_m3svd_0111"):
        validation_folders(tmp_path / "some" / "rgbt_m3svd_0111_1716")
