"""How `make test` spreads the tests over pytest-xdist's workers: in units of tests that share what is slow to build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

# Networks of the published size, whose weights are drawn once per worker and take up to 1.5 GB. The training steps are
# a unit of their own, because together they would take too long.
GOLDEN = (
    "test/ckd_core/models/test_golden_inference.py",
    "test/ckd_core/models/test_golden_training.py",
    "test/ckd_core/models/test_published_order.py",
    "test/ckd_core/models/test_registry.py::test_compact_drops_what_never_runs",
    "test/ckd_core/models/test_registry.py::test_export_of_the_published_size",
    "test/ckd_core/tracking/test_golden_traces.py",
)
# Files of long tests that share little: each test is a unit of its own.
APART = (
    "test/ckd_core/deploy/test_export_model.py",
    "test/ckd_core/models/test_registry.py",
    "test/ckd_core/training/test_bad_input.py",
    "test/ckd_core/training/test_loop.py",
    "test/reliability/test_fuzz_files.py",
    "test/sdstrack_ros/demo/test_real_input.py",
)
# The longest units begin first, so that no worker is left with one at the end.
FIRST = (
    "golden",
    "test/ckd_core/training/test_golden_steps.py",
    "test/reliability/test_fault_matrix.py",
    "test/reliability/test_following_matrix.py",
    "test/ckd_core/tracking/engines/test_engines.py",
    "test/ckd_core/tracking/test_real_sequences.py",
    "test/ckd_core/training/test_choice.py",
    "test/sdstrack_ros/node/running/test_endings.py",
    "test/sdstrack_ros/node/running/test_shipped_network.py",
    "test/reliability/test_soak.py",
)


def unit_of(nodeid: str) -> str:
    """Name of the unit of work that a test belongs to; a unit is run by one worker, in order."""
    path = nodeid.split("::", 1)[0]
    if path in GOLDEN or nodeid in GOLDEN:
        return "golden"
    return nodeid if path in APART else path


class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist brings no types
    """Hands out units in the order of the collection."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def spread(nodeids: Sequence[str]) -> list[int]:
    """Order in which to run tests, as indices into `nodeids`: long units first, the others mixed.

    Tests of the node mostly wait and those of the library mostly compute. Mixed evenly they share the cores well.
    """
    units: dict[bool, dict[str, int]] = {True: {}, False: {}}
    for nodeid in nodeids:
        own = units[_waits(nodeid)]
        own.setdefault(unit_of(nodeid), len(own))

    def place(index: int) -> float:
        unit, own = unit_of(nodeids[index]), units[_waits(nodeids[index])]
        return FIRST.index(unit) - len(FIRST) if unit in FIRST else own[unit] / len(own)

    return sorted(range(len(nodeids)), key=lambda index: (place(index), unit_of(nodeids[index]), index))


def _waits(nodeid: str) -> bool:
    return nodeid.startswith(("test/sdstrack_ros/node", "test/sdstrack_ros/demo", "test/reliability"))
