"""Run by test_loop.py: after the first epoch no file may grow beyond 500 bytes any more."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ckd_core.training.state_file import RunStateError
from testkit.training import runs

if TYPE_CHECKING:
    from ckd_core.data.pairs import TrainingSample


class ThenFull:
    """Pairs after the twelfth of which no file may grow beyond 500 bytes."""

    def __getitem__(self, index: int) -> TrainingSample:
        if index == 12:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        return runs.BrightSquares()[index]


if __name__ == "__main__":
    try:
        runs.run(runs.settings(Path(sys.argv[1]), run__epochs=4), pairs=ThenFull())
    except RunStateError as error:
        print(f"RunStateError: {error}")
