"""The parameter table on a running node: declared once, checked at every change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from ckd_core.errors import TrackingError
from sdstrack_ros.node.log import Log
from sdstrack_ros.parameters.checks import change_settings, contradictions, nearest_name
from sdstrack_ros.parameters.docs import descriptor, ros_value
from sdstrack_ros.parameters.spec import ParameterError
from sdstrack_ros.parameters.table import TABLE, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

# Declared by rclpy itself.
_ROS_OWN = ("use_sim_time", "start_type_description_service", "qos_overrides")


class NodeParameters:
    """Declares all parameters of a node that was created with `automatically_declare_parameters_from_overrides`.

    Start values that the table refuses, or that contradict each other, do not keep the node from starting: `refusal`
    says why, until good ones are set.

    Attributes:
        settings: all values, with the default in place of a refused one; they may contradict each other.
        configured: whether values that need reconfigure are locked.

    """

    def __init__(self, node: Node, on_change: Callable[[Settings, Settings], object]) -> None:
        """Declare the parameters.

        Args:
            node: their owner.
            on_change: called with the settings before and after a change; a TrackingError that it raises refuses it.

        """
        self._on_change = on_change
        self.configured = False
        self._refused: dict[str, str] = {}
        overrides = {name: node.get_parameter(name).value for name in TABLE if node.has_parameter(name)}
        values = {name: spec.default for name, spec in TABLE.items()}
        for name, value in overrides.items():
            node.undeclare_parameter(name)
            try:
                values[name] = TABLE[name].check(value)
            except ParameterError as error:
                self._refused[name] = str(error)
        self.settings = Settings(**values)
        for name, spec in TABLE.items():
            node.declare_parameter(name, ros_value(values[name]), descriptor(spec), ignore_override=True)
        for name in node.get_parameters_by_prefix(""):
            if name not in TABLE and not name.startswith(_ROS_OWN):
                Log(node).warning(f"there is no parameter '{name}'{nearest_name(name)}; it has no effect")
        if self.refusal:
            Log(node).error(self.refusal)
        node.add_on_set_parameters_callback(self._on_set)
        if hasattr(node, "add_pre_set_parameters_callback"):  # since Iron; before it, a double that is set to 1 stays 1
            node.add_pre_set_parameters_callback(_in_declared_type)

    @property
    def refusal(self) -> str:
        """Why the values cannot be used as they are; '' when they can."""
        return "; ".join([*self._refused.values(), *contradictions(self.settings)])

    def checked(self) -> Settings:
        """Return the settings.

        Raises:
            ParameterError: start values were refused or contradict each other, and have not been set since.

        """
        if self.refusal:
            raise ParameterError(self.refusal)
        return self.settings

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        values = {parameter.name: parameter.value for parameter in parameters if parameter.name in TABLE}
        if not values:
            return SetParametersResult(successful=True)
        before = self.settings
        try:
            after = change_settings(before, values, self.configured)
            self._on_change(before, after)
        except TrackingError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.settings = after
        for name in values:
            self._refused.pop(name, None)
        return SetParametersResult(successful=True)


def _in_declared_type(parameters: list[Parameter]) -> list[Parameter]:
    """Turn integers into doubles where the table has these, or `ros2 param set NAME 1` would change the type."""
    return [
        Parameter(parameter.name, value=_double(parameter.value)) if _is_meant_double(parameter) else parameter
        for parameter in parameters
    ]


def _is_meant_double(parameter: Parameter) -> bool:
    default = TABLE[parameter.name].default if parameter.name in TABLE else None
    kinds = (Parameter.Type.INTEGER, Parameter.Type.INTEGER_ARRAY)
    return isinstance(default, (float, tuple)) and parameter.type_ in kinds


def _double(value: Any) -> float | list[float]:
    return [float(number) for number in value] if hasattr(value, "__len__") else float(value)
