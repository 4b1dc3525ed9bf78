from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from testkit.parallel import APART, FIRST, GOLDEN, spread, unit_of

ROOT = Path(__file__).parents[1]
NODEIDS = [
    *(f"{path}::test_{index}" for path in (*APART, "test/test_cli.py", "test/sdstrack_ros/node/test_faults.py")
      for index in range(3)),
    *(name if "::" in name else f"{name}::test_0" for name in (*GOLDEN, *FIRST[1:])),
]  # fmt: skip


@pytest.mark.parametrize("name", [*GOLDEN, *APART, *FIRST[1:]])
def test_what_the_units_name_exists(name: str) -> None:
    path, _, test = name.partition("::")
    assert f"def {test or 'test_'}" in (ROOT / path).read_text()


def test_every_test_runs_once_long_units_first_and_units_in_one_piece() -> None:
    nodeids = NODEIDS.copy()
    random.Random(1).shuffle(nodeids)
    order = [nodeids[index] for index in spread(nodeids)]
    assert sorted(order) == sorted(nodeids)
    units = [unit for unit, _ in itertools.groupby(order, unit_of)]
    assert len(units) == len(set(units)), "a unit in two pieces would go to two workers"
    assert tuple(units[: len(FIRST)]) == FIRST
    for unit in units:
        assert [n for n in order if unit_of(n) == unit] == [n for n in nodeids if unit_of(n) == unit]
