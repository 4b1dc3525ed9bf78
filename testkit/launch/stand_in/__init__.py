"""A small strict stand-in for launch and launch_ros, which have no wheels.

It knows only what our launch files and their tests may use, with the names, arguments and semantics of the real ones:
scopes, the process's environment, and events that handlers turn into actions. An unknown class, function or keyword is
an error. `testkit.launch.system` works on it and on the real launch alike.
"""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from testkit.launch.stand_in.of_launch import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LaunchConfiguration,
    LaunchContext,
    LaunchDescription,
    LogInfo,
    OnProcessExit,
    OnProcessStart,
    OpaqueFunction,
    ProcessExited,
    ProcessStarted,
    PythonLaunchDescriptionSource,
    RegisterEventHandler,
    Shutdown,
    ShutdownEvent,
    TimerAction,
    matches_action,
    perform_substitutions,
    visit_all_entities_and_collect_futures,
)
from testkit.launch.stand_in.of_launch_ros import (
    ChangeState,
    LifecycleNode,
    Node,
    OnStateTransition,
    ParameterValue,
    PushRosNamespace,
    StateTransition,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ChangeState",
    "DeclareLaunchArgument",
    "EmitEvent",
    "ExecuteProcess",
    "GroupAction",
    "IncludeLaunchDescription",
    "LaunchConfiguration",
    "LaunchContext",
    "LaunchDescription",
    "LifecycleNode",
    "LogInfo",
    "Node",
    "OnProcessExit",
    "OnProcessStart",
    "OnStateTransition",
    "OpaqueFunction",
    "ParameterValue",
    "ProcessExited",
    "ProcessStarted",
    "PushRosNamespace",
    "PythonLaunchDescriptionSource",
    "RegisterEventHandler",
    "Shutdown",
    "ShutdownEvent",
    "StateTransition",
    "TimerAction",
    "fake_launch",
    "matches_action",
    "perform_substitutions",
    "visit_all_entities_and_collect_futures",
]

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
        ShutdownEvent,
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
