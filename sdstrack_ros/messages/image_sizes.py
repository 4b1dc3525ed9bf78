"""The size that a compressed image states, read before anything is decompressed; truncated images are refused here."""

from __future__ import annotations

import re
import struct

from ckd_core.errors import TrackingError

_TAIL_BYTES = 4096  # cameras append padding; the end marker must be within this many bytes of the end
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
MAX_CHUNKS = 100_000  # of a png; encoders write 8 KB to a chunk
MAX_SEGMENTS = 10_000  # before the frame header; a camera writes ten
_NO_FILL = re.compile(rb"[^\xff]")
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_NUMBERS = {3: "H", 4: "I"}  # types SHORT and LONG
_WIDTH, _HEIGHT, _STRIP_AT, _STRIP_SIZE, _TILE_WIDTH, _TILE_HEIGHT, _TILE_AT, _TILE_SIZE = (
    256, 257, 273, 279, 322, 323, 324, 325,
)  # fmt: skip


class CompressedImageError(TrackingError):
    """Bytes that are not a complete image of a supported format."""


def stated_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a jpeg, png, webp or tiff; of a tiff's tile, where that is larger.

    Raises:
        CompressedImageError: it is none of them, or not complete.
    """
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(_JPEG):
        if b"\xff\xd9" not in data[-_TAIL_BYTES:]:
            raise CompressedImageError(f"truncated jpeg: {len(data)} bytes without an end marker")
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:4] in _TIFF_ORDERS:
        return _tiff(data, _TIFF_ORDERS[data[:4]])
    raise CompressedImageError(
        f"neither jpeg nor png, webp or tiff: the data ({len(data)} bytes) begins with {data[:8].hex()!r}"
    )


def pixel_bytes(data: bytes) -> tuple[int, int]:
    """Return the bytes of a decompressed pixel and of one of its channels, at most; `data` as of `stated_size`."""
    if data.startswith(_PNG):
        item = 2 if data[24] > 8 else 1
        return item * {0: 1, 2: 3}.get(data[25], 4), item
    if data[:4] in _TIFF_ORDERS:
        return 8, 2
    return (3, 1) if data.startswith(_JPEG) else (4, 1)


def _png(data: bytes) -> tuple[int, int]:
    """Walk through the chunks (PNG, section 5): OpenCV takes memory for what a chunk claims to hold."""
    at, size = len(_PNG), (0, 0)
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            raise CompressedImageError(f"truncated png: {len(data)} bytes without an end marker")
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise CompressedImageError(f"truncated png: {len(data)} bytes, a chunk reaches to {at + 12 + length}")
        if at == len(_PNG):
            if kind != b"IHDR" or length != 13:
                raise CompressedImageError(f"broken png: its first chunk is {kind!r} of {length} bytes")
            width, height, depth, color = struct.unpack_from(">IIBB", data, at + 8)
            size = (width, height)
            if depth not in (1, 2, 4, 8, 16) or color not in (0, 2, 3, 4, 6):
                raise CompressedImageError(f"broken png: depth {depth}, colour type {color}")
        at += 12 + length
        if kind == b"IEND":
            return size
    raise CompressedImageError(f"broken png: more than {MAX_CHUNKS} chunks")


def _jpeg(data: bytes) -> tuple[int, int]:
    """Read the first frame header (ITU T.81, B.2.2)."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF:
            break
        if data[at + 1] == 0xFF:  # fill bytes: any number of them
            behind = _NO_FILL.search(data, at)
            if behind is None or behind.start() + 8 > len(data):
                break
            at = behind.start() - 1
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + (0 if 0xD0 <= marker <= 0xD8 or marker == 0x01 else (data[at + 2] << 8) + data[at + 3])
    raise CompressedImageError("broken jpeg: no frame header")


def _webp(data: bytes) -> tuple[int, int]:
    """Read the first chunk (RFC 9649): lossy, lossless or extended."""
    size = int.from_bytes(data[4:8], "little") + 8
    if size > len(data) or len(data) < 30:
        raise CompressedImageError(f"truncated webp: {len(data)} of {max(size, 30)} bytes")
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    raise CompressedImageError(f"broken webp: its first chunk is {kind!r}")


def _tiff(data: bytes, order: str) -> tuple[int, int]:
    """Read the first directory (TIFF 6.0, section 2), and check that the data which it names is there."""

    def numbers(at: int, form: str, count: int = 1) -> tuple[int, ...]:
        size = struct.calcsize(form) * count
        if at + size > len(data):
            raise CompressedImageError(f"truncated tiff: {len(data)} bytes, its directory reaches to {at + size}")
        return struct.unpack(f"{order}{count}{form}", data[at : at + size])

    (start,) = numbers(4, "I")
    (entries,) = numbers(start, "H")
    numbers(start + 2, "B", 12 * entries)
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind = numbers(at, "H", 2)
        (count,) = numbers(at + 4, "I")
        form = _TIFF_NUMBERS.get(kind)
        if form is None or tag in tags:
            continue
        inline = struct.calcsize(form) * count <= 4
        tags[tag] = numbers(at + 8 if inline else numbers(at + 8, "I")[0], form, count)
    for places, sizes in ((_STRIP_AT, _STRIP_SIZE), (_TILE_AT, _TILE_SIZE)):
        end = max((a + b for a, b in zip(tags.get(places, ()), tags.get(sizes, ()), strict=False)), default=0)
        if end > len(data):
            raise CompressedImageError(f"truncated tiff: {len(data)} of {end} bytes")
    if not tags.get(_WIDTH) or not tags.get(_HEIGHT) or not (tags.get(_STRIP_AT) or tags.get(_TILE_AT)):
        raise CompressedImageError("broken tiff: its directory has no size or no data")
    if not (tags.get(_STRIP_SIZE) or tags.get(_TILE_SIZE)):
        raise CompressedImageError("broken tiff: its directory does not say how long its data is")
    size = tags[_WIDTH][0], tags[_HEIGHT][0]
    tile = tags.get(_TILE_WIDTH, (0,))[:1] + tags.get(_TILE_HEIGHT, (0,))[:1]
    return (tile[0], tile[1]) if len(tile) == 2 and tile[0] * tile[1] > size[0] * size[1] else size
