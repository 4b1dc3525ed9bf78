"""Event packets to the events of one frame's event window, in bounded memory. No ROS import.

Packets are read by their fields only (event_camera_msgs/EventPacket). The sensor's clock has an origin of its own. Its
times are shifted to the clock of the headers by the smallest delay observed between a packet's last event and its
stamp, because a packet cannot be stamped before its last event; the shift may rise slowly, as clocks drift. The
encoding evt3 is decoded by the package evt3 or else event_camera_py, mono here, all others by event_camera_py.
"""

from __future__ import annotations

import importlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ckd_core.data.event_files import EVT3_TYPES
from ckd_core.errors import TrackingError
from ckd_core.text import shown
from sdstrack_ros.messages.stamps import stamp_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SENSOR_PIXELS = 1 << 24
MAX_EVENTS = 2_000_000
EVENT_BYTES = 13
# Decoded at a time: at most 400 k events, since one evt3 word holds up to 12 and a mono event takes four words.
CHUNK_BYTES, MONO_CHUNK_BYTES = 1 << 16, 1 << 20
DRIFT = 1e-4  # allowed rise of the smallest delay per second, more than any two clocks drift apart
RESYNC_NS = 500_000_000  # a delay that differs by more means that a clock was set
NS_PER_US = 1000
_FORMAT = "is not decoded; set the driver's parameter 'encoding' to evt3 (sensors that start in EVT 2.1, too)"
# Names that packets may have and nothing in ROS decodes: metavision_driver sends evt3 alone and refuses other formats.
UNDECODED = {
    "evt2": f"{_FORMAT}, or read its RAW file with 'sdstrack play'",
    "evt21": _FORMAT,
    "evt4": _FORMAT,
    "trigger": "holds times of a trigger and no events; expected the camera's own topic, such as ~/events",
}


class EventDecodeError(TrackingError):
    """A packet that cannot be decoded; the message names the encoding and what would be right."""


@dataclass(frozen=True, slots=True, eq=False)
class EventSlice:
    """Events of one event window, (start_ns, end_ns].

    Attributes:
        header: of the newest packet, for its frame_id.
        width: of the sensor.
        height: of the sensor.
        start_ns: excluded.
        end_ns: included.
        x: column [N] uint16.
        y: row [N] uint16.
        t_ns: time [N] int64, on the clock of the headers.
        p: polarity [N] uint8; 1 is brighter.
    """

    header: Any
    width: int
    height: int
    start_ns: int
    end_ns: int
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t_ns: NDArray[np.int64]
    p: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.t_ns)

    @property
    def nbytes(self) -> int:
        """Bytes of the events."""
        return len(self) * EVENT_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class _Events:
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t_ns: NDArray[np.int64]
    p: NDArray[np.uint8]

    def part(self, begin: int, end: int) -> _Events:
        return _Events(self.x[begin:end], self.y[begin:end], self.t_ns[begin:end], self.p[begin:end])


class _Decoder(Protocol):
    def decode(self, packet: Any, data: NDArray[np.uint8]) -> _Events:
        """Decode bytes of a packet; times are nanoseconds on the sensor's clock."""


class _Evt3:
    """Prophesee EVT 3.0, by the package evt3; keeps the sensor's state from packet to packet."""

    def __init__(self, width: int, height: int) -> None:
        self._decoder = importlib.import_module("evt3").Decoder(width, height)

    def decode(self, packet: Any, data: NDArray[np.uint8]) -> _Events:
        del packet
        events = self._decoder.feed(data.tobytes())
        return _Events(events.x, events.y, events.t.astype(np.int64) * NS_PER_US, events.p)


class _Mono:
    """64 bits per event: polarity 63, y 48-62, x 32-47, nanoseconds after time_base 0-31. Deprecated by its authors."""

    def __init__(self, width: int, height: int) -> None:
        del width, height

    def decode(self, packet: Any, data: NDArray[np.uint8]) -> _Events:
        if len(data) % 8:
            raise EventDecodeError(f"'mono' packet of {len(data)} bytes; expected a multiple of 8")
        # Parts of the words as views: a storm brings millions of them.
        order = ">" if packet.is_bigendian else "<"
        low, x_at, y_at = (1, 1, 0) if packet.is_bigendian else (0, 2, 3)
        t_ns = data.view(f"{order}u4")[low::2].astype(np.int64)
        t_ns += np.int64(int(packet.time_base))
        halves = data.view(f"{order}u2").reshape(-1, 4)
        high = halves[:, y_at].astype(np.uint16)
        p = (high >> np.uint16(15)).astype(np.uint8)
        return _Events(halves[:, x_at].astype(np.uint16), high & np.uint16(0x7FFF), t_ns, p)


class _EventCameraPy:
    """Everything that event_camera_py knows (evt3, libcaer, libcaer_cmp); it needs whole packets."""

    def __init__(self, width: int, height: int) -> None:
        del width, height
        self._decoder = importlib.import_module("event_camera_py").Decoder()

    def decode(self, packet: Any, data: NDArray[np.uint8]) -> _Events:
        del data
        self._decoder.decode(packet)
        events = self._decoder.get_cd_events()
        t_ns = events["t"].astype(np.int64) * NS_PER_US
        return _Events(events["x"].astype(np.uint16), events["y"].astype(np.uint16), t_ns, events["p"].astype(np.uint8))


def _make_decoder(encoding: str, width: int, height: int) -> _Decoder:
    if encoding == "mono":
        return _Mono(width, height)
    kinds: list[type[_Evt3 | _EventCameraPy]] = [_Evt3] if encoding == "evt3" else []
    if encoding in ("evt3", "libcaer", "libcaer_cmp"):
        kinds.append(_EventCameraPy)
    for kind in kinds:
        try:
            return kind(width, height)
        except ImportError:
            continue
    if encoding in UNDECODED:
        raise EventDecodeError(f"event encoding '{encoding}' {UNDECODED[encoding]}")
    if not kinds:
        raise EventDecodeError(
            f"unknown event encoding '{shown(encoding)}'; expected one of: evt3, mono, libcaer, libcaer_cmp"
        )
    decoder = "the package evt3 or event_camera_py" if encoding == "evt3" else "event_camera_py (from apt)"
    raise EventDecodeError(f"event encoding '{encoding}' needs {decoder}, which is not installed here")


class EventWindow:
    """Holds at most `capacity` events of 13 bytes each; in a storm the oldest are dropped and counted.

    Attributes:
        capacity: largest number of events.
        newest_ns: time up to which events have arrived, on the clock of the headers; None before the first packet.
        dropped: events lost to the capacity.
        outside: events beyond the sensor's size.
        gaps: packets missing according to `seq`.
        skipped: words of evt3 whose types the format does not define; vendors use them.
    """

    def __init__(self, capacity: int = MAX_EVENTS) -> None:
        if capacity < 1:
            raise EventDecodeError(f"capacity = {capacity}; expected at least 1 event")
        self.capacity = capacity
        self.newest_ns: int | None = None
        self.dropped = 0
        self.outside = 0
        self.gaps = self.skipped = 0
        self._runs: deque[_Events] = deque()
        self._held = 0
        self._size = (0, 0)
        self._header: Any = None
        self._key: tuple[str, int, int] | None = None
        self._decoder: _Decoder | None = None
        self._seq: int | None = None
        self._delay_ns: int | None = None
        self._delay_at_ns = 0

    def __len__(self) -> int:
        return self._held

    def add(self, packet: Any) -> int:
        """Decode a packet and keep its events; earlier events stay when it cannot be decoded.

        Returns:
            Number of events in the packet.

        Raises:
            EventDecodeError: the encoding is unknown, the sensor's size impossible, or the data broken.
        """
        width, height = int(packet.width), int(packet.height)
        if width <= 0 or height <= 0 or width * height > MAX_SENSOR_PIXELS:
            raise EventDecodeError(f"event packet of a {width} x {height} sensor; expected 1 to {MAX_SENSOR_PIXELS} px")
        self._prepare_decoder(str(packet.encoding), width, height, int(packet.seq))
        decoder = self._decoder
        if decoder is None:
            raise EventDecodeError("no decoder")
        self._header = packet.header
        stamp_ns = stamp_of(packet)
        data = np.frombuffer(packet.events, np.uint8) if len(packet.events) else np.empty(0, np.uint8)
        if packet.encoding == "evt3":
            words = data[: len(data) - len(data) % 2].view("<u2")
            self.skipped += int(np.count_nonzero(~EVT3_TYPES[words >> np.uint16(12)]))
        undivided = isinstance(decoder, _EventCameraPy)
        chunk = MONO_CHUNK_BYTES if isinstance(decoder, _Mono) else CHUNK_BYTES
        pieces = [data] if undivided else np.split(data, range(chunk, len(data), chunk))
        count = 0
        fresh: list[_Events] = []
        for piece in pieces:
            try:
                events = self._inside(decoder.decode(packet, piece))
            except EventDecodeError:
                raise
            except Exception as error:  # third-party decoders raise many types; none may escape from a callback
                self._decoder = None
                raise EventDecodeError(f"broken '{packet.encoding}' packet of {len(data)} bytes: {error}") from error
            count += len(events.t_ns)
            fresh.append(events)
            self._trim(fresh)
        self._store([events for events in fresh if len(events.t_ns)], stamp_ns)
        return count

    def between(self, start_ns: int, end_ns: int) -> EventSlice:
        """Return the events with start_ns < t <= end_ns in order of arrival. They are kept until `forget`."""
        parts = []
        for run in self._runs:
            if int(run.t_ns[-1]) <= start_ns or int(run.t_ns[0]) > end_ns:
                continue
            begin, end = np.searchsorted(run.t_ns, (start_ns, end_ns), side="right")
            parts.append(run.part(int(begin), int(end)))
        events = _concatenate(parts)
        return EventSlice(self._header, *self._size, start_ns, end_ns, events.x, events.y, events.t_ns, events.p)

    def forget(self, until_ns: int) -> None:
        """Drop the runs of events that end at or before `until_ns`."""
        while self._runs and int(self._runs[0].t_ns[-1]) <= until_ns:
            self._held -= len(self._runs.popleft().t_ns)

    def clear(self) -> None:
        """Drop all events and the shift of the clock; the decoder's state stays, as the sensor's does."""
        self._runs.clear()
        self._held = 0
        self.newest_ns = None
        self._delay_ns = None
        self._seq = None

    def _prepare_decoder(self, encoding: str, width: int, height: int, seq: int) -> None:
        key = (encoding, width, height)
        if self._decoder is None or key != self._key:
            decoder = _make_decoder(encoding, width, height)
            if key != self._key:
                self.clear()
            self._decoder, self._key, self._size = decoder, key, (width, height)
            self._delay_ns = None
        elif self._seq is not None and seq != self._seq + 1:
            # Missing packets may have carried the upper bits of the sensor's time: restart its clock.
            self.gaps += max(0, seq - self._seq - 1)
            self._decoder = _make_decoder(encoding, width, height)
            self._delay_ns = None
        self._seq = seq

    def _inside(self, events: _Events) -> _Events:
        width, height = self._size
        good = (events.x < width) & (events.y < height)
        if good.all():
            return events
        self.outside += int(len(good) - np.count_nonzero(good))
        return _Events(events.x[good], events.y[good], events.t_ns[good], events.p[good])

    def _trim(self, fresh: list[_Events]) -> None:
        """Drop the oldest events, first held ones and then those of `fresh`, until all fit into the capacity."""
        excess = self._held + sum(len(events.t_ns) for events in fresh) - self.capacity
        while excess > 0:
            old = self._runs[0] if self._runs else fresh[0]
            cut = min(excess, len(old.t_ns))
            rest = old.part(cut, len(old.t_ns))
            if self._runs:
                self._held -= cut
                self._runs.popleft()
                if len(rest.t_ns):
                    self._runs.appendleft(rest)
            else:
                fresh[0] = rest
                if not len(rest.t_ns):
                    fresh.pop(0)
            self.dropped += cut
            excess -= cut

    def _store(self, fresh: list[_Events], stamp_ns: int) -> None:
        if not fresh:
            self.newest_ns = stamp_ns if self.newest_ns is None else max(self.newest_ns, stamp_ns)
            return
        last_ns = max(int(events.t_ns.max()) for events in fresh)
        delay_ns = self._to_header_clock(last_ns, stamp_ns)
        for events in fresh:
            t_ns = events.t_ns + delay_ns
            if len(t_ns) > 1 and (np.diff(t_ns) < 0).any():
                t_ns = np.maximum.accumulate(t_ns)  # some sensors' events are a few microseconds out of order
            self._runs.append(_Events(events.x, events.y, t_ns, events.p))
            self._held += len(t_ns)
        newest_ns = last_ns + delay_ns
        self.newest_ns = newest_ns if self.newest_ns is None else max(self.newest_ns, newest_ns)

    def _to_header_clock(self, last_ns: int, stamp_ns: int) -> int:
        """Return what to add to a sensor time: the smallest recent delay, so that no event is in the future."""
        measured_ns = stamp_ns - last_ns
        known_ns = self._delay_ns
        if known_ns is not None:
            known_ns += int(DRIFT * max(0, stamp_ns - self._delay_at_ns))
        if known_ns is None or measured_ns < known_ns or measured_ns - known_ns > RESYNC_NS:
            known_ns = measured_ns
        self._delay_ns, self._delay_at_ns = known_ns, stamp_ns
        return known_ns


def _concatenate(parts: list[_Events]) -> _Events:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.empty(0, np.uint16)
        return _Events(none, none, np.empty(0, np.int64), np.empty(0, np.uint8))
    return _Events(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.t_ns for part in parts]),
        np.concatenate([part.p for part in parts]),
    )
