"""`sdstrack doctor` on live topics: it says what the node would, without tracking."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from std_msgs.msg import String

from ckd_core.frame import Modality
from sdstrack_ros.doctor import Finding, examine_topics
from testkit.ros.camera import Cameras

if TYPE_CHECKING:
    from testkit.ros.camera import RosTest

pytestmark = pytest.mark.ros
RGB, AUX = "/rgb/image_raw", "/aux/image_raw"


def examined(ros: RosTest, aux: str = AUX, seconds: float = 4.0, **options: int) -> list[Finding]:
    """What the doctor finds while the cameras film."""
    cameras = Cameras(ros)
    with ThreadPoolExecutor(1) as pool:
        finding = pool.submit(lambda: list(examine_topics(RGB, aux, Modality.DEPTH, seconds)))
        while not finding.done():
            cameras.film(3, **options)
        return finding.result()


def test_cameras_in_step_have_no_fault(ros: RosTest) -> None:
    found = examined(ros)
    assert [finding.subject for finding in found] == [RGB, AUX]
    assert not any(finding.is_fault for finding in found)


def test_another_clock_is_a_fault_with_its_remedy(ros: RosTest) -> None:
    (fault,) = (finding for finding in examined(ros, aux_late_ns=-90_000_000_000) if finding.is_fault)
    assert "depth is 90.0 s behind, its driver stamps with another clock" in fault.value
    assert "global_time_enabled" in fault.advice


def test_topics_that_bring_nothing_say_why(ros: RosTest) -> None:
    ros.publisher(String, "/words")
    for topic, reason in (
        ("/none", "nothing on /none within 4 s: it has no publisher"),
        ("/words", "/words is std_msgs"),
    ):
        faults = [finding for finding in examined(ros, topic) if finding.is_fault]
        assert any(reason in f"{fault.value}; {fault.advice}" for fault in faults), faults
