"""Files that are whole or absent: written beside their place, then renamed."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@contextmanager
def atomic_path(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name beside its place; it appears, whole, when the block ends without an error.

    The temporary file exists and is empty when the block begins; the block may write or replace it. An error, or a
    crash, leaves what `path` held before. Folders are created as needed; the mode follows the umask.

    Args:
        path: The file to write.
        sync: Flush the data to the disk before the rename, so that a power failure cannot leave an empty file.

    Yields:
        The temporary path: hidden, with the suffix of `path` (some writers choose the format by it).

    Raises:
        OSError: The folder or the file cannot be written.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        yield temporary
        if sync:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        temporary.chmod(mode)  # safetensors replaces the file by one that only its owner can read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def regular(path: Path) -> Path:
    """The path of a file that is to be read to its end: a pipe may block for ever there, and a device may have none.

    Raises:
        OSError: It is neither a regular file nor a folder, or it is not there.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device; expected a regular file", str(path))
    return path


def discard(paths: Iterable[Path]) -> None:
    """Delete the files of an earlier call just before those of this one are written, in the order of their names.

    Whatever a command that is killed after that leaves is of one call: never a table beside another call's figure.
    """
    for path in sorted(paths):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, line ends as they are in it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def finite(value: Any) -> Any:
    """The same JSON value with nan and infinity, which JSON does not have, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def write_json(path: Path, value: object) -> None:
    """Write standard JSON atomically; nan becomes null."""
    write_text(path, json.dumps(finite(value), indent=1, allow_nan=False) + "\n")
