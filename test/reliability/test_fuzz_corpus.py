"""The committed inputs of the coverage-guided fuzzing, and what it has found: each is read or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.reliability.fuzz_targets import CORPUS, TARGETS, try_input

INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
# Of each target at least one input is read to the end, so that the fuzzer starts behind the first checks.
READ = "read"


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_input_is_read_or_refused(path: Path) -> None:
    assert try_input(path.parent.name, path.read_bytes()) or not path.name.startswith(READ)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_an_input_that_is_read(name: str) -> None:
    assert any(path.parent.name == name and path.name.startswith(READ) for path in INPUTS)
    assert sum(path.stat().st_size for path in INPUTS if path.parent.name == name) < 64 * 1024
