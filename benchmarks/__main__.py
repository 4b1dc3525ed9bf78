"""`python -m benchmarks [PART ...] [--out FILE] [--page DOCUMENT] [--quick]`: run the parts and print their tables.

A part is a module here or in `live/` with `TITLE: str` and `run(quick: bool) -> list[Row]`; a new part needs no
registration. The JSON file maps each part's name to its rows; the document (docs/benchmarks.md) gets each part's tables
between `<!-- PART -->` and `<!-- end -->`, with date and machine.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks import live
from benchmarks.harness import json_file, markdown, tables
from ckd_core.files import write_json

# The reliability tables name date, machine and versions; so do these.
from testkit.reliability.about import about
from tools.paste_table import paste, require_part

NO_PARTS = {"harness", "live"}


def part_modules() -> dict[str, str]:
    """Module of every part by the part's name, sorted; those of the room `live` are named like the others."""
    modules = {}
    for room in (benchmarks, live):
        names = {module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_")}
        modules.update({name: f"{room.__name__}.{name}" for name in names - NO_PARTS})
    return dict(sorted(modules.items()))


def print_tables(console: Console, title: str, rows: list[dict[str, object]]) -> None:
    """Print the rows of one part."""
    console.print(f"\n{title}")
    for group in tables(rows):
        table = Table(*group[0])
        for row in group:
            table.add_row(*map(str, row.values()))
        console.print(table)


def main() -> None:
    """Parse the command line, run the parts, print and write."""
    modules = part_modules()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of: {', '.join(modules)}")
    parser.add_argument("--out", type=Path, help="write the rows as JSON, into bench.json where it is a folder")
    parser.add_argument("--page", type=Path, help="put the tables into this Markdown document")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(modules))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(modules)}")
    for name in (options.parts or modules) if options.page else ():
        require_part(options.page, name)  # not only after minutes of measuring
    console = Console(width=160)
    console.print(", ".join(about().values()))
    results: dict[str, list[dict[str, object]]] = {}
    for name in options.parts or modules:
        part = importlib.import_module(modules[name])
        results[name] = part.run(options.quick)
        print_tables(console, part.TITLE, results[name])
        if options.page:
            rounds = "few rounds" if options.quick else "all rounds"
            paste(options.page, name, markdown(part.TITLE, results[name], rounds))
    if options.out:
        write_json(json_file(options.out, "bench.json"), results)


if __name__ == "__main__":
    main()
