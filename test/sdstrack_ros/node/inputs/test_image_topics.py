"""Until when images wait for their partners is known to whoever decides whether an old frame is worth its answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sdstrack_ros.node.health import Situation
from sdstrack_ros.node.inputs.image_topics import ImageTopics
from sdstrack_ros.node.status import StatusReporter
from sdstrack_ros.parameters.checks import settings_from
from testkit.ros.camera import image_message
from testkit.ros.processes import wait_until

if TYPE_CHECKING:
    from sdstrack_ros.sync.frame_builder import SourceFrame
    from testkit.ros.camera import RosTest

MAX_WAIT_S = 0.4


@pytest.mark.ros
def test_held_until_is_when_the_first_waiting_image_leaves_alone(ros: RosTest) -> None:
    reporter = StatusReporter(ros.node, lambda now: (Situation("active"), {}))
    released: list[SourceFrame] = []
    settings = settings_from({"max_wait_s": MAX_WAIT_S})
    topics = ImageTopics(ros.node, settings, reporter, released.append, lambda seconds, stamp_ns: None)
    try:
        assert topics.held_until == 0
        begin = time.monotonic()
        stamp_ns = ros.node.get_clock().now().nanoseconds
        topics._on_color(image_message(np.zeros((48, 64, 3), np.uint8), "rgb8", stamp_ns), None)
        assert begin + MAX_WAIT_S <= topics.held_until <= time.monotonic() + MAX_WAIT_S
        assert not released
        wait_until(lambda: bool(released), 30, "the image alone", ros.spin)
        assert topics.held_until == 0
    finally:
        topics.destroy()
