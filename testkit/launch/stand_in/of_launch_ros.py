"""The stand-in for launch_ros: nodes, their namespaces and parameters, lifecycle transitions."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from testkit.launch.stand_in.of_launch import Action, ExecuteProcess, Handler, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from testkit.launch.stand_in.of_launch import LaunchContext


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


def OnStateTransition(  # noqa: N802
    *,
    entities: list[Any],
    target_lifecycle_node: Any = None,
    start_state: str | None = None,
    goal_state: str | None = None,
    matcher: Callable[[Any], bool] | None = None,
    handle_once: bool = False,
) -> Handler:
    def matches(event: Any) -> bool:
        if matcher is not None:
            return matcher(event)
        return (
            isinstance(event, StateTransition)
            and target_lifecycle_node in (None, event.action)
            and start_state in (None, event.start_state)
            and goal_state in (None, event.goal_state)
        )

    return Handler(matches, entities, handle_once)


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
        context.launch_configurations["ros_namespace"] = _namespace(pushed, text_of(context, self.namespace))


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
