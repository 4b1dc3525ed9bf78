"""A node that cannot subscribe as asked, or hears nothing: in the test's own process, with a tracker of no network."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo

from sdstrack_ros.node import tracker_node
from sdstrack_ros.node.health import Level, Situation, judge
from sdstrack_ros.node.image_topics import ImageTopics
from sdstrack_ros.tracking.warm_tracker import WarmTracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.ros_camera import RosTest

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
OK, ERROR = bytes([0]), bytes([2])
TOPICS = {"/rgb/image_raw", "/aux/image_raw", "/camera_info"}


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    idle: Any = SimpleNamespace(reset=lambda: None)
    warm = WarmTracker(idle, idle, "none", "cpu", "none", "none")
    monkeypatch.setattr(tracker_node, "build_warm_tracker", lambda _: warm)


class Told:
    """A node and what it last said on ~/status."""

    def __init__(self, node: tracker_node.TrackerNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.status = DiagnosticStatus()
        monkeypatch.setattr(node._reporter._status, "publish", self._hear)

    def _hear(self, message: DiagnosticStatus) -> None:
        self.status = message

    def subscribed(self) -> list[str]:
        """Topics of the cameras that it listens to, one entry for each subscription."""
        return sorted(s.topic_name for s in self.node.subscriptions if s.topic_name in TOPICS)


@pytest.fixture
def told(ros: RosTest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a node with parameters."""
    nodes = []

    def start(**values: Any) -> Told:
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        nodes.append(tracker_node.TrackerNode(context=ros.context, parameter_overrides=overrides))
        return Told(nodes[-1], monkeypatch)

    yield start
    for node in nodes:
        node.finish()
        node.destroy_node()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"aux_topic": "/depth//image"}, "aux_topic '/depth//image' is no name of a topic"),
        ({"camera_info_topic": ""}, "camera_info_topic '' is no name of a topic: "),
        ({"modality": "event", "events_topic": "my events"}, "events_topic 'my events' is no name of a topic"),
    ],
)
def test_a_topic_that_cannot_be_is_refused_when_configured(told: Any, values: dict[str, Any], reason: str) -> None:
    node = told(**values)
    assert node.node.trigger_configure() == FAILURE
    assert reason in node.status.message
    assert node.status.level == ERROR


def test_event_packets_without_their_messages_are_refused_when_configured(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "event_camera_msgs.msg", None)
    node = told(modality="event")
    assert node.node.trigger_configure() == FAILURE
    assert "need the package event_camera_msgs" in node.status.message


@contextmanager
def broken_second_stream() -> Iterator[None]:
    """Whatever else a middleware may refuse: the second subscription of every activation fails."""
    subscribe = ImageTopics._stream

    def stream(self: ImageTopics, name: str, *rest: Any) -> None:
        if name == "aux":
            raise RuntimeError("no more memory for subscriptions")
        subscribe(self, name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageTopics, "_stream", stream)
        yield


def test_an_activation_that_fails_halfway_leaves_nothing_and_says_why(told: Any) -> None:
    node = told()
    for _ in range(3):
        assert node.node.trigger_configure() == SUCCESS
        with broken_second_stream():
            assert node.node.trigger_activate() != SUCCESS
        assert node.subscribed() == []
        assert node.status.message == ("unconfigured; activate failed: RuntimeError: no more memory for subscriptions")
        assert node.status.level == ERROR
    assert node.node.trigger_configure() == SUCCESS
    assert (node.status.message, node.status.level) == ("inactive", OK)
    assert node.node.trigger_activate() == SUCCESS
    assert node.subscribed() == sorted(TOPICS)


class Lines:
    """A logger's warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_a_missing_camera_info_is_told_while_3d_boxes_wait_for_it(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = told(camera_info_topic="/wrong/camera_info")
    assert node.node.trigger_configure() == SUCCESS
    assert node.node.trigger_activate() == SUCCESS
    inputs, lines = node.node._inputs, Lines()
    monkeypatch.setattr(node.node, "get_logger", lambda: lines)
    later = time.monotonic() + 3.0
    for name in ("rgb", "aux"):
        node.node._health.arrived(name, later)
    assert list(inputs.silences(later)) == ["/wrong/camera_info"]
    situation = Situation("active", "TRACKING", inputs.silences(later), inputs.image_topics)
    verdict = judge(situation)
    assert verdict.level is Level.WARN
    assert verdict.message.startswith("TRACKING; nothing on /wrong/camera_info for 3.")
    inputs.warn_about_silence(later)
    assert len(lines.warnings) == 1
    assert "nobody publishes it; check the name and the remapping; no 3-D boxes come without it" in lines.warnings[0]
    inputs.apply(replace(node.node.settings, publish_3d=False))
    assert not inputs.silences(later)
    inputs.apply(node.node.settings)
    inputs._on_info(CameraInfo(width=640, height=480, k=[500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]))
    assert not inputs.silences(later + 1.0).keys() - {"/rgb/image_raw", "/aux/image_raw"}, "a calibration holds"


def test_other_sensors_than_depth_need_no_camera_info(told: Any) -> None:
    node = told(modality="thermal")
    assert node.node.trigger_configure() == SUCCESS
    assert node.node.trigger_activate() == SUCCESS
    silences = node.node._inputs.silences(time.monotonic() + 3.0)
    assert sorted(silences) == ["/aux/image_raw", "/rgb/image_raw"]
