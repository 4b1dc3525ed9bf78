"""Runs launch files without starting a process, on the real launch or on its stand-in `testkit.launch.stand_in`.

Only what launch would do at the very end is replaced: starting a process. Everything before it, from arguments and
scopes to the command line and the environment of the process, is launch's own work.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lifecycle_msgs.msg import State, TransitionEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest


@dataclass(frozen=True)
class StartedProcess:
    """What one process was started with.

    Attributes:
        action: the launch action that started it.
        words: its command line, for a ROS node without the path of the executable.
        environment: all of its variables.
        respawn: whether launch starts it again when it ends.
    """

    action: Any
    words: list[str]
    environment: dict[str, str]
    respawn: bool

    @property
    def name(self) -> str:
        """Full name of a ROS node."""
        return self.remappings.get("__ns", "/").rstrip("/") + "/" + self.remappings["__node"]

    @property
    def remappings(self) -> dict[str, str]:
        """Remapping rules, with the node's name and namespace."""
        return dict(rule.split(":=", 1) for rule in self._after("-r"))

    @property
    def parameter_files(self) -> list[Path]:
        """Parameter files, the last one wins."""
        return [Path(name) for name in self._after("--params-file")]

    @property
    def overrides(self) -> dict[str, Any]:
        """Parameters that the launch file itself sets, over those of the config file."""
        (section,) = yaml.safe_load(self.parameter_files[-1].read_text()).values()
        return dict(section["ros__parameters"])

    def _after(self, option: str) -> list[str]:
        return [word for before, word in zip(self.words, self.words[1:], strict=False) if before == option]


@dataclass
class LaunchSystem:
    """One launch: what it has started, and its events.

    Attributes:
        context: launch's own.
        processes: started so far, in order.
        timers: timer actions that wait.
        said: lines that launch files log.
        shutdowns: why launch was asked to end.
    """

    context: Any
    processes: list[StartedProcess] = field(default_factory=list)
    timers: list[Any] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    shutdowns: list[str] = field(default_factory=list)

    def of(self, executable: str) -> list[StartedProcess]:
        """The ROS nodes of one executable."""
        return [process for process in self.processes if getattr(process.action, "node_executable", "") == executable]

    @property
    def tracker(self) -> StartedProcess:
        """The only tracker_node."""
        (process,) = self.of("tracker_node")
        return process

    def visit(self, *entities: Any) -> None:
        """Carry out actions, and all that they yield."""
        utilities = importlib.import_module("launch.utilities")
        for entity in entities:
            utilities.visit_all_entities_and_collect_futures(entity, self.context)

    def include(self, path: Path, arguments: Mapping[str, str]) -> None:
        """Do what `ros2 launch PATH NAME:=VALUE ...` does."""
        self.visit(self.inclusion(path, arguments))

    def inclusion(self, path: Path, arguments: Mapping[str, Any]) -> Any:
        """The action with which a launch file includes another one."""
        actions, sources = (
            importlib.import_module(f"launch.{name}") for name in ("actions", "launch_description_sources")
        )
        return actions.IncludeLaunchDescription(
            sources.PythonLaunchDescriptionSource(str(path)), launch_arguments=list(arguments.items())
        )

    def declared(self, path: Path) -> list[str]:
        """Names of the arguments that `ros2 launch PATH --show-args` lists."""
        sources = importlib.import_module("launch.launch_description_sources")
        description = sources.PythonLaunchDescriptionSource(str(path)).get_launch_description(self.context)
        return [argument.name for argument in description.get_launch_arguments()]

    def process_started(self, process: StartedProcess) -> list[int]:
        """Tell launch that a process runs; returns the transitions that it then asks the node for."""
        events = importlib.import_module("launch.events.process")
        return self._happens(
            events.ProcessStarted(action=process.action, name="node-1", cmd=process.words, cwd=None, env=None, pid=1),
            process,
        )

    def process_exited(self, process: StartedProcess, status: int) -> None:
        """Tell launch that a process has ended."""
        events = importlib.import_module("launch.events.process")
        self._happens(
            events.ProcessExited(
                action=process.action, name="node-1", cmd=process.words, cwd=None, env=None, pid=1, returncode=status
            ),
            process,
        )

    def state_changed(self, process: StartedProcess, start: str, goal: str) -> list[int]:
        """Tell launch about a transition of a node; returns the transitions that it then asks the node for."""
        events = importlib.import_module("launch_ros.events.lifecycle")
        message = TransitionEvent(start_state=State(label=start), goal_state=State(label=goal))
        return self._happens(events.StateTransition(action=process.action, msg=message), process)

    def _happens(self, event: Any, process: StartedProcess) -> list[int]:
        for handler in tuple(self.context._event_handlers):
            if handler.matches(event):
                self.context._push_locals()
                self.visit(*handler.handle(event, self.context))
                self.context._pop_locals()
        requests = []
        while not self.context._event_queue.empty():
            request = self.context._event_queue.get_nowait()
            if hasattr(request, "due_to_sigint"):
                self.shutdowns.append(request.reason)
                continue
            assert request.lifecycle_node_matcher(process.action)
            requests.append(int(request.transition_id))
        return requests


def launch_system(monkeypatch: pytest.MonkeyPatch) -> LaunchSystem:
    """A launch whose processes are noted down, not started; until the end of the test."""
    launch, actions, utilities = (
        importlib.import_module(name) for name in ("launch", "launch.actions", "launch.utilities")
    )
    nodes = importlib.import_module("launch_ros.actions")
    system = LaunchSystem(launch.LaunchContext())

    def text(parts: Sequence[Any]) -> str:
        return str(utilities.perform_substitutions(system.context, list(parts)))

    def note(action: Any, _: Any) -> None:
        words = action.cmd[1:] if isinstance(action, nodes.Node) else action.cmd
        own = {text(name): text(value) for name, value in action.additional_env or ()}
        system.processes.append(
            StartedProcess(
                action,
                [text(parts) for parts in words],
                {**os.environ, **own},
                bool(action._ExecuteLocal__respawn),
            )
        )

    monkeypatch.setattr(actions.ExecuteProcess, "execute", note)
    monkeypatch.setattr(actions.TimerAction, "execute", lambda timer, _: system.timers.append(timer))
    monkeypatch.setattr(actions.LogInfo, "execute", lambda line, _: system.said.append(text(line.msg)))
    # The real one first connects to the process that it is about to start.
    monkeypatch.setattr(nodes.LifecycleNode, "execute", nodes.Node.execute)
    return system


def launchable_recording(folder: Path, **topics: str) -> Path:
    """A recording as far as launch looks at it: topics (with _ for /) and their types."""
    folder.mkdir()
    entries = [
        {
            "topic_metadata": {"name": f"/{name.replace('__', '/')}", "type": f"sensor_msgs/msg/{kind}"},
            "message_count": 9,
        }
        for name, kind in topics.items()
    ]
    about = {"relative_file_paths": [f"{folder.name}.mcap"], "topics_with_message_count": entries}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": about}))
    return folder
