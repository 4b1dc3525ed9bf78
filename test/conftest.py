from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    skip = pytest.mark.skip(reason="needs the recordings and results that stand beside the checkout (../shared)")
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder with golden numbers of the published implementations, and the recipe for their weights and inputs."""
    return ROOT / "test" / "golden"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real recordings and published results; use together with the marker `shared`."""
    return SHARED / "data"
