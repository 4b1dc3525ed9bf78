"""How often the node says that a topic is silent."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from sdstrack_ros.node.health import Situation
from sdstrack_ros.node.qos import sensor_qos
from sdstrack_ros.node.silence import SilenceWatch, Stream
from sdstrack_ros.node.status import StatusReporter
from sdstrack_ros.parameters.table import Settings

if TYPE_CHECKING:
    from testkit.ros_camera import RosTest

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
