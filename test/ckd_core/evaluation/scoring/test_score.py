from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.evaluation.scoring.rules import RULES, RuleError, get_rule
from ckd_core.evaluation.scoring.score import GroundTruth, ScoreError, Track, score_benchmark, score_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

rgbt_metrics = pytest.importorskip("rgbt.metrics", reason="the second oracle, package rgbt, is not installed")


@contextmanager
def half_open_boxes() -> Iterator[None]:
    """GTOT's convention in the oracle."""
    import rgbt.utils

    rgbt.utils.RGBT_start()
    try:
        yield
    finally:
        rgbt.utils.RGBT_end()


def random_case(seed: int, integers: bool = True, absences: bool = False) -> tuple[list[GroundTruth], dict[str, Track]]:
    rng = np.random.default_rng(seed)
    truths, tracks = [], {}
    for index in range(5):
        count = int(rng.integers(20, 60))
        walk = np.cumsum(rng.normal(0, 4, (count, 2)), axis=0) + 150
        boxes = np.concatenate([walk, rng.uniform(10, 70, (count, 2))], axis=1)
        if integers:
            boxes = np.round(boxes)
        aux = boxes + np.round(rng.normal(0, 2, boxes.shape))
        aux[:, 2:] = np.maximum(aux[:, 2:], 4)
        result = boxes + rng.normal(0, 9, boxes.shape)
        result[:, 2:] = np.maximum(result[:, 2:], 1)
        if absences:
            boxes[rng.random(count) < 0.1] = 0
            boxes[rng.random(count) < 0.05, 0] = 0
            result[rng.random(count) < 0.1, 2] = -3
        name = f"s{index}"
        truths.append(GroundTruth(name, boxes, aux))
        tracks[name] = Track(name, result)
    return truths, tracks


def as_oracle(
    truths: list[GroundTruth], tracks: dict[str, Track], both: bool
) -> tuple[dict[str, object], dict[str, object]]:
    """Data as the oracle keeps them after loading: float32, results rounded."""

    def gt(truth: GroundTruth) -> object:
        main = list(truth.boxes.astype(np.float32))
        assert truth.aux_boxes is not None
        return {"visible": main, "infrared": list(truth.aux_boxes.astype(np.float32))} if both else main

    results = {name: list(track.boxes.astype(np.float32).round(0)) for name, track in tracks.items()}
    return {truth.name: gt(truth) for truth in truths}, results


@pytest.mark.parametrize("seed", range(6))
def test_lasher_agrees_with_the_oracle(seed: int) -> None:
    truths, tracks = random_case(seed, absences=True)
    score = score_benchmark(get_rule("lasher"), truths, tracks)
    names = [truth.name for truth in truths]
    for name, oracle, curve in (
        ("PR", rgbt_metrics.PR_LasHeR, score.precision_curve),
        ("NPR", rgbt_metrics.NPR, score.normalized_curve),
        ("SR", rgbt_metrics.SR_LasHeR, score.success_curve),
    ):
        value, curves = oracle()(*as_oracle(truths, tracks, both=False), names)
        assert score.metrics[name] == pytest.approx(value, abs=1e-9)
        np.testing.assert_allclose(curve, curves.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_rgbt234_and_rgbt210_agree_with_the_oracle(seed: int) -> None:
    truths, tracks = random_case(seed)
    names = [truth.name for truth in truths]
    score = score_benchmark(get_rule("rgbt234"), truths, tracks)
    for name, oracle in (("MPR", rgbt_metrics.MPR), ("MSR", rgbt_metrics.MSR)):
        value, _ = oracle()(*as_oracle(truths, tracks, both=True), names)
        assert score.metrics[name] == pytest.approx(value, abs=1e-6)
    score = score_benchmark(get_rule("rgbt210"), truths, tracks)
    for name, oracle in (("PR", rgbt_metrics.PR), ("SR", rgbt_metrics.SR)):
        value, _ = oracle()(*as_oracle(truths, tracks, both=False), names)
        assert score.metrics[name] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_gtot_agrees_with_the_oracle(seed: int) -> None:
    truths, tracks = random_case(seed)
    names = [truth.name for truth in truths]
    score = score_benchmark(get_rule("gtot"), truths, tracks)
    with half_open_boxes():
        for name, oracle in (("MPR", rgbt_metrics.MPR_GTOT), ("MSR", rgbt_metrics.MSR_GTOT)):
            value, _ = oracle()(*as_oracle(truths, tracks, both=True), names)
            assert score.metrics[name] == pytest.approx(value, abs=1e-6)


def still(count: int = 4) -> np.ndarray:
    return np.tile([10.0, 10, 20, 20], (count, 1))


def test_lasher_counts_an_absent_frame_as_precision_hit_and_success_miss() -> None:
    truth = still()
    truth[2] = [0, 0, 0, 0]
    score, note = score_sequence(get_rule("lasher"), GroundTruth("a", truth), Track("a", still()))
    assert note is None
    assert score.metrics["PR"] == 1.0
    assert score.metrics["SR"] == pytest.approx(0.75 * 20 / 21)


def test_other_rules_exclude_absent_frames() -> None:
    truth = still()
    truth[2] = np.nan
    away = still()
    away[2] = [500, 500, 9, 9]
    for name in ("folder", "got10k"):
        score, _ = score_sequence(get_rule(name), GroundTruth("a", truth), Track("a", away))
        assert score.frames == 3
        assert score.metrics["PR"] == 1.0
        assert np.isnan(score.errors[2])


def test_visevent_results_may_start_late() -> None:
    truth = still(6)
    truth[:2] = np.nan
    score, note = score_sequence(get_rule("visevent"), GroundTruth("a", truth), Track("a", still(4)))
    assert score.frames == 4
    assert note is not None
    assert "4 result rows for 6 annotated frames; it starts at the first frame with the object" in note
    with pytest.raises(ScoreError, match="allows 6 rows or, from the first present frame, 4"):
        score_sequence(get_rule("visevent"), GroundTruth("a", truth), Track("a", still(5)))


def test_surplus_rows_are_cut_where_the_benchmark_says_so() -> None:
    score, note = score_sequence(get_rule("lasher"), GroundTruth("a", still()), Track("a", still(9)))
    assert score.frames == 4
    assert note is not None
    assert "the surplus is ignored" in note
    with pytest.raises(ScoreError, match="9 result rows for 4 annotated frames; RGBT234 needs one row"):
        score_sequence(get_rule("rgbt234"), GroundTruth("a", still(), still()), Track("a", still(9)))


@pytest.mark.parametrize("name", [name for name in RULES if name != "visevent"])
def test_results_that_are_too_short_are_refused(name: str) -> None:
    track = Track("a", still(3), np.ones(3))
    with pytest.raises(ScoreError, match="3 result rows for 4 annotated frames"):
        score_sequence(get_rule(name), GroundTruth("a", still(), still()), track)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if not rule.long_term and name != "visevent"])
def test_nan_result_boxes_are_refused(name: str) -> None:
    boxes = still()
    boxes[2, 1] = np.nan
    with pytest.raises(ScoreError, match="1 result boxes are not finite, first in row 3"):
        score_sequence(get_rule(name), GroundTruth("a", still(), still()), Track("a", boxes))


def test_one_frame_and_no_annotation_are_refused() -> None:
    with pytest.raises(ScoreError, match="has 1 frame"):
        score_sequence(get_rule("lasher"), GroundTruth("a", still(1)), Track("a", still(1)))
    with pytest.raises(ScoreError, match="no annotated frame with the object"):
        score_sequence(get_rule("folder"), GroundTruth("a", np.full((3, 4), np.nan)), Track("a", still(3)))
    with pytest.raises(ScoreError, match="row 2 is nan; GTOT has no absent frames"):
        score_sequence(get_rule("gtot"), GroundTruth("a", np.array([[1.0] * 4, [np.nan] * 4])), Track("a", still(2)))
    with pytest.raises(ScoreError, match="compares with both"):
        score_sequence(get_rule("rgbt234"), GroundTruth("a", still()), Track("a", still()))


def test_missing_sequences_are_refused_skipped_or_zero() -> None:
    truths = [GroundTruth("a", still(), attributes=("FM",)), GroundTruth("b", still())]
    tracks = {"a": Track("a", still())}
    rule = get_rule("lasher")
    with pytest.raises(ScoreError, match="no results for 1 of 2 sequences of LasHeR: b;"):
        score_benchmark(rule, truths, tracks)
    part = score_benchmark(rule, truths, tracks, missing="skip")
    assert part.metrics["PR"] == 1.0
    assert part.missing == ("b",)
    assert part.per_attribute == {"FM": part.metrics}
    assert score_benchmark(rule, truths, tracks, missing="zero").metrics["PR"] == 0.5
    with pytest.raises(ScoreError, match="2 of 2"):
        score_benchmark(rule, truths, {}, missing="skip")


def test_gtot_weights_frames_and_lasher_sequences() -> None:
    far = still(10)
    far[1:, 0] = 300
    truths = [GroundTruth("a", still(10), still(10)), GroundTruth("b", still(30), still(30))]
    tracks = {"a": Track("a", far), "b": Track("b", still(30))}
    assert score_benchmark(get_rule("gtot"), truths, tracks).metrics["MPR"] == pytest.approx(31 / 40)
    assert score_benchmark(get_rule("lasher"), truths, tracks).metrics["PR"] == pytest.approx((0.1 + 1) / 2)


def test_depthtrack_reports_precision_recall_and_f() -> None:
    truth = still(5)
    truth[3] = np.nan
    boxes = still(5)
    boxes[3] = np.nan
    confidence = np.array([1.0, 0.9, 0.8, np.nan, 0.7])
    score = score_benchmark(get_rule("depthtrack"), [GroundTruth("a", truth)], {"a": Track("a", boxes, confidence)})
    assert (score.metrics["Pr"], score.metrics["Re"]) == (1.0, 0.75)  # the first frame is visible, but its box is given
    assert score.metrics["F"] == pytest.approx(2 * 0.75 / 1.75)
    with pytest.raises(ScoreError, match="no confidences"):
        score_benchmark(get_rule("depthtrack"), [GroundTruth("a", truth)], {"a": Track("a", still(5))})


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(RuleError, match="unknown benchmark 'lahser'; expected one of lasher"):
        get_rule("lahser")
