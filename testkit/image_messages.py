"""Random images of every encoding, and image messages without ROS."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np

SHAPES = {
    "rgb8": ("u1", 3), "bgr8": ("u1", 3), "rgba8": ("u1", 4), "bgra8": ("u1", 4),
    "rgb16": ("u2", 3), "bgr16": ("u2", 3), "rgba16": ("u2", 4), "bgra16": ("u2", 4),
    "16UC3": ("u2", 3), "16UC4": ("u2", 4),
    "mono8": ("u1", 1), "mono16": ("u2", 1), "8UC1": ("u1", 1), "8UC3": ("u1", 3), "8UC4": ("u1", 4),
    "16UC1": ("u2", 1), "32FC1": ("f4", 1), "64FC1": ("f8", 1), "16SC1": ("i2", 1),
    "yuv422": ("u1", 2), "uyvy": ("u1", 2), "yuv422_yuy2": ("u1", 2),
    "yuyv": ("u1", 2),
}  # fmt: skip


def noise(encoding: str, height: int = 6, width: int = 8, seed: int = 0) -> np.ndarray:
    """Random pixels in the type and number of channels of an encoding."""
    kind, channels = SHAPES[encoding] if encoding in SHAPES else ("u2" if encoding.endswith("16") else "u1", 1)
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    scaled = values * 257 if kind == "u2" else values
    return (scaled if channels > 1 else scaled[..., 0]).astype(kind)


def blank_message(**fields: Any) -> SimpleNamespace:
    """An image message without pixels; `fields` replaces its defaults."""
    return SimpleNamespace(
        **{"height": 0, "width": 0, "encoding": "", "is_bigendian": 0, "step": 0, "data": b""} | fields
    )


def compressed(form: str, data: bytes) -> SimpleNamespace:
    """A compressed image message."""
    return SimpleNamespace(format=form, data=array("B", data))
