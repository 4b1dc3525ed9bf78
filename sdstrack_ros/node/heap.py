"""The process's heap: steady while tracking, given back after it. No ROS import."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from typing import Any

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Images of up to 1280 x 960 in colour stay on the heap; what is larger is given back at once.
HEAP_UP_TO_BYTES = 4 << 20
KEEP_FREE_BYTES = 16 << 20


def steady_heap() -> None:
    """Let the heap keep what a few images need, instead of returning and fetching it with every frame.

    glibc gives the end of the heap back as soon as it is free: resident memory then jumps by megabytes (`make soak`).
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, HEAP_UP_TO_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_FREE_BYTES)


def free_memory() -> None:
    """Give back what a tracker held, to the device and to the system, after the last reference to it is gone."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)  # a node that was cleaned up keeps no freed memory


def _glibc() -> Any:
    """The C library where it is glibc; musl and macOS have no such calls."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            if libc.mallopt and libc.malloc_trim:
                return libc
    return None
