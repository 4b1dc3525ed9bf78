"""Two commands in one folder, and commands that are killed while they write: nothing mixed, nothing half."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ckd_core.models.registry  # noqa: F401  # the children are forked with these imports
import sdstrack_ros.cli  # noqa: F401
from ckd_core.locks import folder_lock
from ckd_core.models.checkpoint import load_tensors
from testkit.reliability.lengths import LONG, record
from testkit.reliability.matrix.outcome import Outcome, finish
from testkit.reliability.writers import (
    BY_NAME,
    WRITERS,
    Material,
    Writer,
    features_recipe,
    locks_of,
    require_whole,
    start,
    until_it_writes,
    wait,
    write_material,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(3000)
# Killed so often each; the normal form tries few commands.
KILLS = 50 if LONG else 3
SHORT = ("benchmark", "export")
CHOSEN = [writer for writer in WRITERS if LONG or writer.name in SHORT]
# Every command as the second: those above, and those that need material of their own to get far.
SECOND = [writer.name for writer in WRITERS] + ["demo", "label", "cache"]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return write_material(tmp_path_factory.mktemp("material"))


def prepared(writer: Writer, folder: Path, material: Material, log: Path) -> Path:
    """The folder as the writer needs it."""
    if writer.needs:
        earlier = BY_NAME[writer.needs]
        prepared(earlier, folder, material, log)
        assert wait(start(earlier.words(folder, material), log)) == 0, log.read_text()[-3000:]
    return folder


@contextmanager
def stopped_while_it_writes(writer: Writer, folder: Path, material: Material, log: Path) -> Iterator[int]:
    """A command that has been stopped in the middle of its work."""
    for _ in range(20):
        child = start(writer.words(folder, material), log)
        if until_it_writes(child, folder):
            os.kill(child, signal.SIGSTOP)
            if any(lock.exists() for lock in locks_of(folder)):
                break
            os.kill(child, signal.SIGCONT)
        assert wait(child) == 0, log.read_text()[-3000:]
    else:
        raise AssertionError(f"{writer.name} was never seen writing")
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        wait(child)


def second_words(name: str, folder: Path, material: Material) -> list[object]:
    if name in BY_NAME:
        return BY_NAME[name].words(folder, material)
    if name == "demo":
        return ["demo", "--modality", folder.name, "--out", folder.parent]
    recipe = features_recipe(folder, material)
    return [name, recipe, "--teacher", "nowhere"] if name == "label" else [name, recipe]


@pytest.mark.parametrize("first", CHOSEN, ids=lambda writer: writer.name)
def test_no_command_writes_where_another_does(first: Writer, material: Material, tmp_path: Path) -> None:
    folder, log = tmp_path / "rgbt", tmp_path / "log"
    prepared(first, folder, material, log)
    refusals, problems = {}, []
    with stopped_while_it_writes(first, folder, material, log) as child:
        holder = f"is being written by sdstrack {first.name} (process {child} on "
        for name in SECOND:
            before = log.stat().st_size
            status = wait(start(second_words(name, folder, material), log))
            said = log.read_bytes()[before:].decode()
            refusals[name] = status == 1 and holder in said
            if not folder.joinpath("checkpoints").exists() and name in ("choose", "ship"):
                refusals[name] = status == 1 and "error: " in said  # there is nothing yet to choose or to ship
            if folder.exists() and name == "export":
                refusals[name] = status == 1 and ("exists; give a new folder" in said or holder in said)
            problems += [] if refusals[name] else [f"{name}, status {status}: {said[-1500:]}"]
    assert not problems, "\n".join(problems)
    record("locks", first.name, {"first": first.name, **dict.fromkeys(refusals, "refused")})
    with folder_lock(folder, "the next one"):  # the lock of the dead one is taken over
        pass


def test_of_two_runs_started_together_one_writes_and_one_says_who_does(material: Material, tmp_path: Path) -> None:
    folder, log = tmp_path / "out", tmp_path / "log"
    words = BY_NAME["benchmark"].words(folder, material)
    children = {
        engine: start([engine if word == "torch/fp32" else word for word in words], log.with_suffix(f".{number}"))
        for number, engine in enumerate(("torch/fp32", "torch/bf16"))
    }
    status = {engine: wait(child) for engine, child in children.items()}
    assert sorted(status.values()) == [0, 1], status
    winner = next(engine for engine, code in status.items() if code == 0)
    said = log.with_suffix(f".{int(winner == 'torch/fp32')}").read_text()
    holder = f"is being written by sdstrack benchmark (process {children[winner]} on "
    assert holder in said or "holds another run (differs in tracker)" in said, "together, or one just after the other"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["run"]["tracker"]["engine"] == winner
    require_whole(folder)
    outcome = Outcome("two benchmarks started together in one folder", stayed_up=True)
    outcome.shown = "is being written by sdstrack benchmark"
    finish("matrix", "two runs", outcome)


@pytest.mark.parametrize("writer", CHOSEN, ids=lambda writer: writer.name)
def test_a_full_disk_is_one_sentence_and_nothing_half(writer: Writer, material: Material, tmp_path: Path) -> None:
    log = tmp_path / "log"
    folder = prepared(writer, tmp_path / "out", material, tmp_path / "before")
    assert wait(start(writer.words(folder, material), log, file_bytes=4000)) == 1
    said = log.read_text()
    assert said.splitlines()[-1].startswith("error: "), said
    assert "Traceback" not in said
    if folder.exists():
        require_whole(folder)
        assert not [path for path in folder.rglob(".*") if path.is_file()], "no temporary file stays"


@pytest.mark.parametrize("writer", CHOSEN, ids=lambda writer: writer.name)
def test_what_a_killed_command_leaves_is_whole_and_the_next_call_goes_on(
    writer: Writer, material: Material, tmp_path: Path
) -> None:
    log, seed = tmp_path / "log", random.Random(5)
    lasts = min(
        undisturbed(writer, prepared(writer, tmp_path / name / "out", material, log), material, log)
        for name in ("first", "whole")
    )
    whole = tmp_path / "whole" / "out"
    expected = {name: content(whole / name) for name in writer.decisive}
    names = visible(whole)
    killed = left = 0
    for number in range(KILLS):
        share = (number + seed.random()) / KILLS  # spread over the writing
        for attempt in range(8):  # the machine is not equally fast all the time
            folder = prepared(writer, tmp_path / f"{number}_{attempt}" / "out", material, log)
            child = start(writer.words(folder, material), log)
            until_it_writes(child, folder)
            time.sleep(lasts * share * 0.7**attempt)
            os.kill(child, signal.SIGKILL)
            if wait(child) == -signal.SIGKILL:
                killed += 1
                break
        if folder.exists():
            require_whole(folder)
            left += bool(visible(folder))
        if not (writer.name == "export" and folder.exists()):
            assert wait(start(writer.words(folder, material), log)) == 0, log.read_text()[-3000:]
        require_whole(folder)
        assert visible(folder) == names
        for name, wanted in expected.items():
            assert content(folder / name) == wanted, f"{name} after kill {number}"
    record("kills", writer.name, {"command": writer.name, "killed": killed, "files were there": left, "mixed": 0})
    assert killed == KILLS


def undisturbed(writer: Writer, folder: Path, material: Material, log: Path) -> float:
    """Seconds for which a command writes."""
    child = start(writer.words(folder, material), log)
    until_it_writes(child, folder)
    begin = time.monotonic()
    assert wait(child) == 0, log.read_text()[-3000:]
    return time.monotonic() - begin


def content(path: Path) -> bytes:
    """Bytes of a file; of weights their checksum, because safetensors writes metadata in any order."""
    return load_tensors(path)[1].sha256.encode() if path.suffix == ".safetensors" else path.read_bytes()


def visible(folder: Path) -> list[str]:
    """Files of a folder that are not hidden; each call has event files of its own for TensorBoard."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name)
    return sorted(str(path) for path in paths if not any(part.startswith(".") for part in path.parts))
