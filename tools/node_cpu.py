"""CPU of the node's process in this checkout and in others: `python -m tools.node_cpu [CHECKOUT ...] [--long]`.

On idle cores only. `git worktree add FOLDER COMMIT` makes a checkout; this environment runs the nodes of all of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.__main__ import print_tables
from benchmarks.live._node_cpu import node_cpu
from testkit.reliability.about import about
from testkit.ros.processes import ROOT

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "CPU of the node's process: 640x480 rgb8 + 16UC1 at 30 Hz, event packets at 250 Hz, sdstrack_s128 by PyTorch"

SHORT_S, LONG_S = 3.0, 20.0


def main() -> None:
    """Parse the command line, measure each checkout, print one table."""
    parser = argparse.ArgumentParser(prog="python -m tools.node_cpu", description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, help="other checkouts of this repository")
    parser.add_argument("--long", action="store_true", help=f"{LONG_S:g} s for each number, not {SHORT_S:g}")
    options = parser.parse_args()
    seconds = LONG_S if options.long else SHORT_S
    console = Console(width=160)
    console.print(", ".join(about().values()))
    trees = {**{checkout.name: checkout.resolve() for checkout in options.checkouts}, "this one": ROOT}
    cases: list[tuple[str, Path, dict[str, str]]] = [(name, tree, {}) for name, tree in trees.items()]
    cases.append(("this one, executor events", ROOT, {"executor": "events"}))
    rows: list[Row] = []
    for name, tree, parameters in cases:
        rows.append({"name": name, **node_cpu(tree, seconds, tracking=True, **parameters)})
        console.print(rows[-1])  # whoever stops it here has this much
    print_tables(console, TITLE, rows)


if __name__ == "__main__":
    main()
