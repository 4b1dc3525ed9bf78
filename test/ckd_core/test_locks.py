"""One command at a time writes into a folder; a dead process holds nothing."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckd_core.locks import LOCK_FILE, LockError, folder_lock, new_folder_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from ckd_core import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2]), "sdstrack other"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(kind: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, kind, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.communicate()


def test_the_second_process_says_who_writes_and_may_write_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    with held_elsewhere("folder_lock", folder) as holder:
        wanted = rf"runs/a is being written by sdstrack other \(process {holder.pid} on .*, since 20\d\d-.*\); wait for"
        with pytest.raises(LockError, match=wanted), folder_lock(folder, "sdstrack benchmark"):
            pass
    with folder_lock(folder, "sdstrack benchmark"):
        assert (folder / LOCK_FILE).read_text().startswith(f"sdstrack benchmark (process {os.getpid()} on ")
    assert not (tmp_path / "runs").exists(), "nothing was written, nothing stays"
    with folder_lock(folder, "sdstrack benchmark"):
        (folder / "score.json").write_text("{}")
    assert [path.name for path in folder.iterdir()] == ["score.json"]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    with held_elsewhere("folder_lock", tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / LOCK_FILE).exists()
        with folder_lock(tmp_path, "sdstrack train"):
            assert "sdstrack train" in (tmp_path / LOCK_FILE).read_text()


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    script = HOLD.replace(
        "sys.stdin.read()", "import os, time\n    os.fork() or (time.sleep(60), os._exit(0))\n    sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, "folder_lock", str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == "held\n"
        child = wait_for_child(parent.pid)
        parent.kill()
        parent.wait()
        assert Path(f"/proc/{child}").exists()
        with folder_lock(tmp_path, "sdstrack train"):
            pass
        os.kill(child, signal.SIGKILL)


def wait_for_child(pid: int) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            time.sleep(0.2)  # the handler of the fork runs in the child
            return int(children[0])
        time.sleep(0.01)
    raise AssertionError("no child")


@pytest.mark.parametrize("second", [folder_lock, new_folder_lock])
def test_a_folder_that_is_to_appear_whole_is_locked_beside_its_place(tmp_path: Path, second: object) -> None:
    folder = tmp_path / "export"
    with held_elsewhere("new_folder_lock", folder) as holder:
        with pytest.raises(LockError, match="is being written by sdstrack other"), second(folder, "x"):  # type: ignore[operator]
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with second(folder, "x"):  # type: ignore[operator]
            pass
    assert [path.name for path in tmp_path.iterdir()] in ([], ["export"])


def test_a_process_may_ask_for_a_lock_that_it_holds(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "outer"):
        with folder_lock(tmp_path / ".." / tmp_path.name, "inner"):
            pass
        assert (tmp_path / LOCK_FILE).read_text().startswith("outer")
        words = [sys.executable, "-c", HOLD, "folder_lock", str(tmp_path)]
        done = subprocess.run(words, input="", capture_output=True, text=True, check=False, cwd=ROOT)
        assert "is being written by outer" in done.stderr, "the inner block has not let go of it"


@pytest.mark.parametrize("lock", [folder_lock, new_folder_lock])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, lock: object) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match=r"file.* cannot be (made|written): "), lock(tmp_path / "file" / "x", "a"):  # type: ignore[operator]
        pass


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "precious")
    with pytest.raises(LockError, match="cannot be written"), folder_lock(tmp_path, "a"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with folder_lock(tmp_path / "new", "a"):
            assert stat.S_IMODE((tmp_path / "new" / LOCK_FILE).stat().st_mode) == 0o600
    finally:
        os.umask(before)
