"""`tracker_node`: the lifecycle node. Wiring, nothing else: what the parts do is written in the parts.

Threads: callbacks run on one executor thread and only store; one worker thread tracks the newest frame and publishes.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox
from sdstrack_ros.node.detections import FrameOutput
from sdstrack_ros.node.faults import FaultLog, guarded
from sdstrack_ros.node.health import Health, Latency, Situation
from sdstrack_ros.node.heap import free_memory, steady_heap
from sdstrack_ros.node.image_topics import ImageTopics, check_topics
from sdstrack_ros.node.lifecycle import answer_impossible_transitions, named, transition
from sdstrack_ros.node.node_parameters import NodeParameters
from sdstrack_ros.node.publishers import Publishers
from sdstrack_ros.node.status import StatusReporter, duplicate_name_warning, engine_facts, target_facts
from sdstrack_ros.node.target_topics import TargetTopics
from sdstrack_ros.tracking.overload import FrameCost, OutputPlan, OverloadPolicy
from sdstrack_ros.tracking.session import FrameResult, Served, Session
from sdstrack_ros.tracking.source_frame import History, SourceFrame
from sdstrack_ros.tracking.target_requests import (
    BoxRequest,
    CandidatesRequest,
    RequestOutcome,
    ResetRequest,
    TargetRequest,
)
from sdstrack_ros.tracking.warm_tracker import WarmTracker, build_warm_tracker, tuned
from sdstrack_ros.tracking.worker import MAX_REQUESTS, LatestFrameWorker

if TYPE_CHECKING:
    from sdstrack_ros.parameters.table import Settings

STATUS_PERIOD_S = 1.0
# Deactivate answers within a second even when the network is in the middle of a frame.
DEACTIVATE_PATIENCE_S = 0.8
CLEANUP_PATIENCE_S = 30.0
SPIN_S = 0.25

_SUCCESS = TransitionCallbackReturn.SUCCESS
_FAILURE = TransitionCallbackReturn.FAILURE


class TrackerNode(LifecycleNode):  # type: ignore[misc]  # rclpy brings no types
    """Tracks one object through a colour and a second camera. See docs/parameters.md and README.md."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("tracker", automatically_declare_parameters_from_overrides=True, **kwargs)
        self.faults = FaultLog(self.get_logger().warning)
        self._table = NodeParameters(self, self._on_settings)
        self._health = Health()
        self._reporter = StatusReporter(self, self._health, self.faults)
        self._label = "unconfigured"
        self.problem = ""
        self._duplicate_name = ""
        self._last_request = ""
        self._paused = False
        self._warm: WarmTracker | None = None
        self._outputs: Publishers | None = None
        self._own_services: list[Any] = []
        self._worker: LatestFrameWorker[SourceFrame, TargetRequest] | None = None
        self._session: Session | None = None
        self._history = History(1)
        self._policy = OverloadPolicy()
        self._inputs: ImageTopics | None = None
        self._targets: TargetTopics | None = None
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._status_timer = self.create_timer(STATUS_PERIOD_S, self._on_status_timer, clock=steady)
        answer_impossible_transitions(self, self.faults)

    @property
    def settings(self) -> Settings:
        """Values of all parameters as of now."""
        return self._table.settings

    # Transitions: each pair is a mirror image.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, create outputs and services; FAILURE with the reason, and may be tried again."""
        try:
            settings = self._table.checked()
            check_topics(self, settings)
            self._warm = build_warm_tracker(settings)
            self._outputs = Publishers(self, settings)
            self._own_services = [
                self.create_service(Trigger, "~/reset", self._on_reset),
                self.create_service(SetBool, "~/pause", self._on_pause),
            ]
        except Exception as error:  # noqa: BLE001  # whatever a file, a device or a library does: FAILURE, not ERROR
            self.problem = f"configure failed: {named(error)}"
            self.get_logger().error(self.problem)
            self._release()
            self._report_status()
            return _FAILURE
        self._table.configured = True
        self.problem = ""
        warm = self._warm
        self.get_logger().info(f"configured: {warm.model} ({warm.weights}) on {warm.device} by {warm.engine}")
        return self._entered("inactive", super().on_configure(state))

    @transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what configure took."""
        result = super().on_cleanup(state)
        self._release()
        return self._entered("unconfigured", result)

    @transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, then subscribe."""
        assert self._warm is not None  # noqa: S101  # the state machine lets nobody activate before configure
        if self._worker is not None and not self._worker.stop(CLEANUP_PATIENCE_S):
            # Two threads in one tracker would mix up two targets.
            self.problem = "activate failed: still processing an earlier frame; try again"
            self.get_logger().error(self.problem)
            self._report_status()
            return _FAILURE
        result = super().on_activate(state)
        settings = self.settings
        self._history = History(settings.history_frames)
        self._policy = OverloadPolicy()
        self._session = Session(self._warm.tracker, self._history, lambda: self.settings)
        self._worker = LatestFrameWorker(
            self._serve_frame, self._serve_request, self._on_worker_error, self._serve_waiting
        )
        self._worker.start()
        self._inputs = ImageTopics(self, settings, self.faults, self._health, self._on_source, self._on_rewind)
        self._targets = TargetTopics(self, self.faults, lambda: self._camera, self._submit, self._conclude)
        self._health.expect_answers(time.monotonic())
        self._start_on_init_box(settings)
        self.problem = ""
        return self._entered("active", result)

    @transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, then stop the worker; within a second."""
        self._stop(DEACTIVATE_PATIENCE_S)
        return self._entered("inactive", super().on_deactivate(state))

    @transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave from any state."""
        self._stop(DEACTIVATE_PATIENCE_S)
        self._release()
        return self._entered("finalized", super().on_shutdown(state))

    def finish(self) -> None:
        """Go to the end of the lifecycle from wherever the node is."""
        if self._label != "finalized":
            self.trigger_shutdown()

    @transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything; the node may be configured again."""
        self._stop(DEACTIVATE_PATIENCE_S)
        self._release()
        return self._entered("unconfigured", super().on_error(state))

    def _entered(self, label: str, result: TransitionCallbackReturn) -> TransitionCallbackReturn:
        if result == _SUCCESS:
            self._label = label
        self._report_status()
        return result

    def _stop(self, patience_s: float) -> None:
        if self._targets is not None:
            self._targets.destroy()
        if self._inputs is not None:
            self._inputs.destroy()
        if self._worker is not None and not self._worker.stop(patience_s):
            self.get_logger().warning("the network is still busy with a frame; its answer will be thrown away")
        for request in self._worker.unserved() if self._worker is not None else ():
            if isinstance(request, ResetRequest) or (isinstance(request, BoxRequest) and request.patient):
                continue  # the next activation forgets the target and starts on the parameter's box anyway
            self._conclude(request.refused("the node was deactivated before it could be served"))
        self._health.expect_answers(None)
        self._targets = self._inputs = None
        self._paused = False

    def _release(self) -> None:
        if self._worker is not None and not self._worker.stop(CLEANUP_PATIENCE_S):
            raise RuntimeError(f"the network did not finish a frame within {CLEANUP_PATIENCE_S} s")
        self._worker = self._session = None
        self._history.clear()
        for service in reversed(self._own_services):
            self.destroy_service(service)
        self._own_services = []
        if self._outputs is not None:
            self._outputs.destroy()
        self._outputs = self._warm = None
        self._table.configured = False
        free_memory()

    # What happens on the executor's thread.

    @property
    def _camera(self) -> Any:
        return self._inputs.camera if self._inputs is not None else None

    def _on_source(self, source: SourceFrame) -> None:
        self._health.count("frames")
        self._policy.arrived(source.released)
        self._history.append(source)
        if self._paused:
            self._health.count("paused")
        elif self._worker is not None and self._worker.offer(source):
            self._health.count("dropped")

    def _on_rewind(self, detail: str) -> None:
        self._history.clear()
        self._health.count("rewinds")
        self._submit(ResetRequest("jump back in time", detail=detail))
        self._start_on_init_box(self.settings)

    def _submit(self, request: TargetRequest) -> None:
        if self._worker is None:
            return
        evicted = self._worker.submit(request, newest_only=isinstance(request, CandidatesRequest))
        if evicted is not None:
            self._conclude(evicted.refused(f"{MAX_REQUESTS} newer requests came before it could be served"))

    def _start_on_init_box(self, settings: Settings) -> None:
        box = BoundingBox(*settings.init_box)
        if box.w > 0 and box.h > 0:
            self._submit(BoxRequest("parameter", box, patient=True, detail="init_box"))

    def _on_settings(self, before: Settings, after: Settings) -> None:
        if self._warm is not None:
            self._warm.tracker.thresholds = tuned(self._warm.own_thresholds, after)
        if self._inputs is not None:
            self._inputs.apply(after)
        if self._worker is not None and before.init_box != after.init_box:
            self._start_on_init_box(after)

    @guarded("reset", Trigger.Response(success=False, message="internal error, see the log"))
    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._worker is None or self._label != "active":
            response.message = f"refused: the node is {self._label}"
            return response
        self._submit(ResetRequest("reset"))
        response.success, response.message = True, "target forgotten"
        return response

    @guarded("pause", SetBool.Response(success=False, message="internal error, see the log"))
    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._label != "active":
            response.message = f"refused: the node is {self._label}"
            return response
        self._paused = bool(request.data)
        self._health.expect_answers(None if self._paused else time.monotonic())
        response.success, response.message = True, "paused" if self._paused else "running"
        self._conclude(RequestOutcome("pause", "", accepted=True, reason=response.message))
        return response

    @guarded("status timer")
    def _on_status_timer(self) -> None:
        if self._inputs is not None:
            self._inputs.warn_about_silence(time.monotonic())
        self._duplicate_name = duplicate_name_warning(self)
        self._report_status(periodic=True)

    # What happens on the worker's thread.

    def _serve_frame(self, source: SourceFrame) -> None:
        assert self._session is not None  # noqa: S101  # the worker lives only while there is a session
        begin = time.monotonic()
        before = self._session.state
        self._serve_waiting()
        try:
            frame_result = self._session.on_frame(source)
        except TrackingError as error:
            self._health.refused_frame(str(error))
            self.faults.record("frame", str(error))
            return
        if frame_result is not None:
            if frame_result.given_up:
                self._say_refusal("target", f"forgotten: {frame_result.given_up}")
            self._publish(frame_result, begin)
        if self._session.state != before:
            change = f"target {self._session.target_id or '-'}: {before} -> {self._session.state}"
            self.get_logger().info(change, throttle_duration_sec=1.0)
            self._report_status()

    def _serve_request(self, request: TargetRequest) -> None:
        assert self._session is not None  # noqa: S101  # the worker lives only while there is a session
        for served in self._session.on_request(request):
            self._finish_request(served)

    def _serve_waiting(self) -> None:
        assert self._session is not None  # noqa: S101  # the worker lives only while there is a session
        for served in self._session.on_waiting():
            self._finish_request(served)

    def _finish_request(self, served: Served) -> None:
        if served.frame_result is not None:
            self._publish(served.frame_result, time.monotonic())
        self._conclude(served.outcome)

    def _publish(self, frame_result: FrameResult, begin: float) -> None:
        if self._outputs is None or self._worker is None or self._worker.stopping:
            return
        settings = self.settings
        output = FrameOutput.of(frame_result)
        self._outputs.publish_box(output, settings)
        now = time.monotonic()
        source = frame_result.source
        total = now - source.arrived
        self._health.answered(now, degraded=not all(frame_result.images.presence), held=frame_result.images.aux_held)
        plan = self._policy.plan if settings.shed_outputs else OutputPlan()
        cost = self._outputs.publish_extras(output, settings, self._camera, plan, total * 1e3)
        done = time.monotonic()
        network = frame_result.track.timing.network if frame_result.track is not None else 0.0
        self._health.served(
            Latency(
                wait=begin - source.arrived,
                decode=frame_result.decode_s,
                tracker=frame_result.tracker_s,
                network=network,
                extras=done - now,
                overhead=now - source.released - network,
                total=total,
            )
        )
        self._policy.spent(FrameCost(now - begin, cost.detections_3d, cost.markers, cost.overlay))

    def _on_worker_error(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        self._health.refused_frame(text)
        self.faults.record("tracking thread", text)

    # What is said.

    def _conclude(self, outcome: RequestOutcome) -> None:
        """Report the outcome of a request in the log and on ~/status."""
        if not outcome.accepted:
            self._say_refusal(outcome.origin, outcome.verdict)
            return
        self._last_request = str(outcome)
        self.get_logger().info(self._last_request)
        self._report_status()

    def _say_refusal(self, cause: str, reason: str) -> None:
        """Report what was refused, counted by its cause and logged as faults are."""
        self._health.count("refused")
        self.faults.record(cause, reason)
        text = f"{cause} {reason}"
        repeated, self._last_request = text == self._last_request, text
        if not repeated:  # a detector repeats itself thirty times a second; the next periodic status counts it
            self._report_status()

    @guarded("status")
    def _report_status(self, periodic: bool = False) -> None:
        now = time.monotonic()
        active = self._inputs is not None
        silences = self._inputs.silences(now) if self._inputs is not None else {}
        shed = self._policy.plan.shed if active and self.settings.shed_outputs else ()
        problems = [problem for problem in (self.problem or self._table.refusal, self._duplicate_name) if problem]
        if shed:
            problems.append(f"overload: left out {', '.join(shed)}")
        session = self._session if active else None
        facts = {
            "lifecycle": self._label,
            **target_facts(session),
            "paused": str(self._paused).lower(),
            "last_request": self._last_request,
            **engine_facts(self._warm),
            "left_out": ", ".join(shed),
        }
        if self._inputs is not None:
            facts.update({f"sync.{name}": str(number) for name, number in self._inputs.counters.items()})
        needed = self._inputs.image_topics if self._inputs is not None else ()
        unanswered = self._inputs.unanswered(now) if self._inputs is not None else ""
        situation = Situation(self._label, facts["state"], silences, needed, self._paused, tuple(problems), unanswered)
        self._reporter.publish(situation, facts, now, periodic)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit status, 0 after either."""
    steady_heap()
    rclpy.init(args=args, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = TrackerNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = False

    def on_signal(number: int, _: Any) -> None:
        nonlocal stop
        stop = True
        # A second signal ends the process at once, whatever it is doing.
        signal.signal(number, signal.SIG_DFL)
        executor.wake()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    try:
        if node.settings.autostart and node.trigger_configure() == _SUCCESS:
            node.trigger_activate()
        while not stop and rclpy.ok():
            _spin_once(executor, node)
        node.finish()
    finally:
        executor.remove_node(node)
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _spin_once(executor: SingleThreadedExecutor, node: TrackerNode) -> None:
    try:
        executor.spin_once(timeout_sec=SPIN_S)
    except ExternalShutdownException:
        return
    except Exception as error:  # noqa: BLE001  # for example a message that does not deserialise
        node.faults.record("executor", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
