"""What is whole of truncated MCAP files: their records are read one after the other, without index, into a copy.

The format is public (mcap.dev/spec): records of an opcode, a length and that many bytes; messages stand in chunks or by
themselves. A message counts only if the file holds all of it, be it in a chunk that is cut off.
"""

from __future__ import annotations

import struct
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ckd_core.settings import parse_yaml
from sdstrack_ros.bags.storage.files import BagError, locate, open_storage, storage_kind

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 3, 4, 5, 6, 15
MAX_CHUNK_BYTES = 1 << 30  # unpacked; recorders write chunks of a megabyte, or one message
MAX_LZ4_RATIO = 255  # that format cannot pack more tightly
NO_HASH = f"RIHS01_{'0' * 64}"


class _DamagedRecordError(Exception):
    """A record whose content contradicts itself."""


@dataclass(slots=True)
class _Contents:
    """What has been read of a file so far."""

    schemas: dict[int, tuple[str, str]] = field(default_factory=dict)  # message type and its definition
    channels: dict[int, tuple[int, str, str, str]] = field(default_factory=dict)  # schema, topic, encoding, QoS
    damaged: int = 0  # chunks that do not unpack to what they state


class _Fields:
    """Reads the fields of a record; never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack(f"<{form}", self.take(struct.calcsize(form)))
        return int(value)

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise _DamagedRecordError
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self) -> str:
        return self.take(self.number("I")).decode("utf-8", "replace")

    def mapping(self) -> dict[str, str]:
        inner = _Fields(self.take(self.number("I")))
        found: dict[str, str] = {}
        while inner.at < len(inner.data):
            key = inner.text()
            found[key] = inner.text()
        return found


@contextmanager
def recovered(path: Path, wanted: bool = True) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Give a recording with what is whole of its MCAP files.

    Args:
        path: rosbag2 folder, or a single file.
        wanted: False changes nothing, whatever state the files are in.

    Returns:
        A path to read instead, of the same name in a temporary folder, and what was recovered; `path` itself and
        nothing where no file is damaged.

    Raises:
        BagError: there is no recording, a file of another storage is damaged, or nothing of a file is whole.
    """
    if not wanted:
        yield path, ()
        return
    with TemporaryDirectory(prefix="sdstrack-recovered-") as temporary:
        folder = Path(temporary) / (path.resolve().name or "recovered")
        folder.mkdir()
        remarks: list[str] = []
        for index, file in enumerate(locate(path).paths):
            try:
                with open_storage(file):
                    pass
            except BagError:
                if storage_kind(file) != "mcap":
                    raise
                remarks.append(_copy_whole(file, folder / f"recovered_{index}.mcap"))
            else:
                (folder / f"recovered_{index}{''.join(file.suffixes[-2:])}").symlink_to(file.resolve())
        yield (folder, tuple(remarks)) if remarks else (path, ())


def _copy_whole(file: Path, target: Path) -> str:
    """Write the messages of a damaged file that are whole; returns how many they are, in words."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    contents, count, last_ns = _Contents(), 0, 0
    connections: dict[tuple[str, str, str], Any] = {}
    staging = target.parent / "staging"
    with Writer(staging, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for channel, time_ns, data in _messages(file, contents):
            schema_id, topic, encoding, qos = contents.channels[channel]
            if schema_id not in contents.schemas:
                continue
            kind, definition = contents.schemas[schema_id]
            key = (topic, kind, encoding)
            if key not in connections:
                connections[key] = writer.add_connection(
                    topic, kind, msgdef=definition, rihs01=NO_HASH, serialization_format=encoding,
                    offered_qos_profiles=_qos(qos),
                )  # fmt: skip
            writer.write(connections[key], time_ns, data)
            count, last_ns = count + 1, max(last_ns, time_ns)
    if not count:
        raise BagError(f"{file} is damaged or truncated, and holds no whole message")
    (stored,) = staging.glob("*.mcap")
    stored.rename(target)
    (staging / "metadata.yaml").unlink()
    staging.rmdir()
    lost = f", {contents.damaged} damaged chunks are lost" if contents.damaged else ""
    return f"{file.name} is damaged or truncated: {count} whole messages were recovered{lost}; the rest is missing"


def _qos(text: str) -> Any:
    from rosbags.rosbag2.metadata import parse_qos

    try:
        return parse_qos(parse_yaml(text) or [])
    except Exception:  # noqa: BLE001  # one topic's QoS is not worth a recording
        return []


def _messages(file: Path, contents: _Contents) -> Iterator[tuple[int, int, bytes]]:
    """Yield channel, time of recording and bytes of the whole messages, in the file's order."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise BagError(f"{file} is no MCAP file; it begins with other bytes")
        while len(head := stream.read(9)) == 9:
            opcode, length = struct.unpack("<BQ", head)
            if length > size - stream.tell():
                if opcode == CHUNK:
                    yield from _record(opcode, stream.read(), contents, cut=True)
                return
            if opcode == DATA_END or not opcode:
                return
            if opcode in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
                yield from _record(opcode, stream.read(length), contents)
            else:
                stream.seek(length, 1)


def _record(opcode: int, data: bytes, contents: _Contents, *, cut: bool = False) -> Iterator[tuple[int, int, bytes]]:
    fields = _Fields(data)
    try:
        if opcode == CHUNK:
            yield from _chunk(fields, contents, cut)
        elif opcode == SCHEMA:
            number, name = fields.number("H"), fields.text()
            fields.text()  # how the definition is written; rosbags tells that by its first line
            contents.schemas[number] = name, fields.text()
        elif opcode == CHANNEL:
            number, schema, topic, encoding = fields.number("H"), fields.number("H"), fields.text(), fields.text()
            contents.channels[number] = schema, topic, encoding, fields.mapping().get("offered_qos_profiles", "")
        else:
            channel, _, log_ns, _ = fields.number("H"), fields.number("I"), fields.number("Q"), fields.number("Q")
            if channel in contents.channels and log_ns < 1 << 63:
                yield channel, log_ns, fields.data[fields.at :]
    except _DamagedRecordError:
        contents.damaged += 1


def _chunk(fields: _Fields, contents: _Contents, cut: bool) -> Iterator[tuple[int, int, bytes]]:
    fields.take(16)  # times of the first and last message
    size, crc, compression = fields.number("Q"), fields.number("I"), fields.text()
    packed_size = fields.number("Q")
    packed = fields.data[fields.at :] if cut else fields.take(packed_size)
    plain = _unpacked(packed, compression)
    if not cut and (len(plain) != size or (crc and crc32(plain) != crc)):
        raise _DamagedRecordError
    at = 0
    while at + 9 <= len(plain):
        opcode, length = struct.unpack_from("<BQ", plain, at)
        at += 9
        if length > len(plain) - at:
            if cut:
                return
            raise _DamagedRecordError
        if opcode != CHUNK:  # none stands in another
            yield from _record(opcode, plain[at : at + length], contents)
        at += length


def _unpacked(packed: bytes, compression: str) -> bytes:
    """Unpack a chunk; no more than `MAX_CHUNK_BYTES`, whatever it states."""
    from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

    if not compression:
        return packed
    try:
        if compression == "zstd":
            return bytes(zstd.ZstdDecompressor().decompress(packed, MAX_CHUNK_BYTES))
        if compression == "lz4" and len(packed) * MAX_LZ4_RATIO <= MAX_CHUNK_BYTES:
            return bytes(DECOMPRESSORS["lz4"](packed, 0))
    except (zstd.ZstdError, RuntimeError, EOFError, MemoryError) as error:
        raise _DamagedRecordError from error
    raise _DamagedRecordError
