"""One parameter: its type, range, unit, effect, and the check of a value. No ROS import."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from ckd_core.errors import TrackingError
from ckd_core.text import shown

Value = Any
_T = TypeVar("_T")
MAX_LISTED = 32  # values of an array that an error repeats
MAX_CHARACTERS = 4096  # of a parameter that is a text: no path and no name is longer
_KINDS = {bool: "bool", int: "integer", float: "double", str: "string", tuple: "double array"}


class ParameterError(TrackingError):
    """A parameter value that cannot be used, or a parameter that does not exist."""


class Effect(str, Enum):
    """When a changed value takes effect."""

    LIVE = "at once"
    RECONFIGURE = "needs reconfigure"


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One row of the table.

    Attributes:
        name: of the parameter.
        default: also gives the type.
        description: one sentence for users.
        effect: when a changed value takes effect.
        group: heading in the documentation.
        unit: '' without one.
        low: smallest allowed number, or None.
        high: largest allowed number, or length of a text, or None.
        choices: allowed texts; empty allows any.
    """

    name: str
    default: Value
    description: str
    effect: Effect
    group: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Name of the ROS type."""
        return _KINDS[type(self.default)]

    @property
    def range_text(self) -> str:
        """The allowed values in words; '' when all are."""
        if self.choices:
            return ", ".join(self.choices)
        if isinstance(self.default, str):
            return "" if self.high is None else f"up to {self.max_characters} printable characters"
        length = f"{len(self.default)} numbers" if isinstance(self.default, tuple) else ""
        if self.low is None and self.high is None:
            return length
        low = "" if self.low is None else f"from {self.low:g}"
        high = "" if self.high is None else f"to {self.high:g}"
        return ", ".join(filter(None, [length, f"{low} {high}".strip()]))

    @property
    def max_characters(self) -> int:
        """Characters that a text may have."""
        return MAX_CHARACTERS if self.high is None else int(self.high)

    def check(self, value: Value) -> Value:
        """Return `value` in the type of the table; integers are accepted for doubles.

        Raises:
            ParameterError: wrong type, not finite, out of range, or not one of the choices; the message says what would
                be right.
        """
        checked = self._typed(value)
        if self.choices and checked not in self.choices:
            raise self._refusal(value)
        numbers = checked if isinstance(checked, tuple) else (checked,)
        for number in numbers:
            if isinstance(number, (bool, str)):
                continue
            too_low = self.low is not None and number < self.low
            too_high = self.high is not None and number > self.high
            if not math.isfinite(number) or too_low or too_high:
                raise self._refusal(value)
        return checked

    def _typed(self, value: Value) -> Value:
        if isinstance(self.default, tuple):
            try:
                if isinstance(value, str) or len(value) != len(self.default):  # before half a million are converted
                    raise self._refusal(value)
                return tuple(float(v) for v in value)
            except (TypeError, ValueError):
                raise self._refusal(value) from None
        if isinstance(self.default, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if type(value) is not type(self.default):
            raise self._refusal(value)
        if isinstance(value, str) and not (len(value) <= self.max_characters and value.isprintable()):
            raise self._refusal(value)
        return value

    def _refusal(self, value: Value) -> ParameterError:
        allowed = f", {self.range_text}" if self.range_text else ""
        if isinstance(value, str) and self.kind == "string" and not allowed:
            allowed = f" of up to {self.max_characters} printable characters"
        unit = f" [{self.unit}]" if self.unit else ""
        return ParameterError(
            f"parameter '{self.name}' cannot be {_value_text(value)}: expected {self.kind}{allowed}{unit}"
        )


def _value_text(value: Value) -> str:
    """A value as its repr, shortened before the repr of a very long one is made."""
    if isinstance(value, str):
        return f"'{shown(value)}'"
    if hasattr(value, "__len__") and len(value) > MAX_LISTED:
        return f"{len(value)} values"
    return shown(repr(value))


def row(
    default: _T,
    group: str,
    description: str,
    *,
    live: bool = False,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> _T:
    """Declare one parameter; the return type gives the dataclass field the type of its default."""
    metadata = {
        "group": group,
        "description": description,
        "effect": Effect.LIVE if live else Effect.RECONFIGURE,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)
