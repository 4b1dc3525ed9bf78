"""What a run is asked to do: every option of `sdstrack benchmark` and `sdstrack robustness`, with its default.

Only the standard library is imported here, because the verbs need the options before they need anything else.
"""

# ruff: noqa: RUF009  # `_option` is dataclasses.field

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from pathlib import Path  # noqa: TC003  # the verbs evaluate the annotations at run time
from typing import Any

from ckd_core import DEFAULT_MODEL


def _option(text: str, *names: str, default: Any = MISSING, minimum: int | None = None) -> Any:
    """Make a field with what the command line says about it."""
    return field(default=default, metadata={"help": text, "names": names, "minimum": minimum})


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a run is spread over processes, devices and machines. The metadata of a field says what it means."""

    device: str = _option("Devices for the workers in turn, e.g. cuda:0,cuda:1.", default="auto")
    workers: int = _option("Sequences at a time.", default=1, minimum=1)
    threads: int = _option("CPU threads per worker; 0: usable cores / workers.", default=0, minimum=0)
    pool: str = _option("local (processes) or ray (also several machines).", default="local")
    ray_address: str | None = _option("Address of a running Ray cluster.", default=None)
    gpu_share: float = _option(
        "Share of a GPU that a worker reserves on a Ray cluster, e.g. 0.25 for four on each.", default=1.0
    )
    restart: bool = _option("Replace another run's results in OUT.", default=False)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that `device` names."""
        return tuple(part.strip() for part in self.device.split(",") if part.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions(Execution):
    """A run in words; `open_plan` makes a `RunPlan` of it. The metadata of a field says what it means."""

    root: Path = _option("Folder of the dataset.")
    dataset: str = _option("lasher, rgbt234, gtot, depthtrack, folder, ...", "--dataset", "-d")
    out: Path = _option("Folder for runs, tables and reports; an unfinished run continues.")
    tracker: str = _option(
        "network, or nanotrack: OpenCV's TrackerNano per sequence on its better camera, from the ONNX files in the "
        "folder --weights.",
        default="network",
    )
    model: str | None = _option(f"Name of the network; default: what WEIGHTS say, else {DEFAULT_MODEL}.", default=None)
    weights: Path | None = _option("Weights; default: those that come with the package.", default=None)
    split: str | None = _option(
        "Split of the dataset; default: test. Of folder: validation or test, as in "
        "ckd_core/data/splits/open_sequences.yaml; default: every sequence in the root.",
        default=None,
    )
    sequences: str | None = _option("Only these sequences, separated by commas; @FILE: those in a list.", default=None)
    engine: str = _option(
        "How the network runs, e.g. torch/fp32, openvino/bf16, auto; no fallback.", default="torch/fp32"
    )
    published: bool = _option("The published tracker: no states, no search growth.", default=False)
    integer_boxes: bool = _option(
        "With --published: cut the decimals off boxes before they are written and scored, as CKD's harness does.",
        default=False,
    )
    missing: str | None = _option(
        "Shown for a missing image: zeros, last, duplicate or alone; default: duplicate.", default=None
    )
    ego_motion: bool = _option(
        "Foresee where the camera's own motion carries the target, by optical flow (the node's ego_motion: image).",
        "--ego-motion",
        default=False,
    )
    condition: str = _option("What the tracker is shown; see `sdstrack robustness`.", default="full")
    seed: int = _option("For what is random in a condition.", default=0, minimum=0)
    any_modality: bool = _option("Also run weights on cameras that they were not trained with.", default=False)
    skip_broken: bool = _option("List missing or broken sequences and continue without them.", default=False)
    cut: bool = _option("Ignore surplus images or annotation rows at a sequence's end.", default=False)
