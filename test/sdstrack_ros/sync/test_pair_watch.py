"""Why pairs do not come, as a recording says it; test_pairs.py in the node's tests shows the same in ~/status."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.frame import Modality
from sdstrack_ros.bags.frames import BagFrame, BagTopics, read_bag_frames
from sdstrack_ros.bags.storage.opening import EVENT_PACKET, open_bag, typestore
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.pair_watch import PAIRING, PairWatch
from sdstrack_ros.sync.synchronizer import Synchronizer
from sdstrack_ros.sync.types import SyncConfig
from testkit.bags.cameras import AUX, RGB, T0_S, Camera, record
from testkit.bags.scenes import custom_bag

if TYPE_CHECKING:
    from pathlib import Path


def read(
    path: Path,
    *cameras: Camera,
    seconds: float = 2.0,
    modality: Modality = Modality.DEPTH,
    config: SyncConfig | None = None,
    **options: Any,
) -> tuple[list[BagFrame], str]:
    """The frames of a recording of these cameras, and what is said about it."""
    remarks: list[str] = []
    with open_bag(record(path, *cameras, seconds=seconds)) as bag:
        topics = BagTopics(RGB, AUX)
        frames = list(read_bag_frames(bag, topics, modality, config, on_remark=remarks.append, **options))
    return frames, "\n".join(remarks)


COLOR, DEPTH = Camera(RGB), Camera(AUX, encoding="16UC1")  # grey, and small


@pytest.mark.parametrize(
    ("clock_s", "text"),
    [
        (-3.2, "depth is 3.2 s behind, its driver stamps with another clock"),
        (3600.0, "depth is 3600.0 s ahead, its driver stamps with another clock"),
        (5.0 - T0_S, "depth is 1699999995.0 s behind"),
        (37.0, "depth is 37.0 s ahead"),
    ],
)
@pytest.mark.parametrize("hz", [15.0, 6.0])
def test_another_clock_is_named_with_its_offset_and_never_leads(
    tmp_path: Path, clock_s: float, text: str, hz: float
) -> None:
    depth = Camera(AUX, hz=hz, clock_s=clock_s, encoding="16UC1")
    frames, said = read(tmp_path / "bag", COLOR, depth)
    assert f"no colour frame finds a depth partner: {text}" in said
    assert "global_time_enabled" in said
    assert [f.frame.presence for f in frames] == [(True, False)] * 30, "no frame at a stamp of the other clock"


def test_a_clock_that_is_a_little_ahead_pairs_moments_that_lie_apart(tmp_path: Path) -> None:
    frames, said = read(tmp_path / "bag", COLOR, Camera(AUX, clock_s=1.6, encoding="16UC1"), seconds=6)
    assert np.mean([f.frame.presence[1] for f in frames]) > 0.5, "the buffer holds depth until colour's stamps come"
    assert "colour frames find depth partners of another moment: depth is 1.6 s ahead" in said


@pytest.mark.parametrize("hz", [100, 1000])
def test_an_event_camera_of_another_clock_is_named(tmp_path: Path, hz: int) -> None:
    types = typestore().types
    messages = COLOR.messages(2.0)
    for i in range(2 * hz):
        at = round((T0_S + i / hz) * NS_PER_S)
        seconds, rest = divmod(at - round(90.5 * NS_PER_S), NS_PER_S)
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](seconds, rest), "cam")
        word = np.array([(1 << 63) | (3 << 48) | (i % 16 << 32)], "<u8").view(np.uint8)
        messages.append((AUX, EVENT_PACKET, at, types[EVENT_PACKET](header, 12, 16, i, at, "mono", False, word)))
    remarks: list[str] = []
    with open_bag(custom_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[2]))) as bag:
        frames = read_bag_frames(bag, BagTopics(RGB, AUX), Modality.EVENT, on_remark=remarks.append)
        assert {f.frame.presence for f in frames} == {(True, False)}
    assert any("event is 90.5 s behind, its driver stamps with another clock" in text for text in remarks)


@pytest.mark.parametrize(
    ("aux", "text", "cure"),
    [
        (
            Camera(AUX, hz=15, phase_s=0.02, encoding="16UC1"),
            "the nearest depth stamps are 20 ms away, max_skew_s is 0.015 s; set max_skew_s to 0.034",
            SyncConfig(max_skew_s=0.034),
        ),
        (
            Camera(AUX, hz=5, encoding="16UC1"),
            "depth comes at 5.0 Hz, colour at 15.0 Hz; set both cameras to one rate, or aux_hold_s to 0.215",
            SyncConfig(aux_hold_s=0.215),
        ),
        (
            Camera(AUX, late_s=0.21, encoding="16UC1"),
            "depth arrives 0.21 s after colour of the same stamp, max_wait_s is 0.05 s; set max_wait_s to 0.25",
            SyncConfig(max_wait_s=0.25),
        ),
    ],
)
def test_pairs_that_cannot_come_name_the_parameter_that_helps(
    tmp_path: Path, aux: Camera, text: str, cure: SyncConfig
) -> None:
    frames, said = read(tmp_path / "bag", COLOR, aux)
    assert text in said
    frames, said = read(tmp_path / "cured", COLOR, aux, config=cure)
    assert said == ""
    assert np.mean([f.frame.presence[1] for f in frames]) > 0.8, "the named value cures it"


@pytest.mark.parametrize("hz", [5.0, 15.0, 30.0])
@pytest.mark.parametrize("late_s", [0.0, 0.03])
def test_cameras_in_step_are_not_complained_about(tmp_path: Path, hz: float, late_s: float) -> None:
    depth = Camera(AUX, hz=hz, late_s=late_s, phase_s=0.004, encoding="16UC1")
    _, said = read(tmp_path / "bag", Camera(RGB, hz=hz), depth, seconds=4)
    assert said == ""


def test_a_dead_camera_is_silence_and_not_another_clock(tmp_path: Path) -> None:
    messages = COLOR.messages(4.0) + DEPTH.messages(0.5)
    remarks: list[str] = []
    with open_bag(custom_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[2]))) as bag:
        list(read_bag_frames(bag, BagTopics(RGB, AUX), Modality.DEPTH, on_remark=remarks.append))
    assert not any("clock" in text for text in remarks)


def test_auxiliary_images_of_the_same_clock_lead_while_colour_is_dead(tmp_path: Path) -> None:
    messages = sorted(COLOR.messages(1.0) + DEPTH.messages(3.0), key=lambda m: m[2])
    with open_bag(custom_bag(tmp_path / "bag", messages)) as bag:
        frames = list(read_bag_frames(bag, BagTopics(RGB, AUX), Modality.DEPTH))
    assert [f.frame.presence for f in frames].count((False, True)) == 30


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (Camera(RGB, phase_s=0.03, frame_id="rear"), f"images of different frame_id on {RGB}: 'cam', 'rear'"),
        (Camera(RGB, phase_s=0.03, size=(32, 24)), f"images of different size or encoding on {RGB}: '16 x 12 mono8'"),
        (Camera(RGB, phase_s=0.03, frame_id="a\x1b[2Jb\n"), r"'a\x1b[2Jb\n'"),
        (Camera(AUX, phase_s=0.03, frame_id="rear", encoding="16UC1"), f"on {AUX}: 'cam', 'rear'"),
    ],
)
def test_two_cameras_on_one_topic_are_named(tmp_path: Path, second: Camera, text: str) -> None:
    _, said = read(tmp_path / "bag", COLOR, DEPTH, second)
    assert text in said
    assert "if two cameras publish on it, remap one of them" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (Camera(RGB), f"of the last 60 images on {RGB} 30 repeat a stamp"),
        (Camera(RGB, late_s=0.1, phase_s=0.02), f"images on {RGB} 29 are stamped before the one before them"),
        (Camera(AUX, encoding="16UC1"), f"of the last 60 images on {AUX} 30 repeat a stamp"),
    ],
)
def test_two_publishers_of_the_same_camera_are_named(tmp_path: Path, second: Camera, text: str) -> None:
    _, said = read(tmp_path / "bag", COLOR, DEPTH, second)
    assert text in said
    assert "if two publishers send on it, remap one of them" in said


def test_a_camera_that_is_set_to_another_size_is_one_camera(tmp_path: Path) -> None:
    later = Camera(RGB, phase_s=2.0, size=(32, 24))
    messages = sorted(COLOR.messages(2.0) + later.messages(2.0), key=lambda m: m[2])
    remarks: list[str] = []
    with open_bag(custom_bag(tmp_path / "bag", messages)) as bag:
        list(read_bag_frames(bag, BagTopics(RGB, ""), Modality.DEPTH, on_remark=remarks.append))
    assert not remarks


SQUARE = np.diag([0.5, 0.5, 1.0])


@pytest.mark.parametrize(
    ("modality", "aux", "text"),
    [
        (
            Modality.DEPTH,
            Camera(AUX, size=(16, 16), frame_id="depth_link", encoding="16UC1"),
            "depth of 16 x 16 pixels, frame_id 'depth_link', beside colour of 16 x 12, frame_id 'cam': images of "
            "another aspect are not one view, scaled; register depth to colour in the driver "
            "(realsense2_camera: align_depth.enable), or set aux_homography",
        ),
        (
            Modality.DEPTH,
            Camera(AUX, frame_id="depth_link", encoding="16UC1"),
            "images of two frames may not show the same view",
        ),
        (Modality.THERMAL, Camera(AUX, size=(16, 13), encoding="mono8"), "thermal of 16 x 13 pixels"),
    ],
)
def test_images_that_cannot_be_one_view_are_named_once(
    tmp_path: Path, modality: Modality, aux: Camera, text: str
) -> None:
    _, said = read(tmp_path / "bag", COLOR, aux, modality=modality)
    assert said.count(text) == 1
    _, said = read(tmp_path / "registered", COLOR, aux, modality=modality, aux_from_reference=SQUARE)
    assert said == ""


@pytest.mark.parametrize(
    ("modality", "aux"),
    [
        (Modality.DEPTH, Camera(AUX, size=(32, 24), encoding="16UC1")),
        (Modality.DEPTH, Camera(AUX, size=(8, 6), encoding="16UC1")),
        (Modality.THERMAL, Camera(AUX, size=(8, 6), frame_id="thermal")),
    ],
)
def test_one_view_scaled_is_not_complained_about(tmp_path: Path, modality: Modality, aux: Camera) -> None:
    _, said = read(tmp_path / "bag", COLOR, aux, modality=modality)
    assert said == ""


@pytest.mark.parametrize("changed", [{"encoding": "nonsense"}, {"width": 8}, {"step": 3}])
def test_single_broken_images_are_not_a_second_camera(tmp_path: Path, changed: dict[str, Any]) -> None:
    def edit(i: int, image: Any) -> None:
        for name, value in changed.items() if i in (7, 19) else ():
            setattr(image, name, value)

    _, said = read(tmp_path / "bag", Camera(RGB, edit=edit), DEPTH)
    assert said == ""


@settings(max_examples=60, deadline=None)
@given(
    offset_s=st.floats(-4000, 4000).filter(lambda s: abs(s) > 2),
    color_hz=st.floats(4, 60),
    aux_hz=st.floats(4, 60),
    late_s=st.floats(0, 0.5),
    rate=st.floats(1, 4),
)
def test_any_offset_of_clocks_is_named_and_never_leads(
    offset_s: float, color_hz: float, aux_hz: float, late_s: float, rate: float
) -> None:
    """Whatever the rates, the latency of the second driver and the speed of playing."""
    config = SyncConfig()
    sync, arrivals = Synchronizer(config), list[tuple[float, str, float]]()
    watch = PairWatch(config, RGB, AUX, "depth", packets=False, registered=False)
    for stream, hz, clock_s, delay_s in (("rgb", color_hz, 0.0, 0.0), ("aux", aux_hz, offset_s, late_s)):
        arrivals += [((i / hz + delay_s) / rate, stream, T0_S + i / hz + clock_s) for i in range(round(5 * hz))]
    seconds = 0.0
    for seconds, stream, stamp_s in sorted(arrivals):
        now_ns, stamp_ns = round(seconds * NS_PER_S), round(stamp_s * NS_PER_S)
        message = SimpleNamespace(header=SimpleNamespace(frame_id="cam"))
        watch.seen(stream, message, stamp_ns, now_ns)
        for synced in (sync.add_color if stream == "rgb" else sync.add_aux)(stamp_ns, now_ns, message):
            watch.released(synced)
    text = watch.remarks()[PAIRING]
    said = re.search(r"depth is ([\d.]+) s (behind|ahead), its driver stamps with another clock", text)
    assert said is not None, text
    named_s = float(said[1]) * (1 if said[2] == "ahead" else -1)
    assert named_s == pytest.approx(offset_s - late_s, abs=0.1 + late_s * abs(1 - 1 / rate) + 3 * abs(1 - 1 / rate))
    assert not sync.poll(round((seconds + 60) * NS_PER_S)) or sync.counters.aux_alone == 0
