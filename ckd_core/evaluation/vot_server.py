"""Our tracker behind the TraX protocol, so that the VOT toolkit can run it: `vot evaluate`, `vot test`, `vot analysis`.

The toolkit starts `sdstrack vot ...` as a process and communicates over its standard streams (or TRAX_SOCKET). It sends
images as paths, and gets the box and its confidence. Needs the package vot-trax; the toolkit itself is vot-toolkit.
"""

from __future__ import annotations

import configparser
import io
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ckd_core
from ckd_core.data.sequences import DEFAULT_FPS, read_auxiliary, read_color
from ckd_core.errors import TrackingError
from ckd_core.files import write_text
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckd_core.tracking.tracker import FrameTracker

CHANNELS = {Modality.DEPTH: "depth", Modality.THERMAL: "ir"}


class VotError(TrackingError):
    """A session that TraX does not support, or that cannot be set up."""


def channel_of(modality: Modality) -> str:
    """Name of the auxiliary channel in TraX.

    Raises:
        VotError: Events, for which it has none.
    """
    try:
        return CHANNELS[modality]
    except KeyError:
        raise VotError(
            f"TraX has no channel for {modality.value}; expected one of {', '.join(c.value for c in CHANNELS)}"
        ) from None


def read_frame(paths: Mapping[str, str], index: int, modality: Modality) -> MultiModalFrame:
    """Read a frame from the image files of its channels; a channel that the client does not send is missing."""
    aux = paths.get(channel_of(modality))
    color = paths.get("color")
    return MultiModalFrame(
        stamp=index / DEFAULT_FPS,
        rgb=read_color(Path(color)) if color else None,
        aux=read_auxiliary(Path(aux), modality) if aux else None,
        modality=modality,
    )


def serve(tracker: FrameTracker, modality: Modality, name: str) -> int:
    """Serve one TraX client until it quits; returns how many frames were tracked.

    Any error ends the session with its message, which the toolkit shows.

    Raises:
        VotError: vot-trax is not installed, or the client starts with more or less than one object.
    """
    try:
        from trax import TraxStatus
        from trax.image import Image
        from trax.region import Region
        from trax.server import Server
    except ImportError as error:
        raise VotError("TraX needs the package vot-trax (pip install vot-trax)") from error
    index, tracked = 0, 0
    channels = ["color", channel_of(modality)]
    server = Server([Region.RECTANGLE], [Image.PATH], channels, name, f"sdstrack {ckd_core.__version__}", "sdstrack")
    with server:
        while True:
            request = server.wait()
            if request.type == TraxStatus.QUIT:
                return tracked
            paths = {channel: image.path() for channel, image in request.image.items()}
            if request.type == TraxStatus.INITIALIZE:
                box, index = _only_object(request.objects), 0
                tracker.start(read_frame(paths, index, modality), box)
                server.status([(_rectangle(box), {})])
                continue
            index, tracked = index + 1, tracked + 1
            result = tracker.update(read_frame(paths, index, modality))
            server.status([(_rectangle(result.box), {"confidence": f"{result.score:.6f}"})])


def _only_object(objects: Sequence[tuple[Any, Any]]) -> BoundingBox:
    if len(objects) != 1:
        raise VotError(f"the client starts {len(objects)} objects; expected one")
    return BoundingBox(*(float(value) for value in objects[0][0].bounds()))


def _rectangle(box: BoundingBox) -> Any:
    from trax.region import Rectangle

    return Rectangle.create(*box)


def registry_entry(identifier: str, label: str, arguments: Sequence[str]) -> str:
    """Entry for the toolkit's `trackers.ini`: this Python, this package, `sdstrack vot` with `arguments`.

    Raises:
        VotError: An identifier that the toolkit does not take.
    """
    if not identifier.isidentifier():
        raise VotError(f"identifier {identifier!r}; expected letters, digits and underscores")
    command = [sys.executable, "-m", "ckd_core.cli", "vot", *arguments]
    entry = configparser.ConfigParser(interpolation=None)
    entry[identifier] = {
        "label": label,
        "protocol": "trax",
        "command": shlex.join(command),
        "timeout": "120",
        "env_PYTHONPATH": str(Path(ckd_core.__file__).resolve().parents[1]),
    }
    stream = io.StringIO()
    entry.write(stream)
    return stream.getvalue()


def write_registry(path: Path, entry: str) -> None:
    """Put an entry into a `trackers.ini`, in place of one with the same identifier; others stay.

    Raises:
        VotError: The file is not a registry.
    """
    registry, new = configparser.ConfigParser(interpolation=None), configparser.ConfigParser(interpolation=None)
    try:
        registry.read(path)
    except configparser.Error as error:
        raise VotError(f"{path} is not a tracker registry of the VOT toolkit: {error}") from error
    new.read_string(entry)
    for identifier in new.sections():
        registry[identifier] = dict(new[identifier])
    stream = io.StringIO()
    registry.write(stream)
    write_text(path, stream.getvalue())
