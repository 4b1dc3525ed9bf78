from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def recipe(golden_dir: Path) -> Any:
    """Module that regenerates the weights, inputs, images and videos of the golden numbers."""
    sys.path.insert(0, str(golden_dir))
    import golden_weights

    sys.path.remove(str(golden_dir))
    return golden_weights
