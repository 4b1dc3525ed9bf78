"""EVT 3.0 bytes as the independent decoder evt3 reads them, and raw events through a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.data.synthetic import clip
from ckd_core.frame import Modality
from ckd_core.modality import Events, events_to_image
from sdstrack_ros.bags.storage.opening import EVENT_PACKET, open_bag, typestore
from sdstrack_ros.bags.writer import AUX_TOPICS, EVENTS_TOPIC, write_bag
from sdstrack_ros.messages.event_encoder import MAX_SENSOR_SIDE_PX, EventEncodeError, encode_evt3
from testkit.bags.scenes import read_frames

if TYPE_CHECKING:
    from pathlib import Path

evt3 = pytest.importorskip("evt3")

EVENT = st.tuples(
    st.integers(0, MAX_SENSOR_SIDE_PX - 1),
    st.integers(0, MAX_SENSOR_SIDE_PX - 1),
    st.integers(0, 40_000_000),
    st.booleans(),
)


def events_of(rows: list[tuple[int, int, int, bool]], begin_s: float = 0.0) -> Events:
    """Events of rows (x, y, microseconds, polarity), half a microsecond after the full one."""
    columns = np.array(sorted(rows, key=lambda row: row[2]), dtype=np.int64).reshape(-1, 4)
    return Events(columns[:, 0], columns[:, 1], begin_s + (columns[:, 2] + 0.5) * 1e-6, columns[:, 3])


@settings(deadline=None)
@given(st.lists(EVENT, min_size=1, max_size=200), st.sampled_from([0.0, 5.25]))
def test_an_independent_decoder_reads_the_encoded_events(
    rows: list[tuple[int, int, int, bool]], begin_s: float
) -> None:
    # The clock has 24 bits, 16.7 s: a reader tells a wrap from a step back only when something comes close to it.
    clock = [(0, 0, micros, False) for micros in range(0, 40_000_001, 20_000)]
    events = events_of([*rows, *clock], begin_s)
    decoded = evt3.Decoder(MAX_SENSOR_SIDE_PX, MAX_SENSOR_SIDE_PX).feed(encode_evt3(events, begin_s).tobytes())
    assert np.array_equal(decoded.x, events.x)
    assert np.array_equal(decoded.y, events.y)
    assert np.array_equal(decoded.p, events.p)
    assert np.array_equal(decoded.t, np.floor((events.t - begin_s) * 1e6))


def test_repeated_words_are_left_out() -> None:
    row = events_of([(x, 7, 100, True) for x in range(50)])
    assert len(encode_evt3(row, 0.0)) == 2 * (3 + 50), "time high, time low and y once, then one word per event"
    assert len(encode_evt3(events_of([]), 0.0)) == 0


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (events_of([(2048, 0, 0, True)]), "x 2048..2048"),
        (events_of([(0, -1, 0, True)]), "y -1..-1"),
        (Events(*np.zeros((2, 2), int), np.array([2.0, 1.0]), np.zeros(2, int)), "go back in time"),
        (Events(*np.zeros((2, 1), int), np.array([-1.0]), np.zeros(1, int)), "must not be before 0.0 s"),
    ],
)
def test_events_that_the_format_cannot_represent_are_refused(events: Events, reason: str) -> None:
    with pytest.raises(EventEncodeError, match=reason):
        encode_evt3(events, 0.0)


def test_a_recording_of_packets_shows_every_frame_its_own_events(tmp_path: Path) -> None:
    scene = clip(3, Modality.EVENT, 12, (160, 120))
    bag = write_bag(tmp_path / "bag", scene.frames, events=scene.events)
    with open_bag(bag) as opened:
        names = {topic.name for topic in opened.topics}
        packets = [typestore().deserialize_cdr(m.data, EVENT_PACKET) for m in opened.messages([EVENTS_TOPIC])]
    assert AUX_TOPICS[Modality.EVENT] not in names
    assert [packet.seq for packet in packets] == list(range(len(packets)))
    assert len(packets) > 4 * len(scene.frames), "several packets per frame, as a driver sends them"
    read = list(read_frames(bag, Modality.EVENT))
    assert len(read) == len(scene.frames)
    # The first window reaches back less far than the first frame's events, so it is left out.
    for frame, events in list(zip(read, scene.events, strict=True))[1:]:
        assert frame.aux is not None
        expected = events_to_image(events, (120, 160))
        wrong = np.count_nonzero((frame.aux != expected).any(axis=2))
        assert wrong <= 0.02 * len(events.t) + 2, "but for events within microseconds of the window's edge"
