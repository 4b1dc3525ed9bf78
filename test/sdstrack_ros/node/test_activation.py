"""Transitions that fail and topics that stay silent: a node in the test's own process, whose tracker has no network."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ckd_core.frame import BoundingBox
from sdstrack_ros.node import configured, tracker_node
from sdstrack_ros.node.health import Level, Situation, judge
from sdstrack_ros.node.inputs.image_topics import ImageTopics
from sdstrack_ros.tracking.target_requests import BoxRequest, ResetRequest
from sdstrack_ros.tracking.warm_tracker import WarmTracker
from testkit.session_bench import source_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.ros.camera import RosTest

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
OK, ERROR = bytes([0]), bytes([2])
TOPICS = {"/rgb/image_raw", "/aux/image_raw", "/camera_info"}


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    idle: Any = SimpleNamespace(reset=lambda: None, kept_bytes=0)
    idle.multi = idle
    idle.engine = SimpleNamespace(name="none", device="cpu", chosen_by="", trouble="")
    warm = WarmTracker(idle, idle, "none", "none")
    monkeypatch.setattr(configured, "build_warm_tracker", lambda _: warm)


class Watched:
    """A node and its last message on ~/status."""

    def __init__(self, node: tracker_node.TrackerNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.status = DiagnosticStatus()
        monkeypatch.setattr(node._reporter._status, "publish", self._hear)

    def _hear(self, message: DiagnosticStatus) -> None:
        self.status = message

    def value(self, key: str) -> str:
        return next(pair.value for pair in self.status.values if pair.key == key)

    def subscribed(self) -> list[str]:
        """Camera topics that the node subscribes to, one entry per subscription."""
        return sorted(s.topic_name for s in self.node.subscriptions if s.topic_name in TOPICS)


@pytest.fixture
def create(ros: RosTest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that creates a node with the given parameters."""
    nodes = []

    def start(**values: Any) -> Watched:
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        nodes.append(tracker_node.TrackerNode(context=ros.context, parameter_overrides=overrides))
        return Watched(nodes[-1], monkeypatch)

    yield start
    for node in nodes:
        node.finish()
        node.destroy_node()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"aux_topic": "/depth//image"}, "aux_topic '/depth//image' is not a valid topic name"),
        ({"camera_info_topic": ""}, "camera_info_topic '' is not a valid topic name: "),
        ({"modality": "event", "events_topic": "my events"}, "events_topic 'my events' is not a valid topic name"),
    ],
)
def test_an_invalid_topic_name_is_refused_when_configured(create: Any, values: dict[str, Any], reason: str) -> None:
    node = create(**values)
    assert node.node.trigger_configure() == FAILURE
    assert reason in node.status.message
    assert node.status.level == ERROR


def test_event_packets_without_their_messages_are_refused_when_configured(
    create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "event_camera_msgs.msg", None)
    node = create(modality="event")
    assert node.node.trigger_configure() == FAILURE
    assert "need the package event_camera_msgs" in node.status.message


@contextmanager
def broken_second_stream() -> Iterator[None]:
    """The second subscription of every activation fails, as when the middleware refuses it."""
    subscribe = ImageTopics._stream

    def stream(self: ImageTopics, name: str, *rest: Any) -> None:
        if name == "aux":
            raise RuntimeError("no more memory for subscriptions")
        subscribe(self, name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageTopics, "_stream", stream)
        yield


def test_images_that_the_tracker_keeps_are_counted_and_an_activation_begins_without_any(
    create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle: Any = SimpleNamespace(kept_bytes=7_000_000, reset=lambda: setattr(idle, "kept_bytes", 0))
    idle.multi = idle
    idle.engine = SimpleNamespace(name="none", device="cpu", chosen_by="", trouble="")
    monkeypatch.setattr(configured, "build_warm_tracker", lambda _: WarmTracker(idle, idle, "none", "none"))
    node = create()
    assert node.node.trigger_configure() == SUCCESS
    assert node.node.trigger_activate() == SUCCESS
    active = node.node._active
    assert active is not None
    assert active.memory["memory.tracker_mb"] == "0.0"
    idle.kept_bytes = 5_000_000
    assert active.memory["memory.tracker_mb"] == "5.0"
    active._on_source(source_frame(0))
    assert active._history.elsewhere_bytes >= 5_000_000


def test_an_activation_that_fails_halfway_leaves_nothing_and_says_why(create: Any) -> None:
    node = create()
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


def test_a_request_that_outlives_deactivation_keeps_the_tracker_to_itself(
    create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()

    def reset() -> None:
        entered.set()
        release.wait(60)

    watched = create()
    node = watched.node
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    node._configured.warm.tracker.reset = reset
    node._active.submit(ResetRequest("reset"))
    assert entered.wait(30)
    node._active.submit(BoxRequest("init_roi", BoundingBox(0.0, 0.0, 20.0, 20.0)))
    waiting: Any = SimpleNamespace(sequence=0)
    assert node._active.worker.offer(waiting) is None
    assert node.trigger_deactivate() == SUCCESS, "which does not wait for it"
    assert node._reporter.health.counts()["dropped"] == 1, "the frame that waited is counted"
    assert watched.subscribed() == []
    assert watched.value("last_request") == "init_roi refused: the node was deactivated before it could be served"
    monkeypatch.setattr(configured, "TRACKER_PATIENCE_S", 0.1)
    assert node.trigger_activate() == FAILURE
    assert watched.status.message == "inactive; activate failed: still processing an earlier frame; try again"
    assert watched.subscribed() == []
    release.set()
    monkeypatch.setattr(configured, "TRACKER_PATIENCE_S", 30.0)
    assert node.trigger_activate() == SUCCESS
    assert (watched.status.message, watched.subscribed()) == ("no target", sorted(TOPICS))
    assert watched.value("last_request") == "reset accepted: there was no target", "it was, after all"


class Lines:
    """A logger's warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_a_missing_camera_info_is_reported_while_3d_boxes_need_it(create: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = create(camera_info_topic="/wrong/camera_info")
    assert node.node.trigger_configure() == SUCCESS
    assert node.node.trigger_activate() == SUCCESS
    images, lines = node.node._active.images, Lines()
    monkeypatch.setattr(node.node, "get_logger", lambda: lines)
    later = time.monotonic() + 3.0
    for name in ("rgb", "aux"):
        node.node._reporter.health.arrived(name, later)
    assert list(images.silence.silences(later)) == ["/wrong/camera_info"]
    situation = Situation("active", "TRACKING", images.silence.silences(later), images.silence.image_topics)
    verdict = judge(situation)
    assert verdict.level is Level.WARN
    assert verdict.message.startswith("TRACKING; nothing on /wrong/camera_info for 3.")
    images.silence.warn(later)
    assert len(lines.warnings) == 1
    assert (
        "it has no publisher; check the name and the remapping; without it there are no 3-D boxes" in lines.warnings[0]
    )
    for moment, count in ((later + 9.0, 1), (later + 10.5, 2)):
        for name in ("rgb", "aux"):
            node.node._reporter.health.arrived(name, moment)
        images.silence.warn(moment)
        assert len(lines.warnings) == count, "the same warning comes at most every 10 s"
    later += 10.5
    images.apply(replace(node.node.settings, publish_3d=False))
    assert not images.silence.silences(later)
    images.apply(node.node.settings)
    images._on_info(CameraInfo(width=640, height=480, k=[500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]), None)
    assert not images.silence.silences(later + 1.0).keys() - {"/rgb/image_raw", "/aux/image_raw"}, "a calibration holds"


def test_other_sensors_than_depth_need_no_camera_info(create: Any) -> None:
    node = create(modality="thermal")
    assert node.node.trigger_configure() == SUCCESS
    assert node.node.trigger_activate() == SUCCESS
    silences = node.node._active.images.silence.silences(time.monotonic() + 3.0)
    assert sorted(silences) == ["/aux/image_raw", "/rgb/image_raw"]


def test_the_timer_of_the_synchronizer_runs_only_while_an_image_waits(create: Any, ros: RosTest) -> None:
    node = create(max_wait_s=0.1).node
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    images, counts = node._active.images, node._reporter.health.counts
    assert images._timer.is_canceled(), "nothing has come yet"
    executor = SingleThreadedExecutor(context=ros.context)
    executor.add_node(node)
    try:
        for number in (1, 2):
            header = Header(stamp=Time(sec=1, nanosec=number * 100_000_000))
            images._on_color(Image(header=header, height=2, width=2, encoding="rgb8", step=6), None)
            assert not images._timer.is_canceled(), "it waits for its partner"
            patience = time.monotonic() + 30.0
            while counts().get("frames", 0) < number and time.monotonic() < patience:
                executor.spin_once(timeout_sec=0.1)
            assert counts()["frames"] == number, "it was released without a partner"
            assert images._timer.is_canceled()
    finally:
        executor.remove_node(node)
        executor.shutdown()
