"""What `sdstrack align` does: frames of both cameras, their homography, an overlay to look at, a parameter file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ckd_core.deploy.alignment import Alignment, AlignmentError, align, overlay
from ckd_core.files import atomic_path, write_text
from ckd_core.replay.recording import open_recording
from sdstrack_ros.bags.frames import BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.storage.files import storage_suffix
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.parameters.checks import settings_from_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ckd_core.frame import Modality, MultiModalFrame

MAX_FRAMES = 12
_PARAMETER = re.compile(r"^(?P<indent>[ \t]*)aux_homography:[ \t]*(\[[^\]]*\]|[^\n]*)[ \t]*(#[^\n]*)?$", re.MULTILINE)
_BLOCK = re.compile(r"^(?P<indent>[ \t]*)ros__parameters:[ \t]*(#[^\n]*)?\n(?P<inner>[ \t]+)", re.MULTILINE)


def frames_to_align(
    source: Path, modality: Modality | None, topics: BagTopics, limit: int = MAX_FRAMES
) -> list[MultiModalFrame]:
    """Read frames with both images, evenly spread over a recording or a sequence folder.

    Args:
        source: rosbag2 folder, a single .mcap or .db3 file, or a sequence folder.
        modality: of the auxiliary camera; needed for a recording.
        topics: of a recording, where names do not tell.
        limit: number of frames.

    Raises:
        AlignmentError: a recording without a modality, or nothing with both images.
        TrackingError: whatever else the source refuses.
    """
    recording = not source.is_dir() or any(storage_suffix(path) for path in source.iterdir())
    if not recording:
        return _spread(open_recording([str(source)], modality).frames(), limit)
    if modality is None:
        raise AlignmentError(
            f"{source} is a recording, which does not tell the auxiliary camera's kind; give --modality"
        )
    with open_bag(source) as bag:
        found = choose_topics(bag, modality, topics)
        if not found.rgb or not found.aux:
            raise AlignmentError(
                f"{source}: expected a colour and an auxiliary topic; its topics are: {bag.describe()}"
            )
        return _spread((frame.frame for frame in read_bag_frames(bag, found, modality)), limit)


def _spread(frames: Iterable[MultiModalFrame], limit: int) -> list[MultiModalFrame]:
    """Keep up to `limit` frames with both images, evenly spread; never more than twice as many at a time."""
    kept: list[MultiModalFrame] = []
    every = 1
    both = (frame for frame in frames if all(frame.presence))
    for index, frame in enumerate(both):
        if index % every == 0:
            kept.append(frame)
        if len(kept) >= 2 * limit:
            kept, every = kept[::2], 2 * every
    return [kept[round(i)] for i in np.linspace(0, len(kept) - 1, min(limit, len(kept)))]


def align_cameras(
    source: Path,
    modality: Modality | None,
    topics: BagTopics,
    board: tuple[int, int] | None,
    picture: Path,
    config: Path | None,
    out: Path | None,
) -> Iterator[str]:
    """Find the homography, write the overlay and the parameter file, and yield lines for the user.

    Args:
        source: see `frames_to_align`.
        modality: see `frames_to_align`.
        topics: see `frames_to_align`.
        board: inner corners of a checkerboard; None compares edges.
        picture: file of the overlay (PNG).
        config: parameter file to complete; None writes none.
        out: file to write instead of `config`.
    """
    frames = frames_to_align(source, modality, topics)
    found = align(frames, board)
    yield found.describe()
    yield f"aux_homography: {homography_text(found)}"
    with atomic_path(picture) as temporary:
        if not cv2.imwrite(str(temporary), overlay(frames[len(frames) // 2], found.homography)[..., ::-1]):
            raise AlignmentError(f"cannot write {picture}; expected a name that ends in .png or .jpg")
    yield f"wrote {picture}: look at it before you trust the numbers"
    if config is not None:
        target = out or config
        write_text(target, with_homography(config, found))
        settings_from_yaml(target)  # what was written is what the node reads
        yield f"wrote {target}"


def homography_text(alignment: Alignment) -> str:
    """Return the nine numbers, row by row, as YAML has them."""
    return (
        "["
        + ", ".join(
            f"{float(value):.9g}" if value % 1 else f"{float(value):.1f}" for value in alignment.homography.ravel()
        )
        + "]"
    )


def with_homography(config: Path, alignment: Alignment) -> str:
    """Return a parameter file's text with `aux_homography` set; everything else, comments too, stays.

    Raises:
        AlignmentError: it has no block ros__parameters to write into.
    """
    settings_from_yaml(config)
    text = config.read_text(encoding="utf-8")
    line = f"aux_homography: {homography_text(alignment)}"
    if _PARAMETER.search(text):
        return _PARAMETER.sub(lambda found: f"{found['indent']}{line}", text, count=1)
    block = _BLOCK.search(text)
    if block is None:
        raise AlignmentError(
            f"{config} has no block ros__parameters with a parameter in it; expected one as in config/rgbt.yaml"
        )
    return f"{text[: block.start('inner')]}{block['inner']}{line}\n{text[block.start('inner') :]}"
