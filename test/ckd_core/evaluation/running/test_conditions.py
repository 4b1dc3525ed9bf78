from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.sequences import open_sequence
from ckd_core.evaluation.running.conditions import (
    AUX_ALONE,
    EVERYDAY,
    PATTERNS,
    PROTOCOL,
    RGB_ALONE,
    ConditionError,
    named_conditions,
    parse_condition,
)
from testkit.small_scenes import write_scene

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.data.sequences import Sequence
    from ckd_core.frame import MultiModalFrame


@pytest.fixture
def thermal(tmp_path: Path) -> Sequence:
    return open_sequence(write_scene(tmp_path / "walk", frames=60))


def shown(sequence: Sequence, text: str, index: int, seed: int = 0) -> MultiModalFrame:
    condition = parse_condition(text, seed)
    return condition.frame(sequence, index, condition.presence(sequence))


@pytest.mark.parametrize("text", PATTERNS)
def test_a_pattern_starts_full_and_always_leaves_one_camera(thermal: Sequence, text: str) -> None:
    present = parse_condition(text).presence(thermal)
    assert present.shape == (60, 2)
    assert present[0].all()
    assert present.any(axis=1).all()
    again = parse_condition(text).presence(thermal)
    np.testing.assert_array_equal(present, again)


def test_patterns_remove_the_stated_share_of_frames(thermal: Sequence) -> None:
    def missing(text: str, seed: int = 0) -> list[float]:
        return (~parse_condition(text, seed).presence(thermal)[1:]).mean(axis=0).round(2).tolist()

    assert missing("full") == [0, 0]
    assert missing("rgb_only") == [0, 1]
    assert missing("aux_only") == [1, 0]
    assert missing("rgb_gap") == [0.34, 0]
    assert missing("aux_gap=0.5") == [0, 0.51]
    assert missing("switching") == [0.66, 0.34]
    assert sum(missing("bursts")) == pytest.approx(0.3, abs=0.02)
    assert (parse_condition("bursts", 1).presence(thermal) != parse_condition("bursts", 2).presence(thermal)).any()


def test_a_camera_that_is_gone_stays_gone(thermal: Sequence) -> None:
    for text, column in (("rgb_gone", 0), ("aux_gone=25", 1)):
        condition = parse_condition(text)
        present = condition.presence(thermal)
        assert present[: int(condition.amount)].all()
        assert not present[int(condition.amount) :, column].any()
        assert present[:, 1 - column].all()
    assert parse_condition("rgb_gone").amount == 10


def test_late_images_are_those_of_earlier_frames(thermal: Sequence) -> None:
    for index, older in ((7, 5), (1, 0), (0, 0)):
        frame = shown(thermal, "late=2", index)
        np.testing.assert_array_equal(frame.aux, thermal.aux(older))
        np.testing.assert_array_equal(frame.rgb, thermal.rgb(index))
        assert frame.aux_held == (index != older)


def test_a_lower_rate_keeps_the_first_box_and_every_so_manieth_frame_after_it(tmp_path: Path) -> None:
    sequence = open_sequence(write_scene(tmp_path / "walk", frames=12))
    sequence.boxes[0] = np.nan  # the object appears in frame 1
    condition = parse_condition("rate=3")
    thin = condition.thinned(sequence)
    assert [path.stem for path in thin.rgb_paths] == [sequence.rgb_paths[i].stem for i in (1, 4, 7, 10)]
    np.testing.assert_array_equal(thin.boxes, sequence.boxes[[1, 4, 7, 10]])
    np.testing.assert_array_equal(thin.stamps, sequence.stamps[[1, 4, 7, 10]])
    np.testing.assert_array_equal(thin.aux(2), sequence.aux(7))
    assert thin.start == 0
    assert parse_condition("full").thinned(sequence) is sequence


def test_a_bad_start_box_is_off_by_the_whole_share_and_repeats(thermal: Sequence) -> None:
    x, y, w, h = thermal.boxes[0]
    boxes = {parse_condition("start_box=0.2", seed).first_box(thermal) for seed in range(40)}
    assert len(boxes) > 8
    for box in boxes:
        moved = (box.x + box.w / 2 - x - w / 2) / w, (box.y + box.h / 2 - y - h / 2) / h
        np.testing.assert_allclose(np.abs(moved), 0.2)
        for ratio in (box.w / w, box.h / h):
            assert ratio == pytest.approx(1.2) or ratio == pytest.approx(1 / 1.2)
    assert parse_condition("start_box", 3).first_box(thermal) == parse_condition("start_box", 3).first_box(thermal)
    assert tuple(parse_condition("jpeg").first_box(thermal)) == (x, y, w, h)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["rgbt_m3svd_0111_1716", "rgbd_kitchen7s_magazine", "rgbe_evbench_seq2"])
def test_everyday_conditions_change_real_frames_as_they_say(shared_data: Path, name: str) -> None:
    """Frame 12 of a real sequence: what each condition may change does change, and nothing else."""
    sequence = open_sequence(shared_data / "sequences" / name)
    clean = sequence.frame(12)
    assert clean.rgb is not None
    assert clean.aux is not None
    for text in EVERYDAY:
        frame, again = shown(sequence, text, 12), shown(sequence, text, 12)
        for camera in ("rgb", "aux"):
            np.testing.assert_array_equal(getattr(frame, camera), getattr(again, camera))
    assert shown(sequence, "rgb_gone=10", 12).presence == (False, True)
    assert shown(sequence, "aux_gone=10", 12).presence == (True, False)
    late = shown(sequence, "late=2", 12)
    np.testing.assert_array_equal(late.aux, sequence.aux(10))
    assert (late.aux != clean.aux).any()
    moved = shown(sequence, "misaligned=10", 12)
    assert moved.aux is not None
    np.testing.assert_array_equal(moved.aux[10:, 10:], clean.aux[:-10, :-10])
    np.testing.assert_array_equal(moved.rgb, clean.rgb)
    coarse, fine = shown(sequence, "jpeg=10", 12), shown(sequence, "jpeg=95", 12)
    for camera in ("rgb", "aux"):
        true, bad, good = (getattr(frame, camera).astype(float) for frame in (clean, coarse, fine))
        assert true.shape == bad.shape
        if name.startswith("rgbd") and camera == "aux":
            np.testing.assert_array_equal(bad, true, "16-bit depth does not travel as JPEG")
            continue
        assert np.abs(good - true).mean() < np.abs(bad - true).mean() < 12
        assert np.corrcoef(bad.ravel(), true.ravel())[0, 1] > 0.75, "still the same picture, channels in order"


def test_alone_means_from_the_first_frame_on(thermal: Sequence) -> None:
    assert not RGB_ALONE.presence(thermal)[:, 1].any()
    assert not AUX_ALONE.presence(thermal)[:, 0].any()
    frame = AUX_ALONE.frame(thermal, 0, AUX_ALONE.presence(thermal))
    assert frame.presence == (False, True)


def test_a_colour_only_sequence_cannot_lose_its_camera(tmp_path: Path) -> None:
    sequence = open_sequence(write_scene(tmp_path / "mono", aux=None))
    assert not parse_condition("full").presence(sequence)[:, 1].any()
    with pytest.raises(ConditionError, match="mono has one camera; under aux_only"):
        parse_condition("aux_only").presence(sequence)


def test_degradations_change_only_their_target(thermal: Sequence) -> None:
    clean = thermal.frame(5)
    assert clean.rgb is not None
    assert clean.aux is not None
    black = shown(thermal, "blackout", 5)
    assert black.rgb is not None
    assert not black.rgb.any()
    np.testing.assert_array_equal(black.aux, clean.aux)
    noisy = shown(thermal, "noise=0.1@rgb", 5)
    assert noisy.rgb is not None
    assert 15 < np.std(noisy.rgb.astype(float) - clean.rgb) < 26
    np.testing.assert_array_equal(noisy.rgb, shown(thermal, "noise=0.1@rgb", 5).rgb)
    assert (noisy.rgb != shown(thermal, "noise=0.1@rgb", 5, seed=1).rgb).any()
    blurred = shown(thermal, "blur=3@both", 5)
    assert blurred.rgb is not None
    assert blurred.rgb.std() < clean.rgb.std() / 2
    bright = shown(thermal, "overexposed=4", 5)
    assert bright.rgb is not None
    np.testing.assert_array_equal(bright.rgb, np.minimum(clean.rgb.astype(int) * 4, 255))
    moved = shown(thermal, "misaligned=6", 5)
    assert moved.aux is not None
    np.testing.assert_array_equal(moved.aux[6:, 6:], clean.aux[:-6, :-6])
    np.testing.assert_array_equal(moved.rgb, clean.rgb)
    late = shown(thermal, "offset=66", 5)
    np.testing.assert_array_equal(late.aux, thermal.aux(3))
    assert late.aux_held
    np.testing.assert_array_equal(shown(thermal, "blackout@both", 0).rgb, thermal.rgb(0))


def test_smoke_rises_and_drifts(thermal: Sequence) -> None:
    def colour(text: str, index: int, seed: int = 0) -> np.ndarray:
        image = shown(thermal, text, index, seed).rgb
        assert image is not None
        return image.astype(float)

    likeness = [
        float(np.corrcoef(colour("smoke", index).ravel(), thermal.rgb(index).ravel())[0, 1]) for index in (0, 5, 20)
    ]
    assert likeness[0] == pytest.approx(1)
    assert 0.5 < likeness[1] < 0.99
    assert likeness[2] < 0.5 * likeness[1]
    np.testing.assert_array_equal(colour("smoke", 20), colour("smoke", 20))
    assert np.abs(colour("smoke", 20) - colour("smoke", 20, seed=1)).mean() > 5
    # Nothing is left of what stands there, so what changes is the smoke: a little from frame to frame.
    one, two, later = (colour("smoke=2", index) for index in (30, 31, 59))
    assert 0 < np.abs(one - two).mean() < np.abs(one - later).mean() / 3
    np.testing.assert_array_equal(shown(thermal, "smoke", 20).aux, thermal.aux(20))


def test_depth_keeps_its_type(tmp_path: Path) -> None:
    sequence = open_sequence(write_scene(tmp_path / "d", aux="depth"))
    clean = sequence.aux(3)
    assert clean is not None
    for text in ("noise=0.2@aux", "blur@aux", "overexposed=2@aux", "misaligned=3", "blackout@aux"):
        aux = shown(sequence, text, 3).aux
        assert aux is not None
        assert aux.dtype == np.uint16
        assert (aux != clean).any()
    lost = shown(sequence, "overexposed=2@aux", 3).aux
    assert lost is not None
    assert lost[clean > clean.max() / 2].max() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fog", "unknown condition 'fog'; expected one of full, rgb_only"),
        ("noise=lots", "'lots' is not a number"),
        ("noise=-1", "at least 0"),
        ("noise=0.1@depth", "not one of rgb, aux, both"),
        ("offset=10@rgb", "the colour images give the time; only @aux"),
        ("smoke@both", "a thermal camera sees through smoke"),
        ("bursts=1.5", "outside 0..1"),
        ("bursts@aux", "takes no @aux"),
        ("late=2@rgb", "the colour images give the time; only @aux"),
        ("rate=1.5", "every 1.5th frame; expected a whole number"),
        ("rate=0", "0 is outside 1..1000"),
        ("start_box=1", "1 is outside 0..0.9"),
        ("start_box@rgb", "takes no @rgb"),
        ("jpeg=0", "at least 1"),
        ("jpeg=101", "at most 100"),
    ],
)
def test_unknown_conditions_and_impossible_amounts_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        parse_condition(text)


def test_a_set_stands_for_its_conditions() -> None:
    assert named_conditions("everyday") == list(EVERYDAY)
    assert named_conditions("missing") == list(PROTOCOL)
    assert named_conditions("blur=3, everyday") == ["blur=3", *EVERYDAY]
    assert [str(parse_condition(text)) for text in EVERYDAY] == [
        "full", "rgb_gone=10", "aux_gone=10", "late=2@aux", "misaligned=10@aux", "rate=2", "start_box=0.15",
        "jpeg=10@both",
    ]  # fmt: skip
