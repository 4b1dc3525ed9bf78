"""Helpers for tests that talk to a real process over real DDS: a private domain each, ended by process id.

The test's own process is the camera and the reader of the node's results; the node is the other process. Both use the
package's own Fast DDS profile, as a robot would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sdstrack_ros.demo.domains import free_domain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
FASTDDS_PROFILE = ROOT / "config" / "fastdds.xml"
# Locks of the domains in use, which every child holds too: see `private_domain`.
_domain_locks: set[int] = set()


class ChildProcessFailure(AssertionError):  # noqa: N818  # it fails a test, as every assertion does
    """A process did not do what the test needs; the message carries the end of its output."""


@contextlib.contextmanager
def private_domain() -> Iterator[int]:
    """Yield a ROS_DOMAIN_ID that no other test and no `sdstrack demo` on this machine holds until the context ends.

    Children inherit the lock, so that a domain whose test was killed stays taken while a node of it still runs: a
    second node of the same name would answer the next test's requests.
    """
    with free_domain() as domain:
        _domain_locks.add(domain.lock.fileno())
        try:
            yield domain.number
        finally:
            _domain_locks.discard(domain.lock.fileno())


def ros_environment(domain: int, log_dir: Path, profile: Path | None = FASTDDS_PROFILE) -> dict[str, str]:
    """Environment of a process that talks only to its own test.

    Args:
        domain: ROS_DOMAIN_ID.
        log_dir: where rclpy writes its logs.
        profile: Fast DDS profile, or None for the middleware's defaults.
    """
    environment = dict(os.environ)
    environment.update(
        ROS_DOMAIN_ID=str(domain),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        ROS_LOG_DIR=str(log_dir),
        PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH", "")])),
        PYTHONUNBUFFERED="1",
        OMP_NUM_THREADS="1",
    )
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        environment.pop(name, None)
        if profile is not None and profile.is_file():
            environment[name] = str(profile)
    return environment


def start_process(command: Sequence[str], environment: dict[str, str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a child in the repository's root (`cwd` is another folder); it holds the locks of the domains in use."""
    options.setdefault("cwd", ROOT)
    return subprocess.Popen(list(command), env=environment, pass_fds=tuple(_domain_locks), **options)


@dataclass(slots=True)
class RosProcess:
    """A running process and the file that collects its output."""

    process: subprocess.Popen[bytes]
    log: Path
    stream: IO[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def output(self) -> str:
        """Everything it wrote to stdout and stderr so far."""
        return self.log.read_text(errors="replace")

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that it has used, those of the kernel for it included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def interrupt(self, timeout_s: float = 60.0) -> int:
        """Send SIGINT and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ChildProcessFailure(f"still running {timeout_s} s after SIGINT:\n{self.output[-4000:]}") from error

    def end(self) -> None:
        """End it: SIGINT, then SIGKILL. Does nothing when it has ended already."""
        for signal_number, patience_s in ((signal.SIGINT, 8.0), (signal.SIGKILL, 8.0)):
            if not self.alive():
                break
            self.process.send_signal(signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
        self.stream.close()


@contextlib.contextmanager
def ros_process(
    command: Sequence[str], environment: dict[str, str], log: Path, folder: Path = ROOT
) -> Iterator[RosProcess]:
    """Run a command in a folder until the context ends; its output goes to `log`."""
    with log.open("ab") as stream:
        process = start_process(command, environment, stdout=stream, stderr=subprocess.STDOUT, cwd=folder)
        running = RosProcess(process, log, stream)
        try:
            yield running
        finally:
            running.end()


def python_module(module: str, *arguments: str) -> list[str]:
    """Command line `python -m MODULE ARGUMENTS` of this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    what: str,
    step: Callable[[], object] | None = None,
    process: RosProcess | None = None,
) -> None:
    """Wait until `condition()` holds, calling `step` in between (default: sleep 10 ms).

    Raises:
        ChildProcessFailure: not within `timeout_s`, or `process` has ended; names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process is not None and not process.alive():
            raise ChildProcessFailure(f"process ended while waiting for {what}:\n{process.output[-4000:]}")
        if time.monotonic() > deadline:
            tail = f":\n{process.output[-4000:]}" if process is not None else ""
            raise ChildProcessFailure(f"not within {timeout_s} s: {what}{tail}")
        if step is None:
            time.sleep(0.01)
        else:
            step()
