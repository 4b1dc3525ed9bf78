"""Run under torchrun by test_loop.py: trains the tiny network with the share of this process.

Arguments: folder, the index of a pair that is broken, and how: missing (it raises) or nan (its pixels).
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torch.nn.parallel import DistributedDataParallel

from ckd_core.data.pairs import PairError
from ckd_core.errors import TrackingError
from testkit.training import runs

if TYPE_CHECKING:
    from ckd_core.data.pairs import TrainingSample


class BrokenAt(runs.SomeAbsent):
    """Pairs of which one is broken."""

    def __init__(self, index: int, how: str) -> None:
        super().__init__()
        self.broken, self.how = index, how

    def __getitem__(self, index: int) -> TrainingSample:
        sample = super().__getitem__(index)
        if index == self.broken and self.how == "missing":
            raise PairError(f"pair {index} is broken")
        if index == self.broken:
            sample.search.fill_(float("nan"))
        return sample


def say(what: str) -> None:
    """Print it, and how many wrappers there still are."""
    held = sum(type(value) is DistributedDataParallel for value in gc.get_objects())
    print(f"rank {os.environ['RANK']} ({held} wrappers held): {what}", flush=True)


if __name__ == "__main__":
    chosen = runs.settings(Path(sys.argv[1]), run__val_every=1)
    pairs = BrokenAt(int(sys.argv[2]), sys.argv[3]) if len(sys.argv) > 2 else runs.SomeAbsent()
    one = runs.trainer(chosen, pairs=pairs, val_pairs=runs.BrightSquares(7))
    gc.disable()  # what the run leaves to the garbage collector, it must have collected itself
    try:
        one.run()
        say("trained")
    except TrackingError as error:  # its traceback's frames are alive here
        say(f"{error}")
