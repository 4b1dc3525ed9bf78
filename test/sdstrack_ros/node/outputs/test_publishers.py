from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ckd_core.frame import Modality
from sdstrack_ros.messages.camera import PinholeCamera
from sdstrack_ros.messages.overlay import Caption, draw_overlay
from sdstrack_ros.node.outputs.detections import FrameOutput
from sdstrack_ros.node.outputs.publishers import Publishers
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.tracking.overload import OutputPlan
from sdstrack_ros.tracking.results import FrameResult
from testkit.frame_results import CAMERA, SIZE, depth_frame, depth_scene, frame_result


class Topic:
    """A publisher with a subscriber that keeps everything."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.publish = self.sent.append

    def get_subscription_count(self) -> int:
        return 1


class Topics(dict[str, Topic]):
    """The part of a node that makes publishers."""

    def create_lifecycle_publisher(self, _: type, name: str, __: object) -> Topic:
        return self.setdefault(name, Topic())


def published(camera: PinholeCamera, *results: FrameResult, **changes: object) -> Topics:
    topics = Topics()
    settings = replace(Settings(publish_markers=True, publish_overlay=True), **changes)
    publishers = Publishers(topics, settings)
    for result in results:
        publishers.publish_extras(FrameOutput.of(result), settings, camera, OutputPlan(), 1.0)
    return topics


def of_modality(modality: Modality, rgb: bool = True) -> FrameResult:
    aux = np.full((480, 640), 128, np.uint8) if modality is Modality.THERMAL else np.full((480, 640), 2000, np.uint16)
    frame = replace(depth_frame(rgb), modality=modality, aux=aux)
    return replace(frame_result(), images=frame)


@pytest.mark.parametrize("rgb", [True, False])
def test_a_frustum_fits_the_image_when_the_calibration_is_of_another_size(rgb: bool) -> None:
    shown = of_modality(Modality.THERMAL, rgb)
    exact, doubled = (
        published(camera, shown)["~/markers"].sent[0].markers[0].points for camera in (CAMERA, CAMERA.scaled(1280, 960))
    )
    assert [(p.x, p.y, p.z) for p in doubled] == [pytest.approx((p.x, p.y, p.z)) for p in exact]


def test_while_colour_is_dead_its_size_still_counts() -> None:
    small = replace(depth_frame(rgb=False), aux=depth_scene()[::2, ::2])
    dead = replace(of_modality(Modality.DEPTH, rgb=False), images=small)
    both, alone = published(CAMERA, of_modality(Modality.DEPTH), dead)["~/detections_3d"].sent
    assert both.detections[0].bbox.center.position.x / 2.0 == pytest.approx(
        alone.detections[0].bbox.center.position.x / 1.5, abs=1e-3
    )


def test_3d_boxes_come_with_depth_only() -> None:
    assert len(published(CAMERA, of_modality(Modality.DEPTH))["~/detections_3d"].sent) == 1
    assert not published(CAMERA, of_modality(Modality.THERMAL))["~/detections_3d"].sent


def test_while_colour_is_dead_the_overlay_draws_the_box_at_the_size_that_colour_had() -> None:
    dead = replace(depth_frame(rgb=False), aux=depth_scene()[::2, ::2])
    both = replace(frame_result(), images=depth_frame())
    sent = published(CAMERA, both, replace(both, images=dead))["~/overlay"].sent[1]
    expected = draw_overlay(dead, [("cup", both.targets[0].track)], Caption("target"), False, SIZE)
    assert expected is not None
    green = (60, 220, 80)
    outline = np.all(expected == green, axis=-1)
    assert outline.any()
    picture = np.frombuffer(sent.data, np.uint8).reshape(240, 320, 3)
    np.testing.assert_array_equal(np.all(picture == green, axis=-1), outline)
