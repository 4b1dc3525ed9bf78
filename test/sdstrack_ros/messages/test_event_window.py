from __future__ import annotations

import sys
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdstrack_ros.messages.event_window import EventDecodeError, EventWindow
from testkit.event_packets import MS, S, mono_bytes, packet


def evt3_bytes(events: list[tuple[int, int, int, int]]) -> bytes:
    """EVT 3.0 words of single events (t_us, x, y, p): TIME_HIGH 8, TIME_LOW 6, ADDR_Y 0, ADDR_X 2 (Prophesee's doc)."""
    words = []
    for t, x, y, p in events:
        words += [0x8 << 12 | (t >> 12) & 0xFFF, 0x6 << 12 | t & 0xFFF, y & 0x7FF, 0x2 << 12 | p << 11 | x]
    return np.array(words, "<u2").tobytes()


@pytest.mark.parametrize("big", [False, True])
def test_mono_packets_are_decoded_exactly(big: bool) -> None:
    window = EventWindow()
    x, y, dt, p = [1, 639, 7], [2, 479, 9], [0, 5 * MS, 9 * MS], [1, 0, 1]
    data = mono_bytes(x, y, dt, p, big)
    assert window.add(packet("mono", data, stamp_ns=5 * S + 9 * MS, time_base=5 * S, is_bigendian=big)) == 3
    events = window.between(5 * S - 1, 5 * S + 9 * MS)
    assert events.x.tolist() == x
    assert events.y.tolist() == y
    assert events.p.tolist() == p
    assert events.t_ns.tolist() == [5 * S + d for d in dt]
    assert len(window.between(5 * S, 5 * S + 5 * MS)) == 1, "the window is open at its start, closed at its end"


def test_evt3_packets_keep_the_sensors_state_and_land_on_the_headers_clock() -> None:
    pytest.importorskip("evt3")
    window = EventWindow()
    first = evt3_bytes([(10_000, 5, 6, 1), (12_000, 7, 8, 0)])
    assert window.add(packet("evt3", first, stamp_ns=100 * S + 12 * MS, seq=4)) == 2
    # The next packet goes on where the time stood: no upper time bits of its own.
    rest = np.array([0x6 << 12 | 12_100 & 0xFFF, 9, 0x2 << 12 | 1 << 11 | 3], "<u2").tobytes()
    assert window.add(packet("evt3", rest, stamp_ns=100 * S + 20 * MS, seq=5)) == 1
    events = window.between(0, 101 * S)
    assert events.x.tolist() == [5, 7, 3]
    assert events.y.tolist() == [6, 8, 9]
    assert events.p.tolist() == [1, 0, 1]
    assert np.abs(events.t_ns - [100 * S + 10 * MS, 100 * S + 12 * MS, 100 * S + 12 * MS + 100_000]).max() < 2000
    assert window.newest_ns == events.t_ns[-1]


def test_a_lost_packet_restarts_the_sensors_clock() -> None:
    pytest.importorskip("evt3")
    window = EventWindow()
    window.add(packet("evt3", evt3_bytes([(10_000, 5, 6, 1)]), stamp_ns=100 * S, seq=1))
    window.add(packet("evt3", evt3_bytes([(5_010_000, 5, 6, 1)]), stamp_ns=105 * S, seq=4))
    assert window.gaps == 2
    assert window.between(104 * S, 105 * S).t_ns.tolist() == [105 * S]


def test_events_are_never_in_the_future_and_keep_their_order_under_jittered_stamps() -> None:
    window = EventWindow()
    rng = np.random.default_rng(3)
    for i in range(200):
        late = int(rng.integers(0, 8 * MS))
        data = mono_bytes([1, 2], [1, 2], [0, MS], [1, 0])
        window.add(packet("mono", data, stamp_ns=50 * S + i * 4 * MS + late, time_base=i * 4 * MS, seq=i))
    t_ns = window.between(0, 60 * S).t_ns
    true_ns = 50 * S + np.arange(200) * 4 * MS
    settled = t_ns.reshape(-1, 2)[50:, 1] - true_ns[50:]
    assert (np.diff(t_ns) >= 0)[100:].all()
    assert settled.min() >= 0
    assert settled.max() < 0.5 * MS, "the smallest delay is used, the jitter of the stamps is gone"


def test_a_storm_is_held_in_bounded_memory_and_counted() -> None:
    window = EventWindow(capacity=500_000)
    rng = np.random.default_rng(0)
    per_packet, packets = 200_000, 100  # 20 M events in one second
    x, y = rng.integers(0, 640, per_packet), rng.integers(0, 480, per_packet)
    dt = np.linspace(0, 10 * MS - 1, per_packet).astype(np.int64)
    data = mono_bytes(x, y, dt, np.ones(per_packet))
    for i in range(packets):
        window.add(packet("mono", data, stamp_ns=S + (i + 1) * 10 * MS, time_base=S + i * 10 * MS, seq=i))
        assert len(window) <= 500_000
    assert len(window) == 500_000
    assert window.dropped == per_packet * packets - 500_000
    assert sum(run.t_ns.nbytes + run.x.nbytes + run.y.nbytes + run.p.nbytes for run in window._runs) == 13 * 500_000
    assert len(window.between(2 * S - 10 * MS, 2 * S)) == pytest.approx(per_packet, rel=0.001), "the newest stay"


def test_one_packet_larger_than_the_capacity_does_not_grow_memory() -> None:
    window = EventWindow(capacity=1000)
    count = 50_000
    data = mono_bytes(np.ones(count), np.ones(count), np.arange(count), np.ones(count))
    assert window.add(packet("mono", data, stamp_ns=S)) == count
    assert len(window) == 1000
    assert window.dropped == count - 1000


def test_forget_drops_the_events_of_earlier_frames() -> None:
    window = EventWindow()
    for i in range(10):
        window.add(packet("mono", mono_bytes([1], [1], [0], [1]), stamp_ns=i * MS, time_base=i * MS, seq=i))
    window.forget(6 * MS)
    assert len(window) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"encoding": "evt2"},
            "'evt2' is not decoded; set the driver's parameter 'encoding' to evt3 .* 'sdstrack play'",
        ),
        ({"encoding": "evt21"}, "'evt21' is not decoded; set the driver's parameter 'encoding' to evt3"),
        ({"encoding": "evt4"}, "'evt4' is not decoded; set the driver's parameter 'encoding' to evt3"),
        ({"encoding": "trigger"}, "'trigger' holds times of a trigger and no events"),
        ({"encoding": "EVT3"}, "unknown event encoding 'EVT3'; expected one of: evt3, mono, libcaer, libcaer_cmp"),
        ({"encoding": ""}, "unknown event encoding ''"),
        ({"encoding": "libcaer_cmp"}, "needs event_camera_py"),
        ({"width": 0}, "0 x 480"),
        ({"width": 2**31, "height": 2**31}, "sensor; expected"),
        ({"events": array("B", b"1234567")}, "7 bytes; expected a multiple of 8"),
    ],
)
def test_packets_that_cannot_be_decoded_are_refused_and_earlier_events_stay(
    change: dict[str, Any], reason: str
) -> None:
    if change.get("encoding") == "libcaer_cmp" and "event_camera_py" in sys.modules:
        pytest.skip("event_camera_py is installed here")
    window = EventWindow()
    window.add(packet("mono", mono_bytes([1], [1], [0], [1]), stamp_ns=S))
    bad = packet("mono", b"")
    vars(bad).update(change)
    with pytest.raises(EventDecodeError, match=reason):
        window.add(bad)
    assert len(window) == 1


def test_any_bytes_decode_or_are_refused() -> None:
    pytest.importorskip("evt3")
    rng = np.random.default_rng(5)
    window = EventWindow(capacity=10_000)
    for seq in range(200):
        data = rng.integers(0, 256, rng.integers(0, 300), dtype=np.uint8).tobytes()
        window.add(packet("evt3", data, stamp_ns=S + seq * MS, seq=seq))
        events = window.between(-(2**62), 2**62)
        assert len(window) <= 10_000
        assert len(events) == 0 or (events.x.max() < 640 and events.y.max() < 480)


def test_events_beyond_the_sensor_are_left_out_and_counted() -> None:
    window = EventWindow()
    window.add(packet("mono", mono_bytes([1, 700, 3], [1, 1, 481], [0, 1, 2], [1, 1, 1]), stamp_ns=S))
    assert window.between(0, 2 * S).x.tolist() == [1]
    assert window.outside == 2


@pytest.mark.shared
def test_a_real_event_bag_is_decoded_completely(shared_data: Path) -> None:
    pytest.importorskip("evt3")
    from rosbags.rosbag2 import Reader
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    text = (Path(__file__).parents[2] / "interfaces/event_camera_msgs/msg/EventPacket.msg").read_text()
    store.register(get_types_from_msg(text, "event_camera_msgs/msg/EventPacket"))
    window, total = EventWindow(), 0
    with Reader(shared_data / "bags" / "event_packets_test_events_1") as bag:
        for connection, _, raw in bag.messages():
            message = store.deserialize_cdr(raw, connection.msgtype)
            stamp_ns = message.header.stamp.sec * S + message.header.stamp.nanosec
            total += window.add(message)
            assert window.newest_ns is not None
            assert window.newest_ns <= stamp_ns + 10 * MS
    assert total == 343_474
    assert window.gaps == window.dropped == window.outside == 0
    events = window.between(0, 2**62)
    # Packets stamped in one batch of 8 ms no longer overlap or tear once on the sensor's own clock.
    assert (np.diff(events.t_ns.astype(np.int64)) < -20 * MS).sum() == 0
    assert events.t_ns[-1] - events.t_ns[0] == pytest.approx(2.08e9, rel=0.05)
