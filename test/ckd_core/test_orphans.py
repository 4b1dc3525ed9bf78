"""Worker processes end with the process that started them, even when that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from ckd_core.orphans import end_with_parent
if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid() + {off},))
    try:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(600)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


def started(tmp_path: Path, off: int) -> tuple[subprocess.Popen[str], str]:
    """A process with a worker, and the first line that it prints."""
    script = tmp_path / "pool.py"
    script.write_text(POOL.format(off=off))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, parent.stdout.readline().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent, worker = started(tmp_path, 0)
    assert Path(f"/proc/{worker}").exists()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline, f"worker {worker} outlives its parent"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_worker_whose_parent_is_dead_already_does_not_begin(tmp_path: Path) -> None:
    parent, said = started(tmp_path, 1)
    assert said == "BrokenProcessPool"
    parent.communicate()
