"""The node's input topics: what arrives is stored and paired here; images are decoded later, on the tracking thread."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from sdstrack_ros.messages.camera import CameraError, PinholeCamera
from sdstrack_ros.messages.stamps import NS_PER_S, stamp_of
from sdstrack_ros.node.faults import FaultLog, guarded
from sdstrack_ros.node.qos import NOT_NAMED_YET, on_incompatible, sensor_qos, why_silent
from sdstrack_ros.sync.filters import synchronize
from sdstrack_ros.sync.frame_builder import FrameBuilder, Rejection, aux_homography, sync_config
from sdstrack_ros.sync.message_filters_compat import SimpleFilter
from sdstrack_ros.tracking.source_frame import SourceFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.lifecycle import LifecycleNode
    from rclpy.qos import QoSProfile

    from sdstrack_ros.node.health import Health
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.sync.types import SyncedSet

POLL_S = 0.01
# A warning about a silent topic is repeated so often while it stays silent.
SILENCE_WARNING_PERIOD_S = 10.0
NAMING_PATIENCE = 3  # seconds that a publisher may stay nameless


class TopicError(TrackingError):
    """A topic that cannot be subscribed."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """One subscription: its name in the status, its resolved topic, and what it asks for."""

    name: str
    topic: str
    type_name: str
    qos: QoSProfile
    subscription: Any


class ImageTopics:
    """Subscriptions of one activation. Every callback stores; `emit` gets what leaves the synchronizer, in order."""

    def __init__(
        self,
        node: LifecycleNode,
        settings: Settings,
        faults: FaultLog,
        health: Health,
        emit: Callable[[SourceFrame], object],
        on_rewind: Callable[[str], object],
    ) -> None:
        self.faults = faults
        self._node = node
        self._health = health
        self._emit = emit
        self._on_rewind = on_rewind
        self._settings = settings
        self._modality = Modality(settings.modality)
        self._packets = _reads_packets(settings)
        self._aux_name = "events" if self._packets else "aux"
        self.camera: PinholeCamera | None = None
        self._sequence = 0
        self._warned_at: dict[str, float] = {}
        self._incompatible: dict[str, int] = {}  # streams with publishers still to be named, and how often it was tried
        self._color_source, self._aux_source = SimpleFilter(), SimpleFilter()
        self._sync = synchronize(
            self._color_source,
            self._aux_source,
            settings.sync_policy,
            sync_config(settings),
            self._packets,
            self._on_broken_packet,
        )
        self._sync.registerCallback(self._release)
        self._streams: list[_Stream] = []
        try:
            self._subscribe(settings)
            self._builder = self._frame_builder(settings)
        except Exception:
            self._unsubscribe()  # nobody else knows of them
            raise
        self._timer = node.create_timer(POLL_S, self._on_poll, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def destroy(self) -> None:
        """Unsubscribe; the mirror image of creation."""
        self._node.destroy_timer(self._timer)
        self._unsubscribe()

    def apply(self, settings: Settings) -> None:
        """Take over what may change at run time."""
        self._settings = settings
        self._builder = self._frame_builder(settings)
        self._sync.configure(sync_config(settings))

    @property
    def image_topics(self) -> tuple[str, ...]:
        """Topics without any of which there is nothing to track in."""
        return tuple(stream.topic for stream in self._streams if stream.name != "camera_info")

    def silences(self, now: float) -> Mapping[str, float]:
        """Topics that are silent for longer than the parameter says, and for how long.

        camera_info counts among them while 3-D boxes wait for the first one; a calibration holds until the next.
        """
        wanted = self._modality is Modality.DEPTH and self._settings.publish_3d and self.camera is None
        topics = {stream.name: stream.topic for stream in self._streams if stream.name != "camera_info" or wanted}
        silent = self._health.silent(now, self._settings.stale_after_s)
        return {topics[name]: seconds for name, seconds in silent.items() if name in topics}

    def unanswered(self, now: float) -> str:
        """Why images come and no frame is answered for longer than a topic may be silent; '' while they are."""
        return self._health.unanswered(now, ("rgb", self._aux_name), self._settings.stale_after_s)

    def warn_about_silence(self, now: float) -> None:
        """Log why topics are silent or nothing is made of them, each at most every 10 s. Call it once a second."""
        self._tell_incompatible()
        silences = self.silences(now)
        for stream in self._streams:
            if self._warning_due(stream.topic, stream.topic in silences, now):
                reason = why_silent(self._node, stream.topic, stream.qos, stream.type_name)
                if stream.name == "camera_info":
                    reason += "; no 3-D boxes come without it, set publish_3d to false if none are wanted"
                self._node.get_logger().warning(
                    f"nothing on {stream.topic} for {silences[stream.topic]:.1f} s: {reason}"
                )
        unanswered = self.unanswered(now)
        if self._warning_due("answers", bool(unanswered), now):
            self._node.get_logger().warning(unanswered)

    def _warning_due(self, what: str, wrong: bool, now: float) -> bool:
        if not wrong:
            self._warned_at.pop(what, None)
            return False
        if now - self._warned_at.get(what, -SILENCE_WARNING_PERIOD_S) < SILENCE_WARNING_PERIOD_S:
            return False
        self._warned_at[what] = now
        return True

    def _unsubscribe(self) -> None:
        for stream in reversed(self._streams):
            self._node.destroy_subscription(stream.subscription)
        self._streams = []
        self._health.unwatch_all()

    def _subscribe(self, settings: Settings) -> None:
        depth = settings.input_depth
        compressed = settings.transport == "compressed"
        kind = CompressedImage if compressed else Image
        aux_suffix = "/compressedDepth" if self._modality is Modality.DEPTH else "/compressed"
        self._stream("rgb", kind, settings.rgb_topic, "/compressed" * compressed, depth, self._on_color)
        if self._packets:
            self._stream("events", _event_packet(), settings.events_topic, "", settings.events_depth, self._on_aux)
        else:
            self._stream("aux", kind, settings.aux_topic, aux_suffix * compressed, depth, self._on_aux)
        self._stream("camera_info", CameraInfo, settings.camera_info_topic, "", depth, self._on_info)

    def _stream(
        self, name: str, kind: Any, topic: str, suffix: str, depth: int, callback: Callable[[Any], None]
    ) -> None:
        # image_transport's rule: the base name is remapped, then the transport's name is appended.
        resolved = self._node.resolve_topic_name(topic) + suffix
        qos = sensor_qos(self._settings.input_reliability, depth)
        type_name = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
        self._health.watch(name, resolved, time.monotonic())
        subscription = self._node.create_subscription(
            kind,
            resolved,
            callback,
            qos,
            event_callbacks=on_incompatible(lambda: self._on_incompatible_qos(name)),
        )
        self._streams.append(_Stream(name, resolved, type_name, qos, subscription))

    @guarded("incompatible QoS")
    def _on_incompatible_qos(self, name: str) -> None:
        self._health.count("incompatible_qos")
        self._incompatible[name] = 0
        self._tell_incompatible()

    def _tell_incompatible(self) -> None:
        """Name the publishers that do not fit, as soon as discovery knows whose they are."""
        for stream in self._streams:
            if stream.name not in self._incompatible:
                continue
            text = why_silent(self._node, stream.topic, stream.qos, stream.type_name)
            self._incompatible[stream.name] += 1
            if NOT_NAMED_YET not in text or self._incompatible[stream.name] > NAMING_PATIENCE:
                del self._incompatible[stream.name]
                self.faults.record(f"QoS of {stream.topic}", text)

    @guarded("rgb topic")
    def _on_color(self, message: Any) -> None:
        self._take("rgb", message, self._color_source)

    @guarded("aux topic")
    def _on_aux(self, message: Any) -> None:
        self._take(self._aux_name, message, self._aux_source)

    def _on_broken_packet(self, error: Exception) -> None:
        self._health.rejected("events")
        self.faults.record(self._topic("events"), str(error))

    @guarded("camera_info topic")
    def _on_info(self, message: CameraInfo) -> None:
        self._health.arrived("camera_info", time.monotonic())
        try:
            self.camera = PinholeCamera.from_message(message)
        except CameraError as error:
            self._health.rejected("camera_info")
            self.faults.record(self._topic("camera_info"), str(error))

    def _take(self, name: str, message: Any, source: SimpleFilter) -> None:
        self._health.arrived(name, time.monotonic())
        if stamp_of(message) <= 0:
            topic, reason = self._topic(name), "header.stamp is 0; the driver has to fill it in, frames pair by it"
            self._health.rejected(name, f"{topic}: {reason}")
            self.faults.record(topic, reason)
            return
        source.signalMessage(message)

    @guarded("synchronizer")
    def _on_poll(self) -> None:
        deadline_ns = self._sync.next_deadline_ns
        if deadline_ns is not None and deadline_ns <= time.monotonic_ns():
            self._sync.poll()

    def _release(self, synced: SyncedSet) -> None:
        if synced.jumped_back_ns:
            self._on_rewind(f"by {synced.jumped_back_ns / NS_PER_S:.2f} s")
        if synced.skew_ns is not None:
            self._health.paired(synced.skew_ns / NS_PER_S)
        self._emit(SourceFrame(self._sequence, synced, self._builder, self._on_rejection))
        self._sequence += 1

    @property
    def counters(self) -> Mapping[str, int]:
        """What the synchronizer made of everything that came in."""
        return {
            name: value for name, value in dataclasses.asdict(self._sync.counters).items() if isinstance(value, int)
        }

    def _on_rejection(self, rejection: Rejection) -> None:
        """Count and log an image that cannot be used; called on the tracking thread."""
        reason = rejection.reason.removeprefix(f"{rejection.topic}: ")
        name = self._aux_name if rejection.stream == "aux" else rejection.stream
        self._health.rejected(name, f"{rejection.topic}: {reason}")
        self.faults.record(rejection.topic, reason)

    def _frame_builder(self, settings: Settings) -> FrameBuilder:
        return FrameBuilder(
            self._modality,
            self._topic("rgb"),
            self._topic(self._aux_name),
            aux_from_reference=aux_homography(settings),
            depth_unit_m=settings.depth_unit_m,
        )

    def _topic(self, name: str) -> str:
        return next((stream.topic for stream in self._streams if stream.name == name), name)


def check_topics(node: LifecycleNode, settings: Settings) -> None:
    """Try whether the streams can be subscribed and paired as asked.

    Raises:
        SyncError: a policy of message_filters where that is not installed, or for event packets.
        TopicError: a topic's name that ROS does not allow, or event packets without event_camera_msgs.

    """
    packets = _reads_packets(settings)
    synchronize(SimpleFilter(), SimpleFilter(), settings.sync_policy, sync_config(settings), packets)
    for parameter in ("rgb_topic", "events_topic" if packets else "aux_topic", "camera_info_topic"):
        topic = getattr(settings, parameter)
        try:
            node.resolve_topic_name(topic)
        except (RuntimeError, ValueError) as error:
            raise TopicError(f"{parameter} '{topic}' is no name of a topic: {error}") from error
    if packets:
        _event_packet()


def _reads_packets(settings: Settings) -> bool:
    return bool(settings.modality == Modality.EVENT.value and settings.event_input == "packets")


def _event_packet() -> Any:
    try:
        from event_camera_msgs.msg import EventPacket
    except ImportError as error:
        raise TopicError(
            f"event packets need the package event_camera_msgs ({error}; apt: ros-$ROS_DISTRO-event-camera-msgs);"
            " or take ready-made event images with event_input 'image'"
        ) from error
    return EventPacket
