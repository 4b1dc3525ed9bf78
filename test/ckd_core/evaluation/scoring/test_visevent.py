"""The rule of VisEvent against an independent port of its MATLAB toolkit (calc_seq_err_robust, eval_tracker, plots)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.evaluation.scoring.annotations import read_truths
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import GroundTruth, ScoreError, Track, score_benchmark, score_sequence

if TYPE_CHECKING:
    from pathlib import Path

Box = tuple[float, float, float, float]
RULE = get_rule("visevent")


def ported_curves(results: list[Box], annotation: list[Box], absent: list[int]) -> tuple[list[float], list[float]]:
    """Shares of frames over 51 distances and 21 overlaps, frame by frame as the toolkit takes them."""
    count = len(annotation)
    results = list(results[:count])
    for i in range(1, count):
        if any(math.isnan(value) for value in results[i]) or results[i][2] <= 0 or results[i][3] <= 0:
            results[i] = results[i - 1]
    results[0] = annotation[0]
    distances, overlaps = [], []
    for (x, y, w, h), (ax, ay, aw, ah), gone in zip(results, annotation, absent, strict=True):
        if gone == 1:
            continue
        if min(ax, ay, aw, ah) <= 0:
            distances.append(-1.0)
            overlaps.append(-1.0)
            continue
        across, down = x + (w - 1) / 2 - (ax + (aw - 1) / 2), y + (h - 1) / 2 - (ay + (ah - 1) / 2)
        distances.append(math.sqrt(across**2 + down**2))
        shared = max(0.0, min(x + w - 1, ax + aw - 1) - max(x, ax) + 1)
        shared *= max(0.0, min(y + h - 1, ay + ah - 1) - max(y, ay) + 1)
        union = w * h + aw * ah - shared
        overlaps.append(shared / union if union else math.nan)
    precision = [sum(value <= pixels for value in distances) / count for pixels in range(51)]
    steps = [step * 0.05 if step <= 10 else 1 - (20 - step) * 0.05 for step in range(21)]  # MATLAB's 0:0.05:1
    success = [sum(value > step for value in overlaps) / count for step in steps]
    return precision, success


def ported_benchmark(cases: list[tuple[list[Box], list[Box], list[int]]]) -> tuple[float, float]:
    """Precision at 20 px and mean success; a sequence whose curve is all zero is not in that curve's mean."""
    curves = [ported_curves(*case) for case in cases]
    precision = [curve[20] for curve, _ in curves if sum(curve) > 0]
    success = [sum(curve) / 21 for _, curve in curves if sum(curve) > 0]
    return (sum(precision) / len(precision) if precision else 0.0, sum(success) / len(success) if success else 0.0)


def ours(cases: list[tuple[list[Box], list[Box], list[int]]]) -> tuple[float, float]:
    truths, tracks = [], {}
    for index, (results, annotation, absent) in enumerate(cases):
        boxes = np.where(np.array(absent)[:, None] == 1, np.nan, np.array(annotation, dtype=np.float64))
        truths.append(GroundTruth(str(index), boxes))
        tracks[str(index)] = Track(str(index), np.array(results, dtype=np.float64))
    metrics = score_benchmark(RULE, truths, tracks).metrics
    return metrics["PR"], metrics["SR"]


def rows(array: np.ndarray) -> list[Box]:
    return [(float(x), float(y), float(w), float(h)) for x, y, w, h in array]


def random_case(rng: np.random.Generator, decimals: int) -> tuple[list[Box], list[Box], list[int]]:
    count = int(rng.integers(2, 80))
    annotation = np.hstack([rng.uniform(-20, 300, (count, 2)), rng.uniform(1, 90, (count, 2))])
    results = annotation + rng.normal(0, 12, (count, 4))  # some without area, some at the annotation's edge
    for array, share in ((annotation, 0.1), (results, 0.15)):
        array[rng.random(count) < share] = 0
    annotation[rng.random(count) < 0.2, rng.integers(0, 2)] = -3
    results[rng.random(count) < 0.1, rng.integers(0, 4)] = np.nan
    absent = (rng.random(count) < 0.2).astype(int)
    absent[rng.integers(count)] = 0  # a sequence without any frame of the object is refused
    return rows(np.round(results, decimals)), rows(np.round(annotation, decimals)), [int(flag) for flag in absent]


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("seed", range(20))
def test_random_results_score_as_in_the_toolkit(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [random_case(rng, decimals) for _ in range(6)]
    assert ours(cases) == pytest.approx(ported_benchmark(cases), abs=1e-9)


# Few values on a grid: ties at thresholds, touching boxes, no area, and annotations at and beyond the border.
EDGES = st.sampled_from([-5.0, 0.0, 1.0, 5.0, 10.0, 20.0, 21.0, 25.0, 40.0])
SIDES = st.sampled_from([0.0, -1.0, 1.0, 10.0, 16.0, 20.0, 40.0, float("nan")])
RESULTS = st.tuples(EDGES, EDGES, SIDES, SIDES)
ANNOTATIONS = st.tuples(EDGES, EDGES, SIDES.filter(math.isfinite), SIDES.filter(math.isfinite))
FRAMES = st.lists(st.tuples(RESULTS, ANNOTATIONS, st.integers(0, 1)), min_size=2, max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES.filter(lambda frames: any(flag == 0 for *_, flag in frames)), min_size=1, max_size=3))
def test_adversarial_results_score_as_in_the_toolkit(drawn: list[list[tuple[Box, Box, int]]]) -> None:
    cases = [([r for r, _, _ in frames], [a for _, a, _ in frames], [f for *_, f in frames]) for frames in drawn]
    assert ours(cases) == pytest.approx(ported_benchmark(cases), abs=1e-9)


def still(count: int) -> np.ndarray:
    return np.tile([10.0, 10, 20, 20], (count, 1))


def test_absent_frames_are_no_hits_and_still_divide() -> None:
    truth = still(4)
    truth[2] = np.nan
    score, note = score_sequence(RULE, GroundTruth("a", truth), Track("a", still(4)))
    assert (score.frames, note) == (4, None)
    assert score.metrics["PR"] == 0.75
    assert score.metrics["SR"] == pytest.approx(0.75 * 20 / 21)
    assert np.isnan(score.errors[2])
    truth[2] = [0, 5, 20, 20]  # at the border: a hit in precision, a miss in success
    score, _ = score_sequence(RULE, GroundTruth("a", truth), Track("a", still(4)))
    assert score.metrics["PR"] == 1.0
    assert score.metrics["SR"] == pytest.approx(0.75 * 20 / 21)


def test_a_repeated_box_is_the_result_before_and_not_the_annotation() -> None:
    boxes = still(3)
    boxes[0] = [400, 400, 20, 20]
    boxes[1] = np.nan
    score, note = score_sequence(RULE, GroundTruth("a", still(3)), Track("a", boxes))
    assert score.metrics["PR"] == pytest.approx(2 / 3)
    assert note == "a: 1 result boxes are nan; each repeats the one before"
    boxes[2] = np.inf
    with pytest.raises(ScoreError, match="1 result boxes are not finite, first in row 3"):
        score_sequence(RULE, GroundTruth("a", still(3)), Track("a", boxes))


def test_sequences_without_results_still_count_as_zero_where_that_is_asked_for() -> None:
    truths = [GroundTruth("a", still(4)), GroundTruth("b", still(4))]
    score = score_benchmark(RULE, truths, {"a": Track("a", still(4))}, missing="zero")
    assert score.metrics["PR"] == 0.5


def test_the_toolkits_own_annotations_are_read(tmp_path: Path) -> None:
    """Flags of the toolkit mean absent, those of the dataset present."""
    for folder, text in (("gt_rect", "10,10,20,20\n" * 3), ("absent", "0\n1\n0\n"), ("att", ",".join("0" * 17))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dog.txt").write_text(text)
    (truth,) = read_truths(tmp_path, RULE)
    assert (truth.name, np.isnan(truth.boxes[:, 0]).tolist()) == ("dog", [False, True, False])
    (tmp_path / "absent" / "dog.txt").unlink()
    (truth,) = read_truths(tmp_path, RULE)
    _, note = score_sequence(RULE, truth, Track("dog", still(3)))
    assert note == "dog: no absence flags beside the annotation; the object counts as present throughout"
    (tmp_path / "absent" / "dog.txt").write_text("0\n")
    with pytest.raises(Exception, match="dog: 1 absence flags for 3 boxes; expected one per box"):
        read_truths(tmp_path, RULE)
