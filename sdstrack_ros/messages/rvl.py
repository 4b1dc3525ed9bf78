"""Decode RVL, the lossless depth format of compressedDepth (Wilson, "Fast Lossless Depth Image Compression", 2017).

A stream of runs: how many pixels are 0, how many are not, then the difference of each of those from the one before it,
its sign folded into the lowest bit. Numbers are groups of three bits, the lowest first, each with a bit that says
whether another group follows; these nibbles fill 32-bit little-endian words from the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES = 8  # int32 width, int32 height
MAX_PIXELS = 1 << 24  # of a depth image; a few bytes can stand for any number of empty pixels
MAX_NIBBLES = 11  # of a number of 32 bits


class RvlError(TrackingError):
    """Bytes that are not a complete RVL image."""


def decode_rvl(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the [H, W] image of a header (width, height) and a stream.

    Memory for the picture is taken only once the stream is known to fill it.

    Raises:
        RvlError: the size is absurd, or the stream does not fit it.
    """
    if len(data) < HEADER_BYTES:
        raise RvlError(f"RVL of {len(data)} bytes; its header alone has {HEADER_BYTES}")
    width, height = np.frombuffer(data[:HEADER_BYTES].tobytes(), "<i4").tolist()
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise RvlError(f"RVL image of {width} x {height} pixels; expected 1 to {MAX_PIXELS} pixels")
    if len(data) % 4:
        raise RvlError(f"truncated RVL: {len(data)} bytes; expected words of 4")
    numbers = _numbers(data[HEADER_BYTES:])
    pixels, differences = _runs(numbers.tolist(), width * height)
    folded = np.concatenate([numbers[:0], *(numbers[begin:end] for begin, end in differences)])
    values = np.cumsum((folded >> 1) ^ -(folded & 1)) & 0xFFFF
    picture = np.zeros(width * height, np.uint16)
    at = 0
    for begin, end in pixels:
        picture[begin:end] = values[at : at + end - begin]
        at += end - begin
    return picture.reshape(height, width)


def _numbers(stream: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return all complete numbers of a stream; the zeros that fill its last word also count as numbers."""
    data = np.frombuffer(stream.tobytes(), "<u4").astype(">u4").view(np.uint8)
    nibbles = np.stack([data >> 4, data & 15], axis=1).ravel()
    ends = np.flatnonzero((nibbles & 8) == 0)
    if not len(ends):
        return np.empty(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > MAX_NIBBLES:
        raise RvlError(f"broken RVL: a number of {lengths.max()} groups; expected at most {MAX_NIBBLES}")
    groups = (nibbles[: ends[-1] + 1] & 7).astype(np.int64)
    shifts = 3 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    return np.add.reduceat(groups << shifts, starts)


def _runs(numbers: list[int], total: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return where each run of readings lies in the picture, and where its differences lie among the numbers."""
    pixels, differences = [], []
    at = position = 0
    while position < total:
        if at + 2 > len(numbers):
            raise RvlError(f"truncated RVL: it ends after {position} of {total} pixels")
        zeros, readings = numbers[at], numbers[at + 1]
        at, position = at + 2, position + zeros
        if readings > total - position:
            raise RvlError(f"broken RVL: runs of {zeros} and {readings} pixels exceed the image of {total} pixels")
        if at + readings > len(numbers):
            raise RvlError(f"truncated RVL: it ends within a run of {readings} pixels at {position} of {total}")
        if readings:
            pixels.append((position, position + readings))
            differences.append((at, at + readings))
        at, position = at + readings, position + readings
    return pixels, differences
