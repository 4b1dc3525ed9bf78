from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.sequences import open_sequence
from ckd_core.evaluation.running.conditions import AUX_ALONE, PROTOCOL, RGB_ALONE, ConditionError, parse_condition
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


@pytest.mark.parametrize("text", PROTOCOL)
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
    ],
)
def test_unknown_conditions_and_impossible_amounts_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        parse_condition(text)
