from __future__ import annotations

import numpy as np
import pytest

from sdstrack_ros.demo.plan import Plan, draw_plan

NONE = np.zeros((0, 2))
WALK = np.stack((np.linspace(2, 4, 30), np.linspace(-1, 1, 30)), axis=1)


def where(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of a colour, without those of the legend."""
    rows, columns = np.nonzero(np.all(picture == color, axis=-1))
    drawn = rows > 70
    return np.stack((rows[drawn], columns[drawn]))


def test_ahead_is_up_and_left_is_left() -> None:
    picture = draw_plan(Plan(WALK, NONE, NONE), 400, 300)
    rows, columns = where(picture, (60, 220, 80))
    assert np.corrcoef(rows, columns)[0, 1] > 0.9, "ahead and to the left is up and to the left"
    assert np.ptp(rows) > 200
    assert 64 < rows.min() < rows.max() < 390, "below the legend, within the picture"


def test_both_paths_and_the_camera_are_seen() -> None:
    picture = draw_plan(Plan(WALK + 0.3, WALK, WALK * 0.2), 400, 300)
    for color in ((60, 220, 80), (255, 255, 255), (90, 160, 255)):
        assert where(picture, color).shape[1] > 20


@pytest.mark.parametrize("plan", [Plan(NONE, NONE, NONE), Plan(WALK[:1], NONE, NONE)])
def test_empty_and_single_places_are_drawn(plan: Plan) -> None:
    assert draw_plan(plan, 200, 150).shape == (200, 150, 3)
