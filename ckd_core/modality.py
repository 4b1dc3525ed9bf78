"""Conversion of raw depth, thermal and event data to the 3-channel uint8 images that the networks were trained on.

Depth: clip at min(3 x median, 10 m), stretch to 0..255, JET in OpenCV's BGR order, as in the published training code
(docs/trackers.md "Auxiliary images"). Thermal and event images pass as they are; 14/16-bit thermal is scaled to 8.

All of it is a function per pixel once the frame's own statistics are known. So only the window that a tracker crops has
to be converted (`ModalityConverter.prepare`, then `convert` on a part), with the same result as converting the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.frame import Image

UINT16_LEVELS = 1 << 16
MAX_TEMPERATURE = 1e30  # so that differences stay finite
METRES_TO_MM = 1000.0
# [1, 256, 3] RGB of a pixel without an event, of a darker and of a brighter one.
_EVENT_COLORS = np.full((1, 256, 3), 255, dtype=np.uint8)
_EVENT_COLORS[0, 1:3] = (0, 0, 255), (255, 0, 0)


class ModalityError(TrackingError):
    """Raw data that cannot become a network image, or options outside their range."""


@dataclass(frozen=True, slots=True)
class ModalityOptions:
    """How raw values become 8 bits.

    Attributes:
        depth_median_factor: Depth is clipped at this multiple of the frame's median, or at `depth_max_mm` if that is
            less.
        depth_max_mm: See `depth_median_factor`.
        depth_colormap: True: JET colours (published "rgbcolormap"); False: three equal grey channels ("rgb3x").
        thermal_percentiles: Share of pixels, in percent, clipped at the dark and the bright end of 16-bit thermal
            images.
        thermal_range: Fixed raw values for black and white instead of percentiles.
    """

    depth_median_factor: float = 3.0
    depth_max_mm: float = 10_000.0
    depth_colormap: bool = True
    thermal_percentiles: tuple[float, float] = (0.5, 99.5)
    thermal_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        low, high = self.thermal_percentiles
        if not 0 <= low < high <= 100:
            message = f"thermal_percentiles must rise within 0..100, got {self.thermal_percentiles}"
            raise ModalityError(message)
        if self.thermal_range is not None and not self.thermal_range[0] < self.thermal_range[1]:
            message = f"thermal_range must be (black, white) with black < white, got {self.thermal_range}"
            raise ModalityError(message)
        if self.depth_median_factor <= 0 or self.depth_max_mm <= 0:
            message = (
                "depth_median_factor and depth_max_mm must be above 0, got "
                f"{self.depth_median_factor} and {self.depth_max_mm}"
            )
            raise ModalityError(message)


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one sensor, all arrays [N].

    Attributes:
        x: Column in pixels.
        y: Row in pixels.
        t: Seconds, rising.
        p: Polarity, True or 1 = brighter.
    """

    x: NDArray[np.integer]
    y: NDArray[np.integer]
    t: NDArray[np.floating]
    p: NDArray[np.integer] | NDArray[np.bool_]

    def between(self, begin: float, end: float) -> Events:
        """Select the events with begin <= t < end (seconds), as views."""
        first, last = np.searchsorted(self.t, (begin, end), side="left")
        part = slice(int(first), int(last))
        return Events(self.x[part], self.y[part], self.t[part], self.p[part])


def events_to_image(events: Events, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw the events of one time interval; see `draw_events`."""
    return draw_events(events.x, events.y, events.p, size)


def draw_events(
    x: NDArray[np.integer], y: NDArray[np.integer], p: NDArray[Any], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Draw events as [H, W, 3] uint8 RGB: white, red where the last event is brighter, blue where darker (as VisEvent).

    Args:
        x: Columns in pixels, in the order of time; there may be none.
        y: Rows in pixels.
        p: Polarities, True or 1 = brighter.
        size: (height, width) of the image.

    Raises:
        ModalityError: The arrays differ in length, or an event lies outside.
    """
    height, width = size
    if not len(x) == len(y) == len(p):
        message = f"x, y and p must be equally long, got {len(x)}, {len(y)} and {len(p)}"
        raise ModalityError(message)
    if len(x) == 0:
        return np.full((height, width, 3), 255, dtype=np.uint8)
    if int(x.max()) >= width or int(y.max()) >= height or int(x.min()) < 0 or int(y.min()) < 0:
        message = (
            f"events must lie in 0..{width - 1} x 0..{height - 1}, got x {x.min()}..{x.max()}, y {y.min()}..{y.max()}"
        )
        raise ModalityError(message)
    # One byte per event, then one look-up per pixel: a storm has more events than the image has pixels.
    kinds = np.zeros(height * width, dtype=np.uint8)
    kinds[y.astype(np.intp) * width + x] = np.asarray(p).astype(bool).view(np.uint8) + 1  # the last one counts
    image: NDArray[Any] = cv2.LUT(cv2.cvtColor(kinds.reshape(height, width), cv2.COLOR_GRAY2RGB), _EVENT_COLORS)
    return image


class ModalityConverter:
    """Turns raw auxiliary images into network images, part by part; reuses its buffers for every frame.

    `prepare(raw)` takes the whole frame's statistics and returns the image to crop from; `convert(part)` then maps any
    part of that image to uint8 [h, w] or [h, w, 3]. The part that it returns is valid until the next call.
    """

    def __init__(self, modality: Modality, options: ModalityOptions | None = None) -> None:
        self.modality = modality
        self.options = options or ModalityOptions()
        self._low = 0.0
        self._high = 0.0
        self._plain = True
        self._metres = np.empty((0, 0), dtype=np.float32)
        self._millimetres = np.empty((0, 0), dtype=np.uint16)

    def prepare(self, raw: Image) -> Image:
        """Take the frame's statistics and return the 2-D or 3-channel image to crop from.

        Raises:
            ModalityError: Dtype or channels do not fit the modality.
        """
        image = raw[..., 0] if raw.ndim == 3 and raw.shape[2] == 1 else raw
        # 8-bit images are network images already and pass as they are; raw 8-bit depth does not exist.
        self._plain = image.dtype == np.uint8
        if self._plain:
            return image
        if image.ndim != 2:
            message = f"a {self.modality.value} image of {image.dtype} must have one channel, got shape {image.shape}"
            raise ModalityError(message)
        if self.modality is Modality.DEPTH:
            return self._prepare_depth(image)
        if self.modality is Modality.THERMAL and image.dtype == np.uint16:
            self._low, self._high = self._thermal_range(image)
            return image
        message = (
            f"a {self.modality.value} image of {image.dtype} cannot be converted to 8 bits; see MultiModalFrame.aux"
        )
        raise ModalityError(message)

    def convert(self, part: Image) -> Image:
        """Map a part of what `prepare` returned to uint8: [h, w] grey or [h, w, 3] in the networks' channel order."""
        if self._plain:
            return part
        (low, high, scale, offset), colored = self._tone()
        # clipping first, so that the scaled values fill 0..255 exactly and rounding is OpenCV's own
        clipped = np.clip(part, np.uint16(low), np.uint16(high))
        grey = cv2.convertScaleAbs(clipped, alpha=scale, beta=offset)
        return cv2.applyColorMap(grey, cv2.COLORMAP_JET) if colored else grey

    @property
    def tone(self) -> tuple[NDArray[np.float32], bool]:
        """What `convert` does with a uint16 image, for a device that does it itself; see `sampling.FrameImages`."""
        values, colored = self._tone()
        return np.array(values, dtype=np.float32), colored

    def _tone(self) -> tuple[tuple[float, float, float, float], bool]:
        """Lowest and highest value, factor and offset that then give 0..255; and whether those become colours."""
        span = self._high - self._low
        scale = 255.0 / span if span > 0 else 0.0
        colored = self.modality is Modality.DEPTH and self.options.depth_colormap
        return (self._low, self._high, scale, -self._low * scale), colored

    def _prepare_depth(self, image: Image) -> Image:
        if image.dtype == np.float32:
            image = self._to_millimetres(image)
        elif image.dtype != np.uint16:
            message = f"depth must be uint16 millimetres or float32 metres, got {image.dtype}"
            raise ModalityError(message)
        minimum, maximum = int(image.min()), int(image.max())
        histogram = _histogram(image, maximum)
        median = _median_of_histogram(histogram)
        if median == 0:  # more than half is invalid: the published rule would make the whole image black
            histogram[0] = 0
            median = _median_of_histogram(histogram)
        limit = min(self.options.depth_median_factor * median, self.options.depth_max_mm)
        self._high = float(int(min(maximum, limit)))
        self._low = min(float(minimum), self._high)
        return image

    def _to_millimetres(self, metres: Image) -> Image:
        if self._metres.shape != metres.shape:
            self._metres = np.empty(metres.shape, dtype=np.float32)
            self._millimetres = np.empty(metres.shape, dtype=np.uint16)
        scaled = self._metres
        with np.errstate(over="ignore"):  # too far for any reading: infinite, and so none
            np.multiply(metres, np.float32(METRES_TO_MM), out=scaled)
        np.nan_to_num(scaled, copy=False, nan=0.0, posinf=0.0, neginf=0.0)  # "no return" is 0, as in 16UC1 (REP-118)
        np.clip(scaled, 0, UINT16_LEVELS - 1, out=scaled)
        np.rint(scaled, out=scaled)
        np.copyto(self._millimetres, scaled, casting="unsafe")
        return self._millimetres

    def _thermal_range(self, image: Image) -> tuple[float, float]:
        if self.options.thermal_range is not None:
            low, high = self.options.thermal_range
            return max(0.0, low), min(float(UINT16_LEVELS - 1), high)
        counts = np.cumsum(_histogram(image, int(image.max())), dtype=np.float64)
        shares = np.asarray(self.options.thermal_percentiles) / 100.0 * counts[-1]
        low_level, high_level = np.searchsorted(counts, shares, side="left")
        return float(low_level), float(min(high_level, len(counts) - 1))


def thermal_levels(values: NDArray[Any], limits: tuple[float, float] | None = None) -> NDArray[Any]:
    """Turn one channel of temperatures, or of raw counts, into what `MultiModalFrame.aux` holds for thermal images.

    Args:
        values: [H, W] of any type: degrees of any scale, or counts.
        limits: Values for black and white; None leaves the range to the frame's own percentiles.

    Returns:
        uint8 within `limits`; without them uint8 and uint16 as they are, and others as uint16 from the frame's 0.5th
        to its 99.5th percentile. What is not finite is as dark as the darkest.

    Raises:
        ModalityError: No value is finite, or the limits do not rise.
    """
    if limits is None and values.dtype in (np.uint8, np.uint16):
        return values
    degrees = np.clip(values.astype(np.float64), -MAX_TEMPERATURE, MAX_TEMPERATURE)
    finite = np.isfinite(values)
    if not finite.any():
        message = f"none of the {values.size} temperatures is finite"
        raise ModalityError(message)
    low, high = limits or np.percentile(degrees[finite], ModalityOptions().thermal_percentiles)
    if limits is not None and not low < high:
        message = f"thermal limits {limits} do not rise; expected (black, white)"
        raise ModalityError(message)
    kind, levels = (np.uint8, 255) if limits is not None else (np.uint16, UINT16_LEVELS - 1)
    degrees[~finite] = low
    np.clip(degrees, low, high, out=degrees)
    degrees -= low
    span = float(high - low)
    return np.rint(degrees * (levels / span) if span > 0 else degrees).astype(kind)


def to_network_image(raw: Image, modality: Modality, options: ModalityOptions | None = None) -> NDArray[np.uint8]:
    """Convert a whole raw image to uint8 [H, W, 3] as the networks see it.

    Args:
        raw: As `MultiModalFrame.aux`.
        modality: Kind of the image.
        options: None = the defaults.

    Raises:
        ModalityError: Dtype or channels do not fit the modality.
    """
    converter = ModalityConverter(modality, options)
    image = converter.convert(converter.prepare(raw))
    if image.ndim == 3:
        return np.ascontiguousarray(image)
    return np.repeat(image[..., None], 3, axis=2)


def _histogram(image: NDArray[np.uint16], highest: int) -> NDArray[Any]:
    """Count the values 0..highest, and no more: OpenCV's time grows with the number of levels."""
    levels = highest + 1
    return cv2.calcHist([image], [0], None, [levels], [0, levels]).ravel()


def _median_of_histogram(histogram: NDArray[Any]) -> float:
    """Median of the pixels in a histogram, exactly as numpy.median; 0 when it is empty."""
    counts = np.cumsum(histogram, dtype=np.float64)
    total = counts[-1]
    if total == 0:
        return 0.0
    lower = int(np.searchsorted(counts, (total - 1) // 2, side="right"))
    upper = int(np.searchsorted(counts, total // 2, side="right"))
    return (lower + upper) / 2


def depth_in_metres(depth: NDArray[np.generic]) -> NDArray[np.float32]:
    """Convert a depth image [h, w], integer millimetres or float metres, to float32 metres.

    Invalid readings (0, negative, NaN, infinite) become 0.
    """
    if np.issubdtype(depth.dtype, np.integer):
        return depth.astype(np.float32) / np.float32(METRES_TO_MM)
    metres = np.nan_to_num(depth.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.where(metres > 0, metres, np.float32(0))
