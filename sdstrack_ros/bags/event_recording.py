"""A Prophesee RAW file as a recording: packets, images of the events, and frames of a colour camera beside them."""

from __future__ import annotations

import logging
from itertools import tee
from typing import TYPE_CHECKING

from ckd_core.data.event_files import RawEvents
from ckd_core.frame import Modality, MultiModalFrame
from ckd_core.modality import events_to_image
from ckd_core.replay.recording import open_recording
from sdstrack_ros.bags.writer import write_bag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)
FPS = 30.0


def record_raw(raw: Path, target: Path, colors: str = "", fps: float = FPS) -> Path:
    """Write the events of a RAW file as a new recording.

    Args:
        raw: the file.
        target: folder of the recording; it must not exist.
        colors: a video, a quoted pattern of images or a sequence folder, which begins with the first event; '' for
            none.
        fps: images of events per second, where no colour camera sets it.

    Returns:
        The recording's folder.

    Raises:
        EventFileError: the file is no RAW file.
        ReplayError: the colour frames cannot be read.
        BagError: the recording cannot be written.
    """
    events = RawEvents(raw)
    color = open_recording([colors], None, fps) if colors else None
    fps = color.fps if color is not None else fps
    size = events.header.height, events.header.width
    for_images, for_packets = tee(events.slices(fps))  # the writer takes a frame and its events in turn

    def frames() -> Iterator[MultiModalFrame]:
        pictures: Iterator[NDArray[np.uint8] | None] | None = (
            (frame.rgb for frame in color.frames()) if color is not None else None
        )
        for index, part in enumerate(for_images):
            rgb = next(pictures, None) if pictures is not None else None
            if pictures is not None and rgb is None:
                return
            # A frame shows the events up to its stamp.
            yield MultiModalFrame((index + 1) / fps, rgb, events_to_image(part, size), Modality.EVENT)

    write_bag(target, frames(), events=for_packets, event_images=True)
    for remark in events.remarks():
        logger.warning("%s: %s", raw, remark)
    return target
