"""Prophesee RAW files: a header in ASCII, then events in EVT 3.0 or EVT 2.0, decoded piece by piece.

Formats: EVT 2.0 and EVT 3.0 Format, docs.prophesee.ai. Times count from the first event. Words of types that the
formats do not define (vendors use them) are skipped and counted.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.modality import Events
from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

RAW_SUFFIX = ".raw"
PIECE_BYTES = 1 << 18  # decoded at a time; one EVT3 word of two bytes holds up to 12 events
MAX_HEADER_BYTES = 1 << 16
MAX_SIDE_PX = 2048  # 11 bits
MAX_SILENCE_US = 10_000_000  # a longer step is a glitch of the clock: an event camera is never silent for so long
BACK_US = 1000  # events of one readout may be that much out of order
US_PER_S = 1e6
# 4 upper bits of a word. Others are no part of the format.
EVT3_TYPES = np.isin(np.arange(16), (0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF))
EVT2_TYPES = np.isin(np.arange(16), (0x0, 0x1, 0x8, 0xA, 0xE, 0xF))
_EVT2_OFF, _EVT2_ON, _EVT2_TIME_HIGH = 0x0, 0x1, 0x8
_GEOMETRY = re.compile(r"(\d{1,6})\s*x\s*(\d{1,6})")


class EventFileError(TrackingError):
    """A file that is no RAW file, or of a format that cannot be read."""


@dataclass(frozen=True, slots=True)
class RawHeader:
    """What a RAW file says of itself.

    Attributes:
        encoding: 'evt3' or 'evt2'.
        width: of the sensor in pixels.
        height: of the sensor in pixels.
        begin: where its events begin, in bytes.
    """

    encoding: str
    width: int
    height: int
    begin: int


def read_header(path: Path) -> RawHeader:
    """Read the header of a RAW file.

    Raises:
        EventFileError: the file cannot be read, has no header, or names a format or a size that cannot be read.
    """
    try:
        with regular(path).open("rb") as stream:
            head = stream.read(MAX_HEADER_BYTES)
    except OSError as error:
        raise EventFileError(f"cannot read {path}: {error.strerror or error}") from error
    begin, fields = 0, dict[str, str]()
    while head.startswith(b"% ", begin):  # where no line says "end", events may begin with the byte of % alone
        end = head.find(b"\n", begin)
        if end < 0:
            raise EventFileError(f"{path}: the header does not end within {MAX_HEADER_BYTES} bytes")
        words = head[begin + 1 : end].decode("ascii", "replace").strip().partition(" ")
        begin = end + 1
        if words[0] == "end":
            break
        fields[words[0].lower()] = words[2].strip()
    if not fields:
        raise EventFileError(
            f"{path} begins with {head[:8].hex()!r}; expected a Prophesee RAW file, whose header begins with %"
        )
    form, _, options = fields.get("format", "").partition(";")
    encoding = (form or f"EVT{fields.get('evt', '?').partition('.')[0]}").lower()
    if encoding not in ("evt3", "evt2"):
        raise EventFileError(
            f"{path} has events in '{shown(encoding)}'; expected EVT3 or EVT2 (convert it: metavision_file_to_raw)"
        )
    given = dict(option.partition("=")[::2] for option in options.split(";"))
    size = _GEOMETRY.search(f"{given.get('width', '')}x{given.get('height', '')}") or _GEOMETRY.search(
        fields.get("geometry", "")
    )
    if size is None:
        raise EventFileError(f"{path}: its header names no size; expected a line such as '% geometry 1280x720'")
    width, height = int(size[1]), int(size[2])
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise EventFileError(f"{path} has a {width} x {height} sensor; expected 1 to {MAX_SIDE_PX} pixels a side")
    return RawHeader(encoding, width, height, begin)


class RawEvents:
    """Reads the events of a RAW file once, from the first to the last.

    Attributes:
        header: of the file.
        skipped: words of types that the format does not define.
        outside: events beyond the sensor's size.
        jumps: steps of the sensor's clock back, or by more than `MAX_SILENCE_US`; time goes on without them.
        cut_bytes: of a word at the end that is not complete.
    """

    def __init__(self, path: Path) -> None:
        """Read the header; see `read_header` for errors."""
        self.header = read_header(path)
        self.skipped = self.outside = self.jumps = self.cut_bytes = 0
        self._path = path
        self._sensor_us: int | None = None
        self._time_us = 0

    def pieces(self) -> Iterator[Events]:
        """Yield the events in order, times in seconds from the first event on; never an empty piece."""
        decoder: _Decoder = _Evt3(self.header) if self.header.encoding == "evt3" else _Evt2()
        size, rest = decoder.word_bytes, b""
        with self._path.open("rb") as stream:
            stream.seek(self.header.begin)
            while data := stream.read(PIECE_BYTES):
                data = rest + data
                whole = len(data) - len(data) % size
                rest = data[whole:]
                words = np.frombuffer(data[:whole], f"<u{size}")
                self.skipped += int(np.count_nonzero(~decoder.known[words >> np.array(8 * size - 4, words.dtype)]))
                x, y, t, p = decoder.decode(words)
                inside = (x < self.header.width) & (y < self.header.height)
                self.outside += int(len(x) - np.count_nonzero(inside))
                if inside.any():
                    yield Events(x[inside], y[inside], self._seconds(t[inside]), p[inside])
        self.cut_bytes = len(rest)

    def slices(self, fps: float) -> Iterator[Events]:
        """Yield the events of each 1 / fps seconds, from the first event on; a slice may be empty."""
        held: list[Events] = []
        until = 1 / fps
        index = 1
        for piece in self.pieces():
            held.append(piece)
            while held and held[-1].t[-1] >= until:
                joined = _joined(held)
                yield joined.between(0.0, until)
                index, last = index + 1, until
                until = index / fps
                held = [joined.between(last, np.inf)]
                held = held if len(held[0].t) else []
        if held:
            yield _joined(held)

    def remarks(self) -> tuple[str, ...]:
        """Return what was out of order about the pieces read so far."""
        name, width, height = self.header.encoding.upper(), self.header.width, self.header.height
        said = {
            f"{self.skipped} words of types that {name} does not define were skipped": self.skipped,
            f"{self.outside} events beyond the sensor's {width} x {height} pixels were left out": self.outside,
            f"the sensor's clock jumped {self.jumps} times": self.jumps,
            f"its last word is cut off ({self.cut_bytes} bytes): the file is truncated": self.cut_bytes,
        }
        return tuple(text for text, number in said.items() if number)

    def _seconds(self, sensor_us: NDArray[np.int64]) -> NDArray[np.float64]:
        before = int(sensor_us[0]) if self._sensor_us is None else self._sensor_us
        steps = np.diff(sensor_us, prepend=before)
        wild = (steps < -BACK_US) | (steps > MAX_SILENCE_US)
        self.jumps += int(np.count_nonzero(wild))
        steps[wild] = 0
        times = self._time_us + np.maximum.accumulate(np.cumsum(steps))
        times = np.maximum(times, self._time_us)
        self._sensor_us, self._time_us = int(sensor_us[-1]), int(times[-1])
        return np.asarray(times / US_PER_S, np.float64)


def _joined(parts: list[Events]) -> Events:
    if len(parts) == 1:
        return parts[0]
    return Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "t", "p")))


class _Decoder(Protocol):
    word_bytes: int
    known: NDArray[np.bool_]

    def decode(self, words: Any) -> tuple[Any, Any, NDArray[np.int64], Any]:
        """Return x, y, microseconds on the sensor's clock, and polarity."""


class _Evt3:
    """By the package evt3, which keeps the state from piece to piece."""

    word_bytes = 2
    known = EVT3_TYPES

    def __init__(self, header: RawHeader) -> None:
        self._decoder = importlib.import_module("evt3").Decoder(header.width, header.height)

    def decode(self, words: NDArray[np.uint16]) -> tuple[Any, Any, NDArray[np.int64], Any]:
        known = self.known[words >> np.uint16(12)]
        events = self._decoder.feed(words[known].tobytes())
        return events.x, events.y, events.t.astype(np.int64), events.p


class _Evt2:
    """32-bit words: type 28-31; of an event the lower time 22-27, x 11-21, y 0-10; of TIME_HIGH the upper time 0-27."""

    word_bytes = 4
    known = EVT2_TYPES

    def __init__(self) -> None:
        self._high = 0

    def decode(self, words: NDArray[np.uint32]) -> tuple[Any, Any, NDArray[np.int64], Any]:
        kinds = words >> np.uint32(28)
        highs = np.where(kinds == _EVT2_TIME_HIGH, words & np.uint32(0x0FFFFFFF), np.uint32(0)).astype(np.int64)
        at = np.where(kinds == _EVT2_TIME_HIGH, np.arange(len(words)), -1)
        latest = np.maximum.accumulate(at) if len(at) else at
        high = np.where(latest >= 0, highs[np.maximum(latest, 0)] if len(highs) else 0, self._high)
        if len(high):
            self._high = int(high[-1])
        event = (kinds == _EVT2_OFF) | (kinds == _EVT2_ON)
        chosen = words[event]
        t = (high[event] << 6) | ((chosen >> np.uint32(22)) & np.uint32(0x3F)).astype(np.int64)
        x = ((chosen >> np.uint32(11)) & np.uint32(0x7FF)).astype(np.uint16)
        y = (chosen & np.uint32(0x7FF)).astype(np.uint16)
        return x, y, t, (kinds[event] == _EVT2_ON).astype(np.uint8)
