"""What lives from activate to deactivate: the input topics and the thread that tracks.

Callbacks of topics run on the executor's thread and only store; one worker tracks the newest frame and publishes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.node.bond import ManagerBond
from sdstrack_ros.node.health import Latency
from sdstrack_ros.node.inputs.image_topics import ImageTopics
from sdstrack_ros.node.inputs.target_topics import TargetTopics
from sdstrack_ros.node.log import Log
from sdstrack_ros.node.outputs.detections import FrameOutput
from sdstrack_ros.node.outputs.target_space import TargetSpace
from sdstrack_ros.node.outputs.transforms import Transforms
from sdstrack_ros.sync.frame_builder import MB, memory_bytes
from sdstrack_ros.tracking.ego_motion import camera_motion_of
from sdstrack_ros.tracking.overload import FrameCost, Freshness, OutputPlan, OverloadPolicy
from sdstrack_ros.tracking.results import FrameResult, Served, changed_states
from sdstrack_ros.tracking.session import Session
from sdstrack_ros.tracking.source_frame import History, SourceFrame
from sdstrack_ros.tracking.target_requests import BoxRequest, CandidatesRequest, ResetRequest, TargetRequest
from sdstrack_ros.tracking.time_jump import after_jump
from sdstrack_ros.tracking.worker import MAX_REQUESTS, LatestFrameWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode

    from sdstrack_ros.node.configured import Configured
    from sdstrack_ros.node.status import StatusReporter
    from sdstrack_ros.parameters.table import Settings

PARAMETER = "parameter"  # origin of a request for the target that init_box names
# A start answers a frame of the history, which others may have been dropped after; longer than the history.
SETTLED_FRAMES = 512
# Deactivation ends within a second even when the network is in the middle of a frame.
STOP_PATIENCE_S = 0.8


class Active:
    """Made by on_activate, closed by on_deactivate.

    Attributes:
        images: the topics of the cameras.
        session: the targets.
        worker: the thread that tracks.
        space: where the targets are.

    """

    def __init__(
        self,
        node: LifecycleNode,
        configured: Configured,
        settings: Callable[[], Settings],
        reporter: StatusReporter,
    ) -> None:
        """Start the worker, then subscribe; nothing stays behind when that fails.

        Args:
            node: owner of the subscriptions.
            configured: the tracker, which no other thread may be in, and the output topics.
            settings: the values of all parameters as they are now.
            reporter: tells what becomes of frames and requests.

        """
        self._log = Log(node)
        self._clock = node.get_clock().now
        self._configured = configured
        self._settings = settings
        self._reporter = reporter
        self._health = reporter.health
        self._paused = False
        self._settled: deque[int] = deque(maxlen=SETTLED_FRAMES)  # frames that were answered or dropped
        self._settling = threading.Lock()
        self._init_box_stamp_ns: int | None = None  # of the frame on which the parameter's box was first used
        self._history = History(settings().history_frames, memory_bytes(settings()))
        self._policy = OverloadPolicy()
        self._freshness = Freshness()
        self._stale: SourceFrame | None = None  # the last frame that was to give way to a newer one
        configured.warm.tracker.reset()  # what the last activation followed, and the images that it kept
        self.session = Session(configured.warm.tracker.multi, self._history, settings)
        self.worker: LatestFrameWorker[SourceFrame, TargetRequest] = LatestFrameWorker(
            self._serve_frame, self._serve_request, self._on_worker_error, self._serve_waiting, self._patience
        )
        with ExitStack() as undo:
            self.worker.start()
            undo.callback(self.worker.stop, STOP_PATIENCE_S)
            self.images = ImageTopics(node, settings(), reporter, self._on_source, self._on_rewind)
            undo.callback(self.images.destroy)
            transforms = Transforms(node, reporter.faults)
            undo.callback(transforms.destroy)
            self.space = TargetSpace(configured.outputs, transforms, reporter.faults)
            configured.warm.tracker.camera_motion = camera_motion_of(
                settings(),
                transforms.lookup,
                lambda: self.images.camera,
                lambda reason: reporter.faults.record("ego_motion", reason),
            )
            targets = TargetTopics(
                node, reporter.faults, lambda: self.images.camera, transforms, self.submit, reporter.conclude
            )
            undo.callback(targets.destroy)
            if settings().bond:
                undo.callback(ManagerBond(node, reporter.faults).destroy)
            self._undo = undo.pop_all()
        self._health.expect_answers(time.monotonic())
        self.start_on_init_box(settings())

    def close(self) -> None:
        """Unsubscribe, then stop the worker; within a second, whatever the network does.

        The worker's thread may still be in a frame after that; what comes of it is discarded.
        """
        self._undo.close()
        if self.worker.running:
            self._log.warning("still processing a frame; its result will be discarded")
        waiting = self.worker.unserved_frame()
        if waiting is not None and self._settle(waiting):
            self._health.count("dropped")
        for request in self.worker.unserved():
            if isinstance(request, ResetRequest) or (isinstance(request, BoxRequest) and request.patient):
                continue  # the next activation begins without a target and starts on the parameter's box anyway
            self._reporter.conclude(request.refused("the node was deactivated before it could be served"))
        self._history.clear()
        self._health.expect_answers(None)

    # On the executor's thread.

    @property
    def paused(self) -> bool:
        """Whether frames are received but not tracked."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Pause tracking or go on."""
        self._paused = paused
        self._health.expect_answers(None if paused else time.monotonic())

    @property
    def shed(self) -> tuple[str, ...]:
        """Names of the outputs that overload leaves out."""
        return self._policy.plan.shed if self._settings().shed_outputs else ()

    @property
    def memory(self) -> dict[str, str]:
        """What waits, and how many frames gave way to newer ones, as key-value pairs of a status message."""
        waiting = self.images.waiting_bytes + self._history.nbytes
        return {
            "memory.waiting_mb": f"{waiting / MB:.1f}",
            "memory.middleware_mb": f"{self.images.middleware_bytes / MB:.1f}",
            "memory.tracker_mb": f"{self._configured.warm.tracker.multi.kept_bytes / MB:.1f}",
            "memory.evicted": str(self._history.evicted),
        }

    def submit(self, request: TargetRequest) -> None:
        """Hand a request to the worker."""
        evicted = self.worker.submit(request, newest_only=isinstance(request, CandidatesRequest))
        if evicted is not None:
            self._reporter.conclude(evicted.refused(f"{MAX_REQUESTS} newer requests came before it could be served"))

    def start_on_init_box(self, settings: Settings) -> None:
        """Request the target that the parameter init_box names, if it names one."""
        box = BoundingBox(*settings.init_box)
        if box.w > 0 and box.h > 0:
            self.submit(BoxRequest(PARAMETER, box, patient=True, detail="init_box"))

    def apply(self, before: Settings, after: Settings) -> None:
        """Take over changed settings."""
        self.images.apply(after)
        if before.init_box != after.init_box:
            self._init_box_stamp_ns = None
            self.start_on_init_box(after)

    def _on_source(self, source: SourceFrame) -> None:
        self._health.count("frames")
        self._policy.arrived(source.released)
        now = time.monotonic()
        stamp, age = source.stamp_ns / NS_PER_S, (self._clock().nanoseconds - source.stamp_ns) / NS_PER_S
        source.arrival_age = self._freshness.came(stamp, now, age - (now - source.arrived))
        kept = self._configured.warm.tracker.multi.kept_bytes
        self._history.elsewhere_bytes = self.images.waiting_bytes + self.images.middleware_bytes + kept
        self._history.append(source)
        if self._paused:
            self._health.count("paused")
            return
        replaced = self.worker.offer(source)
        if replaced is not None and self._settle(replaced):
            self._health.count("dropped")
            if replaced is self._stale:
                self._health.count("stale")

    def _on_rewind(self, seconds: float, stamp_ns: int) -> None:
        """Forget the target; start on the parameter's box again only if a recording has started again."""
        self._history.clear()
        self._health.count("rewinds")
        self.submit(ResetRequest("jump back in time", detail=f"by {seconds:.2f} s"))
        box = self._settings().init_box
        named = "init_box" if box[2] > 0 and box[3] > 0 else ""
        text, starts_again = after_jump(seconds, stamp_ns, named, self._init_box_stamp_ns)
        if starts_again:
            self.start_on_init_box(self._settings())
        self._reporter.last_time_reset = text
        self._reporter.faults.record("time", text)

    # On the worker's thread.

    def _patience(self, source: SourceFrame) -> float:
        now = time.monotonic()
        seconds = self._freshness.patience(source.arrival_age + now - source.arrived, now, self.images.held_until)
        if seconds > 0:
            self._stale = source
        return seconds

    def _serve_frame(self, source: SourceFrame) -> None:
        begin = time.monotonic()
        before = self.session.targets
        self._serve_waiting()
        try:
            frame_result = self.session.on_frame(source)
        except TrackingError as error:
            self._health.refused_frame(str(error))
            self._reporter.faults.record("frame", str(error))
            return
        if frame_result is not None:
            self._publish(frame_result, begin)
        changes = changed_states(before, self.session.targets)
        if changes:
            self._log.info_seldom(changes)
            self._reporter.report()

    def _serve_request(self, request: TargetRequest) -> None:
        for served in self.session.on_request(request):
            self._conclude(served)

    def _serve_waiting(self) -> None:
        for served in self.session.on_waiting():
            self._conclude(served)

    def _conclude(self, served: Served) -> None:
        if served.frame_result is not None:
            if served.outcome.origin == PARAMETER and self._init_box_stamp_ns is None:
                self._init_box_stamp_ns = served.frame_result.source.stamp_ns
            self._publish(served.frame_result, time.monotonic())
        self._reporter.conclude(served.outcome)

    def _publish(self, frame_result: FrameResult, begin: float) -> None:
        if self.worker.stopping:  # the node is being deactivated, and the result is discarded
            if self._settle(frame_result.source):
                self._health.count("dropped")
            return
        settings, outputs = self._settings(), self._configured.outputs
        output = FrameOutput.of(frame_result)
        outputs.publish_boxes(output)
        box_out, age = time.monotonic(), (self._clock().nanoseconds - frame_result.source.stamp_ns) / NS_PER_S
        if settings.publish_predicted:
            self.space.predict(output, self._clock().nanoseconds)
        source, images = frame_result.source, frame_result.images
        total = box_out - source.arrived
        if self._settle(source):
            self._health.answered(box_out, degraded=not all(images.presence), held=images.aux_held)
        for ending in frame_result.endings:
            self._reporter.refuse("target", f"{ending.target_id} given up: {ending.reason}")
        plan = self._policy.plan if settings.shed_outputs else OutputPlan()
        camera = self.images.camera
        markers = self.space.serve(output, settings, camera, outputs.wants_markers(settings, plan))
        cost = outputs.publish_extras(output, settings, camera, plan, total * 1e3, markers)
        done = time.monotonic()
        network = sum(target.track.timing.network for target in frame_result.targets)
        self._freshness.answered(box_out - begin - network)
        self._health.served(
            Latency(
                age=age,
                arrival=age - total,
                wait=begin - source.arrived,
                decode=frame_result.decode_s,
                tracker=frame_result.tracker_s,
                network=network,
                extras=done - box_out,
                overhead=box_out - source.released - network,
                total=total,
            )
        )
        self._policy.spent(FrameCost(box_out - begin, cost.detections_3d, cost.markers, cost.overlay))

    def _settle(self, source: SourceFrame) -> bool:
        """Whether a frame counts now: a start may answer one that was answered, or is dropped from the mailbox."""
        with self._settling:
            if source.sequence in self._settled:
                return False
            self._settled.append(source.sequence)
            return True

    def _on_worker_error(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        self._health.refused_frame(text)
        self._reporter.faults.record("tracking thread", text)
