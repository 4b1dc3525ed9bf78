"""The node's input topics: what arrives is stored and paired here; images are decoded later, on the tracking thread."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from sdstrack_ros.messages.camera import CameraError, PinholeCamera
from sdstrack_ros.messages.header_texts import unusable_text
from sdstrack_ros.messages.stamps import NS_PER_S, stamp_of
from sdstrack_ros.node.faults import guarded
from sdstrack_ros.node.heap import room_for_images
from sdstrack_ros.node.inputs.lost_messages import LostMessages, numbered, only_publisher
from sdstrack_ros.node.inputs.qos import sensor_qos, subscribe
from sdstrack_ros.node.inputs.queue_memory import QueueMemory
from sdstrack_ros.node.inputs.serialized_image import SerializedImageError, read_image
from sdstrack_ros.node.inputs.silence import CAMERA_INFO, SilenceWatch, Stream
from sdstrack_ros.sync.filters import synchronize
from sdstrack_ros.sync.frame_builder import (
    IMAGE_SHARE,
    FrameBuilder,
    Rejection,
    aux_homography,
    memory_bytes,
    sync_config,
    thermal_range,
)
from sdstrack_ros.sync.message_filters_compat import SimpleFilter
from sdstrack_ros.sync.pair_watch import PairWatch
from sdstrack_ros.sync.stamp_guard import StampGuard
from sdstrack_ros.sync.types import message_bytes
from sdstrack_ros.tracking.source_frame import SourceFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.node.status import StatusReporter
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.sync.types import SyncedSet

POLL_S = 0.01


class TopicError(TrackingError):
    """A topic that cannot be subscribed."""


class ImageTopics:
    """Subscriptions of one activation to the cameras. Callbacks only store.

    Attributes:
        camera: the last calibration; None before the first.
        held_until: steady time [s] until which images wait for their partners at the longest, 0 where none does; may be
            read by other threads.
        silence: what is said about topics on which nothing comes, and about pairs that do not come.
        watch: why pairs do not come.

    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: Settings,
        reporter: StatusReporter,
        emit: Callable[[SourceFrame], object],
        on_rewind: Callable[[float, int], object],
    ) -> None:
        """Subscribe; nothing stays behind when that fails.

        Args:
            node: owner of the subscriptions.
            settings: the values of all parameters.
            reporter: counts what arrives and what cannot be used.
            emit: receives each frame that the synchronizer releases, in order.
            on_rewind: receives the seconds of a jump back in time and the stamp [ns] after it, before the first frame
                after it.

        """
        self.faults = reporter.faults
        self.camera: PinholeCamera | None = None
        self.held_until = 0.0
        self.silence = SilenceWatch(node, settings, reporter)
        self._node = node
        self._health = reporter.health
        self._emit = emit
        self._on_rewind = on_rewind
        self._modality = Modality(settings.modality)
        self._reliability = settings.input_reliability
        self._packets = _reads_packets(settings)
        self._aux_name = "events" if self._packets else "aux"
        self._sequence = 0
        self._color_source, self._aux_source = SimpleFilter(), SimpleFilter()
        self._guard = StampGuard(sync_config(settings), settings.max_clock_offset_s)
        self._sync = synchronize(
            self._color_source,
            self._aux_source,
            settings.sync_policy,
            sync_config(settings),
            self._packets,
            self._on_broken_packet,
        )
        self._sync.registerCallback(self._release)
        self._queues = {name: QueueMemory(settings.input_depth) for name in ("rgb", "aux")}
        self._largest_image = 0  # in bytes
        self._subscriptions: list[Any] = []
        self._topics: dict[str, str] = {}
        self._lost: dict[str, LostMessages] = {}
        try:
            self._subscribe(settings)
            self.watch = PairWatch(
                sync_config(settings),
                self._topics["rgb"],
                self._topics[self._aux_name],
                settings.modality,
                packets=self._packets,
                registered=aux_homography(settings) is not None,
            )
            self.silence.pair_watch = self.watch
            self._builder = self._frame_builder(settings)
        except Exception:
            self._unsubscribe()
            raise
        self._timer = node.create_timer(POLL_S, self._on_poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._poll_while_something_waits()

    def destroy(self) -> None:
        """Unsubscribe; the mirror image of creation."""
        self._node.destroy_timer(self._timer)
        self._unsubscribe()

    def apply(self, settings: Settings) -> None:
        """Take over what may change at run time."""
        self.silence.settings = settings
        self._builder = self._frame_builder(settings)
        self._sync.configure(sync_config(settings))
        self.watch.config, self.watch.registered = sync_config(settings), aux_homography(settings) is not None
        self._guard.config, self._guard.max_clock_offset_s = sync_config(settings), settings.max_clock_offset_s

    @property
    def counters(self) -> Mapping[str, int]:
        """What the synchronizer made of everything that came in."""
        return {
            name: value for name, value in dataclasses.asdict(self._sync.counters).items() if isinstance(value, int)
        }

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the messages that wait for their partners."""
        return self._sync.nbytes

    @property
    def middleware_bytes(self) -> int:
        """Most that the middleware's queues hold of images, and the copies of those on their way out of them."""
        return sum(queue.nbytes for queue in self._queues.values())

    def _unsubscribe(self) -> None:
        for subscription in reversed(self._subscriptions):
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self.silence.unwatch_all()

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
        self._stream(CAMERA_INFO, CameraInfo, settings.camera_info_topic, "", depth, self._on_info)

    def _stream(
        self, name: str, kind: Any, topic: str, suffix: str, depth: int, callback: Callable[[Any, int | None], None]
    ) -> None:
        # image_transport's rule: the base name is remapped, then the transport's name is appended.
        resolved = self._node.resolve_topic_name(topic) + suffix
        qos = sensor_qos(self._reliability, depth)
        type_name = f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
        self.silence.watch(Stream(name, resolved, type_name, qos))
        self._topics[name] = resolved
        self._lost[name] = LostMessages(lambda: only_publisher(self._node, resolved))
        self._subscriptions.append(
            subscribe(
                self._node,
                kind,
                resolved,
                numbered(self._node, callback),
                qos,
                lambda: self._on_incompatible_qos(name),
                raw=kind is Image,
            )
        )

    @guarded("incompatible QoS")
    def _on_incompatible_qos(self, name: str) -> None:
        self.silence.on_incompatible(name)

    @guarded("rgb topic")
    def _on_color(self, message: Any, number: int | None) -> None:
        self._receive("rgb", message, number, self._color_source)

    @guarded("aux topic")
    def _on_aux(self, message: Any, number: int | None) -> None:
        self._receive(self._aux_name, message, number, self._aux_source)

    def _on_broken_packet(self, error: Exception) -> None:
        self._health.rejected("events")
        self.faults.record(self._topics["events"], str(error))

    @guarded("camera_info topic")
    def _on_info(self, message: CameraInfo, number: int | None) -> None:
        self._count(CAMERA_INFO, number)
        try:
            self.camera = PinholeCamera.from_message(message)
            self.silence.calibrated = True
        except CameraError as error:
            self._health.rejected(CAMERA_INFO)
            self.faults.record(self._topics[CAMERA_INFO], str(error))

    def _count(self, name: str, number: int | None) -> None:
        self._health.arrived(name, time.monotonic(), self._lost[name].before(number))

    def _receive(self, name: str, message: Any, number: int | None, source: SimpleFilter) -> None:
        self._count(name, number)
        if not isinstance(message, bytes):
            self._store(name, message, source)
            return
        try:
            image = read_image(message)
        except SerializedImageError as error:
            self._reject(name, str(error))
            return
        self._store(name, image, source)

    def _reject(self, name: str, reason: str) -> None:
        self._health.rejected(name, f"{self._topics[name]}: {reason}")
        self.faults.record(self._topics[name], reason)

    def _store(self, name: str, message: Any, source: SimpleFilter) -> None:
        if name in self._queues:
            self._note_size(name, message_bytes(message))
        clock_ns, now_ns = self._node.get_clock().now().nanoseconds, time.monotonic_ns()
        reason = unusable_text(message) or self._guard.refusal(name, message.header.stamp, now_ns, clock_ns)
        if reason:
            self._reject(name, reason)
            return
        self.watch.seen(name, message, stamp_of(message), time.monotonic_ns())
        try:
            source.signalMessage(message)
        finally:
            self._poll_while_something_waits()

    def _note_size(self, name: str, nbytes: int) -> None:
        self._queues[name].took(nbytes)
        if nbytes > self._largest_image:
            self._largest_image = nbytes
            room_for_images(nbytes)

    @guarded("synchronizer")
    def _on_poll(self) -> None:
        deadline_ns = self._sync.next_deadline_ns
        if deadline_ns is not None and deadline_ns <= time.monotonic_ns():
            try:
                self._sync.poll()
            finally:
                self._poll_while_something_waits()

    def _poll_while_something_waits(self) -> None:
        """Run the timer only while an image waits for its partner: 100 calls per second cost a tenth of a core."""
        deadline_ns = self._sync.next_deadline_ns
        waiting, self.held_until = deadline_ns is not None, (deadline_ns or 0) / NS_PER_S
        if waiting and self._timer.is_canceled():
            self._timer.reset()
        elif not waiting and not self._timer.is_canceled():
            self._timer.cancel()

    def _release(self, synced: SyncedSet) -> None:
        self.watch.released(synced)
        if synced.jumped_back_ns:
            self._on_rewind(synced.jumped_back_ns / NS_PER_S, synced.stamp_ns)
        if synced.skew_ns is not None:
            self._health.paired(synced.skew_ns / NS_PER_S)
        self._emit(SourceFrame(self._sequence, synced, self._builder, self._on_rejection))
        self._sequence += 1

    def _on_rejection(self, rejection: Rejection) -> None:
        """Count and log an image that cannot be used; called on the tracking thread."""
        reason = rejection.reason.removeprefix(f"{rejection.topic}: ")
        name = self._aux_name if rejection.stream == "aux" else rejection.stream
        self._health.rejected(name, f"{rejection.topic}: {reason}")
        self.faults.record(rejection.topic, reason)

    def _frame_builder(self, settings: Settings) -> FrameBuilder:
        return FrameBuilder(
            self._modality,
            self._topics["rgb"],
            self._topics[self._aux_name],
            aux_from_reference=aux_homography(settings),
            depth_unit_m=settings.depth_unit_m,
            thermal_range=thermal_range(settings),
            watch=self.watch,
            max_image_bytes=memory_bytes(settings) // IMAGE_SHARE,
        )


def check_topics(node: LifecycleNode, settings: Settings) -> None:
    """Try whether the streams can be subscribed and paired as the settings ask.

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
            raise TopicError(f"{parameter} '{topic}' is not a valid topic name: {error}") from error
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
