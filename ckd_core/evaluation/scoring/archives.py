"""Text files of a folder or an archive."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
_TEXT = (".txt", ".value", ".csv")
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MAX_TEXT_BYTES = 1 << 26  # 64 MiB: a million boxes; an archive that unpacks to more does not hold results


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


def read_texts(path: Path) -> dict[PurePosixPath, str]:
    """All text files below a folder or inside an archive, by relative path.

    Raises:
        ResultsError: The folder or archive cannot be read, or a file in it is not text.
    """
    try:
        return {name: data.decode("utf-8-sig") for name, data in _members(path)}
    except UnicodeDecodeError as error:
        raise ResultsError(f"a file in {path} is not text: {error}") from error
    except (OSError, EOFError, ValueError, RuntimeError, tarfile.TarError, *_DAMAGED) as error:
        # RuntimeError: members that are encrypted, or compressed in a way that Python does not know.
        raise ResultsError(f"cannot read {path}: {error}") from error


def _members(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in _TEXT and file.is_file():
                yield PurePosixPath(file.relative_to(path).as_posix()), file.read_bytes()
    elif path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(_TEXT):
                    _check_size(path, name, archive.getinfo(name).file_size)
                    yield PurePosixPath(name), archive.read(name)
    elif path.is_file() and is_archive(path):
        with tarfile.open(path) as bundle:
            for member in bundle:
                stream = bundle.extractfile(member) if member.isfile() and member.name.endswith(_TEXT) else None
                if stream is not None:
                    _check_size(path, member.name, member.size)
                    yield PurePosixPath(member.name), stream.read()
    else:
        raise ResultsError(f"{path} is neither a folder nor one of {', '.join(ARCHIVES)}")


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_TEXT_BYTES:
        raise ResultsError(f"{name} in {path} unpacks to {size} bytes; a box file has at most {MAX_TEXT_BYTES}")
