"""The parameter table for people and for ROS: docs/parameters.md and parameter descriptors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sdstrack_ros.parameters.spec import Effect, ParameterSpec, Value
from sdstrack_ros.parameters.table import parameter_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def ros_value(value: Value) -> Value:
    """Return a value as rclpy expects it: tuples become lists."""
    return list(value) if isinstance(value, tuple) else value


def descriptor(spec: ParameterSpec) -> Any:
    """Return the rcl_interfaces/ParameterDescriptor with range, unit and effect.

    Doubles are dynamically typed in ROS so that `30` is accepted for `30.0`; the table's own check stays strict.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, ParameterType

    types = {
        "bool": ParameterType.PARAMETER_BOOL,
        "integer": ParameterType.PARAMETER_INTEGER,
        "double": ParameterType.PARAMETER_DOUBLE,
        "string": ParameterType.PARAMETER_STRING,
        "double array": ParameterType.PARAMETER_DOUBLE_ARRAY,
    }
    unit = f" [{spec.unit}]" if spec.unit else ""
    effect = f"takes effect {spec.effect.value}" if spec.effect is Effect.LIVE else spec.effect.value
    result = ParameterDescriptor(
        name=spec.name,
        type=types[spec.kind],
        description=f"{spec.description}{unit} A change {effect}.",
        additional_constraints=spec.range_text,
        dynamic_typing=isinstance(spec.default, (float, tuple)),
    )
    if isinstance(spec.default, float) and spec.low is not None and spec.high is not None:
        result.floating_point_range = [FloatingPointRange(from_value=spec.low, to_value=spec.high, step=0.0)]
    if type(spec.default) is int and spec.low is not None and spec.high is not None:
        result.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)]
    return result


def parameters_markdown(table: Sequence[ParameterSpec]) -> str:
    """Return the text of docs/parameters.md."""
    lines = [
        "# Parameters of tracker_node",
        "",
        "Generated from `sdstrack_ros/parameters/table.py` by `python -m sdstrack_ros.parameters.docs`: edit there.",
        "A change takes effect at once, or needs reconfigure (deactivate, clean up, set, configure, activate).",
    ]
    for group in dict.fromkeys(spec.group for spec in table):
        lines += ["", f"## {group}", "", "| name | type | default | range | unit | change | meaning |"]
        lines.append("|---|---|---|---|---|---|---|")
        lines += [_markdown_row(spec) for spec in table if spec.group == group]
    return "\n".join([*lines, ""])


def _markdown_row(spec: ParameterSpec) -> str:
    default = ", ".join(f"{v:g}" for v in spec.default) if isinstance(spec.default, tuple) else spec.default
    cells: Iterable[object] = (
        f"`{spec.name}`",
        spec.kind,
        "(empty)" if default == "" else str(default).lower() if isinstance(default, bool) else default,
        spec.range_text,
        spec.unit,
        spec.effect.value,
        spec.description,
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(parameters_markdown(parameter_table()))
