from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
# Real recordings and published results; docs name where they come from.
SHARED = Path(os.environ.get("SDSTRACK_SHARED", ROOT.parent / "shared"))

# What somebody tuned on this machine is no part of a test.
os.environ["SDSTRACK_CACHE"] = str(ROOT / ".cache" / "tests" / "absent")

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


def _own_loggers() -> list[logging.Logger]:
    """The loggers that the packages' modules hold, whatever the logging module knows of them."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(("ckd_core", "sdstrack_ros"))]
    held = [getattr(module, name, None) for module in modules for name in ("logger", "LOGGER")]
    return [logger for logger in held if isinstance(logger, logging.Logger)]


def _why_silent(logger: logging.Logger) -> str:
    """Why a warning of this logger does not reach the root's handlers; '' when it does."""
    above: logging.Logger | None = logger
    while above is not None and above.parent is not None and above.propagate:
        above = above.parent
    state = f"disabled {logger.disabled}, level {logger.getEffectiveLevel()}, all up to {logger.manager.disable}"
    if above is not logging.getLogger():
        return f"its records end at {above}; {state}"
    return "" if logger.isEnabledFor(logging.WARNING) else state


@pytest.fixture(autouse=True)
def _warnings_are_still_logged() -> Iterator[None]:
    """A test that silences the loggers of later ones, or pytest's handlers, fails itself, and not those."""
    yield
    own = _own_loggers()
    silent = {logger.name: why for logger in own if (why := _why_silent(logger))}
    # pytest's handlers live as long as the process.
    silent |= {str(one): "level" for one in logging.root.handlers if one.level > logging.WARNING}
    if not silent:
        return
    for handler in logging.root.handlers:
        handler.setLevel(min(handler.level, logging.WARNING))
    for logger in own:
        logger.disabled, logger.propagate = False, True
        logger.setLevel(logging.NOTSET)
    logging.root.setLevel(min(logging.root.level, logging.WARNING))
    logging.disable(logging.NOTSET)
    pytest.fail(f"this test leaves loggers that do not log: {silent}")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder with golden numbers of the published implementations, and the recipe for their weights and inputs."""
    return ROOT / "test" / "golden"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real recordings and published results; use together with the marker `shared`."""
    return SHARED / "data"
