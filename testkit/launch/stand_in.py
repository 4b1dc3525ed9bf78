"""A small strict stand-in for launch and launch_ros, which have no wheels.

It knows only what our launch files and their tests may use, with the names, arguments and semantics of the real ones:
scopes, the process's environment, and events that handlers turn into actions. An unknown class, function or keyword is
an error. `testkit.launch.system` works on it and on the real launch alike.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import tempfile
import types
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class LaunchContext:
    def __init__(self) -> None:
        self.launch_configurations: dict[str, str] = {}
        self.locals = types.SimpleNamespace()
        self.is_shutdown = False
        self._stacks: dict[str, list[dict[str, Any]]] = {"configurations": [], "environment": [], "locals": []}
        self._event_queue: asyncio.Queue[Any] = asyncio.Queue()
        self._event_handlers: deque[Any] = deque()

    def extend_locals(self, extensions: dict[str, Any]) -> None:
        self.locals = types.SimpleNamespace(**{**vars(self.locals), **extensions})

    def _push_locals(self) -> None:
        self._stacks["locals"].append(vars(self.locals))

    def _pop_locals(self) -> None:
        self.locals = types.SimpleNamespace(**self._stacks["locals"].pop())

    def _push_scope(self) -> None:
        self._stacks["configurations"].append(dict(self.launch_configurations))
        self._stacks["environment"].append(dict(os.environ))

    def _pop_scope(self) -> None:
        self.launch_configurations = self._stacks["configurations"].pop()
        os.environ.clear()
        os.environ.update(self._stacks["environment"].pop())

    def register_event_handler(self, event_handler: Any) -> None:
        self._event_handlers.appendleft(event_handler)

    def unregister_event_handler(self, event_handler: Any) -> None:
        self._event_handlers.remove(event_handler)

    def emit_event_sync(self, event: Any) -> None:
        self._event_queue.put_nowait(event)


def perform_substitutions(context: LaunchContext, parts: Iterable[Any]) -> str:
    return "".join(part if isinstance(part, str) else part.perform(context) for part in parts)


def _text(context: LaunchContext, value: Any) -> str:
    return perform_substitutions(context, value if isinstance(value, (list, tuple)) else [value])


def visit_all_entities_and_collect_futures(entity: Any, context: LaunchContext) -> list[Any]:
    for below in entity.visit(context) or ():
        visit_all_entities_and_collect_futures(below, context)
    return []


class Action:
    def visit(self, context: LaunchContext) -> list[Any] | None:
        return self.execute(context)

    def execute(self, context: LaunchContext) -> list[Any] | None:
        raise NotImplementedError

    def describe_sub_entities(self) -> list[Any]:
        return []


@dataclass
class LaunchDescription:
    entities: list[Any]

    def visit(self, context: LaunchContext) -> list[Any]:
        return self.entities

    def get_launch_arguments(self) -> list[DeclareLaunchArgument]:
        found: list[DeclareLaunchArgument] = []

        def look(entities: list[Any]) -> None:
            for entity in entities:
                if isinstance(entity, DeclareLaunchArgument):
                    found.append(entity)
                else:
                    look(entity.entities if isinstance(entity, LaunchDescription) else entity.describe_sub_entities())

        look(self.entities)
        return found


@dataclass
class LaunchConfiguration:
    variable_name: str

    def perform(self, context: LaunchContext) -> str:
        if self.variable_name not in context.launch_configurations:
            raise RuntimeError(f"launch configuration '{self.variable_name}' does not exist")
        return context.launch_configurations[self.variable_name]


@dataclass
class DeclareLaunchArgument(Action):
    name: str
    default_value: str | None = None
    description: str | None = None
    choices: list[str] | None = None

    def __post_init__(self) -> None:
        if self.default_value is not None and not isinstance(self.default_value, str):
            raise TypeError(f"default of '{self.name}' must be text, got {self.default_value!r}")

    def execute(self, context: LaunchContext) -> None:
        if self.name not in context.launch_configurations:
            if self.default_value is None:
                raise RuntimeError(f"Required launch argument '{self.name}' was not provided.")
            context.launch_configurations[self.name] = self.default_value
        value = context.launch_configurations[self.name]
        if self.choices is not None and value not in self.choices:
            raise RuntimeError(f"Argument '{self.name}' provided value '{value}' is not valid: {self.choices}")


@dataclass
class OpaqueFunction(Action):
    function: Callable[[LaunchContext], list[Any] | None]

    def execute(self, context: LaunchContext) -> list[Any] | None:
        return self.function(context)


@dataclass
class GroupAction(Action):
    actions: list[Any]
    scoped: bool = True
    forwarding: bool = True
    launch_configurations: dict[str, Any] = field(default_factory=dict)

    def execute(self, context: LaunchContext) -> list[Any]:
        def push(_: LaunchContext) -> None:
            kept = {name: _text(context, value) for name, value in self.launch_configurations.items()}
            if self.scoped:
                context._push_scope()
                if not self.forwarding:
                    context.launch_configurations.clear()
            context.launch_configurations.update(kept)

        def pop(_: LaunchContext) -> None:
            if self.scoped:
                context._pop_scope()

        return [OpaqueFunction(push), *self.actions, OpaqueFunction(pop)]

    def describe_sub_entities(self) -> list[Any]:
        return self.actions


@dataclass
class PythonLaunchDescriptionSource:
    location: str

    def get_launch_description(self, context: LaunchContext | None) -> LaunchDescription:
        path = Path(self.location)
        spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        description: LaunchDescription = module.generate_launch_description()
        return description


@dataclass
class IncludeLaunchDescription(Action):
    launch_description_source: PythonLaunchDescriptionSource
    launch_arguments: Iterable[tuple[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.launch_arguments = list(self.launch_arguments or ())

    def execute(self, context: LaunchContext) -> list[Any]:
        description = self.launch_description_source.get_launch_description(context)
        # As launch does it: in the scope of the including file, whose next include finds them still set.
        for name, value in self.launch_arguments or ():
            context.launch_configurations[name] = _text(context, value)
        return [description]

    def describe_sub_entities(self) -> list[Any]:
        return [self.launch_description_source.get_launch_description(None)]


class ExecuteLocal(Action):
    def __init__(self, *, respawn: bool = False, respawn_delay: float | None = None, output: str = "log") -> None:
        self.__respawn, self.__respawn_delay = respawn, respawn_delay
        if respawn and respawn_delay is None:
            raise TypeError("a process that ends at once would be started without a pause")


class ExecuteProcess(ExecuteLocal):
    def __init__(self, *, cmd: list[Any], additional_env: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.cmd = [[part] for part in cmd]
        self.additional_env = [([name], [value]) for name, value in (additional_env or {}).items()]

    def execute(self, context: LaunchContext) -> None:
        raise NotImplementedError("the fake starts no process; see testkit.launch.system")


@dataclass
class TimerAction(Action):
    period: float
    actions: list[Any]


@dataclass
class LogInfo(Action):
    msg: Any

    def execute(self, context: LaunchContext) -> None:
        print(f"[INFO] [launch.user]: {_text(context, self.msg)}", flush=True)


@dataclass(eq=False, kw_only=True)
class ShutdownEvent:
    reason: str
    due_to_sigint: bool = False


@dataclass(kw_only=True)
class Shutdown(Action):
    reason: str

    def execute(self, context: LaunchContext) -> None:
        context.emit_event_sync(ShutdownEvent(reason=self.reason))


@dataclass
class EmitEvent(Action):
    event: Any

    def execute(self, context: LaunchContext) -> None:
        context.emit_event_sync(self.event)


@dataclass
class RegisterEventHandler(Action):
    event_handler: Any

    def execute(self, context: LaunchContext) -> None:
        context.register_event_handler(self.event_handler)


@dataclass(eq=False)
class _Handler:
    matches: Callable[[Any], bool]
    entities: list[Any]
    handle_once: bool = False

    def handle(self, event: Any, context: LaunchContext) -> list[Any]:
        context.extend_locals({"event": event})
        if self.handle_once:
            context.unregister_event_handler(self)
        return self.entities


def OnProcessStart(*, on_start: list[Any], target_action: Any = None, handle_once: bool = False) -> _Handler:  # noqa: N802
    return _Handler(
        lambda event: isinstance(event, ProcessStarted) and target_action in (None, event.action), on_start, handle_once
    )


class _ExitHandler(_Handler):
    """As launch's: a function receives event and context, and its actions are carried out."""

    def __init__(self, target_action: Any, on_exit: Callable[[Any, LaunchContext], list[Any] | None]) -> None:
        if not isinstance(target_action, ExecuteProcess):
            raise TypeError("OnProcessExit requires an 'ExecuteProcess' action as the target")
        super().__init__(lambda event: isinstance(event, ProcessExited) and event.action is target_action, [])
        self._on_exit = on_exit

    def handle(self, event: Any, context: LaunchContext) -> list[Any]:
        super().handle(event, context)
        return self._on_exit(event, context) or []


def OnProcessExit(  # noqa: N802
    *, target_action: Any, on_exit: Callable[[Any, LaunchContext], list[Any] | None]
) -> _Handler:
    return _ExitHandler(target_action, on_exit)


def OnStateTransition(  # noqa: N802
    *,
    entities: list[Any],
    target_lifecycle_node: Any = None,
    start_state: str | None = None,
    goal_state: str | None = None,
    matcher: Callable[[Any], bool] | None = None,
    handle_once: bool = False,
) -> _Handler:
    def matches(event: Any) -> bool:
        if matcher is not None:
            return matcher(event)
        return (
            isinstance(event, StateTransition)
            and target_lifecycle_node in (None, event.action)
            and start_state in (None, event.start_state)
            and goal_state in (None, event.goal_state)
        )

    return _Handler(matches, entities, handle_once)


def matches_action(action: Any) -> Callable[[Any], bool]:
    return lambda other: other is action


@dataclass(eq=False, kw_only=True)
class _ProcessEvent:
    action: Any
    name: str
    cmd: list[str]
    cwd: str | None
    env: dict[str, str] | None
    pid: int


class ProcessStarted(_ProcessEvent):
    pass


@dataclass(eq=False, kw_only=True)
class ProcessExited(_ProcessEvent):
    returncode: int


@dataclass(eq=False, kw_only=True)
class StateTransition:
    action: Any
    msg: Any

    @property
    def start_state(self) -> str:
        return str(self.msg.start_state.label)

    @property
    def goal_state(self) -> str:
        return str(self.msg.goal_state.label)


@dataclass(eq=False, kw_only=True)
class ChangeState:
    lifecycle_node_matcher: Callable[[Any], bool]
    transition_id: int


@dataclass
class ParameterValue:
    value: Any
    value_type: type | None = None


def _namespace(pushed: str, namespace: str) -> str:
    joined = namespace if namespace.startswith("/") or not pushed else f"{pushed.rstrip('/')}/{namespace}"
    return "/" + joined.strip("/")


@dataclass
class PushRosNamespace(Action):
    namespace: Any

    def execute(self, context: LaunchContext) -> None:
        pushed = context.launch_configurations.get("ros_namespace", "")
        context.launch_configurations["ros_namespace"] = _namespace(pushed, _text(context, self.namespace))


class Node(ExecuteProcess):
    def __init__(
        self,
        *,
        package: str,
        executable: str,
        name: str | None = None,
        namespace: str = "",
        parameters: list[Any] | None = None,
        remappings: list[tuple[str, str]] | None = None,
        arguments: list[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(cmd=[f"{package}/{executable}"], **options)
        self.node_package, self.node_executable = package, executable
        self._arguments = arguments or []
        self._ros = (name, namespace, parameters or [], remappings or [])
        self._full_name: str | None = None

    @property
    def node_name(self) -> str:
        if self._full_name is None:
            raise RuntimeError("cannot access 'node_name' before executing action")
        return self._full_name

    def execute(self, context: LaunchContext) -> None:
        name, namespace, parameters, remappings = self._ros
        pushed = context.launch_configurations.get("ros_namespace", "")
        self._full_name = f"{_namespace(pushed, namespace).rstrip('/')}/{name}"
        words = [*self._arguments, "--ros-args"]
        words += ["-r", f"__node:={name}"] if name is not None else []
        words += ["-r", f"__ns:={_namespace(pushed, namespace)}"]
        for item in parameters:
            words += ["--params-file", item if isinstance(item, str) else _parameter_file(item)]
        for source, target in remappings:
            words += ["-r", f"{source}:={target}"]
        self.cmd = [*self.cmd[:1], *([word] for word in words)]
        super().execute(context)


class LifecycleNode(Node):
    def __init__(self, *, name: str, namespace: str, **options: Any) -> None:
        super().__init__(name=name, namespace=namespace, **options)


def _parameter_file(values: dict[str, Any]) -> str:
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str):
            # launch_ros reads such a text as YAML: "1" would become a number.
            raise TypeError(f"parameter '{name}' is a text without ParameterValue")
        plain[name] = value.value_type(value.value) if isinstance(value, ParameterValue) and value.value_type else value
    with tempfile.NamedTemporaryFile("w", prefix="launch_params_", suffix=".yaml", delete=False) as stream:
        yaml.safe_dump({"/**": {"ros__parameters": plain}}, stream)
    return stream.name


_MODULES: dict[str, list[Any]] = {
    "launch": [LaunchContext, LaunchDescription],
    "launch.actions": [
        DeclareLaunchArgument,
        EmitEvent,
        ExecuteProcess,
        GroupAction,
        IncludeLaunchDescription,
        LogInfo,
        OpaqueFunction,
        RegisterEventHandler,
        Shutdown,
        TimerAction,
    ],
    "launch.event_handlers": [OnProcessExit, OnProcessStart],
    "launch.events": [matches_action],
    "launch.events.process": [ProcessExited, ProcessStarted],
    "launch.launch_description_sources": [PythonLaunchDescriptionSource],
    "launch.substitutions": [LaunchConfiguration],
    "launch.utilities": [perform_substitutions, visit_all_entities_and_collect_futures],
    "launch_ros": [],
    "launch_ros.actions": [LifecycleNode, Node, PushRosNamespace],
    "launch_ros.event_handlers": [OnStateTransition],
    "launch_ros.events": [],
    "launch_ros.events.lifecycle": [ChangeState, StateTransition],
    "launch_ros.parameter_descriptions": [ParameterValue],
}


@contextmanager
def fake_launch() -> Iterator[None]:
    """Put the stand-ins in place of launch and launch_ros."""
    modules = {name: types.ModuleType(name) for name in _MODULES}
    for name, things in _MODULES.items():
        for thing in things:
            setattr(modules[name], thing.__name__, thing)
        above, _, own = name.rpartition(".")
        if above:
            setattr(modules[above], own, modules[name])
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
