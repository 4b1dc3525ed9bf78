"""Warns when topics stay silent, when a publisher's QoS does not fit, and when images lead to no result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.frame import Modality
from sdstrack_ros.node.inputs.qos import NOT_NAMED_YET, several_publishers, why_silent
from sdstrack_ros.node.log import Log
from sdstrack_ros.sync.pair_watch import FRAMES, GEOMETRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rclpy.lifecycle import LifecycleNode
    from rclpy.qos import QoSProfile

    from sdstrack_ros.node.status import StatusReporter
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.sync.pair_watch import PairWatch

# While its cause lasts, a warning is repeated after the first time, then after twice that, and so on up to the second.
WARNING_PERIOD_S, MAX_WARNING_PERIOD_S = 10.0, 600.0
NAMING_PATIENCE = 3  # seconds that a publisher may stay nameless
CAMERA_INFO = "camera_info"
ONCE = (GEOMETRY, FRAMES)  # how the cameras are mounted does not change; ~/status goes on saying it


@dataclass(frozen=True, slots=True)
class Stream:
    """One subscription: its name in the status, its resolved topic, and what it asks for."""

    name: str
    topic: str
    type_name: str
    qos: QoSProfile


class SilenceWatch:
    """Watches the streams of one activation. All methods are for the executor's thread, except those of a status.

    Attributes:
        settings: the parameters, as they are now.
        calibrated: whether a camera_info has come; one calibration holds until the next.
        pair_watch: why pairs do not come; None where nobody watches.
        remarks: what it said last, by kind, and which topics have several publishers.

    """

    def __init__(self, node: LifecycleNode, settings: Settings, reporter: StatusReporter) -> None:
        self.settings = settings
        self.calibrated = False
        self.pair_watch: PairWatch | None = None
        self.remarks: Mapping[str, str] = {}
        self._node = node
        self._health = reporter.health
        self._faults = reporter.faults
        self._streams: tuple[Stream, ...] = ()
        self._next_warning: dict[str, tuple[float, float]] = {}  # when, and how long after that the one after it
        self._incompatible: dict[str, int] = {}  # streams with publishers still to be named, and how often it was tried

    def watch(self, stream: Stream) -> None:
        """Begin to watch a stream."""
        self._streams += (stream,)
        self._health.watch(stream.name, stream.topic, time.monotonic())

    def unwatch_all(self) -> None:
        """Forget the streams."""
        self._streams = ()
        self._health.unwatch_all()

    @property
    def image_topics(self) -> tuple[str, ...]:
        """Topics of which at least one is needed to track."""
        return tuple(stream.topic for stream in self._streams if stream.name != CAMERA_INFO)

    def silences(self, now: float) -> Mapping[str, float]:
        """Seconds of silence of the topics that are silent for longer than the parameter allows.

        camera_info counts among them only while 3-D boxes wait for the first one.
        """
        depth = self.settings.modality == Modality.DEPTH.value
        info_due = depth and self.settings.publish_3d and not self.calibrated
        topics = {stream.name: stream.topic for stream in self._streams if stream.name != CAMERA_INFO or info_due}
        silent = self._health.silent(now, self.settings.stale_after_s)
        return {topics[name]: seconds for name, seconds in silent.items() if name in topics}

    def unanswered(self, now: float) -> str:
        """Why images have led to no result for longer than the parameter allows; '' while they do."""
        names = [stream.name for stream in self._streams if stream.name != CAMERA_INFO]
        return self._health.unanswered(now, names, self.settings.stale_after_s)

    def warn(self, now: float) -> None:
        """Log why topics are silent or images lead to no result, each ever more seldom. Call it once a second."""
        self._name_incompatible()
        silences = self.silences(now)
        for stream in self._streams:
            if self._is_due(stream.topic, stream.topic in silences, now):
                reason = why_silent(self._node, stream.topic, stream.qos, stream.type_name)
                if stream.name == CAMERA_INFO:
                    reason += "; without it there are no 3-D boxes, set publish_3d to false if none are wanted"
                Log(self._node).warning(f"nothing on {stream.topic} for {silences[stream.topic]:.1f} s: {reason}")
        self._warn_of_pairs(now)
        unanswered = self.unanswered(now)
        if self._is_due("results", bool(unanswered), now):
            Log(self._node).warning(unanswered)

    def _warn_of_pairs(self, now: float) -> None:
        """Log why pairs do not come, and who else publishes on the topics."""
        before = self.remarks
        remarks = dict(self.pair_watch.remarks()) if self.pair_watch is not None else {}
        for stream in self._streams:
            text = several_publishers(self._node, stream.topic)
            if text:
                remarks[f"publishers of {stream.topic}"] = text
        self.remarks = remarks
        for kind in {*before, *remarks}:
            said = kind in ONCE and before.get(kind) == remarks.get(kind)
            if self._is_due(kind, kind in remarks, now) and not said:
                Log(self._node).warning(remarks[kind])

    def on_incompatible(self, name: str) -> None:
        """Note that a publisher offers the stream `name` less than the subscription asks for, and say which one."""
        self._health.count("incompatible_qos")
        self._incompatible[name] = 0
        self._name_incompatible()

    def _name_incompatible(self) -> None:
        """Name the publishers that do not fit as soon as discovery knows their nodes."""
        for stream in self._streams:
            if stream.name not in self._incompatible:
                continue
            text = why_silent(self._node, stream.topic, stream.qos, stream.type_name)
            self._incompatible[stream.name] += 1
            if NOT_NAMED_YET not in text or self._incompatible[stream.name] > NAMING_PATIENCE:
                del self._incompatible[stream.name]
                self._faults.record(f"QoS of {stream.topic}", text)

    def _is_due(self, cause: str, present: bool, now: float) -> bool:
        if not present:
            self._next_warning.pop(cause, None)
            return False
        due, period = self._next_warning.get(cause, (now, WARNING_PERIOD_S))
        if now < due:
            return False
        self._next_warning[cause] = (now + period, min(2 * period, MAX_WARNING_PERIOD_S))
        return True
