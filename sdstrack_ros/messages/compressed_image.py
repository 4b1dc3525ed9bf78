"""Decompress the payloads of sensor_msgs/CompressedImage: jpeg, png, and the png of compressedDepth.

OpenCV only receives complete images of a plausible size: with others it prints, guesses or returns half an image.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 1 << 26  # 67 megapixels; an image whose header states more is not decompressed
DEPTH_HEADER_BYTES = 12  # int32 kind, float32 a, float32 b
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_TAIL_BYTES = 4096  # cameras append padding; the end marker must be within this many bytes of the end
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


class CompressedImageError(TrackingError):
    """Bytes that are not a complete image of a supported format."""


def _jpeg_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Return (width, height) from the first frame header of a JPEG stream (ITU T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = int(data[at + 1])
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9].tobytes())
            return int(width), int(height)
        at += 2 + (0 if 0xD0 <= marker <= 0xD8 or marker == 0x01 else (int(data[at + 2]) << 8) + int(data[at + 3]))
    raise CompressedImageError("broken jpeg: no frame header")


def _check_size(data: NDArray[np.uint8]) -> None:
    head = data[:24].tobytes()
    tail = data[-_TAIL_BYTES:].tobytes()
    if head.startswith(_PNG):
        if len(head) < 24 or b"IEND" not in tail:
            raise CompressedImageError(f"truncated png: {len(data)} bytes without an end marker")
        width, height = struct.unpack(">II", head[16:24])
    elif head.startswith(_JPEG):
        if b"\xff\xd9" not in tail:
            raise CompressedImageError(f"truncated jpeg: {len(data)} bytes without an end marker")
        width, height = _jpeg_size(data)
    else:
        raise CompressedImageError(f"neither jpeg nor png: the data ({len(data)} bytes) begins with {head[:8].hex()!r}")
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise CompressedImageError(f"image of {width} x {height} pixels; expected 1 to {MAX_PIXELS} pixels")


def inflate(data: NDArray[np.uint8]) -> NDArray[Any]:
    """Decompress a complete jpeg or png.

    Returns:
        [H, W] or [H, W, 3 or 4] in OpenCV's channel order, uint8 or uint16.

    Raises:
        CompressedImageError: the data is neither, is truncated, or is too large.
    """
    _check_size(data)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise CompressedImageError(f"the image does not decompress: {error}") from error
    if pixels is None or pixels.size == 0:
        raise CompressedImageError(f"the image does not decompress ({len(data)} bytes)")
    if pixels.dtype not in (np.uint8, np.uint16) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise CompressedImageError(
            f"unsupported image: {pixels.dtype} {pixels.shape}; expected 8 or 16 bits and 1, 3 or 4 channels"
        )
    return pixels


def inflate_depth(data: NDArray[np.uint8], encoding: str, how: str) -> NDArray[Any]:
    """Decompress compressedDepth.

    Float depth is stored as a 16-bit inverse depth: depth = a / (stored - b), 0 where there is none.

    Args:
        data: payload of the message: header and png.
        encoding: text before the semicolon of `format`: 16UC1 or 32FC1.
        how: text after the semicolon.

    Returns:
        [H, W] uint16 millimetres, or float32 metres with NaN where there is no reading.

    Raises:
        CompressedImageError: the format is RVL or unknown, or the data is broken.
    """
    if "rvl" in how.lower():
        raise CompressedImageError("compressedDepth with RVL is not supported; set the publisher's format to png")
    if len(data) <= DEPTH_HEADER_BYTES:
        raise CompressedImageError(f"compressedDepth of {len(data)} bytes; the header alone has {DEPTH_HEADER_BYTES}")
    stored = inflate(data[DEPTH_HEADER_BYTES:])
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
