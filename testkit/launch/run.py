"""Carries out a launch file with real processes: `ros2 launch` where that is installed, else a stand-in.

    python -m testkit.launch.run PATH NAME:=VALUE ...

The stand-in works on `testkit.launch.stand_in` and does what launch does with a process: its events, its transitions,
its restart, its end at SIGINT. As launch, it leaves running what it has started when an error comes later.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.launch import LAUNCH, ROOT

MODULES = {"tracker_node": "sdstrack_ros.node.tracker_node", "sdstrack": "sdstrack_ros.cli"}
PATIENCE_S = 10.0


def ros2_launch_is_installed() -> bool:
    """Whether `ros2 launch` is, and this package in its index."""
    if any(importlib.util.find_spec(name) is None for name in ("ros2launch", "launch_ros")):
        return False
    from ament_index_python.packages import get_packages_with_prefixes

    return "sdstrack_ros" in get_packages_with_prefixes()


def launch_file(name: str) -> Path:
    """The launch file NAME.launch.py of this package: the installed one where `ros2 launch` is."""
    if not ros2_launch_is_installed():
        return LAUNCH / f"{name}.launch.py"
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("sdstrack_ros")) / "launch" / f"{name}.launch.py"


def launch_command(path: Path, arguments: dict[str, str]) -> list[str]:
    """Command line that launches a file, whose output has launch's lines and those of the processes."""
    words = [str(path), *(f"{name}:={value}" for name, value in arguments.items())]
    if ros2_launch_is_installed():
        # At a terminal the shell interrupts the children; without one, launch has to.
        return ["ros2", "launch", "--noninteractive", *words]
    return [sys.executable, "-m", "testkit.launch.run", *words]


@dataclass
class _Child:
    action: Any
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes]


class _Launch:
    """A launch that runs: its children, and what waits for a time (restarts, timers, requests)."""

    def __init__(self) -> None:
        import rclpy
        from lifecycle_msgs.msg import TransitionEvent
        from lifecycle_msgs.srv import ChangeState

        from testkit.launch import stand_in

        self._stand_in = stand_in
        self._types = (TransitionEvent, ChangeState)
        rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        self._node = rclpy.create_node(f"launch_ros_{os.getpid()}")
        self._rclpy = rclpy
        self.context = stand_in.LaunchContext()
        self._children: list[_Child] = []
        self._waiting: list[tuple[float, Any]] = []
        self._clients: dict[Any, Any] = {}

    def run(self, path: Path, arguments: list[tuple[str, str]]) -> int:
        stand_in = self._stand_in
        source = stand_in.PythonLaunchDescriptionSource(str(path))
        try:
            self._visit(stand_in.IncludeLaunchDescription(source, launch_arguments=arguments))
            while not self.context.is_shutdown and (self._children or self._waiting):
                self._rclpy.spin_once(self._node, timeout_sec=0.02)
                self._look_after_children()
                for due, start in list(self._waiting):
                    if time.monotonic() >= due:
                        self._waiting.remove((due, start))
                        start()
                self._handle_events()
        except Exception as error:  # noqa: BLE001  # as launch: whatever a launch file raises
            print(f"[ERROR] [launch]: Caught exception in launch (see debug for traceback): {error}", flush=True)
            return 1
        return self._end_all()

    def _visit(self, *entities: Any) -> None:
        for entity in entities:
            self._stand_in.visit_all_entities_and_collect_futures(entity, self.context)

    def start(self, action: Any, context: Any) -> None:
        words = [self._stand_in.perform_substitutions(context, parts) for parts in action.cmd]
        executable = getattr(action, "node_executable", None)
        if executable is not None:
            if executable not in MODULES:
                raise RuntimeError(f"package '{action.node_package}' not found")
            words[:1] = [sys.executable, "-m", MODULES[executable]]
        own = {name[0]: value[0] for name, value in action.additional_env}
        self._spawn(action, words, {**os.environ, **own})

    def start_lifecycle(self, action: Any, context: Any) -> None:
        transition_event, change_state = self._types
        self._stand_in.Node.execute(action, context)

        def on_transition(message: Any) -> None:
            self.context.emit_event_sync(self._stand_in.StateTransition(action=action, msg=message))

        self._node.create_subscription(transition_event, f"{action.node_name}/transition_event", on_transition, 10)
        self._clients[action] = self._node.create_client(change_state, f"{action.node_name}/change_state")

    def wait(self, timer: Any, _: Any) -> None:
        self._waiting.append((time.monotonic() + timer.period, lambda: self._visit(*timer.actions)))

    def _spawn(self, action: Any, words: list[str], environment: dict[str, str]) -> None:
        # In a session of its own, so that only launch's own signals reach it.
        process = subprocess.Popen(words, env=environment, cwd=ROOT, start_new_session=True)
        self._children.append(_Child(action, words, environment, process))
        print(f"[INFO] [launch]: process started with pid [{process.pid}]", flush=True)
        started = self._stand_in.ProcessStarted(
            action=action, name=words[0], cmd=words, cwd=None, env=environment, pid=process.pid
        )
        self.context.emit_event_sync(started)

    def _look_after_children(self) -> None:
        for child in list(self._children):
            status = child.process.poll()
            if status is None:
                continue
            self._children.remove(child)
            how = "has finished cleanly" if status == 0 else f"has died, exit code {status}"
            print(f"[INFO] [launch]: process {how} [pid {child.process.pid}]", flush=True)
            exited = self._stand_in.ProcessExited(
                action=child.action, name=child.command[0], cmd=child.command, cwd=None, env=None,
                pid=child.process.pid, returncode=status,
            )  # fmt: skip
            self.context.emit_event_sync(exited)
            if child.action._ExecuteLocal__respawn:
                due = time.monotonic() + child.action._ExecuteLocal__respawn_delay
                self._waiting.append(
                    (due, lambda child=child: self._spawn(child.action, child.command, child.environment))
                )

    def _handle_events(self) -> None:
        while not self.context._event_queue.empty():
            event = self.context._event_queue.get_nowait()
            if isinstance(event, self._stand_in.ShutdownEvent):
                self.context.is_shutdown = True
                continue
            if isinstance(event, self._stand_in.ChangeState):
                for action, client in self._clients.items():
                    if event.lifecycle_node_matcher(action):
                        self._change_state(client, event.transition_id)
                continue
            for handler in tuple(self.context._event_handlers):
                if handler.matches(event):
                    self.context._push_locals()
                    self._visit(*handler.handle(event, self.context))
                    self.context._pop_locals()

    def _change_state(self, client: Any, transition: int) -> None:
        request = self._types[1].Request()
        request.transition.id = transition

        def ask() -> None:
            if client.service_is_ready():
                client.call_async(request)
            else:
                self._waiting.append((time.monotonic() + 0.1, ask))

        ask()

    def _end_all(self) -> int:
        self.context.is_shutdown = True
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for child in self._children:
                if child.process.poll() is None:
                    child.process.send_signal(number)
            until = time.monotonic() + PATIENCE_S
            while self._children and time.monotonic() < until:
                self._look_after_children()
                time.sleep(0.02)
        return 0


def main() -> int:
    """Launch the file of the command line until SIGINT."""
    from testkit.launch.stand_in import fake_launch

    words = [word.partition(":=") for word in sys.argv[2:]]
    with fake_launch():
        import ament_index_python.packages as index
        import launch.actions
        import launch_ros.actions

        known, not_found = index.get_package_share_directory, index.PackageNotFoundError

        def share(package: str) -> str:
            if package == "sdstrack_ros":
                return str(ROOT)
            try:
                return str(known(package))
            except (not_found, ValueError, LookupError):
                raise not_found(package) from None

        index.get_package_share_directory = share
        running = _Launch()
        launch.actions.ExecuteProcess.execute = lambda action, context: running.start(action, context)
        launch.actions.TimerAction.execute = lambda timer, context: running.wait(timer, context)
        launch_ros.actions.LifecycleNode.execute = lambda action, context: running.start_lifecycle(action, context)
        signal.signal(signal.SIGINT, lambda *_: setattr(running.context, "is_shutdown", True))
        return running.run(Path(sys.argv[1]), [(name, value) for name, _, value in words])


if __name__ == "__main__":
    sys.exit(main())
