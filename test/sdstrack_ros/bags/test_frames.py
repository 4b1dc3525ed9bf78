from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ckd_core.frame import Modality, MultiModalFrame
from sdstrack_ros.bags.frames import BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.storage.opening import EVENT_PACKET, IMAGE, BagError, open_bag, typestore
from sdstrack_ros.bags.truth import read_truth_boxes
from sdstrack_ros.bags.writer import AUX_TOPICS, RGB_TOPIC, write_bag
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.frame_builder import Rejection
from sdstrack_ros.sync.types import SyncConfig, SyncCounters
from testkit.bags.scenes import custom_bag, image_message, random_frames, read_frames, stamped_header, walking_square


def test_missing_images_give_degraded_frames(tmp_path: Path) -> None:
    frames = random_frames(30)
    holes = [MultiModalFrame(f.stamp, f.rgb, None if 10 <= i < 15 else f.aux, f.modality) for i, f in enumerate(frames)]
    counters: list[SyncCounters] = []
    with open_bag(write_bag(tmp_path / "bag", holes)) as bag:
        topics = choose_topics(bag, Modality.THERMAL)
        read = list(read_bag_frames(bag, topics, Modality.THERMAL, counters=counters.append))
    assert [f.frame.presence for f in read] == [(True, not 10 <= i < 15) for i in range(30)]
    assert counters[0].color_alone == 5
    assert all(0 <= f.released_ns - f.stamp_ns <= 0.05 * NS_PER_S for f in read)


def test_the_same_recording_gives_the_same_frames(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", random_frames(12))

    def once() -> list[tuple[int, int, bytes, bytes]]:
        with open_bag(path) as bag:
            frames = read_bag_frames(bag, choose_topics(bag, Modality.THERMAL), Modality.THERMAL)
            return [
                (f.stamp_ns, f.released_ns, np.asarray(f.frame.rgb).tobytes(), np.asarray(f.frame.aux).tobytes())
                for f in frames
            ]

    assert once() == once()


def test_a_part_can_be_read(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", random_frames(30))
    part = list(read_frames(path, Modality.THERMAL, start_s=0.5, duration_s=0.2))
    assert [round((f.stamp - 1.7e9) * 30) for f in part] == [15, 16, 17, 18, 19, 20]


def test_missing_and_wrong_topics_list_what_is_there(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", random_frames(2))
    with pytest.raises(BagError, match=rf"no topic '/cam'; its topics are: .*{RGB_TOPIC} \(sensor_msgs/msg/Image, 2\)"):
        list(read_frames(path, Modality.THERMAL, BagTopics(rgb="/cam")))
    with pytest.raises(BagError, match="is sensor_msgs/msg/CameraInfo; expected sensor_msgs/msg/Image or"):
        list(read_frames(path, Modality.THERMAL, BagTopics(rgb="/camera/color/camera_info")))
    with open_bag(path) as bag, pytest.raises(BagError, match="no topic '/truth'"):
        read_truth_boxes(bag, "/truth")


def test_ambiguous_and_unrecognisable_topics_are_asked_for(tmp_path: Path) -> None:
    two = custom_bag(tmp_path / "two", [(f"/depth{i}/image", IMAGE, i, image_message(i)) for i in range(2)])
    with pytest.raises(
        BagError, match=r"2 topics could be meant \(/depth0/image, /depth1/image\); name the one to read"
    ):
        list(read_frames(two, Modality.DEPTH))
    unnamed = custom_bag(tmp_path / "unnamed", [("/a", IMAGE, 0, image_message(1))])
    with pytest.raises(BagError, match="no topic name identifies the colour or the depth images"):
        list(read_frames(unnamed, Modality.DEPTH))
    assert len(list(read_frames(unnamed, Modality.DEPTH, BagTopics(rgb="/a")))) == 1


def test_unknown_message_types_are_named_and_do_no_harm(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Writer

    kind = "odd_msgs/msg/Thing"
    for name, images in (("mixed", 3), ("odd", 0)):
        with Writer(tmp_path / name, version=9) as writer:
            odd = writer.add_connection("/camera/color/odd", kind, msgdef="uint8 x\n", rihs01="RIHS01_" + "0" * 64)
            good = writer.add_connection("/camera/color/image_raw", IMAGE, typestore=typestore())
            for i in range(3):
                writer.write(odd, i * 10**8, b"\x00\x01\x00\x00\x07")
            for i in range(images):
                data = typestore().serialize_cdr(image_message((i + 1) * 10**8), IMAGE)
                writer.write(good, i * 10**8, bytes(data))
    assert len(list(read_frames(tmp_path / "mixed", Modality.DEPTH))) == 3
    wrong = BagTopics(rgb="/camera/color/odd")
    with pytest.raises(BagError, match=rf"'/camera/color/odd' is {kind}; expected sensor_msgs/msg/Image or"):
        list(read_frames(tmp_path / "mixed", Modality.DEPTH, wrong))
    with pytest.raises(BagError, match=rf"name the topics to read; .*topics are: .*/camera/color/odd \({kind}, 3\)"):
        list(read_frames(tmp_path / "odd", Modality.DEPTH))


def test_unusable_images_are_reported_and_reading_goes_on(tmp_path: Path) -> None:
    messages = [("/rgb", IMAGE, i * 10**8, image_message(i * 10**8, "mono8", 12 if i != 2 else 5)) for i in range(1, 5)]
    refused: list[Rejection] = []
    path = custom_bag(tmp_path / "bag", messages)
    read = list(read_frames(path, Modality.DEPTH, on_reject=refused.append))
    assert len(read) == 3
    assert [(r.topic, "5 bytes of data" in r.reason) for r in refused] == [("/rgb", True)]


def test_event_packets_become_the_events_of_each_frame(tmp_path: Path) -> None:
    types, messages = typestore().types, []
    for i in range(200):
        ns = NS_PER_S + i * 2_000_000
        word = np.array([(1 << 63) | (3 << 48) | (i % 20 << 32)], "<u8").view(np.uint8)
        packet = types[EVENT_PACKET](stamped_header(ns), 10, 20, i, ns, "mono", False, word)
        messages.append(("/event_camera/events", EVENT_PACKET, ns, packet))
        if i % 20 == 10:
            messages.append(("/rgb/image", IMAGE, ns + 1000, image_message(ns)))
    read = list(read_frames(custom_bag(tmp_path / "bag", messages), Modality.EVENT))
    assert len(read) == 10
    for frame in read[1:]:
        assert frame.aux is not None
        assert frame.aux.shape == (10, 20, 3)
        assert (frame.aux[3] == (255, 0, 0)).all(), "20 events on 20 pixels of one row, all brighter"
        assert (np.delete(frame.aux, 3, axis=0) == 255).all()


@pytest.mark.shared
def test_a_real_compressed_recording_is_read_completely(shared_data: Path) -> None:
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
def test_a_real_recording_of_events_alone_gives_frames(shared_data: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("glitch", [(2**31 - 1, 0), (1, 0), (-1, 2**32 - 1), (1_700_000_000, 10**9)])
def test_an_image_whose_stamp_jumps_is_refused_as_in_the_node(tmp_path: Path, glitch: tuple[int, int]) -> None:
    types = typestore().types
    messages = []
    for i in range(20):
        ns = 1_700_000_000 * NS_PER_S + i * NS_PER_S // 15
        messages += [(f"/{name}/image", IMAGE, ns + 1, image_message(ns)) for name in ("rgb", "thermal")]
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*glitch), "camera")
    bad = image_message(messages[19][2])
    bad.header = header
    messages.insert(20, ("/rgb/image", IMAGE, messages[19][2] + 1, bad))
    rejections: list[Rejection] = []
    read = list(read_frames(custom_bag(tmp_path / "bag", messages), Modality.THERMAL, on_reject=rejections.append))
    assert [rejection.stream for rejection in rejections] == ["rgb"]
    assert "header.stamp" in rejections[0].reason
    stamps = [frame.stamp for frame in read]
    assert stamps == sorted(stamps)
    assert len(stamps) == 20


@pytest.mark.parametrize("kind", ["sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"])
def test_a_camera_whose_topic_has_messages_of_two_types_is_refused(kind: str, tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    whole = write_bag(tmp_path / "whole", *walking_square(3))
    with open_bag(whole) as bag, Writer(tmp_path / "two", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {topic.name: topic for topic in bag.topics}
        color = choose_topics(bag, Modality.THERMAL).rgb
        opened = {name: writer.add_connection(name, topics[name].type_name, typestore=typestore()) for name in topics}
        other = writer.add_connection(color, kind, typestore=typestore())
        for message in bag.messages(list(topics)):
            writer.write(opened[message.topic], message.time_ns, message.data)
            writer.write(other, message.time_ns, b"\0\1\0\0\2\0\0\0x\0")
    with open_bag(tmp_path / "two") as bag, pytest.raises(BagError, match=rf"{color} has messages of 2 types"):
        choose_topics(bag, Modality.THERMAL)
