"""The fault matrix of a node that follows targets in a fixed frame, and of one that follows several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testkit.reliability.lengths import LONG
from testkit.reliability.matrix.bench import Bench, bench
from testkit.reliability.matrix.outcome import Row, finish, matrix_node, run_row
from testkit.reliability.matrix.rows import SHORT, space_rows
from testkit.reliability.matrix.target_rows import MAX_TARGETS, target_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.ros, pytest.mark.timeout(400)]
SPACE_ROWS = [row for row in space_rows(LONG) if LONG or row.name in SHORT]


@pytest.fixture(scope="module")
def space_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("space")
    # The boxes of the seeded network wander; only a trusted one is followed in space.
    following = {"target_frame": "odom", "publish_tf": True, "confidence": False, "coast_s": 0.5}
    with bench(folder, matrix_node(folder, **following)) as running:
        yield running


@pytest.fixture(scope="module")
def targets_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("targets")
    with bench(folder, matrix_node(folder, max_targets=MAX_TARGETS)) as running:
        yield running


@pytest.mark.parametrize("row", SPACE_ROWS, ids=lambda row: row.name)
def test_fault_in_space(space_bench: Bench, row: Row) -> None:
    finish("following", row, run_row(space_bench, row))


@pytest.mark.parametrize("row", target_rows(), ids=lambda row: row.name)
def test_fault_of_several_targets(targets_bench: Bench, row: Row) -> None:
    finish("following", row, run_row(targets_bench, row))
