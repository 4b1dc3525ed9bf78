"""The storage files of a recording: which they are, and each of them made ready to be read.

What is not a plain, finished file under a plain name is read from a copy or through a link in a temporary folder:
compressed files, files whose recorder was killed, names that are not safe in a database's URI. The recording's own
folder stays as it was.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.text import MAX_REASON, shown
from sdstrack_ros.bags.storage.metadata import METADATA_FILE, BagMetadata, read_metadata, read_qos_plainly

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import backports.zstd as zstd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rosbags.rosbag2 import Reader

SUFFIXES = {".mcap": "mcap", ".db3": "sqlite3"}
ZSTD_SUFFIX = ".zstd"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
JOURNALS = ("-wal", "-journal")
MAX_MESSAGE_BYTES = 1 << 28  # 256 MiB; a message that unpacks to more is none of a camera
SPARE_BYTES = 1 << 29  # that a copy leaves free on the disk of temporary files
_MAGIC = {b"\x89MCAP0\r\n": "mcap", b"SQLite format 3\0": "sqlite3", b"#ROSBAG V": "ros1"}
_COPY_BYTES = 1 << 20


class BagError(TrackingError):
    """A recording that cannot be used; the message names the file, the cause and what the recording contains."""


@dataclass(frozen=True, slots=True)
class LocatedFiles:
    """The storage files of a recording.

    Attributes:
        paths: of the files.
        metadata: content of metadata.yaml, None without one that is readable.
        extra: those of `paths` that metadata.yaml does not list, all of several files without metadata.
        remarks: what is out of order about them.
    """

    paths: tuple[Path, ...]
    metadata: BagMetadata | None = None
    extra: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()


def storage_suffix(path: Path) -> str:
    """Return '.mcap' or '.db3' for a storage file, compressed or not, and '' for any other name."""
    name = path.name.removesuffix(ZSTD_SUFFIX)
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def storage_kind(path: Path) -> str:
    """Return 'mcap', 'sqlite3' or 'ros1' by a file's first bytes, else by its name; '' for no storage file."""
    head = _begins(path)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "") or SUFFIXES.get(
        storage_suffix(path), ""
    )


def locate(path: Path) -> LocatedFiles:
    """Find the storage files of a rosbag2 folder, or take the single file.

    Hidden files are none, such as the companions `._NAME` that macOS leaves on disks of other systems.

    Raises:
        BagError: there is no recording here, or a part of it is missing.
    """
    if not path.exists():
        link = " is a link to nothing" if path.is_symlink() else " does not exist"
        raise BagError(f"{path}{link}")
    if not path.is_dir():
        return LocatedFiles((_regular(path),))
    names = sorted(item.name for item in path.iterdir() if not item.name.startswith(".") and not item.is_dir())
    stored = [name for name in names if storage_suffix(Path(name))]
    metadata, remarks = read_metadata(path)
    if metadata is not None and metadata.files:
        return _listed(path, metadata, names, stored)
    # `ros2 bag play` unpacks a compressed file beside itself; the compressed one is what was recorded.
    stored = [name for name in stored if f"{name}{ZSTD_SUFFIX}" not in stored]
    if not stored:
        ros1 = [name for name in names if name.endswith(".bag")]
        if ros1:
            raise BagError(_ros1(path / ros1[0]))
        about = remarks[0].partition(";")[0] if remarks else "it has no metadata.yaml"
        raise BagError(
            f"{path} is not a rosbag2 folder: {about} and no storage file (.mcap, .db3); expected metadata.yaml with "
            "its storage files, or storage files alone"
        )
    remarks += _check_numbers(path, stored)
    files = tuple(path / name for name in stored)
    return LocatedFiles(tuple(map(_regular, files)), metadata, files if len(files) > 1 else (), remarks)


def _listed(path: Path, metadata: BagMetadata, names: Sequence[str], stored: Sequence[str]) -> LocatedFiles:
    """Take the files that metadata.yaml lists, and others that lie beside them."""
    remarks, chosen = [], []
    for name in metadata.files:
        unpacked = name.removesuffix(ZSTD_SUFFIX)
        replaced = name not in names and unpacked in names
        if replaced:
            remarks.append(f"{METADATA_FILE} lists {name}; the unpacked {unpacked} is read")
        chosen.append(unpacked if replaced else name)
    missing = [name for name in chosen if name not in names]
    extra = [name for name in stored if name not in chosen and f"{name}{ZSTD_SUFFIX}" not in chosen]
    if missing:
        beside = f"; the folder has {', '.join(extra)} instead: if the recording was renamed, remove {METADATA_FILE}"
        raise BagError(
            f"{path}: {', '.join(missing)} is missing, which {METADATA_FILE} lists; "
            f"copy the whole recording{beside if extra else ''}"
        )
    if extra:
        remarks.append(f"{METADATA_FILE} does not list {', '.join(extra)}; it was read too")
    files = [path / name for name in (*chosen, *extra)]
    return LocatedFiles(tuple(map(_regular, files)), metadata, tuple(path / name for name in extra), tuple(remarks))


def _regular(path: Path) -> Path:
    try:
        return regular(path)
    except OSError as error:
        raise BagError(f"{path} cannot be read: {error.strerror}") from error


def _check_numbers(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Refuse a split recording with a gap in the numbers of its files; say where it does not begin at 0."""
    numbers = sorted(
        int(found[1]) for name in names if (found := re.search(r"_(\d{1,9})\.[^.]+$", name.removesuffix(ZSTD_SUFFIX)))
    )
    if len(names) < 2 or len(numbers) != len(names):
        return ()
    absent = next((low + 1 for low, high in pairwise(numbers) if high > low + 1), None)
    if absent is not None:
        raise BagError(
            f"{path}: the recording is split, and its file number {absent} is missing; "
            "copy the whole recording, or name one of its files"
        )
    return (f"the recording begins with its file number {numbers[0]}; earlier ones are missing",) if numbers[0] else ()


def _ros1(path: Path) -> str:
    return (
        f"{path} is a ROS 1 bag; expected a rosbag2 recording; convert it: rosbags-convert --src {path.name} "
        f"--dst {path.stem}"
    )


def _remedy(path: Path) -> str:
    kind = storage_kind(path)
    if kind == "mcap":
        return "; what is whole of it is read with --recover, or written by mcap recover IN.mcap -o OUT.mcap"
    return f"; try: sqlite3 {path.name} .recover" if kind == "sqlite3" else ""


@contextmanager
def open_storage(path: Path) -> Iterator[tuple[Reader, str, tuple[str, ...]]]:
    """Open one storage file.

    Returns:
        Its reader, its kind (mcap or sqlite3), and remarks on how it was read.

    Raises:
        BagError: it is no storage file, or damaged; or there is no room for a copy that is needed.
    """
    from rosbags.rosbag2 import Reader

    with TemporaryDirectory(prefix="sdstrack-bag-") as folder:
        reader = None
        source = path
        try:
            source, kind, remarks = _prepare(path, Path(folder))
            read_qos_plainly()
            reader = Reader(source)
            reader.open()
            _check_index(path, reader)
        except BagError:
            if reader is not None and reader.is_open:
                reader.close()
            raise
        except Exception as error:
            # rosbags passes on errors of zstd, sqlite and struct; to the user they all mean the same.
            reason = shown(str(error).replace(str(source), path.name), MAX_REASON)
            raise BagError(
                f"{path} cannot be read as a rosbag2 recording (damaged, truncated, or not closed by its recorder): "
                f"{type(error).__name__}: {reason}{_remedy(path)}"
            ) from error
        try:
            yield reader, kind, remarks
        finally:
            reader.close()


def _prepare(path: Path, folder: Path) -> tuple[Path, str, tuple[str, ...]]:
    """Return a path that rosbags can open, the storage's kind, and remarks."""
    source = path
    if _begins(path).startswith(ZSTD_MAGIC):
        source = folder / f"unpacked{storage_suffix(path)}"
        _unpack(path, source)
    journals = _journals(path)
    if journals:
        source, remarks = _recover(path, journals, folder)
        return source, "sqlite3", remarks
    kind = storage_kind(source)
    if kind == "ros1":
        raise BagError(_ros1(path))
    if not kind:
        raise BagError(
            f"{path} cannot be read as a rosbag2 recording: it begins with {_begins(source)[:8].hex()!r}, neither "
            "as mcap nor as sqlite3; expected a folder, a .mcap or a .db3 file"
        )
    # rosbags tells storages apart by the suffix, and puts the path into a URI unquoted.
    link = folder / f"link{next(suffix for suffix, name in SUFFIXES.items() if name == kind)}"
    link.symlink_to(source.resolve())
    return link, kind, ()


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise BagError(f"{path} cannot be read: {error.strerror or error}") from error


def _require_room(path: Path, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free - size < SPARE_BYTES:
        raise BagError(
            f"{path} has to be copied to be read ({size >> 20} MiB), and {folder.parent} has {free >> 20} MiB; "
            "make room, or set TMPDIR to a larger disk"
        )


def _unpack(path: Path, target: Path) -> None:
    """Unpack a compressed file; the disk sets the limit, not a number in the file."""
    with path.open("rb") as stream, zstd.open(stream, "rb") as packed, target.open("wb") as out:
        while part := packed.read(_COPY_BYTES):
            _require_room(path, target.parent, len(part))
            out.write(part)


def _journals(path: Path) -> tuple[Path, ...]:
    """Return the write-ahead log or rollback journal that a killed recorder left, beside the file or its link."""
    if storage_suffix(path) != ".db3" or path.name.endswith(ZSTD_SUFFIX):
        return ()
    places = dict.fromkeys((path, path.resolve()))
    found = [Path(f"{place}{end}") for end in JOURNALS for place in places]
    filled = [item for item in found if item.is_file() and item.stat().st_size]
    return tuple({item.name[len(item.name.rpartition("-")[0]) :]: item for item in reversed(filled)}.values())


def _recover(path: Path, journals: Sequence[Path], folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Let SQLite finish on a copy what the recorder could not."""
    files = (path, *journals)
    _require_room(path, folder, sum(item.stat().st_size for item in files))
    copy = folder / "recovered.db3"
    shutil.copyfile(path, copy)
    before = _count(copy)
    for journal in journals:
        shutil.copyfile(journal, f"{copy}-{journal.name.rpartition('-')[2]}")
    names = " and ".join(item.name for item in journals)
    try:
        with closing(sqlite3.connect(copy)) as base:
            (mode,) = base.execute("pragma journal_mode=delete").fetchone()
            (check,) = base.execute("pragma quick_check(1)").fetchone()
    except sqlite3.Error as error:
        mode, check = "", str(error)
    if mode != "delete" or check != "ok":
        raise BagError(
            f"{path}: its recorder was killed and left {names}, which cannot be put into the recording ({check}); try "
            f"on a copy of all files: sqlite3 {path.name} 'pragma wal_checkpoint(truncate)', or .recover"
        )
    after = _count(copy)
    gained = "no further message" if after == before else f"{(after or 0) - (before or 0)} further messages"
    return copy, (
        f"the recorder of {path.name} was killed and left {names} with {gained}: read on a copy, {after} messages",
    )


def _count(database: Path) -> int | None:
    """Return the number of messages in a database as it is on the disk, None where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?immutable=1", uri=True)) as base:
            (count,) = base.execute("select count(*) from messages").fetchone()
    except sqlite3.Error:
        return None
    return int(count)


def _check_index(path: Path, reader: Reader) -> None:
    """Refuse an MCAP file whose chunks rosbags would pass over, because no index says what they hold."""
    for chunk in getattr(reader.storage, "chunks", ()):
        if chunk.message_end_time and not chunk.message_index_offsets:
            raise BagError(f"{path}: its chunks have no message index{_remedy(path)}")


def unpack_message(data: bytes) -> bytes:
    """Return a message's own bytes; a recorder may have compressed each by itself.

    No serialised message begins as zstd does: CDR starts with 0.

    Raises:
        BagError: the bytes do not unpack, or to more than `MAX_MESSAGE_BYTES`.
    """
    if not data.startswith(ZSTD_MAGIC):
        return data
    unpacker = zstd.ZstdDecompressor()
    try:
        plain = unpacker.decompress(data, MAX_MESSAGE_BYTES)
    except (zstd.ZstdError, MemoryError) as error:
        raise BagError(f"a compressed message does not unpack: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        state = "is truncated" if unpacker.needs_input else "is too large, or followed by other bytes"
        raise BagError(f"a compressed message of {len(data)} bytes {state}")
    return bytes(plain)
