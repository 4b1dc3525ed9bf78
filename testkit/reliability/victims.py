"""Commands that run in forked children, which a test watches, stops and kills while they write."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ckd_core.locks import LOCK_FILE
from sdstrack_ros.node.stopping import descendants


def locks_of(folder: Path) -> tuple[Path, Path]:
    """Where the lock of a folder may be: in it, or beside it while it is to appear whole."""
    return folder / LOCK_FILE, folder.with_name(f".{folder.name}.lock")


class Watch:
    """Reports each change of a forked command below a folder, and can stop the command just before one of them.

    A change is a file that is opened for writing, renamed, deleted, truncated or given another mode, as Python's audit
    events tell; what libraries write into the opened files comes in between. Lock files do not count.
    """

    CHANGES = ("open", "os.rename", "os.remove", "os.truncate", "os.chmod", "shutil.rmtree")

    def __init__(self, folder: Path, stop_before: int = 0) -> None:
        """Watch.

        Args:
            folder: That the command writes; hidden files beside it also belong to it.
            stop_before: The number of the change, from 1, before which the command stops (SIGSTOP); 0: it does not.

        """
        self.changes = 0
        self.unlocked: list[str] = []
        self._folder, self._stop_before = folder, stop_before
        self._places = tuple(map(str, (folder, *locks_of(folder.resolve()), folder.with_name(f".{folder.name}"))))
        self._read, self._write = os.pipe()

    def install(self) -> None:
        """In the child: begin to report."""
        os.close(self._read)
        sys.addaudithook(self._seen)

    def wait_for(self, changes: int) -> bool:
        """In the parent: whether the command gets so far before it ends."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1
        while self.changes < changes:
            line = self._line()
            if not line:
                return False
            self.changes += 1
            if line.startswith("unlocked "):
                self.unlocked.append(line)
        return True

    def close(self) -> None:
        """In the parent: forget the child."""
        os.close(self._read)

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._read, 1)
            if not byte:
                return ""
            line += byte
        return line.decode(errors="replace")

    def _seen(self, event: str, words: tuple[Any, ...]) -> None:
        if event not in self.CHANGES or (event == "open" and not int(words[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
            return
        place = os.fsdecode(words[0]) if isinstance(words[0], (str, bytes, os.PathLike)) else ""
        if not place.startswith(self._places) or place.endswith(".lock"):
            return
        self.changes += 1
        locked = any(f"process {os.getpid()} " in _text(lock) for lock in locks_of(self._folder))
        os.write(self._write, f"{'' if locked else 'unlocked '}{event} {place}\n".encode(errors="replace"))
        if self.changes == self._stop_before:
            os.kill(os.getpid(), signal.SIGSTOP)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def start(words: list[object], log: Path, file_bytes: int | None = None, watch: Watch | None = None) -> int:
    """Run a verb in a forked child, which has the imports of this process already; returns its process id.

    Args:
        words: The command line; NAME=VALUE before the verb goes into the environment, as in a shell.
        log: Takes what the child prints.
        file_bytes: No file may grow beyond it, as on a disk that is full.
        watch: Sees what the child changes.

    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        sys.stdout = sys.stderr = log.open("a", buffering=1)
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        if watch is not None:
            watch.install()
        sys.argv = ["sdstrack", *map(str, words)]
        while "=" in sys.argv[1]:
            name, _, value = sys.argv.pop(1).partition("=")
            os.environ[name] = value
        from sdstrack_ros import cli

        cli.main()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # a child never returns into the test
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(child: int) -> int:
    """The exit status of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int) -> int:
    """Send SIGKILL to a child; returns its exit status, which is another one where it had ended.

    Raises:
        AssertionError: A process that the child had started outlives it.

    """
    started = descendants(child)
    os.kill(child, signal.SIGKILL)
    status = wait(child)
    deadline = time.monotonic() + 60
    while alive := {process for process in started if Path(f"/proc/{process}").exists()}:
        assert time.monotonic() < deadline, f"processes {alive} go on after their parent {child} was killed"
        time.sleep(0.01)
    return status


def require_whole(folder: Path) -> None:
    """Check every file that is not hidden: what a dead process has left is whole."""
    from ckd_core.models.checkpoint import load_tensors
    from ckd_core.training.state_file import load_checkpoint

    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            (load_checkpoint if path.parent.name == "checkpoints" else load_tensors)(path)
        elif path.suffix == ".csv":
            with path.open(newline="") as stream:
                rows = list(csv.reader(stream))
            assert len({len(row) for row in rows}) == 1, path
        elif path.suffix == ".txt":
            assert path.read_text().endswith("\n"), path
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), path
        elif path.suffix == ".png":
            assert cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) is not None, path
        elif path.suffix == ".npy":
            np.load(path)
        elif path.suffix == ".mp4":
            assert cv2.VideoCapture(str(path)).read()[0], path
