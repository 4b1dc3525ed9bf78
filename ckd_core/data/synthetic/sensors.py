"""Cameras: what they show of a rendered moment, and how each of them fails.

colour: darkness, glare, smoke, blur, noise. depth: range noise, holes, no return from hot or far things, saturation.
thermal: blur, fixed-pattern noise, saturation, crossover (target as warm as its surroundings), black-hot polarity.
event: noise, a dead column range, nothing where nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.data.synthetic.smoke import still_clouds, veil
from ckd_core.data.synthetic.textures import smooth_noise
from ckd_core.modality import Events

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVENT_ON = (255, 0, 0)
EVENT_OFF = (0, 0, 255)
_EVENT_COLOURS = np.zeros((1, 256, 3), dtype=np.uint8)  # of polarity + 1
_EVENT_COLOURS[0, :3] = (EVENT_OFF, (255, 255, 255), EVENT_ON)
_TROUBLES, _TROUBLE_SHARES = ("dark", "glare", "smoke", "blur", "noise"), (0.2, 0.1, 0.45, 0.15, 0.1)
_LOG_LEVELS = np.log(np.arange(256, dtype=np.float32) + 8)


@dataclass(frozen=True, slots=True)
class ColorLook:
    """Light, air and exposure.

    Attributes:
        gain: Factor of the exposure.
        gamma: Exponent of the exposure.
        tint: Factor per channel.
        smoke: Share of the light that is hidden on average (0..1).
        smoke_tone: Mean tone of the smoke, 0..255.
        smoke_cells: Clouds across the image.
        smoke_contrast: How far the hidden share varies between cloud and gap (0..2).
        smoke_shade: How far the tone varies (0..255).
        noise: Standard deviation, 0..255.
        blur: Length of a motion streak in pixels.
        blur_angle: Its direction in radians.
    """

    gain: float = 1.0
    gamma: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    smoke: float = 0.0
    smoke_tone: float = 190.0
    smoke_cells: int = 4
    smoke_contrast: float = 0.7
    smoke_shade: float = 0.0
    noise: float = 2.0
    blur: int = 0
    blur_angle: float = 0.0


@dataclass(frozen=True, slots=True)
class ThermalLook:
    """Setting of a thermal camera.

    Attributes:
        gain: Contrast.
        offset: Level; values outside 0..255 saturate.
        blur: Standard deviation in pixels.
        noise: Standard deviation per pixel.
        stripes: Standard deviation of the fixed pattern per column.
        inverted: Whether black is hot.
    """

    gain: float = 1.0
    offset: float = 0.0
    blur: float = 0.8
    noise: float = 3.0
    stripes: float = 2.0
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class DepthLook:
    """Quality of a depth camera.

    Attributes:
        noise: Standard deviation at 10 m as a share of the distance; it grows with the square of the distance.
        holes: Share of the image without a return.
        max_mm: Distance beyond which there is no return.
    """

    noise: float = 0.01
    holes: float = 0.05
    max_mm: float = 9000.0


@dataclass(frozen=True, slots=True)
class EventLook:
    """Setting of an event camera.

    Attributes:
        threshold: Step of the log intensity that causes an event.
        noise: Share of pixels with a false event.
        blind_from: x beyond which the sensor is dead, as a share of the width.
    """

    threshold: float = 0.2
    noise: float = 0.003
    blind_from: float = 1.0


def random_color_look(rng: np.random.Generator, hard: float = 0.5) -> ColorLook:
    """Draw light and air; `hard` is the chance of trouble (darkness, glare, smoke, blur, noise)."""
    trouble = str(rng.choice(_TROUBLES, p=_TROUBLE_SHARES)) if rng.random() < hard else ""
    gain = {"dark": (0.06, 0.4), "glare": (2.0, 8.0)}.get(trouble, (0.75, 1.25))
    grain = {"dark": (2.0, 9.0), "noise": (10.0, 80.0)}.get(trouble)
    look = ColorLook(
        gain=float(rng.uniform(*gain)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        tint=(float(rng.uniform(0.9, 1.1)), 1.0, float(rng.uniform(0.9, 1.1))),
        smoke_tone=float(rng.uniform(90, 235)),
        smoke_cells=int(rng.integers(2, 7)),
        noise=float(rng.uniform(0, 4) + (rng.uniform(*grain) if grain else 0)),
        blur=int(rng.integers(3, 16)) if trouble == "blur" else 0,
        blur_angle=float(rng.uniform(0, np.pi)),
    )
    if trouble != "smoke":
        return look
    return replace(
        look,
        smoke=float(rng.uniform(0.3, 1.1)),
        smoke_contrast=float(rng.uniform(0.2, 1.8)),
        smoke_shade=float(rng.uniform(0, 120)),
    )


def random_thermal_look(rng: np.random.Generator) -> ThermalLook:
    """Draw a thermal camera's setting."""
    return ThermalLook(
        gain=float(rng.uniform(0.5, 1.6)),
        offset=float(rng.uniform(-50, 40)),
        blur=float(rng.uniform(0.3, 1.6)),
        noise=float(rng.uniform(0.5, 7)),
        stripes=float(rng.uniform(0, 5)),
        inverted=bool(rng.random() < 0.06),
    )


def random_depth_look(rng: np.random.Generator) -> DepthLook:
    """Draw a depth camera's quality."""
    return DepthLook(float(rng.uniform(0.002, 0.03)), float(rng.uniform(0, 0.3)), float(rng.uniform(3500, 12000)))


def random_event_look(rng: np.random.Generator) -> EventLook:
    """Draw an event camera's setting."""
    blind = float(rng.uniform(0.6, 1.0)) if rng.random() < 0.1 else 1.0
    return EventLook(float(rng.uniform(0.08, 0.35)), float(rng.uniform(0, 0.01)), blind)


_NOISE_SIDE = 512
_NOISE: list[NDArray[np.int8]] = []


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Cut normal noise [h, w] of standard deviation 32 out of a fixed tile: fast, and deterministic by seed."""
    if not _NOISE:
        normal = np.random.default_rng(5).normal(0, 32, (2 * _NOISE_SIDE, 2 * _NOISE_SIDE))
        _NOISE.append(np.clip(normal, -127, 127).astype(np.int8))
    h, w = shape[:2]
    tile = _NOISE[0]
    if h > _NOISE_SIDE or w > _NOISE_SIDE:
        repeats = (h // _NOISE_SIDE + 1, w // _NOISE_SIDE + 1)
        tile = np.tile(tile, repeats)
    y, x = int(rng.integers(_NOISE_SIDE)), int(rng.integers(_NOISE_SIDE))
    return tile[y : y + h, x : x + w]


def _streak(length: int, angle: float) -> NDArray[np.float32]:
    kernel = np.zeros((length, length), dtype=np.float32)
    middle = (length - 1) / 2
    dx, dy = middle * np.cos(angle), middle * np.sin(angle)
    ends = [(round(middle - dx), round(middle - dy)), (round(middle + dx), round(middle + dy))]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    streak: NDArray[np.float32] = kernel / kernel.sum()
    return streak


def color_image(rng: np.random.Generator, rgb: NDArray[np.uint8], look: ColorLook) -> NDArray[np.uint8]:
    """Return [h, w, 3] uint8 as the colour camera sees it."""
    levels = np.arange(256, dtype=np.float32) / 255
    curve = [np.clip(levels**look.gamma * look.gain * t * 255, 0, 255) for t in look.tint]
    lut = np.stack(curve, axis=-1).astype(np.uint8)[None]
    image = cv2.LUT(rgb, lut).astype(np.uint8, copy=False)
    if look.smoke > 0:
        clouds = still_clouds(rng, image.shape[:2], look.smoke_cells)
        image = veil(image, clouds, look.smoke, look.smoke_contrast, look.smoke_tone, look.smoke_shade)
    if look.blur > 1:
        image = cv2.filter2D(image, -1, _streak(look.blur, look.blur_angle)).astype(np.uint8, copy=False)
    if look.noise > 0.3:
        grain = _noise(rng, rgb.shape).astype(np.float32) * (look.noise / 32)
        image = cv2.add(image, cv2.merge((grain, grain, grain)), dtype=cv2.CV_8U).astype(np.uint8, copy=False)
    return image


def thermal_image(rng: np.random.Generator, heat: NDArray[np.uint8], look: ThermalLook) -> NDArray[np.uint8]:
    """Return the [h, w] uint8 thermal image, white-hot unless the look is inverted."""
    image = cv2.GaussianBlur(heat, (0, 0), look.blur) if look.blur > 0.25 else heat
    pattern = rng.normal(0, look.stripes, (1, heat.shape[1])).astype(np.float32)
    grain = _noise(rng, heat.shape).astype(np.float32) * (look.noise / 32)
    raw = image.astype(np.float32) * look.gain + (look.offset + pattern) + grain
    white_hot: NDArray[np.uint8] = np.clip(raw, 0, 255).astype(np.uint8)
    black_hot: NDArray[np.uint8] = 255 - white_hot
    return black_hot if look.inverted else white_hot


def depth_image(rng: np.random.Generator, depth_mm: NDArray[np.float32], look: DepthLook) -> NDArray[np.uint16]:
    """Return [h, w] uint16 millimetres, 0 where there is no return."""
    grain = _noise(rng, depth_mm.shape).astype(np.float32) * np.float32(1 / 32)
    noisy = depth_mm + grain * (look.noise * depth_mm * depth_mm * np.float32(1e-4))
    holes = smooth_noise(rng, depth_mm.shape, 9) < look.holes
    edges = cv2.Laplacian(depth_mm, cv2.CV_32F, ksize=1)
    lost = holes | (noisy > look.max_mm) | (np.abs(edges) > 700)
    return np.where(lost, 0, np.clip(noisy, 1, 65535)).astype(np.uint16)


def event_polarity(
    rng: np.random.Generator, before: NDArray[np.uint8], after: NDArray[np.uint8], look: EventLook
) -> NDArray[np.int8]:
    """Compare two grey images [h, w] uint8: [h, w] int8, +1 brighter, -1 darker, 0 no event."""
    step = cv2.LUT(after, _LOG_LEVELS) - cv2.LUT(before, _LOG_LEVELS)
    polarity = (step > look.threshold).astype(np.int8) - (step < -look.threshold).astype(np.int8)
    count = int(look.noise * polarity.size)
    if count:
        places = rng.integers(0, polarity.size, count)
        polarity.reshape(-1)[places] = rng.choice(np.array((-1, 1), dtype=np.int8), count)
    if look.blind_from < 1:
        polarity[:, int(look.blind_from * polarity.shape[1]) :] = 0
    return polarity


def event_picture(polarity: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return [h, w, 3] uint8, white, red where brighter, blue where darker (as `ckd_core.modality.events_to_image`)."""
    index = (polarity + 1).view(np.uint8)
    return cv2.LUT(cv2.merge((index, index, index)), _EVENT_COLOURS).astype(np.uint8, copy=False)


def events_of(rng: np.random.Generator, polarity: NDArray[np.int8], begin: float, end: float) -> Events:
    """Draw raw events of a polarity image, at times spread over begin..end (seconds)."""
    y, x = np.nonzero(polarity)
    t = np.sort(rng.uniform(begin, end, len(x)))
    order = rng.permutation(len(x))
    y, x = y[order], x[order]
    return Events(x.astype(np.uint16), y.astype(np.uint16), t, (polarity[y, x] > 0).astype(np.uint8))
