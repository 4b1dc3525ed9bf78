"""`python -m benchmarks [PART ...] [--out FILE] [--quick]`: run the parts and print their tables.

A part is a module of this package with `TITLE: str` and `run(quick: bool) -> list[Row]`; a new part needs no
registration. The JSON file maps each part's name to its rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks


def part_names() -> list[str]:
    """Names of all parts, sorted."""
    names = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in names if name not in {"__main__", "harness"} and not name.startswith("_"))


def print_table(console: Console, title: str, rows: list[dict[str, object]]) -> None:
    """Print rows of one part; the columns are the keys of all rows in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(str(row.get(key, "")) for key in columns))
    console.print(table)


def main() -> None:
    """Parse the command line, run the parts, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of: {', '.join(part_names())}")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(part_names()))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(part_names())}")
    console = Console(width=160)
    console.print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    results: dict[str, list[dict[str, object]]] = {}
    for name in options.parts or part_names():
        part = importlib.import_module(f"benchmarks.{name}")
        results[name] = part.run(options.quick)
        print_table(console, part.TITLE, results[name])
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=options.out.parent, delete=False) as stream:
            json.dump(results, stream, indent=1)
        Path(stream.name).replace(options.out)


if __name__ == "__main__":
    main()
