from __future__ import annotations

from typing import Any

from sdstrack_ros.sync.event_buffer import EventBuffer
from sdstrack_ros.sync.synchronizer import SyncConfig, Synchronizer
from testkit.event_packets import MS, mono_bytes, packet


def feed(sync: Synchronizer, until_ms: int, packets_until_ms: int, color_until_ms: int) -> list[Any]:
    released = []
    for ms in range(until_ms):
        now = ms * MS
        if ms <= packets_until_ms and ms % 2 == 0:
            data = mono_bytes([ms % 640], [3], [0], [1])
            released += sync.add_aux(now, now, packet("mono", data, stamp_ns=now, time_base=now, seq=ms // 2))
        if ms <= color_until_ms and ms % 40 == 20:
            released += sync.add_color(now, now + 1, f"color {ms}")
        released += sync.poll(now)
    return released


def test_frames_get_the_events_since_the_previous_frame() -> None:
    sync = Synchronizer(SyncConfig(), EventBuffer)
    released = feed(sync, 500, 500, 500)
    assert [s.color.payload for s in released] == [f"color {ms}" for ms in range(20, 500, 40)]
    assert (sync.counters.aux_in, sync.counters.paired) == (250, 12)
    assert sync.counters.aux_unused == 0, "all events were shown; a count would look like loss"
    assert all(s.aux is not None and s.released_ns - s.color.arrival_ns <= 3 * MS for s in released)
    for s in released[1:]:
        assert s.aux.payload.start_ns == s.stamp_ns - 40 * MS
        assert s.aux.payload.x.tolist() == list(range(s.stamp_ns // MS - 38, s.stamp_ns // MS + 1, 2))


def test_frames_are_alone_when_the_event_camera_is_silent_but_not_when_the_scene_is_still() -> None:
    sync = Synchronizer(SyncConfig(), EventBuffer)
    released = feed(sync, 2000, 700, 2000)
    assert all(s.aux is not None for s in released if s.stamp_ns < 700 * MS)
    assert all(s.aux is None for s in released if s.stamp_ns > 800 * MS)
    assert len(released) == 50

    still = Synchronizer(SyncConfig(), EventBuffer)
    for ms in range(0, 300, 2):
        still.add_aux(ms * MS, ms * MS, packet("mono", b"", stamp_ns=ms * MS, seq=ms // 2))
    (only,) = still.add_color(290 * MS, 300 * MS, "c")
    assert len(only.aux.payload) == 0


def test_events_release_frames_when_colour_dies() -> None:
    sync = Synchronizer(SyncConfig(), EventBuffer)
    released = feed(sync, 2000, 2000, 500)
    alone = [s for s in released if s.color is None]
    assert 40 <= len(alone) <= 46
    assert all(len(s.aux.payload) >= 15 for s in alone)
    stamps = [s.stamp_ns for s in released]
    assert stamps == sorted(set(stamps))
