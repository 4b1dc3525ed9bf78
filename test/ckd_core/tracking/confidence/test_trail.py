"""What is here now is followed back through kept frames, and said to have been beside the target only if it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.confidence.trail import (
    CLEAR,
    FAINTER,
    FAINTEST,
    HIDDEN,
    LONGEST,
    LONGEST_STEP,
    SAME_SCALE,
    Followed,
    Sight,
    are_close,
    hidden_in,
    trail_after,
    was_beside,
)
from ckd_core.tracking.view import StreamMemory

HOME, SIDE = BoundingBox(100, 100, 40, 40), 40
NOW = 30  # age of the target in frames


def sight(age: int, box: BoundingBox = HOME, place: BoundingBox | None = None, steady: bool = True) -> Sight:
    image = np.zeros((240, 320, 3), np.uint8)
    frame = MultiModalFrame(age / 30, image, image[..., 0], Modality.THERMAL)
    return replace(
        Sight.now(frame, StreamMemory((240, 320), age / 30), box, age, steady), place=box if place is None else place
    )


def right(sides: float) -> BoundingBox:
    return HOME._replace(x=HOME.x + SIDE * sides)


def test_places_are_those_of_then_where_the_camera_has_moved() -> None:
    moved = sight(20, HOME, HOME._replace(x=60))
    assert moved.then(HOME._replace(x=140)) == HOME._replace(x=180)
    nearer = sight(20, HOME, BoundingBox(40, 60, 80, 80))
    beside = BoundingBox(200, 60, 80, 80)
    assert nearer.then(beside) == BoundingBox(180, 100, 40, 40), "it came to within half the distance"
    assert nearer.since(nearer.then(beside)) == beside


def test_a_trail_lasts_from_one_sure_frame_to_the_next_and_not_for_ever() -> None:
    seen, trail = sight(NOW), ()
    for age in range(NOW + 1, NOW + 1 + LONGEST):
        trail = trail_after(trail, seen, sight(age), age % 8 == 0)
    assert [one.age for one in trail] == list(range(32, NOW + LONGEST + 1, 8))
    assert trail_after(trail, seen, sight(NOW + LONGEST + 1), True) == (), "too long ago"
    sure = sight(NOW + 9)
    assert trail_after(trail, sure, sure, True) == ()
    assert trail_after((), None, sure, True) == (), "nothing is kept of this target"


@pytest.mark.parametrize(
    ("frames", "found", "score", "follows"),
    [
        (1, right(0.34), 0.8, True),
        (1, right(0.36), 0.8, False),
        (3, right(0.54), 0.8, True),
        (3, right(0.56), 0.8, False),
        (8, right(0.59), 0.8, True),
        (8, right(0.61), 0.8, False),
        (3, HOME, FAINTEST, True),
        (3, HOME, FAINTEST - 0.01, False),
        (3, BoundingBox(100, 100, 40 * SAME_SCALE - 1, 40 * SAME_SCALE - 1), 0.8, True),
        (3, BoundingBox(92, 92, 40 * SAME_SCALE + 1, 40 * SAME_SCALE + 1), 0.8, False),
    ],
)
def test_a_step_finds_the_same_thing_near_where_it_should_have_been(
    frames: int, found: BoundingBox, score: float, follows: bool
) -> None:
    assert (Followed(HOME, NOW).step(found, score, NOW - frames) is not None) is follows


def test_frames_far_apart_lead_nowhere() -> None:
    assert are_close([20, 21, 21 + LONGEST_STEP, NOW + LONGEST_STEP])
    assert not are_close([20, 21, 22 + LONGEST_STEP, NOW + LONGEST_STEP])
    ages = list(range(20, 20 + LONGEST, 8))
    assert are_close([*ages, 20 + LONGEST])
    assert not are_close([*ages, 21 + LONGEST])


def test_later_steps_answer_like_the_first_one() -> None:
    followed = Followed(HOME, NOW).step(HOME, 0.9, NOW - 2)
    assert followed is not None
    assert followed.step(HOME, 0.9 * FAINTER + 0.01, NOW - 10) is not None
    assert followed.step(HOME, 0.9 * FAINTER - 0.01, NOW - 10) is None


def test_what_moves_is_looked_for_where_it_came_from() -> None:
    followed = Followed(HOME, NOW)
    for step in range(1, 6):
        assert followed is not None
        found = HOME._replace(x=HOME.x - 2.5 * 8 * step)  # half a side per step
        assert np.isclose(followed.expected(NOW - 8 * step).x, found.x + (20 if step == 1 else 0))
        followed = followed.step(found, 0.8, NOW - 8 * step)
    assert followed is not None
    assert followed.velocity == (2.5, 0.0)
    shaken = Followed(HOME, NOW).step(right(-0.2), 0.8, NOW - 1)
    assert shaken is not None
    assert shaken.velocity == (4.0, 0.0), "one frame tells half of it"


def test_the_target_is_painted_over_unless_that_is_where_it_leads() -> None:
    assert hidden_in(sight(20), right(HIDDEN + 0.01)) == HOME
    assert hidden_in(sight(20), right(HIDDEN - 0.01)) is None
    assert hidden_in(sight(20, steady=False), right(2)) is None, "nobody knows where it was"


def test_beside_is_clear_of_where_the_target_was_in_pixels_of_then() -> None:
    seen = sight(20, HOME, HOME._replace(x=60))

    def followed(sides: float) -> Followed:
        return Followed(HOME._replace(x=60 + SIDE * sides), 20)

    assert was_beside(followed(CLEAR + 0.01), seen)
    assert not was_beside(followed(CLEAR - 0.01), seen)
