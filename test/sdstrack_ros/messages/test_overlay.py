from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ckd_core.frame import BoundingBox
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.messages.overlay import Caption, draw_overlay
from testkit.frame_results import BOX, SIZE, depth_frame, depth_scene


@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize(("rgb", "aux"), [(True, True), (False, True), (True, False), (False, False)])
def test_overlay_is_drawn_on_the_images_there_are(rgb: bool, aux: bool, side_by_side: bool) -> None:
    frame = depth_frame(rgb, aux)
    result = TrackResult(0.0, BOX, 0.8, TrackState.TRACKING)
    picture = draw_overlay(frame, [("cup", result)], Caption("cup", 12.0), side_by_side)
    if not rgb and not aux:
        assert picture is None
        return
    assert picture is not None
    assert picture.shape == (480, 1280 if side_by_side else 640, 3)
    assert tuple(picture[180, 230]) == (60, 220, 80)
    if frame.rgb is not None:
        assert not frame.rgb.any(), "the source image must stay as it is"


GREEN = (60, 220, 80)


def test_while_colour_is_dead_the_box_is_drawn_where_the_auxiliary_camera_sees_it() -> None:
    dead = replace(depth_frame(rgb=False), aux=depth_scene()[::2, ::2])
    result = TrackResult(0.0, BOX, 0.8, TrackState.TRACKING)
    picture = draw_overlay(dead, [("cup", result)], Caption("cup"), False, SIZE)
    assert picture is not None
    assert picture.shape == (240, 320, 3)
    assert tuple(picture[90, 115]) == GREEN


@pytest.mark.parametrize("rgb", [True, False])
def test_the_box_on_the_auxiliary_image_goes_through_the_homography(rgb: bool) -> None:
    # The auxiliary camera has half the pixels and looks 100 of them further to the left.
    mapping = np.array([[0.5, 0.0, 100.0], [0.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    frame = replace(depth_frame(rgb), aux=depth_scene()[::2, ::2], aux_from_reference=mapping)
    picture = draw_overlay(frame, [("cup", TrackResult(0.0, BOX, 0.8, TrackState.TRACKING))], Caption("cup"), rgb, SIZE)
    assert picture is not None
    # Its top edge is at y = 90 from x = 200 to 230, in a picture that is twice as large beside colour.
    assert tuple(picture[180, 640 + 430] if rgb else picture[90, 215]) == GREEN
    assert tuple(picture[180, 640 + 230] if rgb else picture[90, 115]) != GREEN


@pytest.mark.parametrize("box", [BoundingBox(-1e9, -1e9, 3e9, 3e9), BoundingBox(math.nan, 0, 1, 1)])
def test_overlay_draws_any_box(box: BoundingBox) -> None:
    result = TrackResult(0.0, box, 0.8, TrackState.UNCERTAIN)
    assert draw_overlay(depth_frame(), [("x", result)], Caption("x", 0.0), True) is not None


def test_every_target_has_its_box_its_state_and_its_name_beside_the_box() -> None:
    tracks = [
        ("anna", TrackResult(0.0, BOX, 0.8, TrackState.TRACKING)),
        ("ben", TrackResult(0.0, BoundingBox(400.0, 300.0, 50.0, 60.0), 0.4, TrackState.UNCERTAIN)),
        ("car", TrackResult(0.0, BoundingBox(500.0, 50.0, 50.0, 60.0), 0.1, TrackState.LOST)),
    ]
    picture = draw_overlay(depth_frame(), tracks, Caption("target"), False)
    alone = draw_overlay(depth_frame(), tracks[:1], Caption("target"), False)
    assert picture is not None
    assert alone is not None
    assert tuple(picture[180, 230]) == GREEN
    assert tuple(picture[300, 425]) == (255, 190, 40)
    assert not picture[55:120, 495:560].any(), "a lost target has no box"
    under_first = (slice(222, 245), slice(200, 260))
    assert picture[under_first].any()
    assert not alone[under_first].any(), "a single target is named in the corner only"


def test_a_crowd_does_not_cover_the_picture() -> None:
    far = BoundingBox(630.0, 470.0, 5.0, 5.0)
    crowd = [(f"t{index}", TrackResult(0.0, far, 0.8, TrackState.TRACKING)) for index in range(32)]
    picture = draw_overlay(depth_frame(), crowd, Caption("target"), False)
    assert picture is not None
    assert not picture[240:460, :400].any()
