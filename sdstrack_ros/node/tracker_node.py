"""`tracker_node`: the lifecycle node. It only wires: what the parts do is written in the parts."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from ckd_core.errors import TrackingError
from sdstrack_ros.node.active import Active
from sdstrack_ros.node.configured import Configured
from sdstrack_ros.node.faults import FaultLog, guarded
from sdstrack_ros.node.health import Situation
from sdstrack_ros.node.heap import free_memory, heap_facts, steady_heap
from sdstrack_ros.node.inputs.image_topics import check_topics
from sdstrack_ros.node.lifecycle import refuse_impossible_transitions, transition
from sdstrack_ros.node.log import Log
from sdstrack_ros.node.node_parameters import NodeParameters
from sdstrack_ros.node.status import (
    StatusReporter,
    duplicate_name_warning,
    engine_facts,
    target_facts,
    uncertain_targets,
    worst_state,
)
from sdstrack_ros.node.stopping import ConfigureStoppedError, StopSignals, end_process
from sdstrack_ros.parameters.table import TABLE
from sdstrack_ros.sync.pair_watch import FRAMES
from sdstrack_ros.tracking.target_requests import RequestOutcome, ResetRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sdstrack_ros.parameters.table import Settings

STATUS_PERIOD_S = 1.0
SPIN_S = 0.25
HEAP_PERIOD_S = 9.73  # no multiple of a camera's period, so that each look is at another moment of a frame

_SUCCESS = TransitionCallbackReturn.SUCCESS


class BusyError(TrackingError):
    """A tracker that still processes a frame of an earlier activation."""


class TrackerNode(LifecycleNode):  # type: ignore[misc]  # rclpy brings no types
    """Tracks objects through a colour and an auxiliary camera. See docs/parameters.md and docs/robots.md.

    What a state of the lifecycle needs is one object: `Configured` from configure to cleanup, `Active` from activate to
    deactivate. A transition makes it, and its mirror image closes it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("tracker", automatically_declare_parameters_from_overrides=True, **kwargs)
        self.problem = ""
        # What a signal may end at any point; the process that has the node puts its own here.
        self.interruptible: Callable[[], AbstractContextManager[None]] = nullcontext
        self._label = "unconfigured"
        self._duplicate_name = ""
        self._heap = heap_facts()
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._table = NodeParameters(self, self._on_settings)
        self._reporter = StatusReporter(self, self._describe)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._status_timer = self.create_timer(STATUS_PERIOD_S, self._on_status_timer, clock=steady)
        self._heap_timer = self.create_timer(HEAP_PERIOD_S, self._on_heap_timer, clock=steady)
        refuse_impossible_transitions(self, self.faults)

    @property
    def settings(self) -> Settings:
        """Values of all parameters as they are now."""
        return self._table.settings

    @property
    def faults(self) -> FaultLog:
        """What went wrong, by cause."""
        return self._reporter.faults

    @transition(retry_after=Exception)  # whatever a file, a device or a library does: parameters can mend it
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the model, create outputs and services."""
        settings = self._table.checked()
        check_topics(self, settings)
        services = {"~/reset": (Trigger, self._on_reset), "~/pause": (SetBool, self._on_pause)}
        try:
            with self.interruptible():
                self._configured = Configured(self, settings, services)
            result = super().on_configure(state)
        except Exception:
            self._close_configured()
            raise
        self._table.configured = True
        self.problem = ""
        warm = self._configured.warm
        engine = f"{warm.engine} ({warm.engine_choice})"
        Log(self).info(f"configured: {warm.model} ({warm.weights}) on {warm.device} by {engine}")
        return self._entered("inactive", result)

    @transition()
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what configure made."""
        result = super().on_cleanup(state)
        self._close_configured()
        return self._entered("unconfigured", result)

    @transition(retry_after=BusyError)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, then subscribe."""
        assert self._configured is not None  # noqa: S101  # the state machine does not activate before configure
        if not self._configured.tracker_is_free():
            raise BusyError("still processing an earlier frame; try again")
        result = super().on_activate(state)
        self._active = Active(self, self._configured, lambda: self.settings, self._reporter)
        self.problem = ""
        Log(self).info(f"active: waiting for {' and '.join(self._active.images.silence.image_topics)}")
        return self._entered("active", result)

    @transition()
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, then stop the worker; within a second."""
        self._close_active()
        return self._entered("inactive", super().on_deactivate(state))

    @transition()
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave from any state."""
        self._close_active()
        self._close_configured()
        return self._entered("finalized", super().on_shutdown(state))

    @transition()
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything; the node may be configured again."""
        self._close_active()
        self._close_configured()
        return self._entered("unconfigured", super().on_error(state))

    def destroy_node(self) -> None:
        """Leave the graph at once: rclpy leaves its state machine, which holds the node, to the garbage collector."""
        super().destroy_node()
        machine = getattr(self, "_state_machine", None)
        if machine is not None:
            machine.destroy_when_not_in_use()

    def finish(self) -> None:
        """Go to the end of the lifecycle from whatever state the node is in."""
        if self._label != "finalized":
            self.trigger_shutdown()

    def _entered(self, label: str, result: TransitionCallbackReturn) -> TransitionCallbackReturn:
        if result == _SUCCESS:
            self._label = label
        self.report_status()
        return result

    def _close_active(self) -> None:
        if self._active is None or self._configured is None:
            return
        self._active.close()
        self._configured.retire(self._active.worker)
        self._active = None

    def _close_configured(self) -> None:
        if self._configured is not None:
            self._configured.close()
        self._configured = None
        self._table.configured = False
        free_memory()

    def _on_settings(self, before: Settings, after: Settings) -> None:
        if self._configured is not None:
            self._configured.tune(after)
        if self._active is not None:
            self._active.apply(before, after)

    @guarded("reset", Trigger.Response(success=False, message="internal error, see the log"))
    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._active is None:
            response.message = f"refused: the node is {self._label}"
            return response
        self._active.submit(ResetRequest("reset"))
        response.success, response.message = True, "target forgotten"
        return response

    @guarded("pause", SetBool.Response(success=False, message="internal error, see the log"))
    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._active is None:
            response.message = f"refused: the node is {self._label}"
            return response
        self._active.pause(bool(request.data))
        response.success, response.message = True, "paused" if self._active.paused else "running"
        self._reporter.conclude(RequestOutcome("pause", "", accepted=True, reason=response.message))
        return response

    @guarded("status timer")
    def _on_status_timer(self) -> None:
        if self._active is not None:
            self._active.images.silence.warn(time.monotonic())
        self._duplicate_name = duplicate_name_warning(self)
        self.report_status(periodic=True)

    @guarded("heap timer")
    def _on_heap_timer(self) -> None:
        self._heap = heap_facts()

    def report_status(self, periodic: bool = False) -> None:
        """Publish ~/status; also on /diagnostics when `periodic`."""
        self._reporter.report(periodic)

    def _describe(self, now: float) -> tuple[Situation, dict[str, str]]:
        """What the status is made of; the worker asks as well, so each attribute is read once."""
        active, configured = self._active, self._configured
        problems = [problem for problem in (self.problem or self._table.refusal, self._duplicate_name) if problem]
        targets = active.session.targets if active is not None else ()
        if poor := uncertain_targets(targets):
            problems.append(poor)
        if configured is not None:
            problems += [text for text in (configured.warm.unfit, configured.warm.trouble) if text]
        if configured is not None and configured.outputs.targets.tf_refusal:
            problems.append(configured.outputs.targets.tf_refusal)
        shed = active.shed if active is not None else ()
        if shed:
            problems.append(f"overload: left out {', '.join(shed)}")
        paused = active is not None and active.paused
        facts = {
            "lifecycle": self._label,
            **target_facts(targets),
            "paused": str(paused).lower(),
            "last_request": self._reporter.last_request,
            **engine_facts(configured.warm if configured is not None else None),
            "left_out": ", ".join(shed),
        }
        situation = Situation(self._label, worst_state(targets), paused=paused, problems=tuple(problems))
        if active is None:
            return situation, facts
        facts.update(active.space.facts(self.settings))
        facts.update({f"sync.{name}": str(number) for name, number in active.images.counters.items()})
        facts.update(active.memory)
        facts.update(self._heap)
        silence = active.images.silence
        silences, unanswered = silence.silences(now), silence.unanswered(now)
        remarks = silence.remarks
        facts.update({f"pairs.{kind}": text for kind, text in remarks.items()})
        problems += [text for kind, text in remarks.items() if kind != FRAMES]  # frames alone may well be one view
        situation = replace(situation, problems=tuple(problems))
        return replace(situation, silences=silences, needed=silence.image_topics, unanswered=unanswered), facts


def usage() -> str:
    """Return what `tracker_node --help` prints."""
    width = max(map(len, TABLE))
    rows = [f"  {name:{width}}  {spec.description}" for name, spec in TABLE.items()]
    return "\n".join(
        [
            "usage: tracker_node [--help] [--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO] ...]",
            "",
            "Tracks objects through a colour and an auxiliary camera. A lifecycle node: it waits to be configured",
            "and activated, unless -p autostart:=true is given. Runs until SIGINT or SIGTERM.",
            "",
            "parameters:",
            *rows,
            "",
        ]
    )


def make_executor(node: TrackerNode) -> Any:
    """Return the executor that the parameter of that name asks for.

    EventsExecutor of Jazzy: callbacks, lifecycle services, QoS events and timers work; `wake()` does not end a
    `spin_once`, so a signal is noticed within `SPIN_S`.
    """
    if node.settings.executor == "events":
        try:
            from rclpy.experimental import EventsExecutor
        except ImportError as error:
            Log(node).warning(f"executor 'events' is not in this rclpy ({error}); 'single' is used")
        else:
            return EventsExecutor()
    return SingleThreadedExecutor()


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit status, 0 after either."""
    words = sys.argv[1:] if args is None else args
    own = words[: words.index("--ros-args")] if "--ros-args" in words else words
    if {"-h", "--help"} & set(own):
        sys.stdout.write(usage())
        return 0
    steady_heap()
    signals = StopSignals()  # before the node is in the graph, which it has to leave in order
    rclpy.init(args=args, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = TrackerNode()
    executor = make_executor(node)
    executor.add_node(node)
    signals.wake = executor.wake
    node.interruptible = signals.interruptible
    try:
        if node.settings.autostart and node.trigger_configure() == _SUCCESS:
            node.trigger_activate()
        while not signals.stop and rclpy.ok():
            _spin_once(executor, node)
        node.finish()
    except ConfigureStoppedError:
        Log(node).info("stopped while it configured")
    finally:
        executor.remove_node(node)
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    if signals.stop:
        end_process()
    return 0


def _spin_once(executor: Any, node: TrackerNode) -> None:
    try:
        executor.spin_once(timeout_sec=SPIN_S)
    except ExternalShutdownException:
        return
    except Exception as error:  # noqa: BLE001  # for example a message that does not deserialise
        node.faults.record("executor", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
