"""CPU of the node's process in this checkout and in others: `python -m tools.node_cpu [CHECKOUT ...] [--quick]`.

On idle cores only. `git worktree add FOLDER COMMIT` makes a checkout; this environment runs the nodes of all of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.__main__ import print_tables
from benchmarks.live._node_cpu import node_cpu
from testkit.reliability.about import about
from testkit.ros.processes import ROOT

TITLE = "CPU of the node's process: 640x480 rgb8 + 16UC1 at 30 Hz, event packets at 250 Hz, sdstrack_s128 by PyTorch"


def main() -> None:
    """Parse the command line, measure each checkout, print one table."""
    parser = argparse.ArgumentParser(prog="python -m tools.node_cpu", description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, help="other checkouts of this repository")
    parser.add_argument("--quick", action="store_true", help="a sixth of the time")
    options = parser.parse_args()
    seconds = 3.0 if options.quick else 20.0
    console = Console(width=160)
    console.print(", ".join(about().values()))
    trees = {**{checkout.name: checkout.resolve() for checkout in options.checkouts}, "this one": ROOT}
    rows = [{"name": name, **node_cpu(tree, seconds, tracking=True)} for name, tree in trees.items()]
    rows.append({"name": "this one, executor events", **node_cpu(ROOT, seconds, tracking=True, executor="events")})
    print_tables(console, TITLE, rows)


if __name__ == "__main__":
    main()
