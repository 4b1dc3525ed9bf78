"""Templates that follow the target: by sure looks, with the cameras of the first one, and where it is the default."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.frame import Modality, MultiModalFrame
from ckd_core.tracking.confidence.bystanders import STEADY_FRAMES
from ckd_core.tracking.config import (
    TemplateRefresh,
    TrackerConfig,
)
from ckd_core.tracking.result import TrackState
from testkit.small_trackers import STATES, path, tracker_of

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def fading(scene) -> Callable[..., MultiModalFrame]:
    """Frames of a target that fades into another texture within 24 of them."""

    def frame(step: int, rgb: bool = True, aux: bool = True) -> MultiModalFrame:
        first, second = (scene.frame(step, {name: path(step)}) for name in ("a", "b"))
        share = min(1.0, step / 24)
        mixed = [
            np.rint((1 - share) * p + share * q).astype(np.uint8)
            for p, q in zip((first.rgb, first.aux), (second.rgb, second.aux), strict=True)
        ]
        return MultiModalFrame(float(step), mixed[0] if rgb else None, mixed[1] if aux else None, Modality.THERMAL)

    return frame


@pytest.mark.parametrize("cameras", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_template_that_is_refreshed_follows_a_target_that_changes(
    scene, correlation, fading, cameras: tuple[bool, bool], share: float
) -> None:
    """The first template alone loses it; with one camera it is refreshed as with two."""
    scores = {}
    for refresh in TemplateRefresh:
        config = TrackerConfig(
            confidence=replace(STATES, enabled=False),
            template_refresh=refresh,
            template_every=3,
            template_score=0.0,
            template_share=share,
        )
        tracker = tracker_of(correlation, config)
        tracker.start(fading(0, *cameras), scene.box(*path(0)))
        scores[refresh] = [tracker.update(fading(step, *cameras)).score for step in range(1, 26)][-1]
    assert scores[TemplateRefresh.BLEND] > scores[TemplateRefresh.NEVER] + 0.1


def test_a_template_is_refreshed_by_sure_looks_with_its_own_cameras_alone(scene, correlation) -> None:
    config = TrackerConfig(template_refresh=TemplateRefresh.BLEND, template_every=1, template_score=0.0)
    tracker = tracker_of(correlation, config)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    first = tracker.multi._targets[0].template
    for step in range(1, STEADY_FRAMES):
        tracker.update(scene.frame(step, {"a": path(step)}))
        assert tracker.multi._targets[0].template is first, "soon after a start or a jump it may be something else"
    tracker.update(scene.frame(STEADY_FRAMES, {"a": path(STEADY_FRAMES)}, aux=False))
    assert tracker.multi._targets[0].template is first, "half of it would be another camera's"
    tracker.update(scene.frame(STEADY_FRAMES + 1, {"a": path(STEADY_FRAMES + 1)}))
    assert tracker.multi._targets[0].template is not first
    assert tracker.multi._targets[0].first is first


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_template_is_not_refreshed_by_a_look_below_its_share_of_the_usual_score(
    scene, correlation, fading, share: float
) -> None:
    config = TrackerConfig(
        template_refresh=TemplateRefresh.BLEND, template_every=STEADY_FRAMES, template_score=share, confidence=STATES
    )
    tracker = tracker_of(correlation, config)
    tracker.start(scene.frame(0, {"a": path(0)}), scene.box(*path(0)))
    first = tracker.multi._targets[0].template
    for step in range(1, STEADY_FRAMES):
        tracker.update(scene.frame(step, {"a": path(step)}))
    result = tracker.update(fading(STEADY_FRAMES))
    assert result.state is TrackState.TRACKING
    assert (tracker.multi._targets[0].template is first) == (share == 1.0)


@pytest.mark.parametrize(
    ("refresh", "enabled", "square", "renewed"),
    [
        (None, True, True, True),
        (None, True, False, False),
        (None, False, True, False),
        (TemplateRefresh.BLEND, False, False, True),
        (TemplateRefresh.NEVER, True, True, False),
    ],
)
def test_templates_are_renewed_by_default_where_boxes_are_square_and_states_are_on(
    refresh: TemplateRefresh | None, enabled: bool, square: bool, renewed: bool
) -> None:
    config = TrackerConfig(template_refresh=refresh, confidence=replace(STATES, enabled=enabled))
    assert config.refreshes(square) is renewed
    assert not config.as_published().refreshes(square)
