"""What a request selects: boxes, clicks, pixels and candidates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ckd_core.frame import BoundingBox
from ckd_core.tracking.result import TrackState
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    Candidate,
    CandidatesRequest,
    PixelRequest,
    TargetError,
    box_at_pixel,
    checked_box,
)
from testkit.session_bench import BOX, DEPTH, SIZE, Bench, scene, text_of


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (BoundingBox(math.nan, 0, 10, 10), "not finite"),
        (BoundingBox(0, 0, 10, 2), "smaller than"),
        (BoundingBox(700, 0, 10, 10), "centre outside"),
        (BoundingBox(-1000, -1000, 2600, 2500), "twice as large"),
    ],
)
def test_impossible_boxes_are_refused_and_the_target_stays(box: BoundingBox, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        checked_box(box, SIZE)
    bench = Bench()
    bench.frame(0)
    bench.ask(BoxRequest("init_roi", BOX))
    outcome = bench.ask(BoxRequest("init_roi", box))
    assert outcome.startswith("init_roi refused")
    assert reason in outcome
    assert bench.session.target_id == "1"


def test_a_click_selects_the_extent_of_the_surface_under_it() -> None:
    box = box_at_pixel(scene(), SIZE, PixelRequest("init_pixel", 230, 200), (64, 64))
    assert box == pytest.approx((200, 180, 60, 40), abs=2)


@pytest.mark.parametrize("fault", ["no depth", "hole", "everything"])
def test_a_click_selects_the_default_size_where_depth_shows_no_surface(fault: str) -> None:
    frame = scene()
    depth = DEPTH.copy()
    if fault == "hole":
        depth[150:250, 150:300] = 0
    elif fault == "everything":
        depth[:] = 1500
    frame = replace(frame, aux=None if fault == "no depth" else depth)
    box = box_at_pixel(frame, SIZE, PixelRequest("init_pixel", 230, 200), (64, 32))
    assert box == BoundingBox(198.5, 184.5, 64, 32)


def test_a_pixel_of_a_calibration_of_another_size_is_scaled_to_the_image() -> None:
    near = PixelRequest("init_point", 460.5, 400.5, (1280, 960))
    assert box_at_pixel(scene(), SIZE, near, (64, 64)) == pytest.approx((200, 180, 60, 40), abs=2)
    frame = replace(scene(), aux=None)
    assert box_at_pixel(frame, SIZE, near, (64, 32)) == BoundingBox(198.5, 184.5, 64, 32)
    outside = PixelRequest("init_point", 639.9, 5.0, (320, 240))
    with pytest.raises(TargetError, match=r"pixel \(1280, 10\) is outside the 640 x 480 image"):
        box_at_pixel(frame, SIZE, outside, (64, 32))


@pytest.mark.parametrize("pixel", [(-1.0, 5.0), (640.0, 5.0), (math.nan, 5.0), (5.0, math.inf)])
def test_a_click_outside_the_image_is_refused(pixel: tuple[float, float]) -> None:
    bench = Bench()
    bench.frame(0)
    assert bench.ask(PixelRequest("init_pixel", *pixel)).startswith("init_pixel refused: pixel (")


def test_the_best_candidate_of_the_class_is_adopted_only_when_asked_for() -> None:
    other = BoundingBox(10, 10, 30, 30)
    request = CandidatesRequest(
        "candidates", (Candidate(other, "cup", 0.6), Candidate(BOX, "cup", 0.8), Candidate(other, "dog", 0.99))
    )
    bench = Bench()
    bench.frame(0)
    assert "adopt_candidates is false" in bench.ask(request)
    bench.settings = replace(bench.settings, adopt_candidates=True, candidate_class="cup")
    assert bench.ask(request) == f"candidates (cup, score 0.80) accepted: target 1 at {text_of(BOX)}"
    assert bench.frame(1)[1].targets[0].box == BOX
    assert bench.ask(request) == "", "a target is being tracked"


def test_weak_candidates_are_refused_with_the_reason() -> None:
    bench = Bench(adopt_candidates=True, candidate_min_score=0.9)
    bench.frame(0)
    outcome = bench.ask(CandidatesRequest("candidates", (Candidate(BOX, "cup", 0.8),)))
    assert outcome == "candidates refused: none of 1 candidates is with a score of at least 0.9"


def test_a_candidate_takes_over_after_the_target_was_lost_for_long_enough() -> None:
    bench = Bench(adopt_candidates=True, readopt_after_s=1.0)
    request = CandidatesRequest("candidates", (Candidate(BOX, "cup", 0.8),))
    bench.frame(0)
    bench.ask(request)
    bench.tracker.state = TrackState.LOST
    bench.frame(1)
    assert bench.ask(request) == ""
    bench.now = 1.5
    bench.frame(2)
    assert "accepted: target 2" in bench.ask(request)
    assert bench.session.target_id == "2"
