"""How the node follows a signal: between two callbacks as a rule, and at any point while it configures.

Configuring imports, reads and compiles for seconds or minutes, much of it inside libraries that do not look up. No
target is lost and no file is open for writing then, so the process may end where it is. Nor does a node that has left
the graph in order need the interpreter's own end: after PyTorch's compiler that takes a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How long Python code has to notice the signal, and to leave the graph, before the process ends without it.
PATIENCE_S = 0.4


_AbortHandler = ctypes.CFUNCTYPE(None, ctypes.c_int)


class ConfigureStoppedError(BaseException):
    """A signal came while the node configured; not an Exception, which libraries and transitions would catch."""


class StopSignals:
    """SIGINT and SIGTERM of a process.

    Attributes:
        stop: whether one has come.
        cut: whether it has ended an interruptible block.
        wake: called when a signal comes, so that the main thread looks at `stop`.

    """

    def __init__(self) -> None:
        """Install the handlers."""
        self.stop = self.cut = False
        self.wake: Callable[[], object] = lambda: None
        self._interruptible = False
        # The interpreter writes a byte at once, even when the main thread is inside a library and runs no handler.
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        self._sockets = reading, writing
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), name="signals", daemon=True).start()
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal end what the block does.

        Raises:
            ConfigureStoppedError: a signal came, now or before the block.

        """
        if self.stop:
            self.cut = True
            raise ConfigureStoppedError
        report = sys.unraisablehook

        def report_others(unraisable: sys.UnraisableHookArgs) -> None:
            # A finalizer that the signal interrupted swallows the error; `_watch` ends the process then.
            if not isinstance(unraisable.exc_value, ConfigureStoppedError):
                report(unraisable)

        sys.unraisablehook = report_others
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False
            sys.unraisablehook = report

    def _on_signal(self, number: int, _: Any) -> None:
        self.stop = True
        # A second signal ends the process at once, whatever it is doing.
        signal.signal(number, signal.SIG_DFL)
        self.wake()
        if self._interruptible:
            self.cut = True
            _end_instead_of_abort()
            raise ConfigureStoppedError

    def _watch(self, reading: socket.socket) -> None:
        while True:
            numbers = set(reading.recv(16))
            if numbers & {signal.SIGINT, signal.SIGTERM} and (self._interruptible or self.cut):
                threading.Event().wait(PATIENCE_S)
                if self._interruptible:
                    sys.stderr.write("stopped while it configured\n")
                end_process()


def _on_abort(_: int) -> None:
    sys.stderr.write("stopped while it configured\n")
    end_process()


_ABORTED = _AbortHandler(_on_abort)  # C keeps no reference


def _end_instead_of_abort() -> None:
    """Let abort() end the process as a signal does: C++ calls it where the error passes a place that allows none.

    PyTorch does so between the two ends of a mode that tracing switches off for a while. Python's own handlers run too
    late: abort() returns to nobody.
    """
    with contextlib.suppress(OSError, AttributeError):
        signal_of_c = ctypes.CDLL(None).signal
        signal_of_c.argtypes, signal_of_c.restype = (ctypes.c_int, _AbortHandler), ctypes.c_void_p
        signal_of_c(signal.SIGABRT, _ABORTED)


def end_process() -> NoReturn:
    """End the process where it is, with status 0, and what it has started: a compiler, for example."""
    for process in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def descendants(process: int) -> set[int]:
    """Processes that a process has started, and those that these have."""
    found: set[int] = set()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has just ended
            for child in map(int, task.read_text().split()):
                found |= {child, *descendants(child)}
    return found
