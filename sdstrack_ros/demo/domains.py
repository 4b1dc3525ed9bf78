"""ROS domains of this machine that nobody is in."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DOMAIN_ID = 101  # higher domains collide with the ephemeral ports of Linux
# DDS gives every domain 250 ports from this one on: DDSI-RTPS 2.5, 9.6.2.4.
FIRST_PORT, PORTS_PER_DOMAIN = 7400, 250
SOCKET_TABLES = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


class Domain(NamedTuple):
    """A domain that is held.

    Attributes:
        number: what ROS_DOMAIN_ID has to be.
        lock: the file whose lock holds it. A child that inherits it holds the domain too.
    """

    number: int
    lock: IO[str]


@contextlib.contextmanager
def free_domain() -> Iterator[Domain]:
    """Hold a ROS domain until the context ends.

    Nobody else of this machine has taken it by this function, and no process has a port of it open: a robot that runs
    here, or a node that its test has left behind, keeps its own.

    Raises:
        TrackingError: all domains are in use.
    """
    start = os.getpid() % MAX_DOMAIN_ID
    for step in range(MAX_DOMAIN_ID):
        number = 1 + (start + step) % MAX_DOMAIN_ID
        lock = _lock_of(number)
        if lock is None:
            continue
        with lock:
            # Looked for under the lock: before it, somebody else's participant may be about to open them.
            if number not in domains_in_use():
                yield Domain(number, lock)
                return
    raise TrackingError(f"all {MAX_DOMAIN_ID} ROS domains of this machine are in use; end some ROS processes first")


def domains_in_use() -> set[int]:
    """Domains of which a process has a port open; empty where the system does not list its sockets."""
    ports: set[int] = set()
    for table in SOCKET_TABLES:
        with contextlib.suppress(OSError):
            lines = table.read_text().splitlines()[1:]
            ports.update(int(line.split()[1].rpartition(":")[2], 16) for line in lines)
    return {(port - FIRST_PORT) // PORTS_PER_DOMAIN for port in ports if port >= FIRST_PORT}


def _lock_of(number: int) -> IO[str] | None:
    """The locked file of a domain; None when somebody else has it, or when it is another user's file."""
    try:
        lock = (Path(tempfile.gettempdir()) / f"sdstrack_domain_{number}.lock").open("a")
    except PermissionError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock
