"""Frames to record, and recordings built message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.bags.frames import BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.scoring import BagInput, bag_input
from sdstrack_ros.bags.storage.opening import IMAGE, open_bag, typestore
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.types import SyncConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT, SIDE, SPEED = 40, 20, 4
PERIOD_S = 1 / 30
AUX_DTYPES = {
    Modality.DEPTH: np.uint16,
    Modality.THERMAL: np.uint8,
    Modality.EVENT: np.uint8,
}


def random_frames(count: int = 8, modality: Modality = Modality.THERMAL, aux_type: Any = None) -> list[MultiModalFrame]:
    """Frames of random pixels: colour [36, 48, 3] uint8, auxiliary [18, 24] or, for events, [18, 24, 3]."""
    rng = np.random.default_rng(1)
    kind = np.dtype(aux_type or AUX_DTYPES[modality])
    shape = (18, 24, 3) if modality is Modality.EVENT else (18, 24)
    frames = []
    for i in range(count):
        rgb = rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)
        aux = (rng.integers(0, 256, shape) * (37.5 if kind.kind == "f" else 1)).astype(kind)
        frames.append(MultiModalFrame(i / 30, rgb, aux, modality))
    return frames


def read_frames(
    bag: Path | str,
    modality: Modality,
    topics: BagTopics | None = None,
    config: SyncConfig | None = None,
    **options: Any,
) -> Iterator[MultiModalFrame]:
    """Open a recording and yield its frames; `options` are further arguments of `read_bag_frames`."""
    with open_bag(bag) as recording:
        complete = choose_topics(recording, modality, topics)
        for frame in read_bag_frames(recording, complete, modality, config, **options):
            yield frame.frame


def same_images(a: MultiModalFrame, b: MultiModalFrame) -> bool:
    """Whether both frames have the same images, in type and value, and lack the same ones."""
    return all(
        (x is None and y is None) or (x is not None and y is not None and x.dtype == y.dtype and np.array_equal(x, y))
        for x, y in ((a.rgb, b.rgb), (a.aux, b.aux))
    )


def custom_bag(path: Path, messages: list[tuple[str, str, int, Any]]) -> Path:
    """Write a bag of (topic, type, time in ns, message or its CDR bytes) and return its path."""
    from rosbags.rosbag2 import Writer

    with Writer(path, version=9) as writer:
        connections = {}
        for topic, kind, time_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            data = message if isinstance(message, bytes) else bytes(typestore().serialize_cdr(message, kind))
            writer.write(connections[topic], time_ns, data)
    return path


def stamped_header(stamp_ns: int) -> Any:
    """std_msgs/Header of the rosbags type store, with frame id `cam`."""
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](stamp_ns // NS_PER_S, stamp_ns % NS_PER_S)
    return types["std_msgs/msg/Header"](stamp, "cam")


def image_message(stamp_ns: int, encoding: str = "mono8", size: int = 12, step: int = 4) -> Any:
    """sensor_msgs/Image of the rosbags type store: 4 x 3 pixels, whatever the other arguments (bytes) claim."""
    return typestore().types[IMAGE](stamped_header(stamp_ns), 3, 4, encoding, 0, step, np.zeros(size, np.uint8))


def walking_square(count: int = COUNT) -> tuple[list[MultiModalFrame], list[BoundingBox | None]]:
    """A bright square that walks to the right on a dark ground; absent in frames 10 and 11."""
    frames, boxes = [], []
    for i in range(count):
        rgb = np.random.default_rng(i).integers(0, 40, (64, 240, 3), dtype=np.uint8)
        aux = rgb[..., 0].copy()
        x = 10 + i * SPEED
        if i not in (10, 11):
            rgb[20 : 20 + SIDE, x : x + SIDE] = 250
            aux[20 : 20 + SIDE, x : x + SIDE] = 250
        frames.append(MultiModalFrame(i * PERIOD_S, rgb, aux, Modality.THERMAL))
        boxes.append(None if i in (10, 11) else BoundingBox(x, 20, SIDE, SIDE))
    return frames, boxes


class BrightestSpot:
    """A tracker whose result is known: the bright square's box, LOST where there is none."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> BoundingBox:
        """Remember the box and begin a list of stamps."""
        self.box = box
        self.stamps = [frame.stamp]
        return box

    def update(self, frame: MultiModalFrame) -> TrackResult:
        """Return the bright square's box."""
        self.stamps.append(frame.stamp)
        assert frame.rgb is not None
        ys, xs = np.nonzero(frame.rgb[..., 0] > 200)
        if not len(xs):
            return TrackResult(frame.stamp, self.box, 0.0, TrackState.LOST)
        x, y = int(xs.min()), int(ys.min())
        self.box = BoundingBox(x, y, int(xs.max()) + 1 - x, int(ys.max()) + 1 - y)
        return TrackResult(frame.stamp, self.box, 1.0, TrackState.TRACKING)

    def reset(self) -> None:
        """Forget the stamps."""
        self.stamps = []


def thermal_input(path: Path) -> BagInput:
    """A thermal recording as the evaluation reads it."""
    return bag_input(path, Modality.THERMAL, BagTopics(), SyncConfig())
