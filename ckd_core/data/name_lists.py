"""Lists of sequence names: those that come with the package, as @NAME, and files with one name per line, as @FILE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckd_core.data.layouts import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parent / "splits"
MAX_BYTES = 1 << 22


def expand_names(names: Iterable[str]) -> tuple[str, ...]:
    """Replace every @NAME or @FILE by the names in that list; other names stay.

    Raises:
        DatasetError: There is no such list, or it is empty.
    """
    expanded: list[str] = []
    for name in names:
        expanded += _read(name.removeprefix("@")) if name.startswith("@") else [name]
    return tuple(expanded)


def _read(text: str) -> list[str]:
    own = FOLDER / f"{text}.txt"
    path = own if own.is_file() else Path(text)
    if not path.is_file():
        known = ", ".join(f"@{file.stem}" for file in sorted(FOLDER.glob("*.txt")))
        raise DatasetError(f"no list of sequences @{text}; expected {known}, or @FILE with one name per line")
    if path.stat().st_size > MAX_BYTES:
        raise DatasetError(f"{path} has {path.stat().st_size} bytes; a list of names has at most {MAX_BYTES}")
    try:
        names = path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not text: {error}") from error
    if not names:
        raise DatasetError(f"{path} is empty; expected one sequence name per line")
    return names
