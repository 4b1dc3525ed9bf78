"""How to read a network's scores: the thresholds that are stored with its weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Mapping


class ConfidenceError(TrackingError):
    """Thresholds or options outside their range."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How to read a network's scores; set by `sdstrack calibrate` and stored in the metadata of its weights.

    Attributes:
        doubt: Score below which a frame is doubtful.
        unseen: Score below which a frame has no sign of the target.
        confirm: Lowest score of a target that is found again.
        rival: Height of the second peak, as a share of the first, above which a frame is doubtful.
        history: Share of the target's own median score below which a frame is doubtful.
        regain: Share of it that a target reaches when it is seen again; 0 = any.
    """

    doubt: float = 0.35
    unseen: float = 0.2
    confirm: float = 0.4
    rival: float = 0.8
    history: float = 0.5
    regain: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, (int, float)) and 0 <= value <= 1):
                raise ConfidenceError(f"threshold {field.name} is {value!r}; expected 0 to 1")
        if self.unseen > self.doubt:
            raise ConfidenceError(f"threshold unseen is {self.unseen}; expected at most doubt ({self.doubt})")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Thresholds:
        """Build from values by name; missing names keep their defaults.

        Raises:
            ConfidenceError: A name is unknown, or a value is not a number in 0..1.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfidenceError(
                f"unknown threshold {', '.join(unknown)}; expected one of: {', '.join(sorted(known))}"
            )
        return cls(**{name: _number(name, value) for name, value in values.items()})

    def as_mapping(self) -> dict[str, float]:
        """All thresholds by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ConfidenceError(f"threshold {name} is {value!r}; expected a number")
    try:
        return float(value)
    except ValueError as error:
        raise ConfidenceError(f"threshold {name} is {value!r}; expected a number") from error
