"""`python -m benchmarks.gpu.worker NETWORK DEVICE SECONDS`: measures in a process that may crash or be ended.

Reads a case per line of standard input, as JSON, and answers each with a line: the row's columns, or `note` alone.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from benchmarks.gpu.cases import Case


def main() -> None:
    """Answer until there is no line left."""
    # Whatever a library prints goes to the log: only answers leave on the standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from benchmarks.gpu.measure import Bench, reason

    name, device, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    bench = Bench(name, device, seconds)
    for line in sys.stdin:
        row: dict[str, Any]
        try:
            row = bench.row(Case(**json.loads(line)))
        except Exception as error:  # noqa: BLE001 - whatever fails is the row's reason; the next row may do
            row = {"note": reason(error)}
        answers.write(json.dumps(row) + "\n")
        answers.flush()
        if "CUDA error" in row.get("note", ""):
            sys.exit(1)  # the process cannot use the GPU any more; another one goes on


if __name__ == "__main__":
    main()
