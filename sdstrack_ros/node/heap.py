"""The heap of the process: steady while tracking, returned to the system afterwards. No ROS import."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from typing import Any

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Colour images of up to 1280 x 960 stay on the heap; larger blocks are returned at once, unless images are as large.
HEAP_UP_TO_BYTES = 4 << 20
KEEP_FREE_BYTES = 16 << 20
HEAP_AT_MOST_BYTES = 32 << 20  # glibc allows no more
HEADER_BYTES = 1 << 16  # of a message around its pixels
COPIES = 4  # of an image between the middleware and its Python object
MB = 1 << 20


def steady_heap() -> None:
    """Let the heap keep the memory of a few images instead of returning and fetching it with every frame.

    glibc returns the end of the heap as soon as it is free; resident memory would then jump by megabytes (`make soak`).
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, HEAP_UP_TO_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_FREE_BYTES)


def room_for_images(nbytes: int) -> None:
    """Keep images of this size on the heap, too, once a camera sends them.

    Each of the copies that rclpy makes of an image would else be a mapping of its own, which the system has to fill
    with zeros first: at 4K that takes ten times as long as the copying.
    """
    libc = _glibc()
    if libc is not None and HEAP_UP_TO_BYTES < nbytes <= HEAP_AT_MOST_BYTES - HEADER_BYTES:
        libc.mallopt(M_MMAP_THRESHOLD, nbytes + HEADER_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, COPIES * nbytes + KEEP_FREE_BYTES)


def free_memory() -> None:
    """Return the memory of a tracker to the device and to the system, once the last reference to it is gone."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)  # a node that was cleaned up keeps no free memory


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`, in bytes."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def heap_facts() -> dict[str, str]:
    """Return what the allocators say of themselves, in MB, as key-value pairs of a status message.

    `heap_mb` is what the C library has from the system, of which `heap_used_mb` is in use and `heap_free_mb` kept;
    `gpu_mb` is PyTorch's on the GPU. What cannot be asked is absent. It holds up the threads that allocate for up to a
    millisecond.
    """
    facts: dict[str, str] = {}
    libc = _glibc()
    if libc is not None and hasattr(libc, "mallinfo2"):  # since glibc 2.33
        libc.mallinfo2.restype = _MallInfo
        info = libc.mallinfo2()
        sizes = {"heap": info.arena + info.hblkhd, "heap_used": info.uordblks + info.hblkhd, "heap_free": info.fordblks}
        facts = {f"memory.{name}_mb": f"{size / MB:.1f}" for name, size in sizes.items()}
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        facts["memory.gpu_mb"] = f"{torch.cuda.memory_reserved() / MB:.1f}"
    return facts


def _glibc() -> Any:
    """Return the C library where it is glibc; musl and macOS have no such calls."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            if libc.mallopt and libc.malloc_trim:
                return libc
    return None
