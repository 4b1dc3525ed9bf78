"""A run's state in one safetensors file: tensors by name, everything else as JSON in the header. No pickle anywhere.

Written to a temporary name beside the target, flushed, then renamed: a crash, a kill or a full disk leaves the
previous checkpoint as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ckd_core.errors import TrackingError
from ckd_core.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

STATE_KEY = "state"
FORMAT = "sdstrack_training_1"


class RunStateError(TrackingError):
    """A training checkpoint that cannot be written, read, or used for this run."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write `tensors` and the JSON-able `state` atomically.

    Raises:
        RunStateError: they cannot be written (full disk, no permission, ...).
    """
    plain = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    try:
        with atomic_path(path, sync=True) as temporary:
            save_file(plain, temporary, metadata={"format": FORMAT, STATE_KEY: json.dumps(state)})
    except (OSError, SafetensorError) as error:
        kept = "; the previous one there is untouched" if path.exists() else ""
        size = sum(t.numel() * t.element_size() for t in plain.values()) / 1e6
        raise RunStateError(f"cannot save the checkpoint {path} ({size:.1f} MB): {error}{kept}") from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read (tensors, state).

    Raises:
        RunStateError: a missing, broken or foreign file.
    """
    if not path.is_file():
        raise RunStateError(f"no checkpoint at {path}; expected a file that sdstrack train wrote")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise RunStateError(
                    f"{path} is not a training checkpoint (format {metadata.get('format')!r}; expected {FORMAT!r})"
                )
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise RunStateError(f"cannot read the checkpoint {path}: {error}") from error
    return tensors, json.loads(metadata[STATE_KEY])


def require_writable(folder: Path) -> None:
    """Make `folder`, and a file in it that is removed at once.

    Raises:
        RunStateError: that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunStateError(f"cannot write to {folder}: {error.strerror or error}") from error


def also_as(path: Path, other: Path) -> None:
    """Give the file `path` a second name, by a hard link where the file system has them, else by a copy.

    Raises:
        RunStateError: the file system refuses both.
    """
    try:
        with atomic_path(other) as temporary:
            temporary.unlink()  # a link needs a free name
            try:
                os.link(path, temporary)
            except OSError:
                shutil.copyfile(path, temporary)
    except OSError as error:
        raise RunStateError(f"cannot save the checkpoint {other}: {error}") from error


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Pick the tensors under `prefix/`, without it."""
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
