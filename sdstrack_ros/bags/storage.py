"""Open a rosbag2 recording (sqlite3, mcap, zstd) without a ROS distribution, and say clearly what is wrong with it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Reader
    from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
EVENT_PACKET = "event_camera_msgs/msg/EventPacket"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
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


class BagError(TrackingError):
    """A recording that cannot be used; the message names the file, the cause and what the recording contains."""


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
        topics: the recorded topics, sorted by name.
        start_ns: time of the first message, on the recorder's clock; 0 without messages.
        end_ns: time of the last message; 0 without messages.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self._reader = reader
        counts: dict[tuple[str, str], int] = {}
        latched = set(LATCHED_TOPICS)
        for connection in reader.connections:
            key = (connection.topic, connection.msgtype)
            counts[key] = counts.get(key, 0) + connection.msgcount
            offered = getattr(connection.ext, "offered_qos_profiles", ())
            if any(qos.durability.name == "TRANSIENT_LOCAL" for qos in offered):
                latched.add(connection.topic)
        self.topics = tuple(
            BagTopic(name, kind, count, name in latched) for (name, kind), count in sorted(counts.items())
        )
        self.start_ns = reader.start_time if reader.message_count else 0
        self.end_ns = reader.end_time if reader.message_count else 0

    def describe(self) -> str:
        """List the topics with types and message counts, for error messages."""
        return ", ".join(f"{t.name} ({t.type_name}, {t.count})" for t in self.topics) or "no topics"

    def topic(self, name: str, *kinds: str) -> BagTopic:
        """Return the topic called `name`.

        Args:
            name: name of the topic.
            kinds: accepted message types; none given accepts all.

        Raises:
            BagError: there is no such topic, or its type is not one of `kinds`.
        """
        topic = next((topic for topic in self.topics if topic.name == name), None)
        if topic is None:
            raise BagError(f"{self.path} has no topic '{name}'; its topics are: {self.describe()}")
        if kinds and topic.type_name not in kinds:
            raise BagError(f"{self.path}: topic '{name}' is {topic.type_name}; expected {' or '.join(kinds)}")
        return topic

    def messages(
        self, topics: Sequence[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Yield the messages of these topics in recording order, from `start_ns` up to but excluding `stop_ns`.

        Raises:
            BagError: the recording is damaged or truncated.
        """
        wanted: list[Connection] = [c for c in self._reader.connections if c.topic in topics]
        if not wanted:
            return
        read = 0
        messages = self._reader.messages(wanted, start_ns, stop_ns)
        while True:
            try:
                connection, time_ns, data = next(messages)
            except StopIteration:
                return
            except Exception as error:
                # rosbags passes on errors of zstd, sqlite and struct; to the user they all mean the same.
                raise BagError(
                    f"{self.path} is damaged or truncated after {read} messages: {type(error).__name__}: {error}"
                ) from error
            read += 1
            yield BagMessage(connection.topic, connection.msgtype, time_ns, bytes(data))

    def decode(self, message: BagMessage) -> Any:
        """Deserialise a message.

        Raises:
            BagError: the type is unknown, or the bytes are not a message of that type.
        """
        if message.type_name not in typestore().types:
            raise BagError(f"{self.path}: topic '{message.topic}' has the unknown type {message.type_name}")
        try:
            return typestore().deserialize_cdr(message.data, message.type_name)
        except Exception as error:  # rosbags raises whatever its generated code meets in broken bytes
            where = f"{self.path}: a message of '{message.topic}' at {message.time_ns} ns"
            raise BagError(f"{where} is not a valid {message.type_name}: {error}") from error


def _storage_file(path: Path) -> Path:
    """Return what rosbags should open: the path itself, or the only storage file of a folder without metadata.

    A recorder that was killed leaves such a folder behind.
    """
    if not path.exists():
        raise BagError(f"{path} does not exist")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))
        if len(files) != 1:
            raise BagError(
                f"{path} is not a rosbag2 folder: it has no metadata.yaml and {len(files)} storage files (.mcap, .db3);"
                " expected metadata.yaml, or exactly one storage file"
            )
        return files[0]
    return path


@contextmanager
def open_bag(path: Path | str) -> Iterator[Bag]:
    """Open a rosbag2 folder or a single .mcap or .db3 file.

    Raises:
        BagError: the path does not exist, is not a recording, or is damaged.
    """
    from rosbags.rosbag2 import Reader

    path = Path(path)
    try:
        reader = Reader(_storage_file(path))
        reader.open()
    except BagError:
        raise
    except Exception as error:  # as in Bag.messages
        raise BagError(
            f"{path} cannot be read as a rosbag2 recording (damaged, truncated, or not closed by its recorder): "
            f"{type(error).__name__}: {error}"
        ) from error
    try:
        yield Bag(path, reader)
    finally:
        reader.close()
