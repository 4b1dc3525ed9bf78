"""Image messages to arrays and back. Incoming pixels are viewed in place, not copied; outgoing ones use `frombytes`.

Messages are read by their fields only (sensor_msgs/Image and CompressedImage), so those of rclpy and of a bag reader
work alike, and no ROS is imported here. Encodings: sensor_msgs/image_encodings.hpp; compressed formats:
image_transport_plugins (compressed, compressedDepth).
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ckd_core.errors import TrackingError
from ckd_core.frame import Modality
from ckd_core.modality import ModalityError, thermal_levels
from ckd_core.text import shown
from sdstrack_ros.messages.compressed_image import check_memory, inflate, inflate_depth, inflating_bytes
from sdstrack_ros.messages.image_sizes import CompressedImageError

Array = NDArray[Any]


class CodecError(TrackingError):
    """A message that is not a usable image; the error names the topic, the cause and what would be right."""


class ImageMessage(Protocol):
    """The fields of sensor_msgs/Image that are read and written here."""

    height: int
    width: int
    encoding: str
    is_bigendian: Any
    step: int
    data: Any


Message = TypeVar("Message", bound=ImageMessage)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Memory layout of an encoding.

    Attributes:
        kind: NumPy type of one channel.
        channels: per pixel.
        order: what the channels mean.
    """

    kind: str
    channels: int
    order: str


_LAYOUTS = {
    "rgb8": _Layout("u1", 3, "rgb"),
    "bgr8": _Layout("u1", 3, "bgr"),
    "rgba8": _Layout("u1", 4, "rgba"),
    "bgra8": _Layout("u1", 4, "bgra"),
    "rgb16": _Layout("u2", 3, "rgb"),
    "bgr16": _Layout("u2", 3, "bgr"),
    "rgba16": _Layout("u2", 4, "rgba"),
    "bgra16": _Layout("u2", 4, "bgra"),
    "mono8": _Layout("u1", 1, "mono"),
    "mono16": _Layout("u2", 1, "mono"),
    # Plain OpenCV types: three and four channels are in OpenCV's order, as cv_bridge reads them.
    "8UC1": _Layout("u1", 1, "mono"),
    "8UC3": _Layout("u1", 3, "bgr"),
    "8UC4": _Layout("u1", 4, "bgra"),
    "16UC1": _Layout("u2", 1, "raw"),
    "16UC3": _Layout("u2", 3, "bgr"),
    "16UC4": _Layout("u2", 4, "bgra"),
    "16SC1": _Layout("i2", 1, "raw"),
    "32FC1": _Layout("f4", 1, "raw"),
    "64FC1": _Layout("f8", 1, "raw"),
    "yuv422": _Layout("u1", 2, "uyvy"),
    "uyvy": _Layout("u1", 2, "uyvy"),
    "yuv422_yuy2": _Layout("u1", 2, "yuyv"),
    "yuyv": _Layout("u1", 2, "yuyv"),
    **{
        f"bayer_{pattern}{bits}": _Layout(f"u{bits // 8}", 1, f"bayer_{pattern}")
        for pattern in ("rggb", "bggr", "gbrg", "grbg")
        for bits in (8, 16)
    },
}

# OpenCV names a Bayer pattern after the second and third pixel of its second row, ROS after the first two of two rows.
_TO_RGB = {
    "bgr": cv2.COLOR_BGR2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
    "mono": cv2.COLOR_GRAY2RGB,
    "bayer_rggb": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg": cv2.COLOR_BayerGB2RGB,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}

# A plane of luminance, then one of both chrominances: of a quarter of the pixels, or of all of them.
_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21, "nv24": None}
# BT.601 with the range of video, as OpenCV converts the other YUV encodings; columns: Y, U, V, 1.
_YUV_TO_RGB = np.array(
    [
        [1.164383, 0.0, 1.596027, -222.9216],
        [1.164383, -0.391762, -0.812968, 135.5754],
        [1.164383, 2.017232, 0.0, -276.8358],
    ]
)

ENCODINGS = tuple(_LAYOUTS)  # in both directions
PLANAR_ENCODINGS = tuple(_PLANAR)  # read only


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels as the sensor sent them.

    Attributes:
        pixels: read-only [H, W] or [H, W, C]; uint8, uint16, int16, float32 or float64 in this machine's byte order. A
            view of the message's memory unless the message was compressed, of foreign byte order, or its rows are
            misaligned.
        encoding: name of the encoding.
        order: what the channels mean: rgb, bgr, rgba, bgra, mono, raw, uyvy, yuyv, bayer_*.
        topic: where it came from, for error messages.
    """

    pixels: Array
    encoding: str
    order: str
    topic: str = ""

    def color(self) -> NDArray[np.uint8]:
        """Convert to [H, W, 3] uint8 in RGB order with dense pixels.

        rgb8 is returned as the view itself, others take one pass; 16-bit colour keeps its upper byte.

        Raises:
            CodecError: the encoding is depth-like (16UC1, 32FC1): its values have no brightness scale of their own.
        """
        pixels: Any = self.pixels
        if self.order == "raw":
            raise CodecError(
                f"{_named(self.topic)}: encoding '{self.encoding}' is not a colour image; expected rgb8, bgr8, mono8, "
                "bayer_* or yuv422 (is a depth topic remapped here?)"
            )
        if pixels.dtype == np.uint16 and not self.order.startswith("bayer"):
            pixels = _upper_bytes(pixels)  # before the order of the channels changes: that takes half the memory
        if self.order in _TO_RGB:
            pixels = cv2.cvtColor(pixels, _TO_RGB[self.order])
        return cast("NDArray[np.uint8]", _upper_bytes(pixels) if pixels.dtype == np.uint16 else pixels)

    def auxiliary(self, modality: Modality, thermal_range: tuple[float, float] | None = None) -> Array:
        """Convert to what `MultiModalFrame.aux` holds for `modality`; single-channel images are returned as the view.

        Args:
            modality: of the image.
            thermal_range: see `thermal_levels`; only images of more than 8 bits are mapped.

        Returns:
            Depth: [H, W] uint16 millimetres or float32 metres. Thermal: [H, W] uint8 or uint16, or [H, W, 3] uint8.
            Events: [H, W, 3] uint8.

        Raises:
            CodecError: the encoding cannot carry that modality.
        """
        single = self.pixels.ndim == 2 and self.order in ("mono", "raw")
        if modality is Modality.DEPTH:
            if single and self.pixels.dtype in (np.uint16, np.float32):
                return self.pixels
            raise CodecError(
                f"{_named(self.topic)}: encoding '{self.encoding}' carries no depth; "
                "expected 16UC1 (millimetres) or 32FC1 (metres)"
            )
        if modality is Modality.THERMAL and single:
            if self.pixels.dtype == np.uint8:
                return self.pixels
            try:
                return thermal_levels(self.pixels, thermal_range)
            except ModalityError as error:
                raise CodecError(f"{_named(self.topic)}: '{self.encoding}': {error}") from error
        return self.color()


def _named(topic: str) -> str:
    return topic or "image"


def _upper_bytes(pixels: Array) -> NDArray[np.uint8]:
    parts = np.ascontiguousarray(pixels).view(np.uint8).reshape(*pixels.shape, 2)
    return np.ascontiguousarray(parts[..., int(sys.byteorder == "little")])


def _freeze(pixels: Array) -> Array:
    pixels.flags.writeable = False
    return pixels


def _view(message: ImageMessage, layout: _Layout, topic: str) -> Array:
    """Return the pixels in the message's memory, after checking every field against the others."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    item = int(layout.kind[1])
    row = width * layout.channels * item
    size = len(message.data)
    if height <= 0 or width <= 0:
        raise CodecError(f"{_named(topic)}: empty image, {width} x {height} pixels")
    if step < row:
        raise CodecError(
            f"{_named(topic)}: step {step} is less than a row of {width} '{message.encoding}' pixels ({row} bytes)"
        )
    if size != height * step:
        raise CodecError(
            f"{_named(topic)}: {size} bytes of data, but height {height} x step {step} = {height * step} bytes"
        )
    if layout.order in ("uyvy", "yuyv") and width % 2:
        raise CodecError(f"{_named(topic)}: width {width} is odd; '{message.encoding}' stores pixels in pairs")
    if layout.order.startswith("bayer") and (width < 4 or height < 4):
        raise CodecError(f"{_named(topic)}: {width} x {height} pixels are too few for '{message.encoding}'")
    foreign = item > 1 and bool(message.is_bigendian) != (sys.byteorder == "big")
    order = (">" if message.is_bigendian else "<") if item > 1 else "|"
    shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
    strides = (step, item * layout.channels, item)[: len(shape)]
    dtype = np.dtype(order + layout.kind)
    pixels: Array = np.ndarray(shape, dtype, buffer=memoryview(message.data).cast("B"), strides=strides)
    if foreign or not pixels.flags.aligned:
        pixels = pixels.astype(dtype.newbyteorder("="))
    return _freeze(pixels)


def _planar_color(message: ImageMessage, topic: str) -> NDArray[np.uint8]:
    """Return the [H, W, 3] RGB pixels of an encoding in planes; `height` and `step` are those of the luminance."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    conversion = _PLANAR[message.encoding]
    if height <= 0 or width <= 0:
        raise CodecError(f"{_named(topic)}: empty image, {width} x {height} pixels")
    if conversion is not None and (width % 2 or height % 2):
        raise CodecError(
            f"{_named(topic)}: {width} x {height} pixels; '{message.encoding}' stores pixels in squares of 2 x 2, "
            "expected even numbers"
        )
    if step < width:
        raise CodecError(f"{_named(topic)}: step {step} is less than a row of {width} '{message.encoding}' pixels")
    expected = step * height * 3 // (1 if conversion is None else 2)
    if len(message.data) != expected:
        raise CodecError(
            f"{_named(topic)}: {len(message.data)} bytes of data, but '{message.encoding}' of height {height} and step "
            f"{step} has {expected} bytes"
        )
    data = np.frombuffer(message.data, np.uint8)
    if conversion is not None:
        rows = np.ascontiguousarray(data.reshape(height * 3 // 2, step)[:, :width])
        return cast("NDArray[np.uint8]", cv2.cvtColor(rows, conversion))
    luma = data[: step * height].reshape(height, step)[:, :width]
    chroma = data[step * height :].reshape(height, 2 * step)[:, : 2 * width].reshape(height, width, 2)
    return cast("NDArray[np.uint8]", cv2.transform(np.dstack([luma, chroma]), _YUV_TO_RGB))


def _unknown_encoding(message: ImageMessage, topic: str, reason: str) -> CodecError:
    return CodecError(
        f"{_named(topic)}: unknown encoding '{shown(message.encoding)}' ({reason}); "
        f"expected one of: {', '.join((*ENCODINGS, *PLANAR_ENCODINGS))}"
    )


def _through_cv_bridge(message: ImageMessage, topic: str) -> DecodedImage:
    """Let cv_bridge, where it is installed, decode an encoding that is unknown here."""
    try:
        from cv_bridge import CvBridge
    except ImportError as error:
        raise _unknown_encoding(message, topic, "and cv_bridge is not installed") from error
    try:
        pixels = np.asarray(CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception as error:  # cv_bridge and OpenCV raise many types; none may escape from a callback
        raise _unknown_encoding(message, topic, f"and cv_bridge cannot convert it to rgb8: {shown(error)}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise CodecError(f"{_named(topic)}: cv_bridge returned {pixels.dtype} {pixels.shape} for rgb8")
    return DecodedImage(_freeze(pixels), message.encoding, "rgb", topic)


def _decode_compressed(message: Any, topic: str, max_bytes: int | None) -> DecodedImage:
    text = str(message.format)
    source, _, how = (part.strip() for part in text.partition(";"))
    data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)
    try:
        if max_bytes is not None:
            check_memory(data, text, max_bytes)
        if "compressedDepth" in text:
            pixels = inflate_depth(data, source, how)
            return DecodedImage(_freeze(pixels), "32FC1" if pixels.dtype == np.float32 else "16UC1", "raw", topic)
        pixels = inflate(data)
    except CompressedImageError as error:
        raise CodecError(f"{_named(topic)}: {error} (format '{shown(text)}')") from error
    if pixels.ndim == 2:
        depth_like = pixels.dtype == np.uint16 and source == "16UC1"
        order = _LAYOUTS[source].order if source.startswith("bayer_") and source in _LAYOUTS else "mono"
        order = "raw" if depth_like or pixels.dtype.kind == "f" else order
    else:
        # image_transport converts to OpenCV's order before compressing and states it; "compressed rgb8" did not.
        swapped = how.endswith(("rgb8", "rgba8", "rgb16"))
        order = ("rgb" if swapped else "bgr") + ("a" if pixels.shape[2] == 4 else "")
    name = source if source in _LAYOUTS and pixels.ndim == 2 else f"{order}{pixels.dtype.itemsize * 8}"
    return DecodedImage(_freeze(pixels), name, order, topic)


def bytes_to_decode(message: Any) -> int:
    """Return the memory that the pixels of a message take at most while they are decoded and converted."""
    if hasattr(message, "format"):
        data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)
        return inflating_bytes(data, str(message.format))
    # These are viewed where they are; of others, one byte of grey becomes three.
    return 0 if message.encoding in ("rgb8", "16UC1", "mono16", "32FC1") else 3 * len(message.data)


def decode(message: Any, topic: str = "", max_bytes: int | None = None) -> DecodedImage:
    """View a sensor_msgs/Image, or decompress a CompressedImage (jpeg, png, webp, tiff, compressedDepth png or RVL).

    The view is read-only and keeps the message's memory alive.

    Args:
        message: Its fields alone are read.
        topic: For errors.
        max_bytes: What it may take while it is decompressed; None for the limit on its pixels alone.

    Raises:
        CodecError: the encoding is unknown, sizes contradict each other, or data does not decompress; the error names
            `topic`.
    """
    if hasattr(message, "format"):
        return _decode_compressed(message, topic, max_bytes)
    if message.encoding in _PLANAR:
        return DecodedImage(_freeze(_planar_color(message, topic)), message.encoding, "rgb", topic)
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        return _through_cv_bridge(message, topic)
    return DecodedImage(_view(message, layout, topic), message.encoding, layout.order, topic)


def encode(pixels: Array, encoding: str, message: Message) -> Message:
    """Put an array into an image message; its header is not touched.

    640 x 480 rgb8 takes 0.02 ms; assigning an ndarray to `data` would take 100 ms.

    Args:
        pixels: [H, W] or [H, W, C] of the dtype and channel count of `encoding`; any strides.
        encoding: name of the encoding.
        message: to write into.

    Returns:
        The message.

    Raises:
        CodecError: the encoding is unknown, or the array does not fit it.
    """
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise CodecError(
            f"unknown encoding '{encoding}' for an outgoing image; expected one of: {', '.join(ENCODINGS)}"
        )
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.ndim not in (2, 3) or channels != layout.channels or pixels.dtype != np.dtype(layout.kind):
        raise CodecError(
            f"an array of {pixels.dtype} {pixels.shape} is not an image of encoding '{encoding}'; "
            f"expected {np.dtype(layout.kind)} with {layout.channels} channel(s)"
        )
    if pixels.size == 0:
        raise CodecError(f"an empty array {pixels.shape} cannot be sent as an image")
    native = np.ascontiguousarray(pixels, dtype=np.dtype(layout.kind))
    data = array("B")
    data.frombytes(memoryview(cast("Any", native)).cast("B"))
    message.height, message.width = int(pixels.shape[0]), int(pixels.shape[1])
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = native.nbytes // int(pixels.shape[0])
    message.data = data
    return message
