"""What produced a run's numbers: written before the first sequence, compared before a run is resumed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ckd_core
from ckd_core.errors import TrackingError
from ckd_core.evaluation.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "manifest.json"
PACKAGES = (
    "numpy", "torch", "timm", "opencv-python-headless", "opencv-python", "openvino", "onnxruntime", "safetensors",
)  # fmt: skip


class ManifestError(TrackingError):
    """A folder that holds the results of another run."""


def installed_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that decide its numbers."""
    found = {"python": platform.python_version(), "sdstrack": ckd_core.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Revision of the working tree that this package runs from, with "+changes" when it differs; None outside git."""
    home = Path(__file__).resolve().parents[2]
    try:
        inside = _git(home, "rev-parse", "--show-toplevel")
        if Path(inside).resolve() != home:
            return None
        revision = _git(home, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(home, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(home: Path, *arguments: str) -> str:
    command = ["git", "-C", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()  # noqa: S603  # fixed words


def device_name(device: str) -> str:
    """The device in words: the GPU's name, or the CPU's model."""
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        return torch.cuda.get_device_name(device if device.startswith("cuda:") else None)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{model} ({os.cpu_count()} cores)"


def fingerprint(decisive: Mapping[str, object]) -> str:
    """SHA-256 over everything that decides the boxes."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()


def claim_folder(out: Path, decisive: Mapping[str, object], circumstances: Mapping[str, object], restart: bool) -> bool:
    """Write the manifest of a run into its folder, or recognise the run that is there. Returns whether it resumes.

    decisive: what the boxes depend on; circumstances: what else is worth keeping. restart: replace another run, whose
    tracks are then deleted.
    Raises ManifestError when the folder holds another run, and names what differs.
    """
    run: dict[str, Any] = json.loads(json.dumps(decisive, default=str))
    mark, resuming = fingerprint(run), False
    if (out / MANIFEST).is_file():
        old = read_manifest(out)
        resuming = old.get("fingerprint") == mark and not restart
        if not resuming and not restart:
            before = old.get("run", {})
            differs = [key for key in {**before, **run} if before.get(key) != run.get(key)]
            raise ManifestError(
                f"{out} holds another run (differs in {', '.join(differs) or 'its format'}); choose another folder, or "
                "restart to replace it"
            )
    if not resuming:
        for track in (out / "tracks").glob("*.csv"):
            track.unlink()
    write_json(out / MANIFEST, {"format": 1, "fingerprint": mark, "run": run, **circumstances})
    return resuming


def read_manifest(out: Path) -> dict[str, Any]:
    """Read a run's manifest. Raises ManifestError."""
    try:
        found: dict[str, Any] = json.loads((out / MANIFEST).read_text())
    except FileNotFoundError:
        raise ManifestError(f"{out} is not a run's folder: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"cannot read {out / MANIFEST}: {error}") from error
    return found
