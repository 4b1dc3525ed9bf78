"""Open a rosbag2 recording (sqlite3, mcap, zstd) without a ROS distribution, and say clearly what is wrong with it."""

from __future__ import annotations

import heapq
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckd_core.text import MAX_LINE, MAX_REASON, shown
from sdstrack_ros.bags.storage.files import BagError as BagError
from sdstrack_ros.bags.storage.files import LocatedFiles, locate, open_storage, unpack_message
from sdstrack_ros.bags.storage.metadata import BagMetadata, disagreements, latched_by_qos
from sdstrack_ros.messages.stamps import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
EVENT_PACKET = "event_camera_msgs/msg/EventPacket"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
POSE = "geometry_msgs/msg/PoseStamped"
TF = "tf2_msgs/msg/TFMessage"
MAX_DURATION_NS = 30 * 86_400 * NS_PER_S  # of one recording; longer ones are those of a clock that was set
# Latched by convention; a recording that was converted or written by hand carries no QoS.
LATCHED_TOPICS = ("/tf_static", "/robot_description")

# Messages that rosbags does not know, dependencies first; fields as in vision_msgs 4.x and event_camera_msgs 1.x.
_DEFINITIONS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    DETECTIONS: "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    EVENT_PACKET: (
        "std_msgs/Header header\nuint32 height\nuint32 width\nuint64 seq\nuint64 time_base\n"
        "string encoding\nbool is_bigendian\nuint8[] events"
    ),
}


@dataclass(frozen=True, slots=True)
class BagTopic:
    """One topic of a recording.

    Attributes:
        name: name of the topic.
        type_name: message type as 'package/msg/Name'.
        count: number of recorded messages.
        latched: whether late subscribers also received its last messages (transient local).
    """

    name: str
    type_name: str
    count: int
    latched: bool = False


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One recorded message.

    Attributes:
        topic: name of the topic.
        type_name: message type as 'package/msg/Name'.
        time_ns: when it was recorded, on the recorder's clock.
        data: its serialised bytes (CDR).
    """

    topic: str
    type_name: str
    time_ns: int
    data: bytes


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """All message types that are read and written here."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in _DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    return store


class Bag:
    """An open recording.

    Attributes:
        path: the folder or file that was opened.
        topics: the recorded topics that can be read, sorted by name.
        start_ns: time of the first message, on the recorder's clock; 0 without messages.
        end_ns: just after the last message; 0 without messages.
        remarks: what is out of order about the recording, such as where metadata.yaml and the storage files differ.
    """

    def __init__(
        self, path: Path, readers: Sequence[Reader], metadata: BagMetadata | None, remarks: Sequence[str]
    ) -> None:
        self.path = path
        self._readers = sorted(readers, key=lambda reader: reader.start_time)
        written = {} if metadata is None else metadata.topics
        counts: dict[tuple[str, str], int] = {}
        latched = set(LATCHED_TOPICS)
        self._unreadable: dict[str, str] = {}
        for connection in (connection for reader in self._readers for connection in reader.connections):
            form = str(getattr(connection.ext, "serialization_format", "cdr"))
            if form != "cdr":
                self._unreadable[connection.topic] = form
                continue
            key = (connection.topic, connection.msgtype)
            counts[key] = counts.get(key, 0) + connection.msgcount
            offered = getattr(connection.ext, "offered_qos_profiles", ())
            known = written.get(connection.topic)
            if latched_by_qos(known.qos if known is not None and known.qos else offered):
                latched.add(connection.topic)
        self.topics = tuple(
            BagTopic(name, kind, count, name in latched) for (name, kind), count in sorted(counts.items())
        )
        filled = [reader for reader in self._readers if reader.message_count]
        self.start_ns = min((reader.start_time for reader in filled), default=0)
        self.end_ns = max((reader.end_time for reader in filled), default=0)
        self.remarks = tuple(
            shown(remark, MAX_LINE)
            for remark in (
                *remarks,
                *(
                    f"topic {shown(name)} is left out: serialised as '{shown(form)}'; expected cdr"
                    for name, form in sorted(self._unreadable.items())
                ),
            )
        )

    def describe(self) -> str:
        """List the topics with types and message counts, for error messages."""
        return ", ".join(f"{shown(t.name)} ({shown(t.type_name)}, {t.count})" for t in self.topics) or "no topics"

    def topic(self, name: str, *kinds: str) -> BagTopic:
        """Return the topic called `name`.

        Args:
            name: name of the topic.
            kinds: accepted message types; none given accepts all.

        Raises:
            BagError: there is no such topic, or its type is not one of `kinds`.
        """
        topic = next((topic for topic in self.topics if topic.name == name), None)
        if topic is None and name in self._unreadable:
            raise BagError(
                f"{self.path}: topic '{shown(name)}' is serialised as '{shown(self._unreadable[name])}'; expected cdr"
            )
        if topic is None:
            raise BagError(f"{self.path} has no topic '{name}'; its topics are: {self.describe()}")
        if kinds and topic.type_name not in kinds:
            raise BagError(
                f"{self.path}: topic '{shown(name)}' is {shown(topic.type_name)}; expected {' or '.join(kinds)}"
            )
        return topic

    def messages(
        self, topics: Sequence[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Yield the messages of these topics in recording order, from `start_ns` up to but excluding `stop_ns`.

        Raises:
            BagError: the recording is damaged or truncated, or holds fewer messages than its own index promises.
        """
        expected = sum(topic.count for topic in self.topics if topic.name in topics)
        parts = [self._part(index, topics, start_ns, stop_ns) for index in range(len(self._readers))]
        read = 0
        merged = heapq.merge(*parts, key=lambda part: part[0])
        while True:
            try:
                _, packed = next(merged)
                message = None if packed is None else replace(packed, data=unpack_message(packed.data))
            except StopIteration:
                break
            except Exception as error:
                # rosbags passes on errors of zstd, sqlite and struct; to the user they all mean the same.
                known = isinstance(error, BagError)
                reason = str(error) if known else shown(f"{type(error).__name__}: {error}", MAX_REASON)
                raise BagError(
                    f"{self.path} is damaged or truncated after {read} messages: {reason}; what is whole of an MCAP "
                    "file is read with --recover"
                ) from error
            if message is not None:
                read += 1
                yield message
        whole = (start_ns is None or start_ns <= self.start_ns) and (stop_ns is None or stop_ns >= self.end_ns)
        if whole and read < expected:
            raise BagError(f"{self.path} is damaged: its index promises {expected} messages of its topics, not {read}")

    def _part(
        self, index: int, topics: Sequence[str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[int, BagMessage | None]]:
        """Yield the time and content of one file's messages, after an empty entry at the time of its first one.

        So a file of a split recording is not touched before its turn comes.
        """
        reader = self._readers[index]
        wanted: list[Connection] = [
            c for c in reader.connections if c.topic in topics and c.topic not in self._unreadable
        ]
        if not wanted or not reader.message_count:
            return
        yield reader.start_time, None
        for connection, time_ns, data in reader.messages(wanted, start_ns, stop_ns):
            # a column of SQLite takes values of any type, and bytes(10**9) would be a gigabyte
            if not isinstance(time_ns, int) or not isinstance(data, (bytes, bytearray, memoryview)):
                raise BagError(
                    f"a message of '{shown(connection.topic)}' has the time {shown(repr(time_ns))} and data of type "
                    f"{type(data).__name__}; expected whole nanoseconds and bytes"
                )
            yield time_ns, BagMessage(connection.topic, connection.msgtype, time_ns, bytes(data))

    def decode(self, message: BagMessage) -> Any:
        """Deserialise a message.

        Raises:
            BagError: the type is unknown, or the bytes are not a message of that type.
        """
        if message.type_name not in typestore().types:
            raise BagError(
                f"{self.path}: topic '{shown(message.topic)}' has the unknown type {shown(message.type_name)}"
            )
        try:
            return typestore().deserialize_cdr(message.data, message.type_name)
        except Exception as error:  # rosbags raises whatever its generated code meets in broken bytes
            where = f"{self.path}: a message of '{shown(message.topic)}' at {message.time_ns} ns"
            raise BagError(f"{where} is not a valid {message.type_name}: {shown(error, MAX_REASON)}") from error


@contextmanager
def open_bag(path: Path | str) -> Iterator[Bag]:
    """Open a rosbag2 folder or a single .mcap or .db3 file.

    What the storage files hold decides. Where metadata.yaml says otherwise, `Bag.remarks` names the difference.

    Raises:
        BagError: the path does not exist, is not a recording, is incomplete, or is damaged.
    """
    path = Path(path)
    with ExitStack() as stack:
        try:
            located = locate(path)
        except OSError as error:
            raise BagError(f"{path} cannot be listed: {error.strerror or error}") from error
        opened = {file: stack.enter_context(open_storage(file)) for file in located.paths}
        readers = {file: reader for file, (reader, _, _) in opened.items()}
        _check_overlap(path, readers, located)
        remarks = [*located.remarks, *(remark for _, _, remarks in opened.values() for remark in remarks)]
        connections = [connection for reader in readers.values() for connection in reader.connections]
        if located.metadata is not None:
            if located.metadata.compression not in ("", "zstd"):
                raise BagError(
                    f"{path} is compressed with '{located.metadata.compression}'; expected zstd; convert it: "
                    "ros2 bag convert"
                )
            storages = [(file.name, kind) for file, (_, kind, _) in opened.items()]
            remarks += disagreements(located.metadata, storages, connections)
        remarks += _times(list(readers.values()))
        stray = sum(reader.message_count for reader in readers.values()) - sum(c.msgcount for c in connections)
        if stray:
            remarks.append(f"{stray} messages belong to no topic; they are not read")
        yield Bag(path, list(readers.values()), located.metadata, remarks)


def _times(readers: Sequence[Reader]) -> list[str]:
    """Say where the times of recording make no sense: the recorder's clock was set, or not set at all."""
    filled = [reader for reader in readers if reader.message_count]
    if not filled:
        return []
    start_ns, end_ns = min(r.start_time for r in filled), max(r.end_time for r in filled)
    if end_ns - start_ns > MAX_DURATION_NS:
        years = (end_ns - start_ns) / (365.25 * 86_400 * NS_PER_S)
        return [
            f"its messages lie {years:.1f} years apart, from {_date(start_ns)} to {_date(end_ns)}: the recorder's "
            "clock was set while it recorded"
        ]
    return ["its first message was recorded at time 0: the recorder had no clock"] if start_ns == 0 else []


def _date(time_ns: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_ns // 1000):%Y-%m-%d}"


def _check_overlap(path: Path, readers: Mapping[Path, Reader], located: LocatedFiles) -> None:
    """Refuse files that lie in one folder but are not parts of one recording, such as a copy beside its original.

    Parts of a split recording follow each other; a second of overlap is the recorder's queue.
    """
    filled = {file: reader for file, reader in readers.items() if reader.message_count}
    for extra in (file for file in located.extra if file in filled):
        for other, reader in filled.items():
            if other == extra:
                continue
            mine = filled[extra]
            overlap_ns = min(mine.end_time, reader.end_time) - max(mine.start_time, reader.start_time)
            if overlap_ns >= min(mine.duration, reader.duration, NS_PER_S):
                raise BagError(
                    f"{path}: {extra.name} and {other.name} hold the same time, so they are not parts of one "
                    "recording; move one of them away, or name the one to read"
                )
