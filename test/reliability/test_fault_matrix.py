"""The fault matrix on the real node over real DDS: each row is a fault, its outcome, and the node healthy again.

`make test` runs a representative part, `make soak` all rows; docs/reliability.md has the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testkit.reliability.lengths import LONG
from testkit.reliability.matrix.bench import Bench, bench
from testkit.reliability.matrix.foreign import foreign_rows
from testkit.reliability.matrix.outcome import Row, finish, run_row
from testkit.reliability.matrix.rows import SHORT, depth_rows, space_rows
from testkit.reliability.matrix.target_rows import MAX_TARGETS, target_rows
from testkit.reliability.weights import tiny_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.ros, pytest.mark.timeout(400)]
ROWS = [row for row in (*depth_rows(LONG), *foreign_rows()) if LONG or row.name in SHORT]
SPACE_ROWS = [row for row in space_rows(LONG) if LONG or row.name in SHORT]


def fault_node(folder: Path) -> dict[str, Any]:
    """Parameters of the node of the matrix."""
    return tiny_node(folder, init_box="[80.0, 60.0, 50.0, 50.0]", input_reliability="reliable")


@pytest.fixture(scope="module")
def depth_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("matrix")
    with bench(folder, fault_node(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def space_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("space")
    # The boxes of the seeded network wander; only a trusted one is followed in space.
    following = {"target_frame": "odom", "publish_tf": True, "confidence": False, "coast_s": 0.5}
    with bench(folder, {**fault_node(folder), **following}) as running:
        yield running


@pytest.fixture(scope="module")
def targets_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("targets")
    with bench(folder, {**fault_node(folder), "max_targets": MAX_TARGETS}) as running:
        yield running


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fault(depth_bench: Bench, row: Row) -> None:
    finish("matrix", row, run_row(depth_bench, row))


@pytest.mark.parametrize("row", SPACE_ROWS, ids=lambda row: row.name)
def test_fault_in_space(space_bench: Bench, row: Row) -> None:
    finish("matrix", row, run_row(space_bench, row))


@pytest.mark.parametrize("row", target_rows(), ids=lambda row: row.name)
def test_fault_of_several_targets(targets_bench: Bench, row: Row) -> None:
    finish("matrix", row, run_row(targets_bench, row))
