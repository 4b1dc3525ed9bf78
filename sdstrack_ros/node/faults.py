"""What went wrong, counted by cause and logged at most once per second and cause. No ROS import."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_PERIOD_S = 1.0
# A cause is a place in the code or a topic, so there are few; with the length of a message the limit bounds the status.
MAX_CAUSES = 21
MAX_MESSAGE = 400
# A fault that has not come back for so long is over; counters of messages and frames keep its trace.
EXPIRY_S = 300.0


@dataclass(frozen=True, slots=True)
class Fault:
    """How often a cause occurred, and its last message."""

    cause: str
    count: int
    message: str


class FaultLog:
    """Counts faults by cause; safe to use from several threads."""

    def __init__(self, log: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: dict[str, Fault] = {}
        self._recorded_at: dict[str, float] = {}
        self._logged_at: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def record(self, cause: str, message: str) -> None:
        """Count one fault; log it unless the same cause was logged within the last second.

        Args:
            cause: what it is counted under.
            message: what happened; shortened and escaped, whatever a topic or a library put into it.

        """
        now = self._clock()
        cause, message = shown(cause), shown(message, MAX_MESSAGE)
        with self._lock:
            self._expire(now)
            if cause not in self._faults and len(self._faults) >= MAX_CAUSES:
                cause = "other"
            self._recorded_at[cause] = now
            before = self._faults.get(cause)
            self._faults[cause] = Fault(cause, before.count + 1 if before else 1, message)
            if now - self._logged_at.get(cause, -LOG_PERIOD_S) < LOG_PERIOD_S:
                self._unlogged[cause] = self._unlogged.get(cause, 0) + 1
                return
            self._logged_at[cause] = now
            more = self._unlogged.pop(cause, 0)
        self._log(f"{cause}: {message}" + (f" ({more} more since the last such line)" if more else ""))

    def faults(self) -> tuple[Fault, ...]:
        """Return the causes of the last five minutes, by name."""
        now = self._clock()
        with self._lock:
            self._expire(now)
            return tuple(self._faults[cause] for cause in sorted(self._faults))

    def _expire(self, now: float) -> None:
        for cause in [cause for cause, at in self._recorded_at.items() if now - at > EXPIRY_S]:
            for by_cause in (self._recorded_at, self._faults, self._logged_at, self._unlogged):
                by_cause.pop(cause, None)


class _HasFaults(Protocol):
    @property
    def faults(self) -> FaultLog: ...


_Self = TypeVar("_Self", bound=_HasFaults)
_Args = ParamSpec("_Args")
_T = TypeVar("_T")


def guarded(
    cause: str, otherwise: Any = None
) -> Callable[[Callable[Concatenate[_Self, _Args], _T]], Callable[Concatenate[_Self, _Args], _T]]:
    """Keep every exception of a callback inside it.

    Args:
        cause: what the exception is counted under.
        otherwise: what the callback returns then.

    Returns:
        A decorator for methods of an object with `faults`.

    """

    def decorate(method: Callable[Concatenate[_Self, _Args], _T]) -> Callable[Concatenate[_Self, _Args], _T]:
        @functools.wraps(method)
        def safely(self: _Self, *args: _Args.args, **kwargs: _Args.kwargs) -> _T:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001  # the node survives whatever a topic carries
                self.faults.record(cause, f"{type(error).__name__}: {error}")
                return otherwise  # type: ignore[no-any-return]  # the caller chose it to fit the method

        return safely  # type: ignore[return-value]  # functools.wraps types it with a named `self`

    return decorate
