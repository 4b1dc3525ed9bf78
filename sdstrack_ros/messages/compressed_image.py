"""Decompress the payloads of sensor_msgs/CompressedImage: jpeg, png, webp, tiff; png and RVL of compressedDepth.

OpenCV only receives complete images of a plausible size: with others it prints, guesses or returns half an image.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.text import shown
from sdstrack_ros.messages.image_sizes import CompressedImageError, pixel_bytes, stated_size
from sdstrack_ros.messages.rvl import RvlError, decode_rvl

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 1 << 26  # 67 megapixels; an image whose header states more is not decompressed
# A nibble of RVL becomes a number of 64 bits, then one of Python's.
RVL_BYTES_PER_BYTE = 100
DEPTH_HEADER_BYTES = 12  # int32 kind, float32 a, float32 b

# What is wrong with an image is said by the errors here; OpenCV would print a line for each besides.
if hasattr(cv2.utils, "logging"):  # OpenCV 4.5 of Humble may lack it
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def inflating_bytes(data: NDArray[np.uint8], form: str) -> int:
    """Return the memory that a compressed image takes at most while it is decompressed and converted.

    Args:
        data: payload of the message.
        form: its `format`.

    Returns:
        Bytes by the size that the image states; 0 where it states none, and so is refused.
    """
    depth = "compressedDepth" in form
    packed = data[DEPTH_HEADER_BYTES:] if depth else data
    if depth and "rvl" in form.lower():
        return RVL_BYTES_PER_BYTE * len(packed)
    whole = packed.tobytes()
    try:
        width, height = stated_size(whole)
    except CompressedImageError:
        return 0
    pixels = max(0, width * height)
    if depth:  # stored numbers, and for 32FC1 the depth with its steps
        return pixels * (14 if "32FC1" in form else 2)
    decoded, item = pixel_bytes(whole)
    # 16 bits lose their lower byte, then the order of channels changes.
    return pixels * (decoded + (decoded // item if item == 2 else 0) + 3)


def check_memory(data: NDArray[np.uint8], form: str, max_bytes: int) -> None:
    """Refuse an image that would take more memory; arguments as of `inflating_bytes`.

    Raises:
        CompressedImageError: it would take more than `max_bytes`.
    """
    needed = inflating_bytes(data, form)
    if needed > max_bytes:
        raise CompressedImageError(
            f"an image of {len(data)} bytes that takes {needed / 1e6:.0f} MB while it is decompressed; expected at most"
            f" {max_bytes / 1e6:.0f} MB, half of memory_mb"
        )


def _check_size(data: NDArray[np.uint8]) -> None:
    width, height = stated_size(data.tobytes())
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise CompressedImageError(f"image of {width} x {height} pixels; expected 1 to {MAX_PIXELS} pixels")


def inflate(data: NDArray[np.uint8]) -> NDArray[Any]:
    """Decompress a complete jpeg, png, webp or tiff.

    Returns:
        [H, W] or [H, W, 3 or 4] in OpenCV's channel order, uint8 or uint16; [H, W] float32 or float64 of a tiff.

    Raises:
        CompressedImageError: the data is none of them, is truncated, or is too large.
    """
    _check_size(data)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise CompressedImageError(f"the image does not decompress: {error}") from error
    if pixels is None or pixels.size == 0:
        raise CompressedImageError(f"the image does not decompress ({len(data)} bytes)")
    floats = pixels.dtype in (np.float32, np.float64) and pixels.ndim == 2
    whole = pixels.dtype in (np.uint8, np.uint16) and (pixels.ndim == 2 or pixels.shape[2] in (3, 4))
    if not (floats or whole):
        raise CompressedImageError(
            f"unsupported image: {pixels.dtype} {pixels.shape}; expected 8 or 16 bits and 1, 3 or 4 channels, or "
            "floats of one channel"
        )
    return pixels


def inflate_depth(data: NDArray[np.uint8], encoding: str, how: str) -> NDArray[Any]:
    """Decompress compressedDepth.

    Float depth is stored as a 16-bit inverse depth: depth = a / (stored - b), 0 where there is none.

    Args:
        data: payload of the message: header, and png or RVL.
        encoding: text before the semicolon of `format`: 16UC1 or 32FC1.
        how: text after the semicolon.

    Returns:
        [H, W] uint16 millimetres, or float32 metres with NaN where there is no reading.

    Raises:
        CompressedImageError: the encoding is unknown, or the data is broken.
    """
    if len(data) <= DEPTH_HEADER_BYTES:
        raise CompressedImageError(f"compressedDepth of {len(data)} bytes; the header alone has {DEPTH_HEADER_BYTES}")
    try:
        packed = data[DEPTH_HEADER_BYTES:]
        stored = decode_rvl(packed) if "rvl" in how.lower() else inflate(packed)
    except RvlError as error:
        raise CompressedImageError(str(error)) from error
    if stored.ndim != 2 or stored.dtype != np.uint16:
        raise CompressedImageError(f"compressedDepth holds {stored.dtype} {stored.shape}; expected a 16-bit grey image")
    if encoding in ("16UC1", "mono16"):
        return stored
    if encoding != "32FC1":
        raise CompressedImageError(f"compressedDepth of encoding '{shown(encoding)}'; expected 16UC1 or 32FC1")
    a, b = struct.unpack("<ff", data[4:DEPTH_HEADER_BYTES].tobytes())
    if not (np.isfinite(a) and np.isfinite(b) and a > 0):
        raise CompressedImageError(f"compressedDepth with quantisation a = {a}, b = {b}; expected finite, a > 0")
    with np.errstate(divide="ignore", over="ignore"):
        depth = np.float32(a) / (stored.astype(np.float32) - np.float32(b))
    depth[(stored == 0) | ~np.isfinite(depth) | (depth <= 0)] = np.nan
    return depth.astype(np.float32, copy=False)
