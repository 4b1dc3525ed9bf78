"""Two commands in one folder, and commands that are killed while they write: nothing mixed, nothing half."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckd_core.locks import folder_lock
from ckd_core.models.checkpoint import load_tensors
from testkit.reliability.lengths import LONG, record, recorded
from testkit.reliability.matrix.outcome import Outcome, finish
from testkit.reliability.victims import Watch, kill, locks_of, require_whole, start, wait
from testkit.reliability.writers import BY_NAME, WRITERS, Material, Writer, preload, write_material

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(20_000 if LONG else 3000)
# Killed so often each; the normal form tries few commands.
KILLS = int(os.environ.get("SDSTRACK_KILLS", "50" if LONG else "3"))
# The kills' order: those that were done before the test was stopped are spread over the writing as well.
SPREAD = random.Random(5).sample(range(KILLS), KILLS)
SHORT = ("benchmark", "export")


def chosen(*names: str) -> list[object]:
    """These writers, all of them in the long form."""
    marks = {"label": [pytest.mark.shared], "demo": [pytest.mark.ros]}
    return [
        pytest.param(writer, id=writer.name, marks=marks.get(writer.name, []))
        for writer in WRITERS
        if LONG or writer.name in names
    ]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Material:
    preload()
    teacher = shared_data / "baselines" / "nanotrack" / "nanotrackv2"
    return write_material(tmp_path_factory.mktemp("material"), teacher)


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
    watch = Watch(folder, stop_before=2)
    child = start(writer.words(folder, material), log, watch=watch)
    try:
        assert watch.wait_for(2), log.read_text()[-3000:]
        yield child
    finally:
        kill(child)
        watch.close()


@pytest.mark.parametrize("first", chosen(*SHORT))
def test_no_command_writes_where_another_does(first: Writer, material: Material, tmp_path: Path) -> None:
    folder, log = tmp_path / "a", tmp_path / "log"
    prepared(first, folder, material, log)
    refusals, problems = {}, []
    with stopped_while_it_writes(first, folder, material, log) as child:
        holder = f"is being written by sdstrack {first.name} (process {child} on "
        for second in WRITERS:
            before = log.stat().st_size
            status = wait(start(second.words(folder, material), log))
            said = log.read_bytes()[before:].decode()
            refusals[second.name] = "refused" if status == 1 and holder in said else ""
            if second.reads and not list(folder.glob(second.reads)):
                refusals[second.name] = "nothing to read" if status == 1 and "error: " in said else ""
            if folder.exists() and second.new and "new folder" in said:
                refusals[second.name] = "exists" if status == 1 else ""
            problems += [] if refusals[second.name] else [f"{second.name}, status {status}: {said[-1500:]}"]
    assert not problems, "\n".join(problems)
    record("locks", first.name, {"first": first.name, **refusals})
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


@pytest.mark.parametrize("writer", chosen(*SHORT))
def test_a_full_disk_is_one_sentence_and_nothing_half(writer: Writer, material: Material, tmp_path: Path) -> None:
    log = tmp_path / "log"
    folder = prepared(writer, tmp_path / "a", material, tmp_path / "before")
    room = 100 if writer.name in ("label", "vot") else 4000  # they write little
    assert wait(start(writer.words(folder, material), log, file_bytes=room)) == 1
    said = log.read_text()
    assert said.splitlines()[-1].startswith("error: "), said
    assert "Traceback" not in said
    if folder.exists():
        require_whole(folder)
        assert not [path for path in folder.rglob(".*") if path.is_file()], "no temporary file stays"


@pytest.mark.parametrize("place", ["where nobody may write", "a file"])
@pytest.mark.parametrize("writer", chosen(*SHORT))
def test_a_place_that_cannot_be_written_is_one_sentence(
    writer: Writer, place: str, material: Material, tmp_path: Path
) -> None:
    folder, log = Path("/sys/sdstrack/a"), tmp_path / "log"  # not by root either
    if place == "a file":
        folder = tmp_path / "a"
        folder.write_text("mine")
    assert wait(start(writer.words(folder, material), log)) == 1
    said = log.read_text()
    assert "error: " in said, said
    assert "Traceback" not in said, said
    assert place != "a file" or folder.read_text() == "mine"


@pytest.mark.parametrize("writer", chosen(*SHORT))
def test_what_a_killed_command_leaves_is_whole_and_the_next_call_goes_on(
    writer: Writer, material: Material, tmp_path: Path
) -> None:
    log, seed = tmp_path / "log", random.Random()
    template = prepared(writer, tmp_path / "template" / "a", material, log)
    whole = copied(template, tmp_path / "whole")
    changes, lasts_s = undisturbed(writer, whole, material, log)
    expected = {name: content(whole / name) for name in writer.decisive}
    names = visible(whole)
    row = {"killed": 0, "changes of files": changes, "new files left, all whole": 0, "hidden files left": 0, "mixed": 0}
    row |= recorded("kills", writer.name)
    for number in SPREAD[int(row["killed"]) :]:
        folder = copied(template, tmp_path / str(number))
        before = visible(folder)
        at = 1 + int((number + seed.random()) / KILLS * changes)  # spread over the writing
        # Every second one dies just before a change, the others somewhere between it and the next ones.
        later_s = number % 2 * seed.random() * 2 * lasts_s / changes
        assert killed_at(writer, folder, material, log, at, later_s)
        row["killed"] += 1
        if folder.exists():
            require_whole(folder)
            row["new files left, all whole"] += visible(folder) != before
            row["hidden files left"] += any(path.is_file() and path.name.startswith(".") for path in folder.rglob("*")
                                            if path not in locks_of(folder))  # fmt: skip
        if not (writer.new and folder.exists()):
            assert wait(start(writer.words(folder, material), log)) == 0, log.read_text()[-3000:]
        require_whole(folder)
        assert visible(folder) == names
        for name, wanted in expected.items():
            assert content(folder / name) == wanted, f"{name} after kill {number}"
        shutil.rmtree(folder.parent)
        record("kills", writer.name, {"command": writer.name, **row})


@pytest.mark.parametrize("writer", [param for param in chosen("figure", "evaluate") if param.values[0].replaces])
def test_what_a_killed_command_leaves_is_of_one_call_alone(writer: Writer, material: Material, tmp_path: Path) -> None:
    log, seed = tmp_path / "log", random.Random()
    template = prepared(writer, tmp_path / "template" / "a", material, log)
    given = visible(template)
    changes, _ = undisturbed(writer, template, material, log)
    for number in SPREAD:
        folder = copied(template, tmp_path / str(number))
        begin_ns = time.time_ns()
        at = 1 + int((number + seed.random()) / KILLS * changes)
        assert killed_at(writer, folder, material, log, at, 0.0)
        files = [folder / name for name in visible(folder) if name not in given and "recording/" not in name]
        new = {path.name: path.stat().st_mtime_ns > begin_ns for path in files}
        assert len(set(new.values())) <= 1, f"files of two calls before change {at} of {changes}: {new}"
        shutil.rmtree(folder.parent)


def killed_at(writer: Writer, folder: Path, material: Material, log: Path, at: int, later_s: float) -> bool:
    """Kill a command some seconds after it has begun a change, or just before that."""
    while at > 0:
        watch = Watch(folder, stop_before=0 if later_s else at)
        child = start(writer.words(folder, material), log, watch=watch)
        reached = watch.wait_for(at)
        if reached:
            time.sleep(later_s)
        status = kill(child)
        watch.close()
        assert not watch.unlocked, watch.unlocked
        if status < 0:
            return True
        assert status == 0, log.read_text()[-3000:]
        shutil.rmtree(folder, ignore_errors=True)  # it was faster than thought: once more, a moment earlier
        if (folder.parents[1] / "template" / "a").exists():
            shutil.copytree(folder.parents[1] / "template" / "a", folder)
        at, later_s = at if later_s else at - 1, 0.0
    return False


def undisturbed(writer: Writer, folder: Path, material: Material, log: Path) -> tuple[int, float]:
    """How many changes a command makes, and for how many seconds."""
    watch = Watch(folder)
    child = start(writer.words(folder, material), log, watch=watch)
    assert watch.wait_for(1), log.read_text()[-3000:]
    begin = time.monotonic()
    while watch.wait_for(watch.changes + 1):
        continue
    lasts_s = time.monotonic() - begin
    assert wait(child) == 0, log.read_text()[-3000:]
    watch.close()
    assert not watch.unlocked, watch.unlocked
    return watch.changes, lasts_s


def copied(template: Path, parent: Path) -> Path:
    """A folder, whose files keep their times, to write into, as the template is; it is not there where that is not."""
    folder = parent / "a"
    parent.mkdir()
    if template.exists():
        shutil.copytree(template, folder)
    return folder


def content(path: Path) -> bytes:
    """Bytes of a file; of weights their checksum, because safetensors writes metadata in any order."""
    return load_tensors(path)[1].sha256.encode() if path.suffix == ".safetensors" else path.read_bytes()


def visible(folder: Path) -> list[str]:
    """Files of a folder that are not hidden; each call has event files of its own for TensorBoard."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name)
    return sorted(str(path) for path in paths if not any(part.startswith(".") for part in path.parts))
