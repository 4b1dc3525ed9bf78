"""Recordings as recorders, converters, editors and disks leave them, with the messages that they hold."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from sdstrack_ros.bags.storage.opening import IMAGE, typestore
from testkit.bags.scenes import stamped_header

if TYPE_CHECKING:
    from collections.abc import Callable

STORAGES = ("mcap", "sqlite3")
COMPRESSIONS = ("none", "message", "file", "storage")
# What happened to the recording. Everything up to None can still be read whole, the rest lacks a part.
WHOLE = (
    "nothing", "killed with a log", "no metadata", "other QoS", "other counts", "no storage id", "other storage id",
    "other types", "metadata is no YAML", "metadata is a list", "metadata lacks a topic", "metadata lacks a file",
    "hidden companions",
)  # fmt: skip
BROKEN = ("cut", "a part is missing", "a part is missing without metadata", "a copy beside it")
PERIOD_NS = 33_333_333
FIRST_NS = 1_700_000_000_000_000_000
TOPICS = ("/camera/color/image_raw", "/camera/depth/image_raw")
COMPANION = b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(100) + b"\xff\xb0"


@dataclass(frozen=True)
class Recipe:
    """How a recording is made.

    Attributes:
        storage: mcap or sqlite3.
        compression: none, message, file or storage (chunks of mcap); what a storage lacks is none.
        parts: number of storage files.
        fault: one of `WHOLE` or `BROKEN`.
        pairs: of images.
        name: of the folder.
    """

    storage: str = "mcap"
    compression: str = "none"
    parts: int = 1
    fault: str = "nothing"
    pairs: int = 6
    name: str = "bag"

    @property
    def possible(self) -> bool:
        """Whether a recorder can leave such a recording."""
        if self.compression == "storage" and self.storage != "mcap":
            return False
        if self.fault == "killed with a log":
            return self.storage == "sqlite3" and self.compression in ("none", "message")
        if self.fault == "a part is missing without metadata":
            return self.parts > 2
        return self.fault not in ("a part is missing", "metadata lacks a file") or self.parts > 1


def messages(pairs: int) -> list[tuple[str, int, bytes]]:
    """Topic, time of recording and CDR bytes of pairs of noisy images."""
    rng = np.random.default_rng(pairs)
    written = []
    for index in range(pairs):
        for place, (topic, encoding) in enumerate(zip(TOPICS, ("rgb8", "16UC1"), strict=True)):
            time_ns = FIRST_NS + index * PERIOD_NS + place
            size = 3 if encoding == "rgb8" else 2
            data = rng.integers(0, 256, 24 * 32 * size, dtype=np.uint8)
            header = stamped_header(FIRST_NS + index * PERIOD_NS)
            image = typestore().types[IMAGE](header, 24, 32, encoding, 0, 32 * size, data)
            written.append((topic, time_ns, bytes(typestore().serialize_cdr(image, IMAGE))))
    return written


def make_recording(parent: Path, recipe: Recipe) -> tuple[Path, list[tuple[str, int, bytes]]]:
    """Write a recording below `parent`; returns its folder and what it holds, in order."""
    written = messages(recipe.pairs)
    folder = parent / recipe.name
    folder.mkdir(parents=True)
    suffix = (".mcap" if recipe.storage == "mcap" else ".db3") + (".zstd" if recipe.compression == "file" else "")
    documents = []
    for part, chosen in enumerate(np.array_split(np.arange(len(written)), recipe.parts)):
        source = parent / f"part-{part}"
        _write_part(source, recipe, [written[index] for index in chosen])
        (stored,) = (path for path in source.iterdir() if path.name != "metadata.yaml")
        stored.rename(folder / f"take_{part}{suffix}")
        documents.append(yaml.safe_load((source / "metadata.yaml").read_text()))
        shutil.rmtree(source)
    document = _joined(documents, [f"take_{part}{suffix}" for part in range(recipe.parts)])
    (folder / "metadata.yaml").write_text(yaml.safe_dump(document))
    _spoil(folder, recipe, document)
    return folder, written


def _write_part(path: Path, recipe: Recipe, content: list[tuple[str, int, bytes]]) -> None:
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    zero = QosTime(0, 0)
    qos = Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE, zero, zero,
        QosLiveliness.AUTOMATIC, zero, False,
    )  # fmt: skip
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[recipe.storage.upper()])
    if recipe.compression != "none":
        writer.set_compression(CompressionMode[recipe.compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, time_ns, data in content:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, IMAGE, typestore=typestore(), offered_qos_profiles=[qos]
                )
            writer.write(connections[topic], time_ns, data)


def _joined(documents: list[Any], names: list[str]) -> Any:
    """Metadata of a split recording from those of its parts."""
    first = documents[0]["rosbag2_bagfile_information"]
    counts: dict[str, int] = {}
    entries = {}
    for document in documents:
        for entry in document["rosbag2_bagfile_information"]["topics_with_message_count"]:
            name = entry["topic_metadata"]["name"]
            counts[name] = counts.get(name, 0) + entry["message_count"]
            entries[name] = entry
    first["topics_with_message_count"] = [entries[name] | {"message_count": count} for name, count in counts.items()]
    first["message_count"] = sum(counts.values())
    first["relative_file_paths"] = names
    return documents[0]


def _spoil(folder: Path, recipe: Recipe, document: Any) -> None:
    metadata = folder / "metadata.yaml"
    information = document["rosbag2_bagfile_information"]
    files = sorted(path for path in folder.iterdir() if path.name.startswith("take_"))
    topics = information["topics_with_message_count"]

    def edit(change: Callable[[], object]) -> None:
        change()
        metadata.write_text(yaml.safe_dump(document))

    if recipe.fault == "killed with a log":
        _move_into_log(files[-1])
    elif recipe.fault in ("no metadata", "a part is missing without metadata"):
        metadata.unlink()
    elif recipe.fault == "other QoS":
        metadata.write_text(metadata.read_text().replace("reliability: reliable", "reliability: best_effort"))
    elif recipe.fault == "other counts":
        edit(lambda: [entry.update(message_count=entry["message_count"] * 2) for entry in topics])
    elif recipe.fault == "no storage id":
        edit(lambda: information.update(storage_identifier=""))
    elif recipe.fault == "other storage id":
        edit(lambda: information.update(storage_identifier=next(s for s in STORAGES if s != recipe.storage)))
    elif recipe.fault == "other types":
        edit(lambda: topics[0]["topic_metadata"].update(type="std_msgs/msg/String"))
    elif recipe.fault == "metadata is no YAML":
        metadata.write_bytes(metadata.read_bytes()[:60] + b"\0: [")
    elif recipe.fault == "metadata is a list":
        metadata.write_text("- 1\n- 2\n")
    elif recipe.fault == "metadata lacks a topic":
        edit(lambda: topics.pop())
    elif recipe.fault == "metadata lacks a file":
        edit(lambda: information["relative_file_paths"].pop())
    elif recipe.fault == "hidden companions":
        for path in (*files, metadata):
            path.with_name(f"._{path.name}").write_bytes(COMPANION)
    elif recipe.fault == "cut":
        data = files[-1].read_bytes()
        files[-1].write_bytes(data[: int(len(data) * 0.6)])
    if recipe.fault.startswith("a part is missing"):
        files[recipe.parts // 2].unlink()
    if recipe.fault == "a copy beside it":
        shutil.copyfile(files[0], files[0].with_name(f"copy{''.join(files[0].suffixes)}"))


def _move_into_log(path: Path) -> None:
    """Leave one message in the database and the others in its write-ahead log, as a recorder that is killed does."""
    with closing(sqlite3.connect(path)) as base:
        rows = base.execute("select id, topic_id, timestamp, data from messages order by id").fetchall()
        base.execute("delete from messages where id > 1")
        base.commit()
        base.execute("vacuum")
        base.execute("pragma journal_mode=wal")
    with closing(sqlite3.connect(path)) as base:
        base.execute("pragma wal_autocheckpoint=0")
        base.executemany("insert into messages values (?, ?, ?, ?)", rows[1:])
        base.commit()
        left = {end: Path(f"{path}{end}").read_bytes() for end in ("", "-wal")}
    for end, data in left.items():
        Path(f"{path}{end}").write_bytes(data)
