"""Why pairs do not come, in ~/status and in the log; test_pair_watch.py tries more causes on recordings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import Image

from testkit.ros.camera import image_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros
NS_PER_S = 1_000_000_000
WARN = b"\x01"


def says(rig: Rig, *texts: str) -> Callable[[], bool]:
    return lambda: rig.ros.status is not None and all(text in rig.ros.status.message for text in texts)


def test_another_clock_is_named_in_status_and_log(rig: Rig) -> None:
    rig.active()
    texts = ("no colour frame finds a depth partner: depth is 3.", "s behind, its driver stamps with another clock")
    rig.film_until(says(rig, *texts), "a status that names the clock", aux_late_ns=-round(3.2 * NS_PER_S))
    assert rig.ros.status.level == WARN
    assert "global_time_enabled" in rig.ros.value("pairs.pairing")
    rig.until(lambda: "its driver stamps with another clock" in rig.process.output, "the same in the log")
    rig.film_until(lambda: not says(rig, "another clock")(), "a status without the clock, once it is right")


def test_a_second_publisher_is_named_with_the_first(rig: Rig) -> None:
    rig.active()
    second = rclpy.create_node("rear_camera", context=rig.ros.context, enable_rosout=False)
    try:
        second.create_publisher(Image, "/rgb/image_raw", 10)
        said = says(rig, "2 publishers on /rgb/image_raw: '/rear_camera', '/test'; their images mix, remap all but one")

        def film_and_name_again() -> None:
            rig.ros.name_nodes_again()
            rig.cameras.film(3)

        rig.send_until(film_and_name_again, said, "a status that names both publishers")
        line = "2 publishers on /rgb/image_raw: '/rear_camera', '/test'"
        rig.until(lambda: line in rig.process.output, "the same in the log")
    finally:
        second.destroy_node()
    rig.film_until(lambda: not says(rig, "2 publishers")(), "a status without the second publisher")


def test_depth_of_another_aspect_is_named_once_with_both_sizes(rig: Rig) -> None:
    rig.active()
    depth = np.full((576, 640), 2000, np.uint16)
    text = "depth of 640 x 576 pixels, frame_id 'depth_camera_link', beside colour of 640 x 480"
    deadline = time.monotonic() + 60
    while not says(rig, text, "set aux_homography")():
        assert time.monotonic() < deadline, rig.process.output[-3000:]
        message = image_message(depth, "16UC1", rig.cameras.shoot(aux=False))
        message.header.frame_id = "depth_camera_link"
        rig.cameras.aux.publish(message)
        rig.ros.spin(0.05)
    rig.until(lambda: text in rig.process.output, "the same in the log")
    assert rig.process.output.count(text) == 1
