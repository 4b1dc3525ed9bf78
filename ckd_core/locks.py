"""Advisory locks: one command at a time writes into a folder; a dead process holds none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = ".sdstrack.lock"
MAX_HOLDER = 300
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_TAKEN = {errno.EAGAIN, errno.EACCES}

logger = logging.getLogger(__name__)
# File descriptors of the locks that this process holds, by path.
_held: dict[Path, int] = {}


def _let_go_in_child() -> None:
    """A forked child holds its parent's locks as long as it has the files open, even when the parent has died."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class LockError(TrackingError):
    """A folder that another process writes into, or in which no lock can be made."""


@contextmanager
def folder_lock(folder: Path, command: str) -> Iterator[None]:
    """Hold the lock of a folder while a command writes into it; see `file_lock`.

    The folder is created as needed, and goes again where nothing was written into it.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LockError(f"{shown(folder, MAX_HOLDER)} cannot be made: {error.strerror}") from error
    try:
        beside = _beside(folder)
        if beside.exists():  # of a command that is about to put a whole folder here, or left behind
            with file_lock(beside, folder, command):
                pass
        with file_lock(folder / LOCK_FILE, folder, command):
            yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            for path in created:
                path.rmdir()


@contextmanager
def new_folder_lock(folder: Path, command: str) -> Iterator[None]:
    """Hold the lock of a folder that appears whole at the end; `folder_lock` respects it. See `file_lock`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LockError(f"{shown(folder.parent, MAX_HOLDER)} cannot be made: {error.strerror}") from error
    inside = folder / LOCK_FILE
    if inside.exists():
        with file_lock(inside, folder, command):
            pass
    with file_lock(_beside(folder), folder, command):
        yield


@contextmanager
def file_lock(path: Path, guarded: Path, command: str) -> Iterator[None]:
    """Hold a lock until the block ends; within a process it may be asked for again.

    The system lets go of it when the process dies, however that happens, so a file that was left behind is taken over.

    Args:
        path: The lock's file; deleted at the end.
        guarded: What is written, for the message.
        command: Who writes, for the message that others get.

    Raises:
        LockError: Another process holds it (the message says which), or the file cannot be made.
    """
    place = path.parent.resolve() / path.name
    if place in _held:
        yield
        return
    handle = _acquire(place, guarded)
    try:
        _held[place] = handle
        os.truncate(handle, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.write(handle, f"{command} (process {os.getpid()} on {os.uname().nodename}, since {since})".encode())
        yield
    finally:
        if _held.pop(place, None) is not None:  # not in a forked child that leaves the block
            place.unlink(missing_ok=True)  # before the lock goes: whoever opened it then sees that it is another file
            os.close(handle)


def _beside(folder: Path) -> Path:
    place = folder.resolve()
    return place.with_name(f".{place.name}.lock")


def _acquire(place: Path, guarded: Path) -> int:
    while True:
        try:
            handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise LockError(f"{shown(guarded, MAX_HOLDER)} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(place, handle):
                return handle
        except OSError as error:
            if error.errno in _NO_LOCKS:
                logger.warning("%s: this file system has no locks; run one command at a time", shown(guarded))
                return handle
            holder = shown(os.read(handle, MAX_HOLDER).decode(errors="replace") or "another process", MAX_HOLDER)
            os.close(handle)
            if error.errno not in _TAKEN:
                raise LockError(f"{shown(guarded, MAX_HOLDER)} cannot be locked: {error.strerror}") from error
            raise LockError(
                f"{shown(guarded, MAX_HOLDER)} is being written by {holder}; wait for it, or choose another place"
            ) from error
        os.close(handle)


def _is_still(place: Path, handle: int) -> bool:
    """Whether the locked file is the one in the folder, and not one that its holder has just deleted."""
    try:
        return os.path.samestat(place.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
