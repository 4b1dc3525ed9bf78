"""Confines the only path that a parameter can name, because anyone on the network may set parameters."""

from __future__ import annotations

import os
from pathlib import Path

from ckd_core.errors import TrackingError

# Folders in which `weights` must lie; set by the user who starts the node, never over the network.
ALLOWED_VARIABLE = "SDSTRACK_WEIGHTS_DIRS"
SUFFIX = ".safetensors"


class PathError(TrackingError):
    """A path that a parameter may not name."""


def weights_path(text: str) -> Path | None:
    """Return the absolute path that the parameter `weights` names, links followed; None where it is empty.

    It must name a regular file *.safetensors, or a folder (an export). Where the environment variable
    SDSTRACK_WEIGHTS_DIRS is set (folders separated as in PATH), it must lie in one of them.

    Raises:
        PathError: anything else: devices and pipes (reading them may never end), other files, other places.

    """
    if not text:
        return None
    try:
        path = Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise PathError(f"weights '{text}' is not a path: {error}") from error
    allowed = [Path(folder).expanduser().resolve() for folder in _allowed()]
    if allowed and not any(path.is_relative_to(folder) for folder in allowed):
        places = ", ".join(map(str, allowed))
        raise PathError(f"weights '{text}' is {path}; {ALLOWED_VARIABLE} allows only paths below {places}")
    if path.is_dir():
        return path
    if path.suffix != SUFFIX:
        raise PathError(f"weights '{text}' is {path}; expected a file *{SUFFIX} or the folder of an export")
    if path.exists() and not path.is_file():
        raise PathError(f"weights '{text}' is {path}, which is not a regular file")
    return path


def _allowed() -> list[str]:
    return [folder for folder in os.environ.get(ALLOWED_VARIABLE, "").split(os.pathsep) if folder]
