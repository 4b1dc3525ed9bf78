"""Run under torchrun by test_loop.py: trains the tiny network with the share of this process.

Arguments: folder, and the index of a pair that cannot be made.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
import runs

from ckd_core.data.pairs import PairError
from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from ckd_core.data.pairs import TrainingSample


class BrokenAt(runs.SomeAbsent):
    """Pairs of which one is broken."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.broken = index

    def __getitem__(self, index: int) -> TrainingSample:
        if index == self.broken:
            raise PairError(f"pair {index} is broken")
        return super().__getitem__(index)


if __name__ == "__main__":
    chosen = runs.settings(Path(sys.argv[1]), run__val_every=1)
    pairs = BrokenAt(int(sys.argv[2]) if len(sys.argv) > 2 else -1)
    try:
        runs.run(chosen, pairs=pairs, val_pairs=runs.BrightSquares(7))
    except TrackingError as error:
        print(f"rank {os.environ['RANK']}: {error}", flush=True)
