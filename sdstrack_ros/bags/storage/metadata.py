"""What metadata.yaml says about a recording, and where the storage files say otherwise.

The storage files decide; metadata.yaml only lists them, and its QoS decides what is latched.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ckd_core.settings import SettingsError, load_yaml, parse_yaml
from ckd_core.text import MAX_REASON, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rosbags.interfaces import Connection, Qos

METADATA_FILE = "metadata.yaml"
MAX_NAMES = 5  # topics that one remark names


@dataclass(frozen=True, slots=True)
class MetadataTopic:
    """One topic as metadata.yaml describes it.

    Attributes:
        type_name: message type as 'package/msg/Name'.
        count: number of messages.
        qos: what its publishers offered; empty where nothing is known.
    """

    type_name: str
    count: int
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True, slots=True)
class BagMetadata:
    """The part of metadata.yaml that is compared with the storage files.

    Attributes:
        files: names of the storage files, in order.
        storage: mcap, sqlite3, or whatever is written there.
        compression: format of compressed messages or files, '' for none.
        topics: by name.
    """

    files: tuple[str, ...]
    storage: str
    compression: str
    topics: Mapping[str, MetadataTopic] = field(default_factory=dict)


def read_metadata(folder: Path) -> tuple[BagMetadata | None, tuple[str, ...]]:
    """Read a folder's metadata.yaml.

    Returns:
        Its content and no remark; None without the file; None and a remark where it is unreadable.
    """
    path = folder / METADATA_FILE
    if not path.exists():
        return None, ()
    try:
        return _metadata(load_yaml(path)), ()
    except (SettingsError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = shown(" ".join(str(error).split()), MAX_REASON)
        return None, (
            f"{METADATA_FILE} is unreadable ({type(error).__name__}: {reason}); the storage files of the folder are "
            "read without it",
        )


def _metadata(document: Any) -> BagMetadata:
    information = document["rosbag2_bagfile_information"]
    compressed = str(information.get("compression_mode") or "none").lower() != "none"
    topics: dict[str, MetadataTopic] = {}
    for entry in information["topics_with_message_count"]:
        about = entry["topic_metadata"]
        name, count = str(about["name"]), int(entry["message_count"])
        if name in topics:
            count += topics[name].count
        topics[name] = MetadataTopic(str(about["type"]), count, _qos(about.get("offered_qos_profiles")))
    return BagMetadata(
        # Metadata before version 4 put the folder before the name.
        tuple(dict.fromkeys(PurePath(str(name)).name for name in information["relative_file_paths"])),
        str(information.get("storage_identifier") or ""),
        str(information.get("compression_format") or "") if compressed else "",
        topics,
    )


def _qos(profiles: Any) -> tuple[Qos, ...]:
    """Return the QoS profiles; none where they are not readable, since one topic's QoS is not worth a recording."""
    try:
        from rosbags.rosbag2.errors import ReaderError
        from rosbags.rosbag2.metadata import parse_qos
    except ImportError:  # whoever asks for the topics alone needs no rosbags
        return ()
    try:
        return tuple(parse_qos(profiles))
    except (ReaderError, KeyError, TypeError, ValueError, AttributeError):
        return ()


def read_qos_plainly() -> None:
    """Let rosbags read the QoS inside storage files, which is YAML too, without anchors and merge keys."""
    from rosbags.rosbag2 import storage_mcap, storage_sqlite3

    for module in (storage_mcap, storage_sqlite3):
        module.parse_qos = _plain_qos  # type: ignore[attr-defined]  # its own name for it, where it imports it


def _plain_qos(profiles: Any) -> list[Qos]:
    from rosbags.rosbag2.errors import ReaderError
    from rosbags.rosbag2.metadata import parse_qos

    try:
        plain = parse_yaml(profiles) if isinstance(profiles, str) and profiles else profiles
    except ValueError as error:
        raise ReaderError(f"Could not load YAML from offered_qos_profiles: {error}") from error
    return list(parse_qos(plain))


def latched_by_qos(profiles: Iterable[Qos]) -> bool:
    """Whether a publisher with one of these profiles is latched (transient local)."""
    return any(profile.durability.name == "TRANSIENT_LOCAL" for profile in profiles)


def disagreements(
    metadata: BagMetadata, storages: Sequence[tuple[str, str]], connections: Sequence[Connection]
) -> tuple[str, ...]:
    """Say where metadata.yaml and the storage files differ; one remark per kind, whatever the number of topics.

    Args:
        metadata: what metadata.yaml says.
        storages: name and kind (mcap, sqlite3) of every storage file.
        connections: of all storage files.
    """
    remarks: list[str] = []
    kinds = {kind for _, kind in storages}
    if kinds != {metadata.storage}:
        said = f"the storage '{shown(metadata.storage)}'" if metadata.storage else "no storage"
        remarks.append(f"{METADATA_FILE} names {said}; {storages[0][0]} is {' and '.join(sorted(kinds))}")
    types: dict[str, set[str]] = {}
    qos: dict[str, set[tuple[Qos, ...]]] = {}
    counts: Counter[str] = Counter()
    for connection in connections:
        types.setdefault(connection.topic, set()).add(connection.msgtype)
        qos.setdefault(connection.topic, set()).add(tuple(getattr(connection.ext, "offered_qos_profiles", ())))
        counts[connection.topic] += connection.msgcount
    stored, written = counts, metadata.topics
    remarks += _remark(
        "counts other numbers of messages than the storage files hold",
        [
            f"{shown(name)} ({written[name].count if name in written else 0}, not {stored[name]})"
            for name in sorted({*stored, *written})
            if stored[name] != (written[name].count if name in written else 0)
        ],
    )
    remarks += _remark(
        "names other message types than the storage files",
        [
            f"{shown(name)} ({shown(written[name].type_name)}, not {shown(' and '.join(sorted(types[name])))})"
            for name in sorted(types)
            if name in written and written[name].type_name not in types[name]
        ],
    )
    remarks += _remark(
        "names another QoS than the storage files, and decides what is latched",
        [
            shown(name)
            for name in sorted(qos)
            if name in written and written[name].qos and any(qos[name]) and written[name].qos not in qos[name]
        ],
    )
    return tuple(remarks)


def _remark(what: str, topics: Sequence[str]) -> list[str]:
    if not topics:
        return []
    more = f" and {len(topics) - MAX_NAMES} more" if len(topics) > MAX_NAMES else ""
    return [f"{METADATA_FILE} {what}: {', '.join(topics[:MAX_NAMES])}{more}"]
