"""`python -m benchmarks.gpu [--device cpu] [--quick] [--networks NAME ...] [--minutes N] [--out FILE] [--page DOC]`.

The table is written after every row: beside the JSON file, as `gpu.md`, and into the document.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.gpu import OUT, TITLE
from benchmarks.gpu.cases import NETWORKS
from benchmarks.gpu.runner import measure_all
from benchmarks.harness import Row, json_file, markdown
from ckd_core.files import write_text
from ckd_core.models.registry import list_models
from tools.paste_table import paste


def main() -> int:
    """Measure, print each row when it is done, write; returns the exit status: 1 where no row has a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script itself")
    parser.add_argument("--quick", action="store_true", help="few rounds, few rows")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=list_models(), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=7.5, help="after these no row begins; the next run goes on")
    parser.add_argument("--out", type=Path, default=OUT, help="rows as JSON, or its folder; a run goes on from it")
    parser.add_argument("--page", type=Path, help="put the table into this Markdown document")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.stderr.write("no CUDA device on this machine; expected one, or --device cpu to try the script\n")
        return 1
    out = json_file(options.out, OUT.name)
    table, rounds = out.with_suffix(".md"), "few rounds" if options.quick else "all rounds"

    def keep(rows: list[Row]) -> None:
        text = markdown(TITLE, rows, rounds)
        write_text(table, text + "\n")
        if options.page:
            paste(options.page, "gpu", text)

    sys.stdout.write(f"rows go to {out}, the table to {' and '.join(map(str, filter(None, (table, options.page))))}\n")
    rows = measure_all(options.device, options.quick, options.minutes, out, options.networks, _show, keep)
    return 0 if any(row["p50_ms"] != "" for row in rows) else 1


def _show(row: Row) -> None:
    sys.stdout.write(", ".join(f"{key} {value}" for key, value in row.items() if value != "") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
