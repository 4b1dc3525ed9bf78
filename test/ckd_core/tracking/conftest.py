from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.models.registry import build_model
from ckd_core.tracking.engines import Engine, EngineSpec, Prediction
from ckd_core.tracking.engines.pytorch import TorchEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SIDE = 40
FRAME_SIZE = (240, 320)


def texture(name: str, height: int, width: int) -> NDArray[np.uint8]:
    """Blotches of a few pixels that no other name has."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (height // 5 + 2, width // 5 + 2, 3))
    big = cv2.resize(noise.astype(np.uint8), None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(big[:height, :width])


class CorrelationEngine(Engine):
    """A tracker without a network: correlates the middle of the template crop with the search crop, at a few sizes.

    It sees what is there and answers low where the target is not, which random weights cannot.
    """

    def __init__(self) -> None:
        super().__init__("correlation/fp32", "cpu", EngineSpec("correlation", 64, 128, 2.0, 4.0, 8))

    def embed_template(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([self._grey(crop)[16:48, 16:48] for crop in crops])

    def track(
        self, templates: NDArray[np.float32], crops: NDArray[np.uint8], windows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        rows = zip(templates, crops, windows, strict=True)
        return np.array([self._answer(*row) for row in rows], dtype=np.float32)

    def join(self, templates: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate(templates)

    @staticmethod
    def _grey(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        return crop.reshape(2, *crop.shape[1:3], 3).astype(np.float32).mean(axis=(0, 3))

    def _answer(
        self, template: NDArray[np.float32], crop: NDArray[np.uint8], window: NDArray[np.float32]
    ) -> Prediction:
        search, best = self._grey(crop), Prediction(0.5, 0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.5, 0.5, 0.25, 0.25)
        for side in (32, 27, 22, 18, 16):
            patch = cv2.resize(template, (side, side), interpolation=cv2.INTER_AREA)
            response = np.clip(cv2.matchTemplate(search, patch, cv2.TM_CCOEFF_NORMED), 0, 1)
            weight = cv2.resize(window[0], response.shape[::-1], interpolation=cv2.INTER_LINEAR)
            weighted = response * (0.5 + 0.5 * weight)
            y, x = np.unravel_index(weighted.argmax(), weighted.shape)
            if weighted[y, x] > best.score:
                far = weighted.copy()
                far[max(0, y - 24) : y + 24, max(0, x - 24) : x + 24] = 0
                below, beside = np.unravel_index(far.argmax(), far.shape)
                x, y, beside, below = ((corner + side / 2) / 128 for corner in (x, y, beside, below))
                size, heights = side / 128, (weighted.max(), response.max(), far.max())
                best = Prediction(x, y, size, size, *map(float, heights), beside, below, size, size)
        return best


class Scene:
    """Textured squares over a textured ground, seen by two cameras."""

    def __init__(self, modality: Modality = Modality.THERMAL) -> None:
        self.modality = modality
        self._ground = [texture(f"ground{camera}", *FRAME_SIZE) // 2 for camera in range(2)]

    def frame(
        self,
        stamp: float,
        places: dict[str, tuple[int, int]],
        rgb: bool = True,
        aux: bool = True,
    ) -> MultiModalFrame:
        """Squares of SIDE px by name at their top-left corners."""
        images = [ground.copy() for ground in self._ground]
        for name, (x, y) in places.items():
            for camera, image in enumerate(images):
                image[y : y + SIDE, x : x + SIDE] = texture(f"{name}{camera}", SIDE, SIDE)
        return MultiModalFrame(stamp, images[0] if rgb else None, images[1] if aux else None, self.modality)

    def box(self, x: int, y: int) -> BoundingBox:
        return BoundingBox(float(x), float(y), float(SIDE), float(SIDE))


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def correlation() -> CorrelationEngine:
    return CorrelationEngine()


@pytest.fixture(scope="session")
def tiny() -> Callable[[], TorchEngine]:
    """Makes the smallest SDSTrack with seeded random weights."""
    return lambda: TorchEngine(build_model("sdstrack_tiny_test"), "fp32", "cpu")
