"""Surfaces of the synthetic world: procedural ones, and real photographs where their files are available.

A surface is uint8 [H, W, 4]: red, green, blue and an abstract temperature (0 cold .. 255 hot).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SURFACE_SIDE = 384
PROCEDURAL_SURFACES = 40
MIN_LEVEL_SIDE = 48
# Photographs inside the scikit-image and scikit-learn wheels whose notices allow free use.
PACKAGE_IMAGES = {
    "skimage": (
        "data/astronaut.png",
        "data/brick.png",
        "data/camera.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/coins.png",
        "data/grass.png",
        "data/gravel.png",
        "data/motorcycle_left.png",
        "data/motorcycle_right.png",
        "data/page.png",
        "data/rocket.jpg",
        "data/hubble_deep_field.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


class SyntheticError(TrackingError):
    """Options or files from which no synthetic footage can be rendered."""


@dataclass(frozen=True, slots=True)
class Surface:
    """One image and its half-size copies (finest first), each [H, W, 4] uint8.

    Attributes:
        levels: The image pyramid.
        measured_heat: Whether a thermal camera recorded the temperatures.
    """

    levels: tuple[NDArray[np.uint8], ...]
    measured_heat: bool = False

    @property
    def finest(self) -> NDArray[np.uint8]:
        """The image at full size."""
        return self.levels[0]


def make_surface(rgb: NDArray[np.uint8], heat: NDArray[np.uint8], measured_heat: bool = False) -> Surface:
    """Stack colours [H, W, 3] and temperatures [H, W], and shrink them step by step."""
    levels = [np.ascontiguousarray(np.dstack((rgb, heat)))]
    while min(levels[-1].shape[:2]) >= 2 * MIN_LEVEL_SIDE:
        levels.append(cv2.pyrDown(levels[-1]).astype(np.uint8, copy=False))
    return Surface(tuple(levels), measured_heat)


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Draw [H, W] float32 in 0..1 that varies over about 1 / `cells` of the image."""
    coarse = rng.random((cells + 1, cells + 1), dtype=np.float32)
    return np.clip(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), 0, 1)


def heat_of(rng: np.random.Generator, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Invent temperatures for a surface without thermal image: weak, blurred, of either sign, slowly varying."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(1.0, 4.0))).astype(np.float32)
    gain = float(rng.uniform(-0.35, 0.45))
    drift = (smooth_noise(rng, grey.shape, 3) - 0.5) * float(rng.uniform(0, 50))
    return np.clip(float(rng.uniform(20, 110)) + gain * (blurred - 110) + drift, 0, 255).astype(np.uint8)


def _palette(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    base = rng.uniform(0, 255, (count, 3))
    grey = base.mean(axis=1, keepdims=True)
    colors: NDArray[np.uint8] = np.clip(grey + (base - grey) * 0.7, 0, 255).astype(np.uint8)
    return colors


def dead_leaves(rng: np.random.Generator, side: int = SURFACE_SIDE, leaves: int = 160) -> NDArray[np.uint8]:
    """Draw overlapping discs and polygons with power-law sizes: the statistics of natural scenes."""
    image = np.empty((side, side, 3), dtype=np.uint8)
    colors = _palette(rng, 24)
    image[:] = colors[0]
    for _ in range(leaves):
        color = tuple(int(c) for c in colors[rng.integers(24)])
        size = float(np.clip(side * 0.03 / max(1e-3, rng.random()) ** 0.6, 2, side * 0.4))
        cx, cy = rng.uniform(0, side, 2)
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = size * rng.uniform(0.4, 1.0, corners)
        points = np.stack((cx + radii * np.cos(angles), cy + radii * np.sin(angles)), axis=1)
        if rng.random() < 0.4:
            cv2.ellipse(
                image, (int(cx), int(cy)), (int(size) + 1, int(size * rng.uniform(0.3, 1)) + 1),
                float(rng.uniform(0, 180)), 0, 360, color, -1,
            )  # fmt: skip
        else:
            cv2.fillPoly(image, [points.astype(np.int32)], color)
    grain = rng.normal(0, rng.uniform(2, 14), (side, side, 1)).astype(np.float32)
    shade = 0.6 + 0.8 * smooth_noise(rng, (side, side), int(rng.integers(2, 6)))[..., None]
    return np.clip(image * shade + grain, 0, 255).astype(np.uint8)


def cloudy(rng: np.random.Generator, side: int = SURFACE_SIDE) -> NDArray[np.uint8]:
    """Sum noise of several scales and map it to a few colours: soil, foliage, cloth, plaster."""
    noise = np.zeros((side, side), dtype=np.float32)
    total = 0.0
    fade = float(rng.uniform(0.4, 0.85))
    for octave in range(7):
        weight = fade**octave
        noise += weight * smooth_noise(rng, (side, side), int(2 ** (octave + 1)))
        total += weight
    noise = np.clip((noise / total - 0.5) * 2.2 + 0.5, 0, 1)
    colors = _palette(rng, 4).astype(np.float32)
    position = noise * 3
    low = np.minimum(position.astype(np.int32), 2)
    part = (position - low)[..., None]
    mixed: NDArray[np.uint8] = (colors[low] * (1 - part) + colors[low + 1] * part).astype(np.uint8)
    return mixed


def pattern(rng: np.random.Generator, side: int = SURFACE_SIDE) -> NDArray[np.uint8]:
    """Draw stripes, tiles or windows under uneven light, at a random angle."""
    period = float(rng.uniform(10, 70))
    angle = float(rng.uniform(0, np.pi))
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    u = (xs * np.cos(angle) + ys * np.sin(angle)) / period
    v = (ys * np.cos(angle) - xs * np.sin(angle)) / (period * float(rng.uniform(0.5, 2)))
    kind = int(rng.integers(3))
    if kind == 0:
        cells = (u % 1 < rng.uniform(0.2, 0.8)).astype(np.int32)
    elif kind == 1:
        cells = (np.floor(u) + np.floor(v)).astype(np.int32) % 2
    else:
        cells = ((u % 1 < 0.8) & (v % 1 < 0.7)).astype(np.int32)
    image = _palette(rng, 2)[cells].astype(np.float32)
    image *= 0.5 + smooth_noise(rng, (side, side), 4)[..., None]
    image += rng.normal(0, 6, (side, side, 1)).astype(np.float32)
    out: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
    return out


def procedural_surfaces(seed: int, count: int = PROCEDURAL_SURFACES) -> list[Surface]:
    """Draw `count` surfaces that need no file."""
    surfaces = []
    for i in range(count):
        rng = np.random.default_rng((seed, 11, i))
        rgb = (dead_leaves, cloudy, dead_leaves, pattern)[i % 4](rng)
        surfaces.append(make_surface(rgb, heat_of(rng, rgb)))
    return surfaces


def _fit(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)


def missing_packages() -> list[str]:
    """List the packages that `package_surfaces` needs and that are not installed."""
    return [f"package {PACKAGES[name]}" for name in PACKAGE_IMAGES if importlib.util.find_spec(name) is None]


def package_surfaces(seed: int) -> list[Surface]:
    """Read the photographs inside the scikit-image and scikit-learn wheels.

    Raises:
        SyntheticError: A package or a photograph is missing.
    """
    surfaces = []
    if missing := missing_packages():
        raise SyntheticError(f"{' and '.join(missing)} not installed; `textures: packages` uses its photographs")
    for package, names in PACKAGE_IMAGES.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.origin is not None  # noqa: S101 - missing_packages() is empty
        for i, name in enumerate(names):
            image = cv2.imread(str(Path(spec.origin).parent / name), cv2.IMREAD_COLOR)
            if image is None:
                raise SyntheticError(f"{package} has no {name}; expected the photographs of a known version")
            rgb = _fit(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8), 512)
            surfaces.append(make_surface(rgb, heat_of(np.random.default_rng((seed, 12, i)), rgb)))
    return surfaces


def read_rgbt_folder(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield (name, colours [H, W, 3], temperatures [H, W]) of the aligned pairs in visible/ and infrared/ of `folder`.

    Raises:
        SyntheticError: There are no pairs, or one cannot be read.
    """
    names = sorted(path.name for path in (folder / "visible").glob("*") if path.suffix in (".jpg", ".png"))
    if not names:
        message = f"no images in {folder / 'visible'}; expected visible/*.jpg beside infrared/*.jpg of the same names"
        raise SyntheticError(message)
    for name in names:
        color = cv2.imread(str(folder / "visible" / name), cv2.IMREAD_COLOR)
        heat = cv2.imread(str(folder / "infrared" / name), cv2.IMREAD_GRAYSCALE)
        if color is None or heat is None or color.shape[:2] != heat.shape[:2]:
            message = f"{folder}/(visible, infrared)/{name}: expected two readable images of one size"
            raise SyntheticError(message)
        yield name, cv2.cvtColor(color, cv2.COLOR_BGR2RGB).astype(np.uint8), heat.astype(np.uint8)


def read_rgbt_video(stem: Path, step: int) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield every `step`-th (index, colours, temperatures) of STEM_visible.mp4 and STEM_infrared.mp4.

    Raises:
        SyntheticError: A video cannot be opened.
    """
    color_video = cv2.VideoCapture(f"{stem}_visible.mp4")
    heat_video = cv2.VideoCapture(f"{stem}_infrared.mp4")
    if not (color_video.isOpened() and heat_video.isOpened()):
        message = f"cannot open {stem}_visible.mp4 and {stem}_infrared.mp4; expected two videos"
        raise SyntheticError(message)
    index = 0
    while True:
        got_color, color = color_video.read()
        got_heat, heat = heat_video.read()
        if not (got_color and got_heat):
            return
        if index % step == 0:
            rgb = cv2.cvtColor(color, cv2.COLOR_BGR2RGB).astype(np.uint8)
            yield index, rgb, cv2.cvtColor(heat, cv2.COLOR_BGR2GRAY).astype(np.uint8)
        index += 1
