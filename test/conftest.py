from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
# Real recordings and published results; docs name where they come from.
SHARED = Path(os.environ.get("SDSTRACK_SHARED", ROOT.parent / "shared"))

# A busy machine takes its time; how long a step may take is for the benchmarks.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        from testkit.parallel import spread

        items[:] = [items[index] for index in spread([item.nodeid for item in items])]
    if SHARED.is_dir():
        return
    skip = pytest.mark.skip(reason=f"needs the recordings and published results; no folder {SHARED} (SDSTRACK_SHARED)")
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(skip)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from testkit.parallel import UnitScheduling

    return UnitScheduling(config, log)


@pytest.fixture(autouse=True)
def _logging_stays_as_it_was() -> Iterator[None]:
    """A test that silences the loggers of later ones fails itself, and not those."""
    yield
    manager = logging.root.manager
    loggers = [logger for logger in manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    silenced = [
        logger for logger in loggers if logger.name.startswith(("ckd_core", "sdstrack_ros")) and logger.disabled
    ]
    for logger in silenced:
        logger.disabled = False
    level, disabled = logging.root.level, manager.disable
    logging.root.setLevel(min(level, logging.WARNING))
    logging.disable(logging.NOTSET)
    assert not silenced, f"loggers were disabled: {', '.join(logger.name for logger in silenced)}"
    assert level <= logging.WARNING, f"the root logger's level was set to {level}"
    assert not disabled, f"logging was disabled up to level {disabled}"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder with golden numbers of the published implementations, and the recipe for their weights and inputs."""
    return ROOT / "test" / "golden"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real recordings and published results; use together with the marker `shared`."""
    return SHARED / "data"
