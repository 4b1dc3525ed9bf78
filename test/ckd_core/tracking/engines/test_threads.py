from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
import torch

from ckd_core.tracking.engines import EngineError, threads
from ckd_core.tracking.engines.threads import thread_budget, usable_cores, use_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pretend a number of cores, the control groups' `cpu.max` from the root down, and OMP_NUM_THREADS."""

    def pretend(cores: int, limits: tuple[str, ...] = (), wished: str | None = None) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        folder = tmp_path / "cgroup"
        for depth, limit in enumerate(limits):
            folder = folder / f"level{depth}" if depth else folder
            folder.mkdir(exist_ok=True)
            (folder / "cpu.max").write_text(limit + "\n")
        own = tmp_path / "own"
        own.write_text("".join(f"{line}\n" for line in ("1:name=other:/x", f"0::/{_below(folder, tmp_path)}")))
        monkeypatch.setattr(threads, "CPUS", tmp_path / "cpus")
        monkeypatch.setattr(threads, "CGROUPS", tmp_path / "cgroup")
        monkeypatch.setattr(threads, "OWN_CGROUP", own)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if wished is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", wished)

    return pretend


def _below(folder: Path, root: Path) -> str:
    below = folder.relative_to(root / "cgroup") if folder != root / "cgroup" else Path()
    return "" if below == Path() else str(below)


@pytest.mark.parametrize(
    ("cores", "limits", "wished", "expected"),
    [
        (8, (), None, 8),
        (8, ("max 100000",), None, 8),
        (8, ("max 100000", "250000 100000"), None, 3),  # 2.5 cores are worth a third thread
        (8, ("150000 100000", "max 100000"), None, 2),  # a group above limits too
        (8, ("50000 100000",), None, 1),
        (2, ("400000 100000",), None, 2),
        (8, ("nonsense",), None, 8),
        (8, (), "3", 3),
        (8, (), "2,4", 2),
        (2, (), "64", 2),
        (2, (), "0", 2),
        (2, (), "many", 2),
    ],
)
def test_usable_cores_are_those_that_somebody_pays_for(machine, cores, limits, wished, expected) -> None:
    machine(cores, limits, wished)
    assert usable_cores() == expected


def test_two_threads_of_one_core_are_one_core(machine, tmp_path) -> None:
    machine(6)
    for cpu, siblings in enumerate(("0,3", "1,4", "2", "0,3", "1,4")):  # nothing is known of the sixth
        folder = tmp_path / "cpus" / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert usable_cores() == 4


def test_without_control_groups_the_affinity_counts(machine, monkeypatch, tmp_path) -> None:
    machine(5)
    monkeypatch.setattr(threads, "OWN_CGROUP", tmp_path / "absent")
    assert usable_cores() == 5


@pytest.mark.parametrize(
    ("cores", "asked", "alone", "beside"), [(1, 0, 1, 1), (2, 0, 2, 2), (3, 0, 3, 2), (16, 0, 16, 15), (4, 9, 9, 9)]
)
def test_nought_is_every_core_but_one_beside_other_nodes(machine, cores, asked, alone, beside) -> None:
    machine(cores)
    assert (thread_budget(asked), thread_budget(asked, other_processes=True)) == (alone, beside)


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(EngineError, match=r"threads is -2; expected 1 or more, or 0 for all usable cores"):
        thread_budget(-2)


@pytest.fixture
def _restored() -> Iterator[None]:
    before = cv2.getNumThreads(), torch.get_num_threads()
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


@pytest.mark.usefixtures("_restored")
def test_all_libraries_of_the_process_get_the_same_budget() -> None:
    for count in (3, 1, 2):
        use_threads(count)
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (count, count)


@pytest.mark.parametrize(
    ("own", "module", "spins"),
    [
        (None, "ckd_core.tracking.engines.build", False),
        ("active", "ckd_core.tracking.engines.build", True),
        (None, "ckd_core.training.build", True),
    ],
)
def test_the_threads_of_pytorch_leave_their_core_while_they_wait(own: str | None, module: str, spins: bool) -> None:
    """OpenMP itself says how often a thread looks again before it sleeps.

    The user's own choice stays, and training has the machine to itself.
    """
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if own is not None:
        environment["OMP_WAIT_POLICY"] = own
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}, torch"],
        env={**environment, "OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "GOMP_SPINCOUNT" in done.stderr
    assert ("GOMP_SPINCOUNT = '0'" not in done.stderr) == spins
