"""The rule of VTUAV against an independent port of its MATLAB toolkit (calcPlotErr_TPR, calcRectInt, plot_ST)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import GroundTruth, ScoreError, Track, score_benchmark, score_sequence

Box = tuple[float, float, float, float]
Case = tuple[list[Box], list[Box], list[Box]]  # results of every frame, annotations of every tenth in both cameras
RULE = get_rule("vtuav")


def ported_overlap(a: Box, b: Box) -> float:
    sides = [max(0.0, min(a[i] + a[i + 2] - 1, b[i] + b[i + 2] - 1) - max(a[i], b[i]) + 1) for i in (0, 1)]
    shared = sides[0] * sides[1]
    union = a[2] * a[3] + b[2] * b[3] - shared
    return shared / union if union else math.nan


def ported_distance(result: Box, annotation: Box) -> float:
    """The toolkit keeps annotations as corners; their centre is the mean of these."""
    x, y, w, h = annotation
    x2, y2 = x + w, y + h
    across, down = result[0] + result[2] / 2 - (x + x2) / 2, result[1] + result[3] / 2 - (y + y2) / 2
    return math.sqrt(across**2 + down**2)


def better(first: float, second: float, largest: bool) -> float:
    """MATLAB's max and min of two numbers leave nan out."""
    known = [value for value in (first, second) if not math.isnan(value)]
    return (max(known) if largest else min(known)) if known else math.nan


def ported_benchmark(cases: list[Case]) -> tuple[float, float]:
    """Mean over the sequences of the precision at 20 px, and of the mean over 21 overlap thresholds."""
    precision, success = [], []
    steps = [step * 0.05 if step <= 10 else 1 - (20 - step) * 0.05 for step in range(21)]  # MATLAB's 0:0.05:1
    for results, color, infrared in cases:
        chosen = results[::10][: len(color)]
        rows = list(zip(chosen, color, infrared, strict=True))
        overlaps = [better(ported_overlap(r, v), ported_overlap(r, i), largest=True) for r, v, i in rows]
        distances = [better(ported_distance(r, v), ported_distance(r, i), largest=False) for r, v, i in rows]
        precision.append(sum(value <= 20 for value in distances) / len(rows))
        success.append(sum(sum(value > step for value in overlaps) / len(rows) for step in steps) / 21)
    return sum(precision) / len(cases), sum(success) / len(cases)


def ours(cases: list[Case]) -> tuple[float, float]:
    truths, tracks = [], {}
    for index, (results, color, infrared) in enumerate(cases):
        truths.append(GroundTruth(str(index), np.array(color), np.array(infrared)))
        tracks[str(index)] = Track(str(index), np.array(results))
    metrics = score_benchmark(RULE, truths, tracks).metrics
    return metrics["MPR"], metrics["MSR"]


def rows(array: np.ndarray) -> list[Box]:
    return [(float(x), float(y), float(w), float(h)) for x, y, w, h in array]


def random_case(rng: np.random.Generator, decimals: int) -> Case:
    count = int(rng.integers(11, 200))
    color = np.hstack([rng.uniform(0, 900, (count, 2)), rng.uniform(4, 90, (count, 2))])
    results = color + rng.normal(0, 12, (count, 4))
    infrared = color[::10] + rng.normal(0, 6, (len(color[::10]), 4))
    color = color[::10]
    for array in (color, infrared, results):
        array[rng.random(len(array)) < 0.1] = 0  # absent in the annotation, no box in the results
    return rows(np.round(results, decimals)), rows(np.round(color)), rows(np.round(infrared))


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("seed", range(20))
def test_random_results_score_as_in_the_toolkit(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [random_case(rng, decimals) for _ in range(6)]
    assert ours(cases) == pytest.approx(ported_benchmark(cases), abs=1e-9)


# Few values on a grid: ties at thresholds, touching boxes, boxes without area.
EDGES = st.sampled_from([-5.0, 0.0, 1.0, 5.0, 10.0, 20.0, 21.0, 25.0, 40.0])
SIDES = st.sampled_from([0.0, -1.0, 1.0, 10.0, 16.0, 20.0, 40.0])
BOXES = st.tuples(EDGES, EDGES, SIDES, SIDES)
FRAMES = st.lists(st.tuples(BOXES, BOXES, BOXES), min_size=2, max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, min_size=1, max_size=3))
def test_adversarial_results_score_as_in_the_toolkit(drawn: list[list[tuple[Box, Box, Box]]]) -> None:
    cases: list[Case] = [
        ([r for r, _, _ in frames for _ in range(10)], [v for _, v, _ in frames], [i for _, _, i in frames])
        for frames in drawn
    ]
    assert ours(cases) == pytest.approx(ported_benchmark(cases), abs=1e-9)


def still(count: int) -> np.ndarray:
    return np.tile([10.0, 10, 20, 20], (count, 1))


@pytest.mark.parametrize("given_rows", [4, 31, 40])
def test_rows_of_all_frames_and_of_every_tenth_count_alike(given_rows: int) -> None:
    score, note = score_sequence(RULE, GroundTruth("a", still(4), still(4)), Track("a", still(given_rows)))
    assert (score.frames, score.metrics["MPR"], note) == (4, 1.0, None)


def test_surplus_rows_are_ignored_and_said() -> None:
    score, note = score_sequence(RULE, GroundTruth("a", still(4), still(4)), Track("a", still(47)))
    assert score.frames == 4
    assert note == "a: 47 result rows for 4 annotated frames; every 10th counts, and the surplus is ignored"
    with pytest.raises(ScoreError, match="30 result rows for 4 annotated frames; VTUAV needs one row for every frame,"):
        score_sequence(RULE, GroundTruth("a", still(4), still(4)), Track("a", still(30)))


def test_a_frame_without_the_object_counts_as_a_miss_unless_the_other_camera_has_it() -> None:
    color = still(4)
    color[2] = 0
    score, note = score_sequence(RULE, GroundTruth("a", color, still(4)), Track("a", still(4)))
    assert (score.metrics["MPR"], note) == (1.0, None)
    score, note = score_sequence(RULE, GroundTruth("a", color, color), Track("a", still(4)))
    assert score.metrics["MPR"] == 0.75
    assert note == (
        "a: 1 of 4 annotated frames are without the object in both cameras; VTUAV counts them, as misses of the success"
    )
