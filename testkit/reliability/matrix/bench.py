"""The node under test, its cameras and its observer: three processes over real DDS, in a domain of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckd_core.orphans import end_with_parent
from testkit.ros.camera import START_PATIENCE_S, RosTest, node_command, ros_test, stamp_of
from testkit.ros.processes import (
    ChildProcessFailure,
    RosProcess,
    private_domain,
    ros_environment,
    start_process,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NODE = "/tracker"


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of a process: resident memory [MB], file descriptors, threads, shared memory [MB]."""

    rss_mb: float
    fds: int
    threads: int
    shm_mb: float

    @classmethod
    def of(cls, pid: int) -> Resources:
        """Read them from /proc."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        kib = {name: int(status.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssFile", "RssShmem")}
        fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls((kib["RssAnon"] + kib["RssFile"]) / 1024, fds, int(status["Threads"]), kib["RssShmem"] / 1024)


class Camera:
    """The camera process and its commands."""

    def __init__(
        self, environment: dict[str, str], log: Path, arguments: tuple[str, ...], prefix: tuple[str, ...]
    ) -> None:
        self._command = [*prefix, sys.executable, "-m", "testkit.reliability.matrix.camera", *arguments]
        self._environment, self._log = environment, log
        self.rate_hz = 15.0
        self.base: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.left_behind: set[Path] = set()

    def start(self) -> None:
        """Start the process, a new one after a kill; it films at once."""
        with self._log.open("ab") as stream:
            self.process = start_process(
                self._command,
                self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                bufsize=0,  # so that `select` sees what `readline` has not read yet
                preexec_fn=partial(end_with_parent, os.getpid()),
            )
        self._read(START_PATIENCE_S)

    def set(self, **script: Any) -> dict[str, Any]:
        """Follow a script (see `camera.Script`); whatever it does not name is healthy. Returns the counts so far."""
        return self._ask({"set": {"rate_hz": self.rate_hz, **self.base, **script}})

    def report(self) -> dict[str, Any]:
        """Counts of the messages sent, and the last stamp."""
        return self._ask({"report": True})

    def kill(self) -> None:
        """Send SIGKILL: no other process is notified."""
        assert self.process is not None
        self.left_behind |= segments_of(self.process.pid)
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Close its input and wait; kill it if that is not enough."""
        if self.process is None:
            return
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(8)
        except subprocess.TimeoutExpired:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        return self._read(60.0)

    def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            line = self.process.stdout.readline() if readable else b""
            if not line:
                break
            # Fast DDS writes its complaints to stdout too.
            if line.startswith(b"{"):
                report: dict[str, Any] = json.loads(line)
                return report
        words = self._log.read_text()[-2000:]
        raise ChildProcessFailure(f"the camera process reported nothing within {timeout_s} s:\n{words}")


@dataclass
class Bench:
    """A running node, its cameras, and the messages of both."""

    ros: RosTest
    camera: Camera
    node: RosProcess
    environment: dict[str, str]
    command: list[str]
    folder: Path
    restart: Callable[[], RosProcess]
    left_behind: set[Path] = field(default_factory=set)
    aimed: bool = False

    def spin(self, seconds: float) -> None:
        """Handle callbacks for that many seconds."""
        self.ros.spin(seconds)

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Handle callbacks until the condition holds; fails when the node has ended."""
        wait_until(condition, timeout_s, what, lambda: self.ros.spin(0.02), self.node)

    # What the node says.

    def values(self, fresh: bool = True) -> dict[str, str]:
        """Values of the node's status; `fresh` waits for one that is sent after this call."""
        statuses = self.ros.messages[f"{NODE}/status"]
        if fresh:
            self.spin(0.1)  # what is on its way
            count = len(statuses)
            self.until(lambda: len(statuses) > count, 60, "a status message")
        return {pair.key: pair.value for pair in statuses[-1].values}

    def said_since(self, start: int) -> str:
        """Messages and values of all statuses from number `start` on, as one text."""
        lines = []
        for status in self.ros.messages[f"{NODE}/status"][start:]:
            lines.append(status.message)
            lines += [f"{pair.key}={pair.value}" for pair in status.values]
        return "\n".join(dict.fromkeys(lines))

    @property
    def statuses(self) -> int:
        """Number of status messages so far."""
        return len(self.ros.messages[f"{NODE}/status"])

    @property
    def answers(self) -> list[int]:
        """Stamps of the answers so far."""
        return [stamp_of(message) for message in self.ros.messages[f"{NODE}/detections"]]

    def healthy(self, timeout_s: float = 120.0) -> dict[str, str]:
        """Wait until results flow and colour pairs with the auxiliary camera again; returns the status values."""
        deadline = time.monotonic() + timeout_s
        before = self.values()
        while True:
            now = self.values()
            answered = number(now, "frames.answered") - number(before, "frames.answered")
            alone = number(now, "frames.degraded") - number(before, "frames.degraded")
            # On a busy machine a partner is late now and then.
            if now.get("lifecycle") == "active" and answered >= 3 and 5 * alone <= answered:
                return now
            if not self.node.alive() or time.monotonic() > deadline:
                raise ChildProcessFailure(f"the node did not recover: {now}\n{self.node.output[-3000:]}")
            before = now

    def aim(self, box: tuple[float, float, float, float]) -> bool:
        """Give the node a target where it has none, as after images of another size; returns whether it had none."""
        if self.ros.value("state") != "NONE":
            return False
        # Only a change starts a target, so the box grows and shrinks by a thousandth of a pixel.
        self.aimed = not self.aimed
        x, y, w, h = box
        assert self.ros.set_parameters(init_box=(x, y, w, h + 0.001 * (1 + self.aimed))).successful
        self.until(lambda: self.ros.value("state") != "NONE", 60, "a target")
        return True

    def resources(self) -> Resources:
        """Resources of the node's process."""
        return Resources.of(self.node.pid)

    def transition(self, transition: int) -> bool:
        """Request a lifecycle transition; returns whether it succeeded."""
        return self.ros.transition(transition)


def number(values: dict[str, str], key: str) -> int:
    """A counter of the status; 0 where it is not there yet."""
    return int(float(values.get(key, "0") or 0))


@contextlib.contextmanager
def bench(
    folder: Path,
    parameters: dict[str, Any],
    camera_arguments: tuple[str, ...] = (),
    module: str = "sdstrack_ros.node.tracker_node",
    prefix: tuple[str, ...] = (),
    wait: bool = True,
    rate_hz: float = 15.0,
    extra_environment: dict[str, str] | None = None,
    healthy_script: dict[str, Any] | None = None,
) -> Iterator[Bench]:
    """Start node and cameras and, unless `wait` is off, wait until they are healthy.

    Args:
        folder: for logs, and the weights that rows may delete.
        parameters: of the node.
        camera_arguments: command line of the camera process.
        module: the node's.
        prefix: words before both command lines.
        wait: whether to wait until the node is healthy.
        rate_hz: of the cameras.
        extra_environment: variables of both processes.
        healthy_script: what the cameras do without a fault.
    """
    with private_domain() as domain:
        environment = {**ros_environment(domain, folder), **(extra_environment or {})}

        def python(_: str, *arguments: str) -> list[str]:
            return [*prefix, sys.executable, "-m", module, *arguments]

        command = node_command(parameters, python)
        running: list[RosProcess] = []

        def start() -> RosProcess:
            stream = (folder / "node.log").open("ab")
            process = start_process(
                command,
                environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(end_with_parent, os.getpid()),  # a soak that is killed leaves no node
            )
            running.append(RosProcess(process, folder / "node.log", stream))
            return running[-1]

        camera = Camera(environment, folder / "camera.log", camera_arguments, prefix)
        camera.rate_hz = rate_hz
        camera.base = healthy_script or {}
        running_bench: Bench | None = None
        try:
            with ros_test(domain, environment) as ros:
                ros.listen_to_node()
                node = start()
                camera.start()
                camera.set()
                running_bench = Bench(ros, camera, node, environment, command, folder, start)
                if wait:
                    running_bench.until(lambda: ros.value("lifecycle") == "active", START_PATIENCE_S, "an active node")
                    running_bench.healthy()
                yield running_bench
        finally:
            alive = [process.pid for process in running if process.alive()]
            segments = set.union(camera.left_behind, *map(segments_of, alive))
            camera.end()
            for process in running:
                process.end()
            # Everything that could use it has ended: the domain was ours alone.
            for path in segments | (running_bench.left_behind if running_bench is not None else set()):
                path.unlink(missing_ok=True)


def segments_of(pid: int) -> set[Path]:
    """Shared-memory files of Fast DDS that a process has open."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return {Path(line.split(maxsplit=5)[5]) for line in lines if re.search("/dev/shm/fast(rtps|dds)_", line)}
    return set()


def sigkill(process: RosProcess) -> set[Path]:
    """Send SIGKILL to a process; returns the shared-memory files that it leaves behind."""
    segments = segments_of(process.pid)
    process.process.send_signal(signal.SIGKILL)
    process.process.wait(10)
    return segments
