from __future__ import annotations

import resource
import struct
from pathlib import Path

import numpy as np
import pytest

from ckd_core.frame import Modality
from sdstrack_ros.bags.storage import opening
from sdstrack_ros.bags.storage.opening import IMAGE, BagError, typestore
from sdstrack_ros.bags.writer import write_bag
from testkit.bags.scenes import custom_bag, random_frames, read_frames


def test_a_recording_without_metadata_is_read_from_its_only_file(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", random_frames(4))
    (path / "metadata.yaml").unlink()
    assert len(list(read_frames(path, Modality.THERMAL))) == 4
    assert len(list(read_frames(path / "bag.mcap", Modality.THERMAL))) == 4


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.97])
def test_truncated_recordings_are_reported_as_such(tmp_path: Path, storage: str, share: float) -> None:
    path = write_bag(tmp_path / "bag", random_frames(10), storage=storage)
    file = next(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BagError, match=r"bag.*(damaged|truncated)"):
        list(read_frames(path, Modality.THERMAL))


def test_damaged_bytes_raise_nothing_but_a_bag_error(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", random_frames(4), compression="zstd")
    file = path / "bag.mcap"
    whole = file.read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 5):
            data[place] ^= 0xFF
        file.write_bytes(bytes(data))
        try:
            list(read_frames(path, Modality.THERMAL))
        except BagError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("size", [0, 3 << 30, 1 << 40, 1 << 62])
def test_records_of_an_mcap_file_that_lie_about_their_size_take_no_memory(tmp_path: Path, size: int) -> None:
    bag = write_bag(tmp_path / "bag", random_frames(3))
    data = next(bag.glob("*.mcap")).read_bytes()
    at, records = 8, {}
    while at < len(data) - 8:
        records.setdefault(data[at], at)
        at += 9 + struct.unpack_from("<Q", data, at + 1)[0]
    assert len(records) >= 10, "kinds of records"
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for place in records.values():
        path = tmp_path / "lies.mcap"
        path.write_bytes(data[: place + 1] + struct.pack("<Q", size) + data[place + 9 :])
        try:
            assert len(list(read_frames(path, Modality.DEPTH))) == 3
        except BagError as error:
            assert len(str(error)) < 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 500_000


def test_a_message_that_does_not_deserialise_is_named_in_the_error(tmp_path: Path) -> None:
    path = custom_bag(tmp_path / "bag", [("/rgb", IMAGE, 7, b"\x00\x01\x00\x00" + b"\xff" * 30)])
    with pytest.raises(BagError, match=r"a message of '/rgb' at 7 ns is not a valid sensor_msgs/msg/Image"):
        list(read_frames(path, Modality.DEPTH))


def test_files_that_are_not_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="does not exist"):
        list(read_frames(tmp_path / "none", Modality.DEPTH))
    with pytest.raises(BagError, match="not a rosbag2 folder"):
        list(read_frames(tmp_path, Modality.DEPTH))
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(BagError, match="cannot be read"):
        list(read_frames(tmp_path / "x.txt", Modality.DEPTH))
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}")
    with pytest.raises(BagError, match=r"metadata.yaml is unreadable .* and no storage file"):
        list(read_frames(tmp_path, Modality.DEPTH))


def test_message_definitions_agree_with_the_interface_packages() -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted((Path(__file__).parents[3] / "interfaces").glob("*/msg/*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"{path.parents[1].name}/msg/{path.stem}"))
    for name in opening._DEFINITIONS:
        assert typestore().hash_rihs01(name) == store.hash_rihs01(name)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_references_in_the_qos_inside_a_storage_file_are_refused_at_once(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a kilobyte of merge keys there kept the parser busy without an end."""
    for version in ("v8", "v9"):
        monkeypatch.setattr(f"rosbags.rosbag2.writer.dump_qos_{version}", lambda _: "m: &m {a: 1}\n<<: [*m, *m]")
    bag = write_bag(tmp_path / "bag", random_frames(2), storage=storage)
    (file,) = (path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    with pytest.raises(BagError, match=r"anchors \(&name\)"), opening.open_bag(file):
        pass
