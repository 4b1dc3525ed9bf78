"""A small strict stand-in for launch and launch_ros, which have no wheels.

It knows only what our launch files may use, with the argument names of the documented API: an unknown class, function
or keyword is an error, and so is an argument that is used but not declared, or declared but never used.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class LaunchError(Exception):
    """What the real launch system would refuse."""


class LaunchContext:
    """Values of the arguments, as `ros2 launch FILE name:=value` gives them."""

    def __init__(self, values: dict[str, str]) -> None:
        self.launch_configurations = dict(values)


@dataclass
class LaunchDescription:
    entities: list[Any]


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: str | None = None
    description: str | None = None
    choices: list[str] | None = None

    def __post_init__(self) -> None:
        if self.default_value is not None and not isinstance(self.default_value, str):
            raise LaunchError(f"default of '{self.name}' must be text, got {self.default_value!r}")
        if not self.description:
            raise LaunchError(f"argument '{self.name}' has no description")


@dataclass
class LaunchConfiguration:
    variable_name: str

    def perform(self, context: LaunchContext) -> str:
        if self.variable_name not in context.launch_configurations:
            raise LaunchError(f"launch configuration '{self.variable_name}' does not exist")
        return context.launch_configurations[self.variable_name]


@dataclass
class OpaqueFunction:
    function: Callable[..., list[Any]]


@dataclass
class SetEnvironmentVariable:
    name: str
    value: str


@dataclass
class IncludeLaunchDescription:
    launch_description_source: Any
    launch_arguments: Iterable[tuple[str, Any]] | None = None


@dataclass
class PythonLaunchDescriptionSource:
    location: str


@dataclass
class ExecuteProcess:
    cmd: list[Any]
    output: str = "log"


@dataclass
class TimerAction:
    period: float
    actions: list[Any]


@dataclass
class EmitEvent:
    event: Any


@dataclass
class RegisterEventHandler:
    event_handler: Any


@dataclass
class OnProcessStart:
    target_action: Any = None
    on_start: list[Any] = field(default_factory=list)


@dataclass
class IfCondition:
    predicate_expression: Any


def matches_action(action: Any) -> Callable[[Any], bool]:
    return lambda other: other is action


@dataclass
class Node:
    package: str
    executable: str
    name: str | None = None
    namespace: str | None = None
    parameters: list[Any] = field(default_factory=list)
    remappings: list[tuple[str, str]] = field(default_factory=list)
    arguments: list[Any] = field(default_factory=list)
    output: str = "log"
    condition: IfCondition | None = None


@dataclass
class LifecycleNode(Node):
    def __post_init__(self) -> None:
        if self.name is None or self.namespace is None:
            raise LaunchError("LifecycleNode needs a name and a namespace")


@dataclass
class ParameterValue:
    value: Any
    value_type: type | None = None


@dataclass
class ChangeState:
    lifecycle_node_matcher: Callable[[Any], bool]
    transition_id: int


@dataclass
class OnStateTransition:
    target_lifecycle_node: Any
    entities: list[Any]
    transition: str | None = None
    start_state: str | None = None
    goal_state: str | None = None


_MODULES: dict[str, list[Any]] = {
    "launch": [LaunchContext, LaunchDescription],
    "launch.actions": [
        DeclareLaunchArgument,
        EmitEvent,
        ExecuteProcess,
        IncludeLaunchDescription,
        OpaqueFunction,
        RegisterEventHandler,
        SetEnvironmentVariable,
        TimerAction,
    ],
    "launch.conditions": [IfCondition],
    "launch.event_handlers": [OnProcessStart],
    "launch.events": [matches_action],
    "launch.launch_description_sources": [PythonLaunchDescriptionSource],
    "launch.substitutions": [LaunchConfiguration],
    "launch_ros": [],
    "launch_ros.actions": [LifecycleNode, Node],
    "launch_ros.event_handlers": [OnStateTransition],
    "launch_ros.events": [],
    "launch_ros.events.lifecycle": [ChangeState],
    "launch_ros.parameter_descriptions": [ParameterValue],
}


@contextmanager
def fake_launch(share: Path) -> Iterator[None]:
    """Put the stand-ins in place; `share` is what the ament index answers for our package."""
    modules = {name: types.ModuleType(name) for name in _MODULES}
    for name, things in _MODULES.items():
        for thing in things:
            setattr(modules[name], thing.__name__, thing)
    index, packages = types.ModuleType("ament_index_python"), types.ModuleType("ament_index_python.packages")

    def get_package_share_directory(package_name: str) -> str:
        if package_name != "sdstrack_ros":
            raise LookupError(package_name)
        return str(share)

    packages.get_package_share_directory = get_package_share_directory  # type: ignore[attr-defined]  # built here
    modules |= {"ament_index_python": index, "ament_index_python.packages": packages}
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


@dataclass
class Launched:
    """Everything a launch file did with some arguments, included files too."""

    entities: list[Any] = field(default_factory=list)
    declared: dict[str, DeclareLaunchArgument] = field(default_factory=dict)

    def of(self, kind: type) -> list[Any]:
        return [entity for entity in self.entities if type(entity) is kind]


def launched(path: Path, arguments: dict[str, str]) -> Launched:
    """Run a launch file as `ros2 launch` would. Call it inside `fake_launch`."""
    result = Launched()
    context = LaunchContext(arguments)
    _run(path, context, result)
    unknown = set(arguments) - set(result.declared)
    if unknown:
        raise LaunchError(f"{path.name} declares no argument {sorted(unknown)}")
    return result


def _run(path: Path, context: LaunchContext, result: Launched) -> None:
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _visit(module.generate_launch_description().entities, context, result)


def _visit(entities: list[Any], context: LaunchContext, result: Launched) -> None:
    for entity in entities:
        result.entities.append(entity)
        if isinstance(entity, DeclareLaunchArgument):
            result.declared[entity.name] = entity
            if entity.name not in context.launch_configurations:
                if entity.default_value is None:
                    raise LaunchError(f"argument '{entity.name}' must be given")
                context.launch_configurations[entity.name] = entity.default_value
        elif isinstance(entity, OpaqueFunction):
            _visit(entity.function(context), context, result)
        elif isinstance(entity, IncludeLaunchDescription):
            context.launch_configurations.update(dict(entity.launch_arguments or ()))
            _run(Path(entity.launch_description_source.location), context, result)
        elif isinstance(entity, TimerAction):
            _visit(entity.actions, context, result)
        elif isinstance(entity, Node) and entity.condition is not None:
            entity.condition.predicate_expression.perform(context)
