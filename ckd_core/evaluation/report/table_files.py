"""Rows of tables as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ckd_core.files import discard, write_json, write_text
from ckd_core.text import csv_cell, markdown_cell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def cell_text(value: object) -> str:
    """A cell's text: four digits after the point for a float, "n/a" for nan, "inf" as it is."""
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(markdown_cell, header)) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(markdown_cell(cell_text(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def rows_to_markdown(rows: Sequence[Any]) -> str:
    """Dataclasses of one kind as a Markdown table, one column per field."""
    if not rows:
        return ""
    values = [asdict(row) for row in rows]
    return markdown_table(list(values[0]), [list(row.values()) for row in values])


def rows_to_csv(rows: Sequence[Any]) -> str:
    """Dataclasses of one kind as CSV, one column per field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    values = [asdict(row) for row in rows]
    if values:
        writer.writerow(values[0])
        writer.writerows([csv_cell(cell_text(cell)) for cell in row.values()] for row in values)
    return stream.getvalue()


def table_paths(out: Path, name: str) -> list[Path]:
    """The files of a table."""
    return [out / f"{name}.{kind}" for kind in ("md", "csv", "json")]


def write_table(rows: Sequence[Any], out: Path, name: str, text: str | None = None) -> list[Path]:
    """Write `NAME.md` (`text`, else one column per field), `NAME.csv` and `NAME.json`; returns the paths."""
    paths = table_paths(out, name)
    discard(paths)
    write_text(paths[0], rows_to_markdown(rows) if text is None else text)
    write_text(paths[1], rows_to_csv(rows))
    write_json(paths[2], {name: [asdict(row) for row in rows]})
    return paths
