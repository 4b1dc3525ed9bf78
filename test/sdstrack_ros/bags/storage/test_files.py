"""A recording is read with as many messages as were written, or refused; its folder stays as it was."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.frame import Modality
from sdstrack_ros.bags.storage import files as storage_files
from sdstrack_ros.bags.storage.files import unpack_message
from sdstrack_ros.bags.storage.opening import IMAGE, BagError, open_bag
from testkit.bags.faults import BROKEN, COMPRESSIONS, STORAGES, TOPICS, WHOLE, Recipe, make_recording
from testkit.bags.scenes import custom_bag, image_message, read_frames

NAMES = ("bag", "with space", "a#b", "50%25", "what?x=1", "größe 漢字", "mode=ro&immutable")


def content(path: Path) -> list[tuple[str, int, bytes]]:
    with open_bag(path) as bag:
        return [(message.topic, message.time_ns, message.data) for message in bag.messages(TOPICS)]


def remarks(path: Path) -> str:
    with open_bag(path) as bag:
        return "\n".join(bag.remarks)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=40, deadline=None)
@given(
    recipe=st.builds(
        Recipe,
        storage=st.sampled_from(STORAGES),
        compression=st.sampled_from(COMPRESSIONS),
        parts=st.integers(1, 4),
        fault=st.sampled_from(WHOLE + BROKEN),
        pairs=st.integers(4, 9),
        name=st.sampled_from(NAMES),
    ).filter(lambda recipe: recipe.possible)
)
def test_any_recording_is_read_whole_or_refused(recipe: Recipe) -> None:
    with tempfile.TemporaryDirectory() as parent:
        path, written = make_recording(Path(parent), recipe)
        before = snapshot(path)
        if recipe.fault in WHOLE:
            assert content(path) == written
            assert bool(remarks(path)) == (recipe.fault not in ("nothing", "no metadata", "hidden companions"))
        else:
            with pytest.raises(BagError, match=r".{20}"):
                content(path)
        assert snapshot(path) == before


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("other QoS", r"names another QoS than the storage files.*: /camera/color/image_raw, /camera/depth"),
        ("other counts", r"counts other numbers.*: /camera/color/image_raw \(12, not 6\)"),
        ("no storage id", r"names no storage; take_0\.(mcap is mcap|db3 is sqlite3)"),
        ("other storage id", r"names the storage '(mcap|sqlite3)'; take_0\.(mcap|db3) is"),
        ("other types", r"other message types.*\(std_msgs/msg/String, not sensor_msgs/msg/Image\)"),
        ("metadata is no YAML", r"metadata.yaml is unreadable \(SettingsError"),
        ("metadata is a list", r"metadata.yaml is unreadable \(TypeError"),
        ("metadata lacks a topic", r"counts other numbers.*: /camera/depth/image_raw \(0, not 6\)"),
    ],
)
@pytest.mark.parametrize("storage", STORAGES)
def test_what_metadata_says_otherwise_is_said(tmp_path: Path, storage: str, fault: str, said: str) -> None:
    path, written = make_recording(tmp_path, Recipe(storage, fault=fault))
    with open_bag(path) as bag:
        assert sum(topic.count for topic in bag.topics) == len(written)
        (remark,) = bag.remarks
    assert storage_files.re.search(said, remark)
    assert len(list(read_frames(path, Modality.DEPTH))) == 6


def test_the_log_of_a_killed_recorder_is_read_beside_a_file_or_its_link(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe("sqlite3", fault="killed with a log"))
    elsewhere = tmp_path / "linked.db3"
    elsewhere.symlink_to(path / "take_0.db3")
    for opened in (path, path / "take_0.db3", elsewhere):
        assert content(opened) == written
        assert "with 11 further messages: read on a copy, 12 messages" in remarks(opened)


def test_a_log_that_does_not_fit_is_named_with_the_remedy(tmp_path: Path) -> None:
    path, _ = make_recording(tmp_path, Recipe("sqlite3", fault="killed with a log"))
    file = path / "take_0.db3"
    data = file.read_bytes()
    file.write_bytes(data[:20] + bytes(len(data) - 20))
    (path / "take_0.db3-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(200))
    with pytest.raises(BagError, match=r"left take_0.db3-wal, .*pragma wal_checkpoint"):
        content(path)


def test_a_half_written_transaction_is_rolled_back_on_a_copy(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe("sqlite3"))
    file, journal = path / "take_0.db3", path / "take_0.db3-journal"
    with closing(sqlite3.connect(file)) as base:
        base.execute("pragma cache_size=1")  # so that the open transaction reaches the disk
        base.execute("update messages set data = zeroblob(100000)")
        left = {item: item.read_bytes() for item in (file, journal)}
        base.rollback()
    for item, data in left.items():
        item.write_bytes(data)
    assert content(path) == written
    assert "take_0.db3-journal" in remarks(path)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("timestamp", "soon", "the time 'soon'"),
        ("timestamp", 1.5, r"the time 1\.5"),
        ("data", 1_000_000_000, "data of type int"),
        ("data", "text", "data of type str"),
        ("data", None, "data of type NoneType"),
    ],
)
def test_values_of_another_type_in_a_table_are_refused(tmp_path: Path, column: str, value: Any, reason: str) -> None:
    path, _ = make_recording(tmp_path, Recipe("sqlite3"))
    update = {
        "timestamp": "update messages set timestamp = ? where id = ?",
        "data": "update messages set data = ? where id = ?",
    }[column]
    with closing(sqlite3.connect(path / "take_0.db3")) as base, base:
        (last,) = base.execute("select max(id) from messages").fetchone()
        if value is None:  # tables of rosbag2 do not allow it; those of others may
            base.execute("create table copy as select * from messages")
            base.execute("drop table messages")
            base.execute("alter table copy rename to messages")
        base.execute(update, (value, last))
    with pytest.raises(BagError, match=reason):
        content(path)


def test_no_copy_is_begun_that_would_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_files, "SPARE_BYTES", 1 << 60)
    for recipe in (Recipe("sqlite3", fault="killed with a log"), Recipe("mcap", "file", name="packed")):
        path, _ = make_recording(tmp_path, recipe)
        with pytest.raises(BagError, match=r"has to be copied to be read.*TMPDIR"):
            content(path)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_storage_is_told_by_its_content_whatever_its_name(tmp_path: Path, storage: str) -> None:
    path, written = make_recording(tmp_path, Recipe(storage))
    (file,) = (item for item in path.iterdir() if item.name.startswith("take"))
    misnamed = tmp_path / ("x.db3" if storage == "mcap" else "x.mcap")
    misnamed.write_bytes(file.read_bytes())
    bare = tmp_path / "recording"
    bare.write_bytes(file.read_bytes())
    assert content(misnamed) == content(bare) == written


def test_parts_of_a_split_recording_without_metadata(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe(parts=3, fault="no metadata"))
    (path / "take_0.mcap").rename(path / "take_3.mcap")
    assert content(path) == written  # the time decides, not the name
    (path / "take_3.mcap").unlink()
    assert len(content(path)) < len(written)
    assert "begins with its file number 1" in remarks(path)


def test_a_renamed_storage_file_is_explained(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe())
    (path / "take_0.mcap").rename(path / "other_0.mcap")
    with pytest.raises(BagError, match=r"take_0.mcap is missing.*has other_0.mcap instead.*remove metadata.yaml"):
        content(path)
    (path / "metadata.yaml").unlink()
    assert content(path) == written


def test_the_unpacked_copy_that_a_player_leaves_is_not_read_twice(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe("sqlite3", "file"))
    unpacked = path / "take_0.db3"
    with storage_files.zstd.open(path / "take_0.db3.zstd", "rb") as stream:
        unpacked.write_bytes(stream.read())
    assert content(path) == written
    (path / "metadata.yaml").rename(tmp_path / "metadata.yaml")
    assert content(path) == written
    (tmp_path / "metadata.yaml").rename(path / "metadata.yaml")
    (path / "take_0.db3.zstd").unlink()
    assert content(path) == written
    assert "the unpacked take_0.db3 is read" in remarks(path)


def test_ros_1_bags_are_named_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    bag = folder / "walk.bag"
    bag.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    for path in (folder, bag, bag.rename(folder / "walk.db3")):
        if path == bag:
            bag.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
        with pytest.raises(BagError, match=r"is a ROS 1 bag.*rosbags-convert --src walk"):
            content(path)
        bag.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))


def test_metadata_decides_what_is_latched(tmp_path: Path) -> None:
    path, _ = make_recording(tmp_path, Recipe())
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("durability: volatile", "durability: transient_local"))
    with open_bag(path) as bag:
        assert all(topic.latched for topic in bag.topics)


def test_a_topic_of_another_serialisation_costs_that_topic(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe("sqlite3", fault="no metadata"))
    with closing(sqlite3.connect(path / "take_0.db3")) as base:
        base.execute("update topics set serialization_format = 'protobuf' where name = ?", (TOPICS[0],))
        base.commit()
    assert content(path) == [entry for entry in written if entry[0] == TOPICS[1]]
    assert f"topic {TOPICS[0]} is left out: serialised as 'protobuf'; expected cdr" in remarks(path)
    with open_bag(path) as bag, pytest.raises(BagError, match="serialised as 'protobuf'; expected cdr"):
        bag.topic(TOPICS[0])


def test_an_index_that_promises_more_than_the_file_holds_is_not_believed(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe("mcap"))
    file = path / "take_0.mcap"
    data = bytearray(file.read_bytes())
    # The statistics record (0x0B, 46 bytes and 10 per channel) ends with the channels' numbers of messages.
    at = data.rindex(b"\x0b" + (46 + 2 * 10).to_bytes(8, "little"))
    count = at + 9 + 46 + 2
    assert int.from_bytes(data[count : count + 8], "little") == len(written) // 2
    data[count : count + 8] = (len(written)).to_bytes(8, "little")
    file.write_bytes(data)
    with pytest.raises(BagError, match="its index promises 18 messages of its topics, not 12"):
        content(path)


def test_remarks_hold_no_control_characters(tmp_path: Path) -> None:
    path, _ = make_recording(tmp_path, Recipe())
    metadata = path / "metadata.yaml"
    document: Any = yaml.safe_load(metadata.read_text())
    document["rosbag2_bagfile_information"]["storage_identifier"] = "\x1b[31m" + "x" * 5000 + "\n"
    metadata.write_text(yaml.safe_dump(document))
    assert remarks(path).isprintable()
    assert len(remarks(path)) < 1000


def test_a_compressed_message_is_unpacked_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = storage_files.zstd.compress(bytes(1000))
    assert unpack_message(packed) == bytes(1000)
    assert unpack_message(b"\0\1\0\0abc") == b"\0\1\0\0abc"
    monkeypatch.setattr(storage_files, "MAX_MESSAGE_BYTES", 500)
    for data in (packed, packed[:-3], packed[:6], packed + packed, b"\x28\xb5\x2f\xfd" + bytes(20)):
        with pytest.raises(BagError, match="a compressed message"):
            unpack_message(data)


@pytest.mark.parametrize(
    ("first_s", "last_s", "said"),
    [
        (
            5,
            1_700_000_000,
            r"its messages lie 53\.9 years apart, from 1970-01-01 to 2023-11-14: the recorder's clock was",
        ),
        (1_700_000_000, 1_703_000_000, "its messages lie 0.1 years apart"),
        (0, 60, "its first message was recorded at time 0"),
        (5, 60, ""),
        (1_700_000_000, 1_700_086_400, ""),
    ],
)
def test_times_that_make_no_sense_are_named(tmp_path: Path, first_s: int, last_s: int, said: str) -> None:
    times = [first_s * 10**9, last_s * 10**9]
    path = custom_bag(tmp_path / "bag", [(TOPICS[0], IMAGE, at, image_message(10**9)) for at in times])
    assert [time_ns for _, time_ns, _ in content(path)] == times
    assert bool(remarks(path)) == bool(said)
    assert storage_files.re.search(said, remarks(path))
