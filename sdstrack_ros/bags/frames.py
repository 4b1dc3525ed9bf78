"""The frames of a rosbag2 recording, exactly as the node would see them.

Reading goes through the node's own codec, synchronizer, event window and frame builder. Its clock is the recording's,
so the same recording gives the same frames every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.frame import Modality, MultiModalFrame
from ckd_core.text import shown
from sdstrack_ros.bags.storage.opening import (
    COMPRESSED_IMAGE,
    DETECTIONS,
    EVENT_PACKET,
    IMAGE,
    Bag,
    BagError,
    BagTopic,
)
from sdstrack_ros.messages.event_window import EventDecodeError
from sdstrack_ros.messages.header_texts import unusable_text
from sdstrack_ros.messages.stamps import NS_PER_S, stamp_of
from sdstrack_ros.sync.frame_builder import MILLIMETRE_M, FrameBuilder, Rejection, make_synchronizer
from sdstrack_ros.sync.pair_watch import PairWatch
from sdstrack_ros.sync.stamp_guard import StampGuard
from sdstrack_ros.sync.types import SyncConfig, SyncCounters, SyncedSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray


REMARK_FRAMES = 10  # colour frames after which pairing is judged again
_COLOR_WORDS = ("color", "colour", "rgb", "visible", "left")
_AUX_WORDS = {
    Modality.DEPTH: ("depth",),
    Modality.THERMAL: ("thermal", "infrared", "lwir", "flir", "ir"),
    Modality.EVENT: ("event",),
}


@dataclass(frozen=True, slots=True)
class BagTopics:
    """Which topics to read; an empty name means none of that kind."""

    rgb: str = ""
    aux: str = ""
    truth: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class BagFrame:
    """A frame, and when the node would have tracked it.

    Attributes:
        frame: the images.
        stamp_ns: stamp of the messages' headers.
        released_ns: when the synchronizer released the frame, on the recording's clock.
        epoch: rises with every jump back in time.
        colors: number of frames with a colour image so far, with this one.
    """

    frame: MultiModalFrame
    stamp_ns: int
    released_ns: int
    epoch: int = 0
    colors: int = 0


def choose_topics(bag: Bag, modality: Modality, wanted: BagTopics | None = None) -> BagTopics:
    """Find the topics that the caller did not name, by the types and names of those recorded.

    Raises:
        BagError: a named topic is missing or of the wrong type, or the name and type of a topic that was not named do
            not identify it; the message lists the recorded topics.
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
            f"{bag.path}: no topic name identifies the colour or the {modality.value} images; name the topics to read; "
            f"the recording's topics are: {bag.describe()}"
        )
    for name in filter(None, (rgb, aux, truth)):
        kinds = [topic.type_name for topic in bag.topics if topic.name == name and topic.count]
        if len(kinds) > 1:
            found = ", ".join(map(shown, kinds))
            raise BagError(f"{bag.path}: {shown(name)} has messages of {len(kinds)} types ({found}); expected one")
    return BagTopics(rgb, aux, truth)


def _guess(bag: Bag, kinds: tuple[str, ...], words: tuple[str, ...], excluded: set[str]) -> str:
    """Return the one topic of these types whose name contains one of the words, or '' without one.

    Raises:
        BagError: there are several such topics.
    """

    def matches(topic: BagTopic) -> bool:
        parts = topic.name.replace("-", "_").replace("_", "/").lower().split("/")
        return topic.type_name in kinds and any(part.startswith(word) for part in parts for word in words)

    found = (topic.name for topic in bag.topics if topic.name not in excluded and topic.count and matches(topic))
    matching = list(dict.fromkeys(found))  # one may have several types
    if len(matching) > 1:
        raise BagError(
            f"{bag.path}: {len(matching)} topics could be meant ({', '.join(matching)}); name the one to read"
        )
    return matching[0] if matching else ""


def read_bag_frames(
    bag: Bag,
    topics: BagTopics,
    modality: Modality,
    config: SyncConfig | None = None,
    *,
    rgb_from_reference: NDArray[np.float64] | None = None,
    aux_from_reference: NDArray[np.float64] | None = None,
    depth_unit_m: float = MILLIMETRE_M,
    thermal_range: tuple[float, float] | None = None,
    max_image_bytes: int | None = None,
    on_reject: Callable[[Rejection], object] | None = None,
    counters: Callable[[SyncCounters], object] | None = None,
    on_remark: Callable[[str], object] | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> Iterator[BagFrame]:
    """Yield the frames of an open recording in the order in which the node would track them.

    Args:
        bag: the open recording.
        topics: what to read.
        modality: of the auxiliary camera.
        config: of the synchronizer; None takes its defaults.
        rgb_from_reference: see `FrameBuilder`.
        aux_from_reference: see `FrameBuilder`.
        depth_unit_m: see `FrameBuilder`.
        thermal_range: see `FrameBuilder`.
        max_image_bytes: see `FrameBuilder`.
        on_reject: called for every image that cannot be used; reading goes on, as in the node.
        counters: called once with the synchronizer's counters when the recording ends.
        on_remark: called when the recording ends with each reason why pairs did not come, or cannot be one view; the
            node says the same in ~/status.
        start_s: where to start, in seconds from the beginning of the recording.
        duration_s: how much to read, in seconds of recording time; None reads to the end.

    Raises:
        BagError: the recording is damaged.
    """
    config = config or SyncConfig()
    packets = {topic.name: topic.type_name for topic in bag.topics}.get(topics.aux) == EVENT_PACKET
    sync, guard = make_synchronizer(config, packets), StampGuard(config)
    registered = aux_from_reference is not None or rgb_from_reference is not None
    watch = PairWatch(config, topics.rgb, topics.aux, modality.value, packets=packets, registered=registered)
    builder = FrameBuilder(
        modality,
        topics.rgb,
        topics.aux,
        rgb_from_reference,
        aux_from_reference,
        depth_unit_m,
        thermal_range,
        watch,
        max_image_bytes,
    )
    remarks: dict[str, str] = {}

    colors = 0

    def build(sets: list[SyncedSet]) -> Iterator[BagFrame]:
        nonlocal colors
        for synced in sets:
            watch.released(synced)
            frame, rejections = builder.build(synced)
            for rejection in rejections:
                _report(on_reject, rejection)
            if frame is not None:
                colors += frame.rgb is not None
                yield BagFrame(frame, synced.stamp_ns, synced.released_ns, synced.epoch, colors)
            if not sync.counters.color_in % REMARK_FRAMES:
                remarks.update(watch.remarks())

    start_ns = bag.start_ns + round(start_s * NS_PER_S)
    stop_ns = None if duration_s is None else start_ns + round(duration_s * NS_PER_S)
    now_ns = start_ns
    for message in bag.messages([name for name in (topics.rgb, topics.aux) if name], start_ns, stop_ns):
        now_ns = message.time_ns
        while (deadline_ns := sync.next_deadline_ns) is not None and deadline_ns < now_ns:
            yield from build(sync.poll(deadline_ns))
        decoded = bag.decode(message)
        stamp_ns = stamp_of(decoded)
        stream = "rgb" if message.topic == topics.rgb else "aux"
        reason = unusable_text(decoded) or guard.refusal(stream, decoded.header.stamp, now_ns, now_ns)
        if reason:
            _report(on_reject, Rejection(stream, message.topic, f"{message.topic}: {reason}"))
            continue
        watch.seen(stream, decoded, stamp_ns, now_ns)
        if message.topic == topics.rgb:
            yield from build(sync.add_color(stamp_ns, now_ns, decoded))
            continue
        try:
            released = sync.add_aux(stamp_ns, now_ns, decoded)
        except EventDecodeError as error:
            _report(on_reject, Rejection("aux", topics.aux, str(error)))
            continue
        yield from build(released)
    while (deadline_ns := sync.next_deadline_ns) is not None:
        yield from build(sync.poll(max(deadline_ns, now_ns)))
    remarks.update(watch.remarks())
    if on_remark is not None:
        for text in remarks.values():
            on_remark(text)
    if counters is not None:
        counters(sync.counters)


def _report(on_reject: Callable[[Rejection], object] | None, rejection: Rejection) -> None:
    if on_reject is not None:
        on_reject(rejection)
