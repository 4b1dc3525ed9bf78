"""Run under torchrun by test_loop.py: trains the tiny network with the share of this process."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import runs

if __name__ == "__main__":
    chosen = runs.settings(Path(sys.argv[1]), run__val_every=1)
    runs.run(chosen, pairs=runs.SomeAbsent(), val_pairs=runs.BrightSquares(7))
