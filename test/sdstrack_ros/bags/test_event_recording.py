"""A Prophesee RAW file as a recording: the same events come out of its packets, and frames stand beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import sdstrack_ros.commands
from ckd_core.cli import build_app
from ckd_core.data.event_files import EventFileError
from ckd_core.frame import Modality
from sdstrack_ros.bags.event_recording import record_raw
from sdstrack_ros.bags.storage.opening import EVENT_PACKET, IMAGE, open_bag
from sdstrack_ros.bags.writer import AUX_TOPICS, EVENTS_TOPIC, RGB_TOPIC
from sdstrack_ros.messages.event_window import EventWindow

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 300


def raw_file(path: Path, version: int = 3) -> Path:
    """An event a millisecond, from the left to the right."""
    words = []
    for i in range(COUNT):
        t = 7_000_000 + 1000 * i
        if version == 3:
            words += [0x9000 | i, 0x8000 | (t >> 12 & 0xFFF), 0x6000 | (t & 0xFFF), 50, 0x2800 | i]
        else:
            words += [0x80000000 | (t >> 6), 0x10000000 | ((t & 63) << 22) | (i << 11) | 50]
    header = f"% evt {version}.0\n% geometry 320x240\n% end\n".encode()
    path.write_bytes(header + np.array(words, "<u2" if version == 3 else "<u4").tobytes())
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_packets_hold_the_events_and_images_stand_beside_them(tmp_path: Path, version: int) -> None:
    bag_path = record_raw(raw_file(tmp_path / "a.raw", version), tmp_path / "bag", fps=50.0)
    window, images = EventWindow(), 0
    with open_bag(bag_path) as bag:
        assert {topic.name: topic.type_name for topic in bag.topics} == {
            EVENTS_TOPIC: EVENT_PACKET,
            AUX_TOPICS[Modality.EVENT]: IMAGE,
        }
        for message in bag.messages([EVENTS_TOPIC, AUX_TOPICS[Modality.EVENT]]):
            decoded = bag.decode(message)
            if message.topic == EVENTS_TOPIC:
                window.add(decoded)
            else:
                assert (decoded.width, decoded.height) == (320, 240)
                images += 1
    events = window.between(0, 2**62)
    assert events.x.tolist() == list(range(COUNT))
    assert np.unique(np.diff(events.t_ns)).tolist() == [1_000_000]
    assert window.skipped == 0, "vendor words are not passed on"
    assert images == 15


def test_colour_frames_begin_with_the_first_event_and_end_the_recording(tmp_path: Path) -> None:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64, 3), index, np.uint8))
    bag_path = record_raw(raw_file(tmp_path / "a.raw"), tmp_path / "bag", str(tmp_path / "*.png"), fps=50.0)
    with open_bag(bag_path) as bag:
        counts = {topic.name: topic.count for topic in bag.topics}
        values = [int(bag.decode(message).data[0]) for message in bag.messages([RGB_TOPIC])]
    assert values == list(range(5))
    assert counts[AUX_TOPICS[Modality.EVENT]] == 5


def test_what_is_no_raw_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "a.raw"
    other.write_bytes(bytes(100))
    with pytest.raises(EventFileError, match="expected a Prophesee RAW file"):
        record_raw(other, tmp_path / "bag")
    shown = CliRunner().invoke(build_app(sdstrack_ros.commands), ["play", str(tmp_path), "--frames", "x.mp4"])
    assert shown.exit_code == 2
    assert "beside a .raw file only" in shown.output


@pytest.mark.parametrize("words", [(0x9123,), (0x9FFF, 0xB000, 0x1001)])
def test_vendor_words_in_live_packets_are_skipped_and_counted(words: tuple[int, ...]) -> None:
    from types import SimpleNamespace

    window = EventWindow()
    for seq in range(10):
        t = 1000 * (seq + 1)
        data = np.array([0x8000 | t >> 12, 0x6000 | t & 0xFFF, 5, *words, 0x2800 | seq], "<u2").tobytes()
        stamp = SimpleNamespace(sec=1, nanosec=t * 1000)
        header = SimpleNamespace(stamp=stamp, frame_id="cam")
        packet = SimpleNamespace(
            header=header, width=320, height=240, seq=seq, time_base=0, encoding="evt3", is_bigendian=False, events=data
        )
        assert window.add(packet) == 1
    assert window.skipped == 10 * len(words)
    assert window.between(0, 2**62).x.tolist() == list(range(10))
