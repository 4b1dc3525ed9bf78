"""The one path that a parameter can name, confined: anyone on the network may set a parameter. No ROS import."""

from __future__ import annotations

import os
from pathlib import Path

from ckd_core.errors import TrackingError

# Set by whoever starts the node, never over the network: folders outside of which `weights` may not point.
ALLOWED_VARIABLE = "SDSTRACK_WEIGHTS_DIRS"
SUFFIX = ".safetensors"


class PathError(TrackingError):
    """A path that a parameter may not name."""


def weights_path(text: str) -> Path | None:
    """Absolute path of the parameter `weights`, links followed; None where it is empty.

    It names a regular file *.safetensors, or a folder (an export), and lies below one of the folders in the
    environment variable SDSTRACK_WEIGHTS_DIRS (separated as PATH is) where that is set.

    Errors: PathError for anything else: devices and pipes, which never end, other files, other places.
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
        raise PathError(f"weights '{text}' is {path}; {ALLOWED_VARIABLE} allows only what lies below {places}")
    if path.is_dir():
        return path
    if path.suffix != SUFFIX:
        raise PathError(f"weights '{text}' is {path}; expected a file *{SUFFIX} or the folder of an export")
    if path.exists() and not path.is_file():
        raise PathError(f"weights '{text}' is {path}, which is no regular file")
    return path


def _allowed() -> list[str]:
    return [folder for folder in os.environ.get(ALLOWED_VARIABLE, "").split(os.pathsep) if folder]
