"""A process that does the same small piece of work thirty times a second and says how late each was done.

It has nothing to do with the node. What delays it comes from the machine: other processes, the hypervisor, the clock of
the cores. Each line is the time of day and the milliseconds of a second's pieces, from when they were due to their end.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

RATE_HZ = 30.0
WORK_S = 0.002  # of a core that is idle: 6 % of it


def work(size: int) -> float:
    """Compute for a while that depends on `size` alone."""
    values = np.arange(size, dtype=np.float64)
    return float(np.sqrt(values * values + 1.0).sum())


def calibrated() -> int:
    """The size of work that takes about `WORK_S` here."""
    size = 1000
    while True:
        begin = time.perf_counter()
        work(size)
        if time.perf_counter() - begin >= WORK_S or size > 10**8:
            return size
        size = size * 5 // 4


def main() -> None:
    """Run until the process that started this one is gone, however it ended; its id is the argument."""
    parent = int(sys.argv[1])
    size = calibrated()
    due, late_ms = time.monotonic(), []
    while os.getppid() == parent:
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        work(size)
        late_ms.append(round((time.monotonic() - due) * 1e3, 2))
        if time.monotonic() - due > 1.0:  # the machine slept
            due = time.monotonic()
        if len(late_ms) >= RATE_HZ:
            try:
                sys.stdout.write(json.dumps({"time": round(time.time(), 3), "ms": late_ms}) + "\n")
                sys.stdout.flush()
            except OSError:
                return
            late_ms = []


if __name__ == "__main__":
    main()
