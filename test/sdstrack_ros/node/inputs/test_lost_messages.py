"""Images that were sent and never came are counted; nothing else is taken for one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from sdstrack_ros.node.health import Situation
from sdstrack_ros.node.inputs import lost_messages
from sdstrack_ros.node.inputs.image_topics import ImageTopics
from sdstrack_ros.node.inputs.lost_messages import LostMessages, numbered, only_publisher
from sdstrack_ros.node.status import StatusReporter
from sdstrack_ros.parameters.checks import settings_from
from testkit.ros.camera import Cameras
from testkit.ros.processes import wait_until

if TYPE_CHECKING:
    from testkit.ros.camera import RosTest

TOPICS = {"rgb_topic": "/rgb/image_raw", "aux_topic": "/aux/image_raw"}


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([7, 8, 9], [0, 0, 0]),
        ([7, 9, 13, 14], [0, 1, 3, 0]),
        ([7, 8, 8, 9], [0, 0, 0, 0]),  # the same one twice
        ([900, 1, 2, 4], [0, 0, 0, 1]),  # the driver was restarted
        ([7, None, 9], [0, None, 0]),
    ],
)
def test_a_gap_in_the_numbers_is_what_was_lost(numbers: list[int | None], lost: list[int | None]) -> None:
    messages = LostMessages(lambda: b"camera")
    assert [messages.before(number) for number in numbers] == lost


def test_the_numbers_of_another_publisher_and_of_several_are_no_gap() -> None:
    publishers = iter([b"first", b"second", None, None, b"second", b"second"])
    messages = LostMessages(lambda: next(publishers))
    # first, replaced by the second, which is joined by another and then alone again
    assert [messages.before(number) for number in (3, 40, 50, 60, 70, 72)] == [0, 0, 0, 0, 0, 1]


def test_the_publisher_is_asked_for_at_gaps_alone() -> None:
    asked: list[int] = []

    def ask() -> bytes:
        asked.append(1)
        return b"camera"

    messages = LostMessages(ask)
    for number in (*range(1, 500), 501):
        messages.before(number)
    assert len(asked) == 2


def test_without_numbers_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Node:
        executor: Any = None

    class Python(SingleThreadedExecutor):
        def __init__(self) -> None:
            """No context is needed."""

        def __del__(self) -> None:
            """Nothing to end."""

    node, got = Node(), []

    def take(message: str, number: int | None) -> None:
        got.append((message, number))

    numbered(node, take)("of a node without an executor, or with one in C++")
    node.executor = Python()
    numbered(node, take)("a", {lost_messages.NUMBER: 4})
    numbered(node, take)("b", {})
    monkeypatch.setattr(lost_messages, "Subscription", object)  # as in ROS 2 Humble
    numbered(node, take)("c")
    assert got[1:] == [("a", 4), ("b", None), ("c", None)]
    assert got[0][1] is None


@pytest.mark.ros
def test_images_that_the_queue_overwrites_are_counted(ros: RosTest) -> None:
    reporter = StatusReporter(ros.node, lambda now: (Situation("active"), {}))
    settings = settings_from({**TOPICS, "input_depth": 3})
    topics = ImageTopics(ros.node, settings, reporter, lambda source: None, lambda seconds, stamp_ns: None)
    cameras = Cameras(ros)

    def counted() -> int:
        report = reporter.health.streams(time.monotonic())["rgb"]
        assert report.lost is not None
        return report.received + report.lost

    try:
        wait_until(lambda: cameras.rgb.get_subscription_count() > 0, 30, "the subscription", ros.spin)
        wait_until(lambda: counted() > 0, 60, "the first image", lambda: cameras.film(1))
        ros.spin(0.5)
        begin, sent = counted(), 40
        for _ in range(sent):  # nobody takes them
            cameras.shoot()
        time.sleep(0.5)

        def film() -> None:
            nonlocal sent
            cameras.film(1)
            sent += 1

        wait_until(lambda: counted() > begin, 30, "the newest of them", ros.spin)
        wait_until(lambda: counted() - begin == sent, 60, "every image counted", film)
        report = reporter.health.streams(time.monotonic())["rgb"]
        assert report.lost is not None
        assert report.lost >= 37 - 1  # of the forty, three are in the queue
        assert int(reporter.health.values(time.monotonic())["rgb.lost"]) == report.lost
    finally:
        topics.destroy()


@pytest.mark.ros
def test_a_camera_that_is_restarted_or_joined_loses_nothing(ros: RosTest) -> None:
    reporter = StatusReporter(ros.node, lambda now: (Situation("active"), {}))
    settings = settings_from({**TOPICS, "input_depth": 100})  # so that nothing is lost on a slow machine
    topics = ImageTopics(ros.node, settings, reporter, lambda source: None, lambda seconds, stamp_ns: None)
    cameras = Cameras(ros)
    second = rclpy.create_node("second", context=ros.context, enable_rosout=False)

    def received() -> int:
        return reporter.health.streams(time.monotonic())["rgb"].received

    try:
        wait_until(lambda: cameras.rgb.get_subscription_count() > 0, 30, "the subscription", ros.spin)
        wait_until(lambda: received() > 4, 60, "images", lambda: cameras.film(1))
        other = second.create_publisher(Image, "/rgb/image_raw", 10)
        wait_until(lambda: ros.node.count_publishers("/rgb/image_raw") == 2, 30, "both", ros.spin)
        wait_until(lambda: other.get_subscription_count() > 0, 30, "its subscription", ros.spin)
        assert only_publisher(ros.node, "/rgb/image_raw") is None
        before = received()

        def both() -> None:
            cameras.film(1)
            other.publish(Image())
            ros.spin(0.05)

        wait_until(lambda: received() > before + 20, 60, "images of both", both)
        ros.node.destroy_publisher(cameras.rgb)
        wait_until(lambda: ros.node.count_publishers("/rgb/image_raw") == 1, 30, "the second alone", ros.spin)
        before = received()

        def alone() -> None:
            other.publish(Image())
            ros.spin(0.05)

        wait_until(lambda: received() > before + 5, 60, "its images", alone)
        assert reporter.health.streams(time.monotonic())["rgb"].lost == 0
    finally:
        second.destroy_node()
        topics.destroy()
