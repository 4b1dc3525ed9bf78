"""Cameras that film several squares, each of its own texture, that sway; a test takes them away and puts them back."""

from __future__ import annotations

import math
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from testkit.ros.camera import HEIGHT, WIDTH, Cameras

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SIDE = 64
PLACES = {"a": (80, 80), "b": (400, 70), "c": (100, 320), "d": (430, 330)}
# The swaying is slow enough for a node that, on a busy machine, serves every tenth frame.
SWAY_PX, SWAY_FRAMES = 15, 300


def texture(name: str, height: int, width: int, cell: int) -> NDArray[np.uint8]:
    """Blotches of `cell` pixels that no other name has, [H, W, 3] uint8."""
    shape = (height // cell + 2, width // cell + 2, 3)
    noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, shape).astype(np.uint8)
    large = cv2.resize(noise, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large[:height, :width], dtype=np.uint8)


class SeveralSquares(Cameras):
    """A colour and a depth camera that see the squares of `places`.

    Attributes:
        places: top-left corner of each square, by name; what is not in it is not there.

    """

    def __init__(self, ros: Any, places: Mapping[str, tuple[int, int]] = MappingProxyType(PLACES)) -> None:
        super().__init__(ros)
        self.places = dict(places)
        self._ground = texture("ground", HEIGHT, WIDTH, 24) // 12 + 30  # plain, so that nothing on it is like a square
        self._squares: dict[str, NDArray[np.uint8]] = {}

    def square(self, name: str, index: int) -> tuple[float, float, float, float]:
        """Box of a square in a frame: x, y, w, h."""
        x, y = self.places[name]
        sway = round(SWAY_PX * math.sin(2 * math.pi * index / SWAY_FRAMES))
        return float(x + sway), float(y + sway // 2), float(SIDE), float(SIDE)

    def images(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """(colour [H, W, 3] uint8, depth [H, W] uint16 millimetres)."""
        rgb = self._ground.copy()
        depth = np.full((HEIGHT, WIDTH), self.GROUND_DEPTH_MM, np.uint16)
        for name in self.places:
            x, y, w, h = map(int, self.square(name, index))
            if name not in self._squares:
                self._squares[name] = texture(name, SIDE, SIDE, 8)
            rgb[y : y + h, x : x + w] = self._squares[name]
            depth[y : y + h, x : x + w] = self.TARGET_DEPTH_MM
        return rgb, depth
