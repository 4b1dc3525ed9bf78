"""A tracker whose worker process is killed when it builds it, as by the kernel when memory runs out."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.evaluation.running.trackers import ModelSpec
    from ckd_core.frame import Modality
    from ckd_core.tracking.tracker import FrameTracker

# As little as a process needs to run out of memory; what it said before has arrived by then.
DEATH_S = 1.0


@dataclass(frozen=True, slots=True)
class DyingSpec:
    """Another tracker on the CPU, whatever device it is given; the first processes that build it for `victim` die.

    Attributes:
        inner: The tracker.
        log: Gets one JSON object per build for `victim`: the Ray node, the device, and what Ray reserved.
        victim: Kind of the auxiliary images.
        deaths: How many builds for `victim` end with SIGKILL.
    """

    inner: ModelSpec
    log: Path
    victim: Modality
    deaths: int

    @property
    def label(self) -> str:
        """See `TrackerSpec`."""
        return self.inner.label

    def describe(self) -> dict[str, object]:
        """See `TrackerSpec`."""
        return self.inner.describe()

    def build(self, modality: Modality, device: str, threads: int) -> FrameTracker:
        """See `TrackerSpec`."""
        import ray

        if modality is not self.victim:
            return self.inner.build(modality, "cpu", threads)
        context = ray.get_runtime_context()
        line = {"node": context.get_node_id(), "device": device, "reserved": context.get_assigned_resources()}
        with self.log.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        if len(builds(self.log)) <= self.deaths:
            time.sleep(DEATH_S)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.build(modality, "cpu", threads)


def builds(log: Path) -> list[dict[str, object]]:
    """What `DyingSpec` wrote."""
    return [json.loads(line) for line in log.read_text().splitlines()]
