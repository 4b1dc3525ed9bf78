from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.bags import storage
from sdstrack_ros.bags.frames import (
    BagError,
    BagTopics,
    choose_topics,
    open_bag,
    read_bag_frames,
    read_frames,
    read_truth_boxes,
    write_bag,
)
from sdstrack_ros.bags.storage import EVENT_PACKET, IMAGE, typestore
from sdstrack_ros.bags.writer import AUX_TOPICS, RGB_TOPIC, TRUTH_TOPIC
from sdstrack_ros.sync.frame_builder import Rejection
from sdstrack_ros.sync.types import SyncConfig, SyncCounters

NS = 1_000_000_000
AUX = {
    Modality.DEPTH: np.uint16,
    Modality.THERMAL: np.uint8,
    Modality.EVENT: np.uint8,
}


def film(count: int = 8, modality: Modality = Modality.THERMAL, aux_type: Any = None) -> list[MultiModalFrame]:
    rng = np.random.default_rng(1)
    kind = np.dtype(aux_type or AUX[modality])
    shape = (18, 24, 3) if modality is Modality.EVENT else (18, 24)
    frames = []
    for i in range(count):
        rgb = rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)
        aux = (rng.integers(0, 256, shape) * (37.5 if kind.kind == "f" else 1)).astype(kind)
        frames.append(MultiModalFrame(i / 30, rgb, aux, modality))
    return frames


def same(a: MultiModalFrame, b: MultiModalFrame) -> bool:
    return all(
        (x is None and y is None) or (x is not None and y is not None and x.dtype == y.dtype and np.array_equal(x, y))
        for x, y in ((a.rgb, b.rgb), (a.aux, b.aux))
    )


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize(("storage", "compression"), [("mcap", "none"), ("mcap", "zstd"), ("sqlite3", "zstd")])
def test_frames_come_back_as_they_were_written(
    tmp_path: Path, modality: Modality, storage: str, compression: str
) -> None:
    frames = film(modality=modality)
    path = write_bag(tmp_path / "bag", frames, storage=storage, compression=compression)
    read = list(read_frames(path, modality))
    assert len(read) == len(frames)
    assert all(same(a, b) for a, b in zip(read, frames, strict=True))
    assert [f.stamp - read[0].stamp for f in read] == pytest.approx([f.stamp for f in frames], abs=1e-6)
    assert not list(tmp_path.glob(".*")), "no staging folder may stay"


@pytest.mark.parametrize(
    ("modality", "aux_type"), [(Modality.DEPTH, np.float32), (Modality.THERMAL, np.uint16), (Modality.DEPTH, np.uint16)]
)
def test_every_kind_of_second_image_survives(tmp_path: Path, modality: Modality, aux_type: Any) -> None:
    frames = film(3, modality, aux_type)
    assert all(
        same(a, b) for a, b in zip(read_frames(write_bag(tmp_path / "raw", frames), modality), frames, strict=True)
    )
    if aux_type is not np.float32:
        png = write_bag(tmp_path / "png", frames, images="png")
        assert all(same(a, b) for a, b in zip(read_frames(png, modality), frames, strict=True))


def test_true_boxes_come_back_with_absences(tmp_path: Path) -> None:
    boxes = [BoundingBox(3, 4.5, 10, 12), None, BoundingBox(5, 6, 7, 8)]
    with open_bag(write_bag(tmp_path / "bag", film(5), boxes)) as bag:
        truth = read_truth_boxes(bag, TRUTH_TOPIC)
        assert choose_topics(bag, Modality.THERMAL).truth == TRUTH_TOPIC
    assert [t.box for t in truth] == boxes
    assert truth[1].stamp_ns - truth[0].stamp_ns == round(NS / 30)


def test_missing_images_give_degraded_frames(tmp_path: Path) -> None:
    frames = film(30)
    holes = [MultiModalFrame(f.stamp, f.rgb, None if 10 <= i < 15 else f.aux, f.modality) for i, f in enumerate(frames)]
    counters: list[SyncCounters] = []
    with open_bag(write_bag(tmp_path / "bag", holes)) as bag:
        topics = choose_topics(bag, Modality.THERMAL)
        read = list(read_bag_frames(bag, topics, Modality.THERMAL, counters=counters.append))
    assert [f.frame.presence for f in read] == [(True, not 10 <= i < 15) for i in range(30)]
    assert counters[0].color_alone == 5
    assert all(0 <= f.released_ns - f.stamp_ns <= 0.05 * NS for f in read)


def test_the_same_recording_gives_the_same_frames(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", film(12))

    def once() -> list[tuple[int, int, bytes, bytes]]:
        with open_bag(path) as bag:
            found = read_bag_frames(bag, choose_topics(bag, Modality.THERMAL), Modality.THERMAL)
            return [
                (f.stamp_ns, f.released_ns, np.asarray(f.frame.rgb).tobytes(), np.asarray(f.frame.aux).tobytes())
                for f in found
            ]

    assert once() == once()


def test_a_part_can_be_read(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", film(30))
    part = list(read_frames(path, Modality.THERMAL, start_s=0.5, duration_s=0.2))
    assert [round((f.stamp - 1.7e9) * 30) for f in part] == [15, 16, 17, 18, 19, 20]


def test_a_recording_without_metadata_is_read_from_its_only_file(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", film(4))
    (path / "metadata.yaml").unlink()
    assert len(list(read_frames(path, Modality.THERMAL))) == 4
    assert len(list(read_frames(path / "bag.mcap", Modality.THERMAL))) == 4


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.97])
def test_truncated_recordings_are_named_as_such(tmp_path: Path, storage: str, share: float) -> None:
    path = write_bag(tmp_path / "bag", film(10), storage=storage)
    file = next(p for p in path.iterdir() if p.suffix in (".mcap", ".db3"))
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BagError, match=r"bag.*(damaged|truncated)"):
        list(read_frames(path, Modality.THERMAL))


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", film(4), compression="zstd")
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


def test_missing_and_wrong_topics_list_what_is_there(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", film(2))
    with pytest.raises(BagError, match=rf"no topic '/cam'; there are: .*{RGB_TOPIC} \(sensor_msgs/msg/Image, 2\)"):
        list(read_frames(path, Modality.THERMAL, BagTopics(rgb="/cam")))
    with pytest.raises(BagError, match="is sensor_msgs/msg/CameraInfo; expected sensor_msgs/msg/Image or"):
        list(read_frames(path, Modality.THERMAL, BagTopics(rgb="/camera/color/camera_info")))
    with open_bag(path) as bag, pytest.raises(BagError, match="no topic '/truth'"):
        read_truth_boxes(bag, "/truth")


def custom_bag(path: Path, messages: list[tuple[str, str, int, Any]]) -> Path:
    from rosbags.rosbag2 import Writer

    with Writer(path, version=9) as writer:
        connections = {}
        for topic, kind, time_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            data = message if isinstance(message, bytes) else bytes(typestore().serialize_cdr(message, kind))
            writer.write(connections[topic], time_ns, data)
    return path


def header(stamp_ns: int) -> Any:
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](stamp_ns // NS, stamp_ns % NS)
    return types["std_msgs/msg/Header"](stamp, "cam")


def picture(stamp_ns: int, encoding: str = "mono8", size: int = 12) -> Any:
    return typestore().types[IMAGE](header(stamp_ns), 3, 4, encoding, 0, 4, np.zeros(size, np.uint8))


def test_ambiguous_and_unrecognisable_topics_are_asked_for(tmp_path: Path) -> None:
    two = custom_bag(tmp_path / "two", [(f"/depth{i}/image", IMAGE, i, picture(i)) for i in range(2)])
    with pytest.raises(BagError, match=r"2 topics could be meant \(/depth0/image, /depth1/image\); name one"):
        list(read_frames(two, Modality.DEPTH))
    unnamed = custom_bag(tmp_path / "unnamed", [("/a", IMAGE, 0, picture(0))])
    with pytest.raises(BagError, match="cannot tell the colour and the depth topic by their names"):
        list(read_frames(unnamed, Modality.DEPTH))
    assert len(list(read_frames(unnamed, Modality.DEPTH, BagTopics(rgb="/a")))) == 1


def test_message_types_that_nobody_knows_are_named_and_harm_nothing(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Writer

    kind = "odd_msgs/msg/Thing"
    for name, images in (("mixed", 3), ("odd", 0)):
        with Writer(tmp_path / name, version=9) as writer:
            odd = writer.add_connection("/camera/color/odd", kind, msgdef="uint8 x\n", rihs01="RIHS01_" + "0" * 64)
            good = writer.add_connection("/camera/color/image_raw", IMAGE, typestore=typestore())
            for i in range(3):
                writer.write(odd, i * 10**8, b"\x00\x01\x00\x00\x07")
            for i in range(images):
                data = typestore().serialize_cdr(picture(i * 10**8), IMAGE)
                writer.write(good, i * 10**8, bytes(data))
    assert len(list(read_frames(tmp_path / "mixed", Modality.DEPTH))) == 3
    wrong = BagTopics(rgb="/camera/color/odd")
    with pytest.raises(BagError, match=rf"'/camera/color/odd' is {kind}; expected sensor_msgs/msg/Image or"):
        list(read_frames(tmp_path / "mixed", Modality.DEPTH, wrong))
    with pytest.raises(BagError, match=rf"name them; there are: .*/camera/color/odd \({kind}, 3\)"):
        list(read_frames(tmp_path / "odd", Modality.DEPTH))


def test_images_that_cannot_be_used_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    messages = [("/rgb", IMAGE, i * 10**8, picture(i * 10**8, "mono8", 12 if i != 2 else 5)) for i in range(1, 5)]
    refused: list[Rejection] = []
    path = custom_bag(tmp_path / "bag", messages)
    read = list(read_frames(path, Modality.DEPTH, on_reject=refused.append))
    assert len(read) == 3
    assert [(r.topic, "5 bytes of data" in r.reason) for r in refused] == [("/rgb", True)]


def test_a_message_that_does_not_deserialise_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = custom_bag(tmp_path / "bag", [("/rgb", IMAGE, 7, b"\x00\x01\x00\x00" + b"\xff" * 30)])
    with pytest.raises(BagError, match=r"a message of '/rgb' at 7 ns is no sensor_msgs/msg/Image"):
        list(read_frames(path, Modality.DEPTH))


def test_files_that_are_no_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="does not exist"):
        list(read_frames(tmp_path / "none", Modality.DEPTH))
    with pytest.raises(BagError, match="no rosbag2 folder"):
        list(read_frames(tmp_path, Modality.DEPTH))
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(BagError, match="cannot be read"):
        list(read_frames(tmp_path / "x.txt", Modality.DEPTH))
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 9}")
    with pytest.raises(BagError, match="cannot be read"):
        list(read_frames(tmp_path, Modality.DEPTH))


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    frames = film(2)
    for options, said in [
        ({"storage": "db"}, "storage 'db'; expected mcap or sqlite3"),
        ({"compression": "lz4"}, "compression 'lz4'"),
        ({"images": "jpeg"}, "images 'jpeg'"),
    ]:
        with pytest.raises(BagError, match=said):
            write_bag(tmp_path / "bag", frames, **options)
    with pytest.raises(BagError, match="no frames"):
        write_bag(tmp_path / "bag", [])
    with pytest.raises(BagError, match="stamps must rise"):
        write_bag(tmp_path / "bag", [frames[0], frames[0]])
    with pytest.raises(BagError, match="no image message carries a depth image of int32"):
        write_bag(tmp_path / "bag", film(1, Modality.DEPTH, np.int32))
    assert not list(tmp_path.iterdir())
    write_bag(tmp_path / "bag", frames)
    with pytest.raises(BagError, match="exists already"):
        write_bag(tmp_path / "bag", frames)


def test_own_definitions_agree_with_the_interface_packages() -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted((Path(__file__).parents[2] / "interfaces").glob("*/msg/*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"{path.parents[1].name}/msg/{path.stem}"))
    for name in storage._DEFINITIONS:
        assert typestore().hash_rihs01(name) == store.hash_rihs01(name)


def test_event_packets_become_the_events_of_each_frame(tmp_path: Path) -> None:
    types, messages = typestore().types, []
    for i in range(200):
        ns = NS + i * 2_000_000
        word = np.array([(1 << 63) | (3 << 48) | (i % 20 << 32)], "<u8").view(np.uint8)
        packet = types[EVENT_PACKET](header(ns), 10, 20, i, ns, "mono", False, word)
        messages.append(("/event_camera/events", EVENT_PACKET, ns, packet))
        if i % 20 == 10:
            messages.append(("/rgb/image", IMAGE, ns + 1000, picture(ns)))
    read = list(read_frames(custom_bag(tmp_path / "bag", messages), Modality.EVENT))
    assert len(read) == 10
    for frame in read[1:]:
        assert frame.aux is not None
        assert frame.aux.shape == (10, 20, 3)
        assert (frame.aux[3] == (255, 0, 0)).all(), "20 events on 20 pixels of one row, all brighter"
        assert (np.delete(frame.aux, 3, axis=0) == 255).all()


@pytest.mark.shared
def test_a_real_compressed_recording_reads_whole(shared_data: Path) -> None:
    path = shared_data / "bags" / "rgbt_clip_0111_1753_mcap_compressed"
    folder = shared_data / "sequences" / "rgbt_m3svd_clip_0111_1753"
    frames = list(read_frames(path, Modality.THERMAL))
    assert [f.presence for f in frames] == [(True, True)] * 20
    assert [f.stamp - frames[0].stamp for f in frames] == pytest.approx([i / 30 for i in range(20)], abs=1e-4)
    for kind, images in (("visible", [f.rgb for f in frames]), ("infrared", [f.aux for f in frames])):
        files = sorted((folder / kind).iterdir())
        assert len(files) == 20
        for file, image in zip(files, images, strict=True):
            assert image is not None
            direct = cv2.imread(str(file), cv2.IMREAD_UNCHANGED if kind == "infrared" else cv2.IMREAD_COLOR)
            expected = direct[..., ::-1] if direct.ndim == 3 else direct
            assert np.abs(expected.astype(int) - image).mean() < 3, "the sequence's own picture, compressed once more"


@pytest.mark.shared
def test_a_real_event_recording_drives_by_itself(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("evt3")
    path = shared_data / "bags" / "event_packets_test_events_1"
    frames = list(read_frames(path, Modality.EVENT, config=SyncConfig()))
    assert all(f.rgb is None and f.aux is not None for f in frames)
    assert len(frames) == pytest.approx((2.076 - 0.3) * 30, abs=10)
    assert sum((np.asarray(f.aux) != 255).any() for f in frames) == len(frames)
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    again = list(read_frames(copy, Modality.EVENT, config=SyncConfig()))
    assert all(np.array_equal(a.aux, b.aux) and a.stamp == b.stamp for a, b in zip(frames, again, strict=True))
    assert AUX_TOPICS[Modality.EVENT].startswith("/event")
