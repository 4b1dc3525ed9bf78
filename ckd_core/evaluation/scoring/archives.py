"""Text files of a folder or an archive."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.files import regular
from ckd_core.text import MAX_REASON, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
_TEXT = (".txt", ".value", ".csv", ".tag")
_BINARY = (".bin",)  # what the VOT toolkit writes by default
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MAX_TEXT_BYTES = 1 << 26  # 64 MiB: a million boxes; an archive that unpacks to more does not hold results
MAX_TOTAL_BYTES = 1 << 28  # of all text files together; the largest published results have a tenth of that
MAX_UNPACKED_BYTES = 1 << 32  # of all members of a tar, which have to be unpacked to be passed over


class ResultsError(TrackingError):
    """Raw results or annotations that cannot be read."""


def is_archive(path: Path) -> bool:
    """Whether `read_texts` opens a file of this name as an archive."""
    return path.name.lower().endswith(ARCHIVES)


def stem_of(path: Path) -> str:
    """Name of a folder or archive without the archive's suffix."""
    for suffix in ARCHIVES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def read_texts(path: Path, wanted: Callable[[PurePosixPath], bool] = lambda _: True) -> dict[PurePosixPath, str]:
    """Text files below a folder or inside an archive, by relative path.

    Args:
        path: The folder or archive.
        wanted: Whether to read a file; others stay unread.

    Raises:
        ResultsError: The folder or archive cannot be read, a file in it is not text, or it holds more than results do.
    """
    texts: dict[PurePosixPath, str] = {}
    for name, data in _read(path, wanted, _TEXT):
        try:
            texts[name] = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ResultsError(f"{name} in {path} is not text: {error}") from error
    return texts


def read_binaries(path: Path, wanted: Callable[[PurePosixPath], bool] = lambda _: True) -> dict[PurePosixPath, bytes]:
    """The VOT toolkit's binary files (.bin) below a folder or inside an archive; otherwise as `read_texts`."""
    return dict(_read(path, wanted, _BINARY))


def _read(
    path: Path, wanted: Callable[[PurePosixPath], bool], suffixes: tuple[str, ...]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        yield from _members(path, wanted, suffixes)
    except (OSError, EOFError, ValueError, RuntimeError, tarfile.TarError, *_DAMAGED) as error:
        # RuntimeError: members that are encrypted, or compressed in a way that Python does not know.
        raise ResultsError(f"cannot read {path}: {shown(error, MAX_REASON)}") from error


def _holds_results(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file holds results by its name; hidden ones do not, such as the companions `._NAME` of macOS."""
    return name.endswith(suffixes) and not PurePosixPath(name).name.startswith(".")


def _members(
    path: Path, wanted: Callable[[PurePosixPath], bool], suffixes: tuple[str, ...]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    texts = _Sum(path, "text files", MAX_TOTAL_BYTES)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = PurePosixPath(file.relative_to(path).as_posix())
            if _holds_results(file.name, suffixes) and file.is_file() and wanted(name):
                _check_size(path, str(name), file.stat().st_size)
                texts.add(file.stat().st_size)
                yield name, file.read_bytes()
    elif path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(regular(path)) as archive:
            infos = [info for info in archive.infolist() if _holds_results(info.filename, suffixes)]
            for info in infos:
                _check_size(path, info.filename, info.file_size)
                texts.add(info.file_size)
            for info in infos:
                if wanted(PurePosixPath(info.filename)):
                    yield PurePosixPath(info.filename), archive.read(info)
    elif path.is_file() and is_archive(path):
        everything = _Sum(path, "files", MAX_UNPACKED_BYTES)
        with tarfile.open(path) as bundle:
            for member in bundle:
                text = member.isfile() and _holds_results(member.name, suffixes)
                if text:
                    _check_size(path, member.name, member.size)
                    texts.add(member.size)
                everything.add(member.size)
                name = PurePosixPath(member.name)
                stream = bundle.extractfile(member) if text and wanted(name) else None
                if stream is not None:
                    yield name, stream.read()
    else:
        raise ResultsError(f"{path} is neither a folder nor one of {', '.join(ARCHIVES)}")


class _Sum:
    """Adds up what an archive unpacks to, and refuses it before more than `limit` bytes are read."""

    def __init__(self, path: Path, what: str, limit: int) -> None:
        self._path, self._what, self._limit, self._total = path, what, limit, 0

    def add(self, size: int) -> None:
        self._total += size
        if self._total > self._limit:
            raise ResultsError(
                f"the {self._what} in {self._path} unpack to {self._total} bytes or more; expected at most "
                f"{self._limit}"
            )


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_TEXT_BYTES:
        name = shown(name)
        raise ResultsError(f"{name} in {path} unpacks to {size} bytes; a box file has at most {MAX_TEXT_BYTES}")
