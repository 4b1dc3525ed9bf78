"""Footage with smoke: the colour camera loses the target, the other camera and the boxes stay as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.footage import Footage
from ckd_core.data.open_sequences import VALIDATION, open_sequences
from ckd_core.data.sequences import SequenceError, open_folder, write_sequence
from ckd_core.data.smoke_trials import DENSE_SHARE, SMOKE, smoke_trials, smoky
from ckd_core.data.trials import write_trials
from ckd_core.frame import Modality, MultiModalFrame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.smoke_trials import Smoke

COUNT = 48
BOX = (70.0, 50.0, 20.0, 30.0)


def picture() -> NDArray[np.uint8]:
    """A checked target on an even ground."""
    image = np.full((120, 160), 90, dtype=np.uint8)
    x, y, w, h = map(int, BOX)
    image[y : y + h, x : x + w] = np.indices((h, w)).sum(axis=0) // 5 % 2 * 200
    return image


def recording(aux: Modality | None) -> Footage:
    """The picture in colour, and in the other camera at half the size."""
    other = None if aux is None else np.ascontiguousarray(picture()[::2, ::2])
    colour = np.repeat(picture()[..., None], 3, axis=2)
    boxes, labelled = np.tile(BOX, (COUNT, 1)), np.ones(COUNT, dtype=np.bool_)
    modality = aux or Modality.DEPTH
    return Footage("checked", modality, boxes, labelled, lambda i: MultiModalFrame(i / 20, colour, other, modality))


def detail(image: NDArray[np.uint8]) -> float:
    """Standard deviation of the grey levels in the box."""
    x, y, w, h = map(int, BOX)
    return float(image[y : y + h, x : x + w].mean(axis=2).std())


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("smoke", SMOKE, ids=lambda smoke: smoke.name.replace(" ", "-"))
def test_smoke_takes_the_target_from_colour_alone(modality: Modality, smoke: Smoke) -> None:
    before = recording(modality)
    after = smoky(before, smoke, 3)
    assert after.name == f"{smoke.name} checked"
    assert after.modality is modality
    assert (after.boxes == before.boxes).all()
    seen = [(before.frame(index), after.frame(index)) for index in range(COUNT)]
    assert all(old.aux is new.aux and old.stamp == new.stamp for old, new in seen)
    left = []
    for old, new in seen:
        assert old.rgb is not None
        assert new.rgb is not None
        left.append(detail(new.rgb) / detail(old.rgb))
    assert left[0] == pytest.approx(1, abs=0.05)  # grain alone
    if "clouds" in smoke.name:
        assert max(left[round(DENSE_SHARE * COUNT) :]) < 0.4
    else:  # a plume has edges, beside which all is seen
        old, new = seen[-1]
        assert old.rgb is not None
        assert new.rgb is not None
        away = np.abs(new.rgb.astype(int) - old.rgb).mean(axis=2)
        assert (away > 30).mean() > 0.1
        assert (away < 5).mean() > 0.1


def test_colour_alone_gets_a_thermal_camera_that_sees_through() -> None:
    after = smoky(recording(None), SMOKE[0], 3)
    first, last = after.frame(0), after.frame(COUNT - 1)
    assert after.modality is first.modality is Modality.THERMAL
    assert first.aux is not None
    assert last.aux is not None
    assert (first.aux == last.aux).all()
    assert detail(first.aux) > 10


def test_every_sequence_is_written_under_every_kind_the_same_each_time(tmp_path: Path) -> None:
    footage = recording(Modality.THERMAL)
    folder = write_sequence(tmp_path / "checked", map(footage.frame, range(12)), footage.boxes[:12])
    for out in ("a", "b"):
        write_trials(tmp_path / out, smoke_trials([folder]))
    once, again = open_folder(tmp_path / "a"), open_folder(tmp_path / "b")
    assert {sequence.name for sequence in once} == {f"{kind.name} checked".replace(" ", "_") for kind in SMOKE}
    for first, second in zip(once, again, strict=True):
        assert (first.rgb(9) == second.rgb(9)).all()
        assert (first.boxes == footage.boxes[:12]).all()
    assert not (once[0].rgb(9) == once[1].rgb(9)).all()


def test_a_frame_without_colour_is_named(tmp_path: Path) -> None:
    footage = recording(Modality.THERMAL)
    blind = replace(footage, frame=lambda index: replace(footage.frame(index), rgb=None))
    with pytest.raises(SequenceError, match="frame 4 of checked has no colour image"):
        smoky(blind, SMOKE[0], 3).frame(4)
    folder = write_sequence(tmp_path / "blind", map(blind.frame, range(3)), footage.boxes[:3])
    with pytest.raises(SequenceError, match="has no colour image; expected one to draw smoke over"):
        write_trials(tmp_path / "out", smoke_trials([folder]))
    assert not (tmp_path / "out").exists()


def test_the_verb_needs_sequences_to_draw_smoke_over(
    tmp_path: Path, call: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "--smoke needs --root" in call("trials", tmp_path / "out", "--smoke")
    footage = recording(Modality.THERMAL)
    name = open_sequences().names(VALIDATION)[0]
    write_sequence(tmp_path / "open" / name, map(footage.frame, range(3)), footage.boxes[:3])
    said = call("trials", tmp_path / "out", "--root", tmp_path / "open", "--smoke")
    assert f"bright_clouds_{name}: 3 frames, 0 without the target" in said
    assert f"4 sequences in {tmp_path / 'out'}" in said.replace("\n", "")
