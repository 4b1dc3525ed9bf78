"""Child processes that do not outlive their parent, however it dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Loaded here and not in the child: between fork and exec as little as possible may happen.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when the thread that started it ends, as it does when its process is killed.

    For the `initializer` of worker processes and the `preexec_fn` of others; Linux only, elsewhere it does nothing.

    Args:
        parent: Process id of the parent; where that is dead already, this process ends at once.

    """
    if _LIBC is not None and _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0 and os.getppid() != parent:
        os._exit(1)
