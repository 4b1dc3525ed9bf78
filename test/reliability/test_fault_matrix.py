"""The fault matrix on the real node over real DDS: each row is a fault, its outcome, and the node healthy again.

`make test` runs a representative part, `make soak` all rows; docs/reliability.md has the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testkit.reliability.lengths import LONG
from testkit.reliability.matrix.bench import Bench, bench
from testkit.reliability.matrix.foreign import foreign_rows
from testkit.reliability.matrix.outcome import Row, finish, matrix_node, run_row
from testkit.reliability.matrix.rows import SHORT, depth_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.ros, pytest.mark.timeout(400)]
ROWS = [row for row in (*depth_rows(LONG), *foreign_rows()) if LONG or row.name in SHORT]


@pytest.fixture(scope="module")
def depth_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("matrix")
    with bench(folder, matrix_node(folder)) as running:
        yield running


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fault(depth_bench: Bench, row: Row) -> None:
    finish("matrix", row, run_row(depth_bench, row))
