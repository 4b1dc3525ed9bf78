"""How often the node says that a topic is silent."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import Image

from sdstrack_ros.node.health import Situation
from sdstrack_ros.node.inputs.image_topics import ImageTopics
from sdstrack_ros.node.inputs.qos import sensor_qos
from sdstrack_ros.node.inputs.silence import SilenceWatch, Stream
from sdstrack_ros.node.status import StatusReporter
from sdstrack_ros.parameters.checks import settings_from
from sdstrack_ros.parameters.table import Settings
from testkit.ros.camera import Cameras, image_message
from testkit.ros.processes import wait_until

if TYPE_CHECKING:
    from testkit.ros.camera import RosTest

pytestmark = pytest.mark.ros


def test_warnings_become_more_seldom_and_begin_anew_after_a_message(
    ros: RosTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = StatusReporter(ros.node, lambda now: (Situation("active"), {}))
    watch = SilenceWatch(ros.node, Settings(publish_3d=False), reporter)
    begin = time.monotonic()
    watch.watch(Stream("rgb", "/cam", "sensor_msgs/msg/Image", sensor_qos("best_effort", 5)))

    def warned(second: int) -> bool:
        before = len(lines)
        watch.warn(begin + second)
        return len(lines) > before

    lines: list[str] = []
    logger = type(ros.node.get_logger())
    monkeypatch.setattr(logger, "warning", lambda _, text: lines.append(text) or True)
    said_at = [second for second in range(3, 4000) if warned(second)]
    assert [later - earlier for earlier, later in pairwise(said_at)] == [
        10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600
    ]  # fmt: skip
    assert all("nothing on /cam for" in line for line in lines)
    reporter.health.arrived("rgb", begin + 4000)
    assert not warned(4001)
    assert warned(4010)
    assert warned(4020)


def test_why_pairs_do_not_come_is_logged_with_both_publishers_and_forgotten_when_it_is_over(
    ros: RosTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = StatusReporter(ros.node, lambda now: (Situation("active"), {}))
    settings = settings_from({"rgb_topic": "/rgb/image_raw", "aux_topic": "/aux/image_raw"})
    topics = ImageTopics(ros.node, settings, reporter, lambda source: source.images(), lambda seconds, stamp_ns: None)
    cameras, silence = Cameras(ros), topics.silence
    second = rclpy.create_node("rear_camera", context=ros.context, enable_rosout=False)
    lines: list[str] = []
    monkeypatch.setattr(type(ros.node.get_logger()), "warning", lambda _, text: lines.append(text) or True)
    begin = time.monotonic()
    try:
        publisher = second.create_publisher(Image, "/rgb/image_raw", 10)
        wait_until(lambda: ros.node.count_publishers("/rgb/image_raw") == 2, 30, "both publishers", ros.spin)
        wait_until(lambda: cameras.aux.get_subscription_count() > 0, 30, "the subscription", ros.spin)

        def both_are_said() -> bool:
            silence.warn(begin)
            return {"pairing", "publishers of /rgb/image_raw"} <= set(silence.remarks)

        wait_until(both_are_said, 60, "both remarks", lambda: cameras.film(6, aux_late_ns=-3_200_000_000))
        for second_of in range(8):
            cameras.film(6, aux_late_ns=-3_200_000_000)
            silence.warn(begin + second_of)
        said = silence.remarks
        assert "depth is 3.2 s behind, its driver stamps with another clock" in said["pairing"]
        assert "2 publishers on /rgb/image_raw: '/rear_camera', '/test'" in said["publishers of /rgb/image_raw"]
        for part in ("another clock", "2 publishers on /rgb/image_raw"):
            assert sum(part in line for line in lines) == 1, "once in the first ten seconds"
        second.destroy_publisher(publisher)
        wait_until(lambda: ros.node.count_publishers("/rgb/image_raw") == 1, 30, "one publisher", ros.spin)

        def is_over() -> bool:
            silence.warn(begin + 9)
            return silence.remarks == {}

        wait_until(is_over, 60, "no remark", lambda: cameras.film(6))
    finally:
        second.destroy_node()
        topics.destroy()


def test_depth_that_is_not_registered_is_logged_once(ros: RosTest, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = StatusReporter(ros.node, lambda now: (Situation("active"), {}))
    settings = settings_from({"rgb_topic": "/rgb/image_raw", "aux_topic": "/aux/image_raw"})
    topics = ImageTopics(ros.node, settings, reporter, lambda source: source.images(), lambda seconds, stamp_ns: None)
    cameras, silence = Cameras(ros), topics.silence
    lines: list[str] = []
    monkeypatch.setattr(type(ros.node.get_logger()), "warning", lambda _, text: lines.append(text) or True)
    text = "depth of 640 x 576 pixels, frame_id 'depth_camera_link', beside colour of 640 x 480"
    begin = time.monotonic()
    try:
        wait_until(lambda: cameras.aux.get_subscription_count() > 0, 30, "the subscription", ros.spin)

        def shoot() -> None:
            message = image_message(np.full((576, 640), 2000, np.uint16), "16UC1", cameras.shoot(aux=False))
            message.header.frame_id = "depth_camera_link"
            cameras.aux.publish(message)
            ros.spin(0.1)

        def is_said() -> bool:
            silence.warn(begin)
            return text in silence.remarks.get("geometry", "")

        wait_until(is_said, 60, "the remark", shoot)
        for second in range(10, 100, 10):
            shoot()
            silence.warn(begin + second)
        assert text in silence.remarks["geometry"]
        assert "set aux_homography" in silence.remarks["geometry"]
        assert sum(text in line for line in lines) == 1
        turned = (1.0, 0.0, 5.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        topics.apply(
            settings_from({"rgb_topic": "/rgb/image_raw", "aux_topic": "/aux/image_raw", "aux_homography": turned})
        )

        def is_over() -> bool:
            silence.warn(begin + 101)
            return "geometry" not in silence.remarks

        wait_until(is_over, 60, "no remark", lambda: cameras.film(6))
    finally:
        topics.destroy()
