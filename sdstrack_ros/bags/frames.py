"""Recordings: the frames of a rosbag2 recording exactly as the node would see them, written and played ones too.

Reading goes through the node's own codec, synchronizer, event window and frame builder; the time that passes is the
time of recording, so the same recording gives the same frames every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckd_core.frame import Modality, MultiModalFrame
from sdstrack_ros.bags.player import play
from sdstrack_ros.bags.storage import (
    COMPRESSED_IMAGE,
    DETECTIONS,
    EVENT_PACKET,
    IMAGE,
    Bag,
    BagError,
    BagTopic,
    open_bag,
)
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.messages.event_window import EventDecodeError
from sdstrack_ros.sync.frame_builder import MILLIMETRE_M, FrameBuilder, Rejection, make_synchronizer
from sdstrack_ros.sync.types import NS_PER_S, SyncConfig, SyncCounters, SyncedSet
from sdstrack_ros.tracking.target_requests import detection_box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ckd_core.frame import BoundingBox

__all__ = [
    "BagError", "BagFrame", "BagTopics", "TruthBox", "choose_topics", "open_bag", "play", "read_bag_frames",
    "read_frames", "read_truth_boxes", "write_bag",
]  # fmt: skip

_COLOR_WORDS = ("color", "colour", "rgb", "visible", "left")
_AUX_WORDS = {
    Modality.DEPTH: ("depth",),
    Modality.THERMAL: ("thermal", "infrared", "lwir", "flir", "ir"),
    Modality.EVENT: ("event",),
}


@dataclass(frozen=True, slots=True)
class BagTopics:
    """Which topics to read; empty = none of the kind."""

    rgb: str = ""
    aux: str = ""
    truth: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class BagFrame:
    """A frame and when the node would have got it: `released_ns` on the recording's clock, `stamp_ns` the header's."""

    frame: MultiModalFrame
    stamp_ns: int
    released_ns: int


@dataclass(frozen=True, slots=True)
class TruthBox:
    """The true box at a stamp; None: the object is absent there."""

    stamp_ns: int
    box: BoundingBox | None


def choose_topics(bag: Bag, modality: Modality, wanted: BagTopics | None = None) -> BagTopics:
    """Complete the topics that the caller did not name from what is recorded.

    Errors: BagError, listing what is there, when a named topic is missing or of a wrong type, or when a topic that was
    not named cannot be told from its type and name.
    """
    wanted = wanted or BagTopics()
    images = (IMAGE, COMPRESSED_IMAGE)
    aux_kinds = (*images, EVENT_PACKET) if modality is Modality.EVENT else images
    if wanted.rgb:
        bag.topic(wanted.rgb, *images)
    if wanted.aux:
        bag.topic(wanted.aux, *aux_kinds)
    if wanted.truth:
        bag.topic(wanted.truth, DETECTIONS)
    aux = wanted.aux or _guess(bag, aux_kinds, _AUX_WORDS[modality], {wanted.rgb})
    rgb = wanted.rgb or _guess(bag, images, _COLOR_WORDS, {aux})
    truths = [topic.name for topic in bag.topics if topic.type_name == DETECTIONS and "truth" in topic.name]
    truth = wanted.truth or (truths[0] if len(truths) == 1 else "")
    if not rgb and not aux:
        raise BagError(
            f"{bag.path}: cannot tell the colour and the {modality.value} topic by their names, name them; "
            f"there are: {bag.describe()}"
        )
    return BagTopics(rgb, aux, truth)


def _guess(bag: Bag, kinds: tuple[str, ...], words: tuple[str, ...], taken: set[str]) -> str:
    """Return the one topic of these types whose name contains one of the words; '' when there is none or several."""

    def matches(topic: BagTopic) -> bool:
        parts = topic.name.replace("-", "_").replace("_", "/").lower().split("/")
        return topic.type_name in kinds and any(part.startswith(word) for part in parts for word in words)

    found = [topic for topic in bag.topics if topic.name not in taken and topic.count and matches(topic)]
    if len(found) > 1:
        raise BagError(
            f"{bag.path}: {len(found)} topics could be meant ({', '.join(topic.name for topic in found)}); name one"
        )
    return found[0].name if found else ""


def read_bag_frames(
    bag: Bag,
    topics: BagTopics,
    modality: Modality,
    config: SyncConfig | None = None,
    *,
    rgb_from_reference: NDArray[np.float64] | None = None,
    aux_from_reference: NDArray[np.float64] | None = None,
    depth_unit_m: float = MILLIMETRE_M,
    on_reject: Callable[[Rejection], object] | None = None,
    counters: Callable[[SyncCounters], object] | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> Iterator[BagFrame]:
    """Frames of an open recording in the order in which the node would track them.

    on_reject is told of images that cannot be used (the node counts and reports them, and goes on; so do we);
    counters gets the synchronizer's when the recording ends. start_s, duration_s: the part to read, by recording time.
    Homographies and depth_unit_m: see `FrameBuilder`.
    """
    kinds = {topic.name: topic.type_name for topic in bag.topics}
    sync = make_synchronizer(config or SyncConfig(), kinds.get(topics.aux) == EVENT_PACKET)
    builder = FrameBuilder(modality, topics.rgb, topics.aux, rgb_from_reference, aux_from_reference, depth_unit_m)

    def built(sets: list[SyncedSet]) -> Iterator[BagFrame]:
        for synced in sets:
            frame, rejections = builder.build(synced)
            for rejection in rejections:
                _tell(on_reject, rejection)
            if frame is not None:
                yield BagFrame(frame, synced.stamp_ns, synced.left_ns)

    start_ns = bag.start_ns + round(start_s * NS_PER_S)
    stop_ns = None if duration_s is None else start_ns + round(duration_s * NS_PER_S)
    now_ns = start_ns
    for message in bag.messages([name for name in (topics.rgb, topics.aux) if name], start_ns, stop_ns):
        now_ns = max(now_ns, message.time_ns)  # split recordings may overlap by a message
        while (deadline_ns := sync.next_deadline_ns) is not None and deadline_ns < now_ns:
            yield from built(sync.poll(deadline_ns))
        decoded = bag.decode(message)
        stamp = decoded.header.stamp
        stamp_ns = int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
        if message.topic == topics.rgb:
            yield from built(sync.add_color(stamp_ns, now_ns, decoded))
            continue
        try:
            left = sync.add_aux(stamp_ns, now_ns, decoded)
        except EventDecodeError as error:
            _tell(on_reject, Rejection("aux", topics.aux, str(error)))
            continue
        yield from built(left)
    while (deadline_ns := sync.next_deadline_ns) is not None:
        yield from built(sync.poll(max(deadline_ns, now_ns)))
    if counters is not None:
        counters(sync.counters)


def _tell(on_reject: Callable[[Rejection], object] | None, rejection: Rejection) -> None:
    if on_reject is not None:
        on_reject(rejection)


def read_frames(
    bag: Path | str,
    modality: Modality,
    topics: BagTopics | None = None,
    config: SyncConfig | None = None,
    **options: Any,
) -> Iterator[MultiModalFrame]:
    """Open a recording and yield its frames; topics that are not named are found by name, see `choose_topics`.

    options: those of `read_bag_frames`. Errors: BagError.
    """
    with open_bag(bag) as opened:
        chosen = choose_topics(opened, modality, topics)
        for frame in read_bag_frames(opened, chosen, modality, config, **options):
            yield frame.frame


def read_truth_boxes(bag: Bag, topic: str) -> tuple[TruthBox, ...]:
    """True boxes of a Detection2DArray topic, by stamp; the first detection counts, an empty array means absent.

    Errors: BagError for a missing topic or another type.
    """
    bag.topic(topic, DETECTIONS)
    boxes: dict[int, BoundingBox | None] = {}
    for message in bag.messages([topic]):
        array = bag.decode(message)
        stamp_ns = int(array.header.stamp.sec) * NS_PER_S + int(array.header.stamp.nanosec)
        boxes[stamp_ns] = None
        if array.detections:
            boxes[stamp_ns] = detection_box(array.detections[0])
    return tuple(TruthBox(stamp_ns, boxes[stamp_ns]) for stamp_ns in sorted(boxes))
