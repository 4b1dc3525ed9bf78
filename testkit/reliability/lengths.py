"""How long the suite runs: the short form in `make test`, the long one by `make soak`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

LONG = os.environ.get("SDSTRACK_LONG", "") == "1"
# Where rows write what they found; make soak makes its tables of it.
RESULTS = os.environ.get("SDSTRACK_RELIABILITY_OUT", "")


def examples(short: int, long: int = 10_000) -> int:
    """How many generated inputs to try."""
    return long if LONG else short


def record(part: str, name: str, row: dict[str, Any]) -> None:
    """Keep a row for the tables of make soak; nothing happens without a folder to keep it in."""
    if not RESULTS:
        return
    folder = Path(RESULTS) / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"name": name, **row}))
