from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.evaluation.scoring import metrics
from ckd_core.evaluation.scoring.metrics import MetricError, long_term_score, long_term_track, summarize_track

BOXES = st.lists(st.tuples(*[st.floats(0, 400) for _ in range(2)], *[st.floats(1, 200) for _ in range(2)]), min_size=1)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.concatenate([rng.uniform(0, 300, (count, 2)), rng.uniform(5, 120, (count, 2))], axis=1)


@settings(max_examples=50, deadline=None)
@given(BOXES)
def test_a_perfect_track_has_perfect_numbers(boxes: list[tuple[float, float, float, float]]) -> None:
    array = np.array(boxes)
    np.testing.assert_allclose(metrics.overlap(array, array), 1.0, atol=1e-9)
    assert metrics.precision_at(metrics.center_error(array, array)) == 1.0
    np.testing.assert_allclose(metrics.normalized_center_error(array, array), 0.0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(BOXES, st.floats(-50, 50), st.floats(-50, 50))
def test_shifting_both_boxes_changes_nothing(boxes: list[tuple[float, ...]], dx: float, dy: float) -> None:
    truth = np.array(boxes)
    result = truth + np.array([3.0, -2.0, 1.0, 4.0])
    shift = np.array([dx, dy, 0.0, 0.0])
    moved = metrics.overlap(result + shift, truth + shift)
    np.testing.assert_allclose(moved, metrics.overlap(result, truth), atol=1e-9)
    np.testing.assert_allclose(
        metrics.center_error(result + shift, truth + shift), metrics.center_error(result, truth), atol=1e-9
    )


def test_errors_and_overlaps_are_those_computed_by_hand() -> None:
    truth = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 20]])
    result = np.array([[5.0, 0, 10, 10], [20, 0, 10, 10], [3, 0, 10, 20]])
    np.testing.assert_allclose(metrics.overlap(result, truth), [1 / 3, 0, 7 / 13])
    np.testing.assert_allclose(metrics.center_error(result, truth), [5, 20, 3])
    np.testing.assert_allclose(metrics.normalized_center_error(result, truth), [0.5, 2.0, 0.3])
    assert metrics.precision_at(np.array([20.0, 20.1, 3.0, np.nan])) == 0.5
    assert metrics.success_auc(np.array([1.0])) == pytest.approx(20 / 21)
    assert metrics.success_auc(np.array([np.nan, 0.0])) == 0.0


def test_counts_are_inclusive_or_strict_and_never_count_nan() -> None:
    values = np.array([0.0, 5.0, 5.0, np.nan])
    assert metrics.count_at_most(values, np.array([5.0])).tolist() == [3]
    assert metrics.count_at_most(values, np.array([5.0]), strict=True).tolist() == [1]
    assert metrics.count_above(values, np.array([0.0, 5.0])).tolist() == [2, 0]


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(MetricError, match="3 result boxes for 2"):
        metrics.overlap(np.zeros((3, 4)), np.zeros((2, 4)))
    with pytest.raises(MetricError, match=r"shape \(3, 5\)"):
        metrics.overlap(np.zeros((3, 5)), np.zeros((3, 4)))
    with pytest.raises(MetricError, match="one per box"):
        long_term_track(np.ones((2, 4)), np.ones((2, 4)), np.ones(3))
    with pytest.raises(MetricError, match="without a visible frame"):
        long_term_score([long_term_track(np.ones((2, 4)), np.full((2, 4), np.nan), np.ones(2))])


def test_a_summary_counts_absences_and_lost_frames() -> None:
    nan = [np.nan] * 4
    truth = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], nan, nan, [0, 0, 10, 10]])
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 10, 10], [0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 10, 10]])
    summary = summarize_track(boxes, truth, tracking=np.array([1, 1, 1, 1, 0, 0]), lost=np.array([0, 0, 0, 0, 1, 1]))
    assert (summary.frames, summary.absent, summary.false_tracking, summary.lost) == (3, 2, 1, 2)
    assert summary.auc == pytest.approx(2 / 3 * 20 / 21)
    assert summary.precision == pytest.approx(2 / 3)
    assert math.isnan(summarize_track(boxes[:1], truth[:1]).auc)


def test_long_term_measures_are_those_computed_by_hand() -> None:
    truth = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4])
    boxes = np.array([[0.0, 0, 10, 10], [2, 0, 10, 10], [0, 0, 10, 10]])
    score = long_term_score([long_term_track(boxes, truth, np.array([0.9, 0.8, 0.1]))])
    np.testing.assert_allclose(score.thresholds, [np.inf, 0.9, 0.8, 0.1, -np.inf])
    np.testing.assert_allclose(score.precision_curve, [1, 1, 5 / 6, 5 / 9, 5 / 9])
    np.testing.assert_allclose(score.recall_curve, [0, 0.5, 5 / 6, 5 / 6, 5 / 6])
    assert (score.precision, score.recall, score.f_score) == pytest.approx((5 / 6, 5 / 6, 5 / 6))


@pytest.mark.parametrize("seed", range(4))
def test_long_term_agrees_with_the_vot_toolkit(seed: int) -> None:
    longterm = pytest.importorskip("vot.analysis.longterm", reason="vot-toolkit is not installed")
    region = pytest.importorskip("vot.region")
    rng = np.random.default_rng(seed)
    size = (260, 200)

    class Sequence:
        def __init__(self, boxes: np.ndarray) -> None:
            self.size = size
            self.boxes = boxes

        def groundtruth(self) -> list[object]:
            return [region.Special(0) if np.isnan(box).any() else region.Rectangle(*box) for box in self.boxes]

    tracks, curves, confidences, sequences = [], [], [], []
    for count in (90, 40):
        truth = random_boxes(rng, count)
        truth[rng.random(count) < 0.2] = np.nan
        boxes = np.where(np.isnan(truth), random_boxes(rng, count), truth) + rng.normal(0, 6, (count, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
        # The toolkit paints regions on a pixel grid, so only whole pixels compare exactly.
        truth, boxes = np.round(truth), np.round(boxes)
        confidence = np.round(rng.random(count), 2)
        tracks.append(long_term_track(boxes, truth, confidence, size))
        confidences.append(confidence)
        sequences.append((Sequence(truth), [region.Rectangle(*box) for box in boxes]))
    thresholds = longterm.determine_thresholds(np.concatenate(confidences).tolist(), 100)
    for (sequence, regions), confidence in zip(sequences, confidences, strict=True):
        curves.append(longterm.compute_tpr_curves(regions, confidence.tolist(), sequence, thresholds))
    precision = np.mean([curve[0] for curve in curves], axis=0)
    recall = np.mean([curve[1] for curve in curves], axis=0)
    score = long_term_score(tracks)
    np.testing.assert_allclose(score.thresholds, thresholds)
    np.testing.assert_allclose(score.precision_curve, precision, atol=2e-5)
    np.testing.assert_allclose(score.recall_curve, recall, atol=2e-5)
    both = np.maximum(precision + recall, 1e-9)
    assert score.f_score == pytest.approx(np.max(2 * precision * recall / both), abs=2e-5)
