"""Start boxes that do not fit: replaced by what the network sees there, within limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ckd_core.data.synthetic import clip
from ckd_core.frame import BoundingBox, Modality
from ckd_core.tracking import build_tracker
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines import EngineFailedError
from ckd_core.tracking.start_box import NEAR, ROUNDS, fitted
from testkit.small_trackers import STATES, overlap, path, tracker_of

GIVEN = BoundingBox(100, 100, 40, 40)


def after(found: dict[float, tuple[float, float]], given: BoundingBox = GIVEN) -> tuple[str, BoundingBox, list[float]]:
    """What becomes of a start box; by the left edge of the looked-at box, left edge of the found one and score."""
    asked: list[float] = []

    def look(box: BoundingBox, template: str) -> tuple[BoundingBox, float]:
        assert template == f"template at {box.x:g}"
        asked.append(box.x)
        left, score = found[box.x]
        return box._replace(x=left), score

    template, box = fitted(given, lambda box: f"template at {box.x:g}", look)
    return template, box, asked


def test_a_box_that_finds_itself_stays() -> None:
    assert after({100: (102, 0.9)}) == ("template at 100", GIVEN, [100])


def test_a_box_that_finds_another_gives_way_until_one_finds_itself() -> None:
    found = {100: (104, 0.9), 104: (108, 0.9), 108: (109, 0.9)}
    assert after(found) == ("template at 108", GIVEN._replace(x=108), [100, 104, 108])


def test_the_looks_are_limited() -> None:
    template, box, asked = after({100: (104, 0.9), 104: (100, 0.9)})
    assert asked == [100, 104, 100]
    assert len(asked) == ROUNDS
    assert template == f"template at {box.x:g}"


@pytest.mark.parametrize("found", [{100: (104, 0.3)}, {100: (116, 0.9)}, {100: (104, 0.9), 104: (117, 0.9)}])
def test_what_is_not_seen_or_is_another_thing_changes_nothing_more(found: dict[float, tuple[float, float]]) -> None:
    """Also what only step by step leads away from the given box."""
    _, box, _ = after(found)
    assert box.x == max(found)


@pytest.mark.parametrize(
    "box", [BoundingBox(100, 90, 8, 8), BoundingBox(-20, 90, 40, 40), BoundingBox(60, 225, 30, 30)]
)
def test_a_box_below_the_smallest_one_or_partly_outside_the_frame_stays_as_it_is(
    scene, correlation, box: tuple[int, int, int, int]
) -> None:
    """The correlation finds exactly what it has been shown."""
    tracker = tracker_of(correlation, TrackerConfig(confidence=STATES, fit_start=True))
    assert tracker.multi.start(scene.frame(0, {"a": path(0)}), {0: BoundingBox(*box)}) == {0: BoundingBox(*box)}


@pytest.mark.parametrize("wrong", [{"score": math.nan}, {"w": -0.25}, {"cx": 9.0}, None])
def test_an_answer_that_cannot_be_used_leaves_the_given_box(scene, correlation, monkeypatch, wrong) -> None:
    """A start needs no answer of the network: what is wrong with it shows with the next frame."""
    given = BoundingBox(*path(0), 40, 40)
    answer = correlation._answer

    def failing(*values: object) -> object:
        if wrong is None:
            raise EngineFailedError("the device is gone")
        return answer(*values)._replace(**wrong)

    monkeypatch.setattr(correlation, "_answer", failing)
    tracker = tracker_of(correlation, TrackerConfig(confidence=STATES, fit_start=True))
    assert tracker.start(scene.frame(0, {"a": path(0)}), given) == given
    monkeypatch.undo()
    assert overlap(tracker.update(scene.frame(1, {"a": path(1)})).box, scene.box(*path(1))) > 0.75
    assert tracker.multi.add(scene.frame(2, {"a": path(2)}), 5, scene.box(*path(2))) == scene.box(*path(2))


def test_the_default_starts_nearer_to_the_target_than_a_loose_box_and_on_a_true_one_as_it_is() -> None:
    network = build_tracker(modality=Modality.THERMAL, engine="torch/fp32", device="cpu", threads=1)
    gains = []
    for seed in range(3):
        recording = clip(seed, Modality.THERMAL, 2)
        truth = BoundingBox(*recording.boxes[0].tolist())
        for factor in (0.7, 1.0, 1.4):  # sides
            width, height = factor * truth.w, factor * truth.h
            given = BoundingBox(truth.center[0] - width / 2, truth.center[1] - height / 2, width, height)
            believed = network.multi.start(recording.frames[0], {0: given})[0]
            if factor == 1:
                assert believed == given
            else:
                gains.append(overlap(believed, truth) - overlap(given, truth))
                assert overlap(believed, given) >= NEAR
    assert min(gains) >= 0
    assert sum(gains) / len(gains) > 0.05


@pytest.mark.parametrize(
    ("fit", "enabled", "square", "fits"),
    [
        (None, True, True, True),
        (None, True, False, False),
        (None, False, True, False),
        (True, False, False, True),
        (False, True, True, False),
    ],
)
def test_start_boxes_are_fitted_by_default_where_boxes_are_square_and_states_are_on(
    fit: bool | None, enabled: bool, square: bool, fits: bool
) -> None:
    config = TrackerConfig(fit_start=fit, confidence=replace(STATES, enabled=enabled))
    assert config.fits_start(square) is fits
    assert not config.as_published().fits_start(square)
