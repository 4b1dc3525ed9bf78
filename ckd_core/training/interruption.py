"""Ctrl-C and the batch system's SIGTERM: a request to stop after the current step."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

LOGGER = logging.getLogger(__name__)


class StopRequest:
    """reason: why the run is to stop, empty while it is not."""

    def __init__(self) -> None:
        self.reason = ""

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within: the first SIGINT or SIGTERM asks for a stop after the current step, a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {}

        def ask(number: int, _: FrameType | None) -> None:
            self.reason = signal.Signals(number).name
            LOGGER.warning("%s: stopping after this step (again: at once, from the last checkpoint)", self.reason)
            for signal_number, handler in before.items():
                signal.signal(signal_number, handler)

        for one in (signal.SIGINT, signal.SIGTERM):
            before[one] = signal.signal(one, ask)
        try:
            yield
        finally:
            for signal_number, handler in before.items():
                signal.signal(signal_number, handler)
