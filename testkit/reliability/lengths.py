"""Length of the suite: the short form in `make test`, the long form in `make test-all` and `make soak`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

LONG = os.environ.get("SDSTRACK_LONG", "") == "1"
ONLY_LONG = "runs in the long form only: make test-all"
# Folder for the rows' results, of which `make soak` writes its tables.
RESULTS = os.environ.get("SDSTRACK_RELIABILITY_OUT", "")


def examples(short: int, long: int = 10_000) -> int:
    """Number of generated inputs to try."""
    return long if LONG else short


def record(part: str, name: str, row: dict[str, Any]) -> None:
    """Keep a row for the tables of `make soak`; does nothing without a folder to keep it in."""
    if not RESULTS:
        return
    folder = Path(RESULTS) / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"name": name, **row}))


def recorded(part: str, name: str) -> dict[str, Any]:
    """The row that an earlier call has kept, without its name: a long test goes on from there. Empty without one."""
    path = Path(RESULTS) / part / f"{name}.json"
    row: dict[str, Any] = json.loads(path.read_text()) if RESULTS and path.exists() else {}
    row.pop("name", None)
    return row
