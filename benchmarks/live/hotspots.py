"""Where the node spends its time at 30 Hz: the ten functions that run longest, by py-spy, which looks from outside.

`own`: share of the samples in which a thread was in the function itself or in what it calls outside Python: the network
is in `infer`, a crop's OpenCV in `_sample_warped`. `with_callees`: and in what it calls. Waiting threads do not count.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ckd_core import DEFAULT_MODEL

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "Hotspots: the node with the default model, 640x480 rgb8 + 16UC1 at 30 Hz"
RATE_HZ, SAMPLES_HZ = 30.0, 250
SHOWN = 10
FRAME = re.compile(r"(?P<name>.+) \((?P<file>.+):(?P<line>\d+)\)")


def run(quick: bool) -> list[Row]:
    """The ten functions with most own time; one row with the reason where py-spy is missing."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        return [{"name": "node", "note": "py-spy is not installed; see requirements/dev.txt"}]
    return rows_of(profile(program, 5 if quick else 20))


def profile(program: str, seconds: int) -> str:
    """Film for a while and return py-spy's samples: per line a stack, outermost first, and how often it was seen."""
    from benchmarks.live.node import INIT_BOX
    from ckd_core.models.checkpoint import default_weights
    from testkit.ros.rig import running_node

    options = {"autostart": True, "init_box": INIT_BOX, "model": DEFAULT_MODEL, "engine": "auto"}
    with (
        tempfile.TemporaryDirectory() as name,
        running_node(default_weights(DEFAULT_MODEL), Path(name), **options) as rig,
    ):
        rig.active()
        rig.film_until(lambda: rig.ros.value("state") != "NONE", "a target")
        out = Path(name) / "samples.txt"
        command = [program, "record", "--pid", str(rig.process.pid), "--duration", str(seconds), "--function"]
        command += ["--rate", str(SAMPLES_HZ), "--format", "raw", "--output", str(out), "--nonblocking"]
        done: list[subprocess.CompletedProcess[str]] = []
        spy = threading.Thread(
            target=lambda: done.append(subprocess.run(command, capture_output=True, text=True, check=False))
        )
        spy.start()
        while spy.is_alive():
            rig.cameras.film(int(RATE_HZ), RATE_HZ)
        spy.join()
        if done[0].returncode != 0:
            raise RuntimeError(f"py-spy failed: {done[0].stderr.strip()}")
        return out.read_text()


def rows_of(samples: str) -> list[Row]:
    """The functions with most own time out of py-spy's raw format."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_shown(frame) for frame in stack.split(";")]
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    return [
        {
            "name": name,
            "own": f"{100 * count / total:.1f} %",
            "with_callees": f"{100 * within[name] / total:.1f} %",
        }
        for name, count in own.most_common(SHOWN)
    ]


def _shown(frame: str) -> str:
    """`function (folder/file)`, without machine paths and lines."""
    match = FRAME.fullmatch(frame)
    return frame if match is None else f"{match['name']} ({'/'.join(Path(match['file']).parts[-2:])})"
