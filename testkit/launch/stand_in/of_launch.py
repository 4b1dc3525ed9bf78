"""The stand-in for launch: context, actions, events and their handlers."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import types
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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


def text_of(context: LaunchContext, value: Any) -> str:
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
            kept = {name: text_of(context, value) for name, value in self.launch_configurations.items()}
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
            context.launch_configurations[name] = text_of(context, value)
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
        print(f"[INFO] [launch.user]: {text_of(context, self.msg)}", flush=True)


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
class Handler:
    matches: Callable[[Any], bool]
    entities: list[Any]
    handle_once: bool = False

    def handle(self, event: Any, context: LaunchContext) -> list[Any]:
        context.extend_locals({"event": event})
        if self.handle_once:
            context.unregister_event_handler(self)
        return self.entities


def OnProcessStart(*, on_start: list[Any], target_action: Any = None, handle_once: bool = False) -> Handler:  # noqa: N802
    return Handler(
        lambda event: isinstance(event, ProcessStarted) and target_action in (None, event.action), on_start, handle_once
    )


class _ExitHandler(Handler):
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
) -> Handler:
    return _ExitHandler(target_action, on_exit)


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
