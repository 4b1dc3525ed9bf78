"""Cases that need a private mount namespace; to be run by `unshare -m` only. Prints an Outcome as JSON.

`shm FOLDER`: /dev/shm is a tmpfs of 160 MB that is filled to the brim while the node runs, and while it starts.
`disk FOLDER`: recordings are written to a disk of 1 MB.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testkit.reliability.matrix.bench import Bench, bench
from testkit.reliability.matrix.outcome import Outcome, Row, run_row
from testkit.reliability.weights import tiny_node

SHM = Path("/dev/shm")  # where Fast DDS keeps its segments


def _mount(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 16))
        except OSError:
            return


def shared_memory_full(folder: Path) -> Outcome:
    """Full while the node runs; then new cameras start while it is full."""
    _mount(SHM, "160m")
    ballast = SHM / "ballast"

    def act(running: Bench) -> None:
        _fill(ballast)
        running.spin(3.0)
        running.camera.kill()
        running.camera.start()
        running.camera.set()
        running.spin(4.0)
        ballast.unlink()
        running.camera.kill()
        running.camera.start()
        running.camera.set()

    parameters = tiny_node(folder, init_box="[80.0, 60.0, 50.0, 50.0]")
    with bench(folder, parameters) as running:
        return run_row(
            running, Row("shared memory full", "/dev/shm filled; cameras restarted while full", act, within=90)
        )


def disk_full(folder: Path) -> Outcome:
    """A recording that does not fit: a clear error, nothing half-written, and the disk usable again."""
    import numpy as np

    from ckd_core.errors import TrackingError
    from ckd_core.frame import Modality, MultiModalFrame
    from sdstrack_ros.bags.writer import write_bag

    disk = folder / "disk"
    disk.mkdir()
    _mount(disk, "1m")
    outcome = Outcome("recordings of 3 MB to a disk of 1 MB")
    source = np.random.default_rng(1)

    def frames(count: int) -> Any:
        for i in range(count):
            rgb = source.integers(0, 255, (120, 160, 3), dtype=np.uint8)
            yield MultiModalFrame(i / 30, rgb, None, Modality.DEPTH)

    for storage in ("mcap", "sqlite3"):
        try:
            write_bag(disk / storage, frames(50), storage=storage)
            outcome.faults.append(f"{storage}: no error")
        except TrackingError as error:
            outcome.shown = str(error).replace(f"{disk}/", "")[:90]
        remains = [str(path) for path in disk.rglob("*")]
        if remains:
            outcome.faults.append(f"{storage}: left behind {remains}")
        shutil.rmtree(write_bag(disk / f"{storage}_small", frames(4), storage=storage))
    outcome.stayed_up = True
    return outcome


if __name__ == "__main__":
    case = {"shm": shared_memory_full, "disk": disk_full}[sys.argv[1]]
    print("RESULT " + json.dumps(asdict(case(Path(sys.argv[2])))))
