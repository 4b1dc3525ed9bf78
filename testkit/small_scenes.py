"""Short synthetic sequences in the plain layout, for tests that track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

TINY = "sdstrack_tiny_test"


def write_scene(folder: Path, frames: int = 12, aux: str | None = "infrared", seed: int = 0) -> Path:
    """A textured square walks to and fro over noise; annotation exact, two frames without it."""
    rng = np.random.default_rng(seed)
    background = rng.integers(60, 120, (96, 128), dtype=np.uint8)
    patch = rng.integers(0, 255, (20, 24), dtype=np.uint8)
    for name in ["visible"] + ([aux] if aux else []):
        (folder / name).mkdir(parents=True)
    lines = []
    for index in range(frames):
        step = min(index % 38, 38 - index % 38)
        x, y, here = 10 + 4 * step, 20 + 2 * step, index not in (7, 8)
        image = background.copy()
        if here:
            image[y : y + 20, x : x + 24] = patch
        cv2.imwrite(str(folder / "visible" / f"{index:04d}.png"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        if aux == "depth":
            cv2.imwrite(str(folder / aux / f"{index:04d}.png"), image.astype(np.uint16) * 20)
        elif aux == "event":
            cv2.imwrite(str(folder / aux / f"{index:04d}.png"), cv2.cvtColor(255 - image, cv2.COLOR_GRAY2BGR))
        elif aux:
            cv2.imwrite(str(folder / aux / f"{index:04d}.png"), 255 - image)
        lines.append(f"{x},{y},24,20" if here else "nan,nan,nan,nan")
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return folder
