"""The plan of a run: which tracker, on which sequences, under which condition, into which folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ckd_core.evaluation.running.conditions import FULL, Condition
from ckd_core.evaluation.running.inputs import RunError, RunInputs
from ckd_core.evaluation.running.manifest import device_name, git_revision, installed_versions
from ckd_core.evaluation.running.options import Execution
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.tracking.engines import device_family
from ckd_core.tracking.engines.threads import usable_cores

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.evaluation.running.trackers import TrackerSpec

POOLS = ("local", "ray")


@dataclass(frozen=True, slots=True)
class RunPlan(Execution):
    """One run.

    Attributes:
        inputs: The sequences to track.
        tracker: The tracker to build in every worker.
        out: Folder of the run.
        condition: What the tracker is shown.
        integer_boxes: Cut the decimals off boxes before they are written as results and scored.

    """

    inputs: RunInputs
    tracker: TrackerSpec
    out: Path
    condition: Condition = FULL
    integer_boxes: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise RunError(f"workers={self.workers}; expected 1 or more")
        if not 0 < self.gpu_share <= 1:
            raise RunError(f"gpu_share={self.gpu_share}; expected more than 0, at most 1")
        if self.pool not in POOLS:
            raise RunError(f"unknown pool {self.pool!r}; expected one of {', '.join(POOLS)}")
        if not self.devices:
            raise RunError(f"device={self.device!r} has no device in it; expected at least one, e.g. cpu or cuda:0")
        for device in self.devices:
            device_family(device)
        if isinstance(self.tracker, ModelSpec):
            self.tracker.require_modalities(self.inputs.modalities)

    @property
    def worker_threads(self) -> int:
        """CPU threads of one worker."""
        return self.threads or max(usable_cores() // self.workers, 1)

    def decisive(self) -> dict[str, object]:
        """Everything that the boxes depend on.

        Raises:
            RunError: A device that this machine does not have; the machines of a Ray cluster may have it.
            TrackerSetupError: The tracker's weights are missing.

        """
        devices = {device: device_name(device) for device in self.devices}
        absent = [device for device, name in devices.items() if name is None]
        if absent and self.pool == "local":
            raise RunError(f"device {', '.join(absent)} is not available here; give --device cpu, or auto")
        dataset = self.inputs.dataset
        return {
            "dataset": dataset.layout.name,
            "split": dataset.split,
            "cut": dataset.cut,
            "tracker": self.tracker.describe(),
            "condition": str(self.condition),
            "seed": self.condition.seed,
            "devices": devices,
            "threads": self.worker_threads,
            "start_full": self.condition.start_full,
            **({"integer_boxes": True} if self.integer_boxes else {}),
        }

    def circumstances(self) -> dict[str, object]:
        """What else is worth keeping about a run."""
        return {
            "label": self.tracker.label,
            "sequences": list(self.inputs.names),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "workers": self.workers,
            "versions": installed_versions(),
            "git_revision": git_revision(),
        }
