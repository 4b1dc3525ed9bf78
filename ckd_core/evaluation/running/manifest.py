"""What produced a run's numbers: written before the first sequence, compared before a run is resumed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ckd_core
from ckd_core.data.sequences import image_bytes
from ckd_core.errors import TrackingError
from ckd_core.files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckd_core.data.sequences import Sequence

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
RECORD_FILES = (("tracks", "csv"), ("timing", "csv"), ("results", "txt"))  # per sequence: FOLDER/SEQUENCE.SUFFIX
SUMMARIES = (
    "score.json", "report.html", "report.json", "sequences.csv", "curves.csv", "attributes.csv", "run.rrd",
    *(f"{table}.{suffix}" for table in ("boxes", "states") for suffix in ("md", "csv", "json")),
)  # fmt: skip
PACKAGES = (
    "numpy", "torch", "timm", "opencv-python-headless", "opencv-python", "openvino", "onnxruntime", "safetensors",
)  # fmt: skip


class ManifestError(TrackingError):
    """A folder that holds the results of another run."""


def installed_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that decide its numbers."""
    versions = {"python": platform.python_version(), "sdstrack": ckd_core.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """Revision of the working tree of this package, with "+changes" if files differ from it; None outside git."""
    home = Path(__file__).resolve().parents[3]
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


def device_name(device: str) -> str | None:
    """Name of the GPU or model of the CPU; None for a CUDA device that this machine does not have."""
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        number = device.partition(":")[2]
        if int(number or 0) >= torch.cuda.device_count():
            return None
        return torch.cuda.get_device_name(int(number) if number else None)
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


def sequence_digest(sequence: Sequence) -> str:
    """SHA-256 over what a tracker is shown of a sequence: boxes, stamps, names and byte counts of the images.

    Raises:
        SequenceError: An image is missing.
    """
    digest = hashlib.sha256(sequence.modality.value.encode())
    for values in (sequence.boxes, sequence.stamps):
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    for paths in (sequence.rgb_paths, sequence.aux_paths):
        digest.update(json.dumps([(path.name, image_bytes(path)) for path in paths]).encode())
    return digest.hexdigest()


def require_folder(out: Path) -> None:
    """Check that `out` is or can become a folder.

    Raises:
        ManifestError: It, or a folder above it, is a file.
    """
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ManifestError(f"{existing} is a file; a run needs a folder of its own")


def claim_folder(
    out: Path,
    decisive: Mapping[str, object],
    circumstances: Mapping[str, object],
    inputs: Mapping[str, str],
    restart: bool,
) -> bool:
    """Write the manifest of a run into its folder, or recognise the run that the folder holds.

    A run that continues under other versions or another revision is logged, and `earlier` keeps the former ones.

    Args:
        out: The run's folder.
        decisive: What the boxes depend on.
        circumstances: What else is worth keeping.
        inputs: `sequence_digest` by name; tracks of another sequence of the same name are deleted.
        restart: Replace another run; all its files are deleted.

    Returns:
        Whether the run resumes.

    Raises:
        ManifestError: The folder holds another run (the message lists what differs), or `out` cannot be a folder.
    """
    require_folder(out)
    run: dict[str, Any] = json.loads(json.dumps(decisive, default=str))
    mark = fingerprint(run)
    old = read_manifest(out) if (out / MANIFEST).is_file() else {}
    resuming = old.get("fingerprint") == mark and not restart
    if not resuming:
        # A run without results, such as one whose engine did not start, may be replaced.
        if not restart and any(_record_names(out)):
            before = old.get("run", {})
            differs = [key for key in {**before, **run} if before.get(key) != run.get(key)]
            how = f"differs in {', '.join(differs) or 'its format'}" if old else f"without {MANIFEST}"
            raise ManifestError(f"{out} holds another run ({how}); choose another folder, or restart to replace it")
        old = {}
    known: dict[str, str] = old.get("inputs", {})
    changed = [
        name for name in _record_names(out) if not resuming or known.get(name) != inputs.get(name, known.get(name))
    ]
    _forget(out, changed)
    if resuming and changed:
        logger.warning(
            "%s: boxes, stamps or images have changed since the first run, so these are tracked again: %s",
            out,
            ", ".join(changed),
        )
    manifest = {"format": 1, "fingerprint": mark, "run": run, "inputs": {**known, **inputs}, **circumstances}
    write_json(out / MANIFEST, manifest | {"earlier": _earlier(out, old, circumstances)})
    return resuming


def _record_names(out: Path) -> list[str]:
    """Sequences that have at least one file of a record."""
    return sorted({path.stem for folder, suffix in RECORD_FILES for path in (out / folder).glob(f"[!.]*.{suffix}")})


def _forget(out: Path, names: list[str]) -> None:
    """Delete all files of these sequences, and the summaries of the run."""
    files = [out / folder / f"{name}.{suffix}" for name in names for folder, suffix in RECORD_FILES]
    for path in [*files, *(out / name for name in SUMMARIES if names)]:
        path.unlink(missing_ok=True)


def _earlier(out: Path, old: Mapping[str, Any], now: Mapping[str, object]) -> list[dict[str, object]]:
    """`started`, `versions` and `git_revision` of former calls, under which the kept tracks were computed."""
    earlier: list[dict[str, object]] = list(old.get("earlier", []))
    if not old or not _record_names(out):
        return []
    differs = [f"{name} {before} -> {after}" for name, before, after in _versions_of(old, now) if before != after]
    if differs:
        logger.warning("%s continues under other versions: %s; the manifest names both", out, ", ".join(differs))
        earlier.append({key: old.get(key) for key in ("started", "versions", "git_revision")})
    return earlier


def _versions_of(old: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, object, object]]:
    """(name, then, now) of every package and of this package's revision."""
    then, today = old.get("versions", {}), now.get("versions", {})
    rows = [(name, then.get(name), today.get(name)) for name in {**then, **today}]
    return [*rows, ("git revision", old.get("git_revision"), now.get("git_revision"))]


def read_manifest(out: Path) -> dict[str, Any]:
    """Read a run's manifest.

    Raises:
        ManifestError: The folder has none, or it cannot be read.
    """
    try:
        manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text())
    except FileNotFoundError:
        raise ManifestError(f"{out} is not the folder of a run: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"cannot read {out / MANIFEST}: {error}") from error
    return manifest
