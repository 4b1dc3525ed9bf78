"""Event packets without ROS, in the encoding `mono`."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np

MS = 1_000_000


S = 1_000_000_000


def packet(encoding: str, data: bytes, stamp_ns: int = 0, seq: int = 0, time_base: int = 0, **more: Any) -> Any:
    """An EventPacket with the fields of the message; `more` replaces sizes and byte order."""
    stamp = SimpleNamespace(sec=stamp_ns // S, nanosec=stamp_ns % S)
    fields = {"width": 640, "height": 480, "is_bigendian": False} | more
    header = SimpleNamespace(stamp=stamp, frame_id="events")
    return SimpleNamespace(
        header=header, seq=seq, time_base=time_base, encoding=encoding, events=array("B", data), **fields
    )


def mono_bytes(x: Any, y: Any, dt_ns: Any, p: Any, big: bool = False) -> bytes:
    """Events as `mono` words: polarity, y, x and the time since `time_base` in ns."""
    words = np.asarray(p, np.uint64) << np.uint64(63) | np.asarray(y, np.uint64) << np.uint64(48)
    words |= np.asarray(x, np.uint64) << np.uint64(32) | np.asarray(dt_ns, np.uint64)
    return words.astype(">u8" if big else "<u8").tobytes()
