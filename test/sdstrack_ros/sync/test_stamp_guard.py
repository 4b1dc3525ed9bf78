"""One glitched stamp is refused and counted; time jumps only once a second image says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.stamp_guard import StampGuard
from sdstrack_ros.sync.synchronizer import SyncConfig, SyncedSet, Synchronizer

BASE_NS = 1_700_000_000 * NS_PER_S
PERIOD_NS = NS_PER_S // 15


def stamp(ns: int) -> Any:
    return SimpleNamespace(sec=ns // NS_PER_S, nanosec=ns % NS_PER_S)


class Streams:
    """Two cameras in front of a guard and a synchronizer, as in the node."""

    def __init__(self) -> None:
        self.guard = StampGuard(SyncConfig())
        self.sync = Synchronizer(SyncConfig())
        self.released: list[SyncedSet] = []
        self.refused = 0

    def send(self, stream: str, stamp_ns: int, now_ns: int) -> str:
        while (deadline := self.sync.next_deadline_ns) is not None and deadline < now_ns:
            self.released += self.sync.poll(deadline)
        reason = self.guard.refusal(stream, stamp(stamp_ns), now_ns)
        if reason:
            self.refused += 1
            return reason
        add = self.sync.add_color if stream == "rgb" else self.sync.add_aux
        self.released += add(stamp_ns, now_ns, SimpleNamespace())
        return ""

    def pair(self, index: int, start_ns: int = BASE_NS, first: int = 0) -> None:
        for stream, late_ns in (("rgb", 1_000_000), ("aux", 2_000_000)):
            self.send(stream, start_ns + (index - first) * PERIOD_NS, index * PERIOD_NS + late_ns)

    @property
    def jumps(self) -> int:
        return sum(synced.jumped_back_ns > 0 for synced in self.released)


@pytest.mark.parametrize(
    ("sec", "nanosec"), [(0, 0), (-1, 2**32 - 1), (-(2**31), 0), (1_700_000_000, 10**9), (1_700_000_000, 2**32 - 1)]
)
def test_a_stamp_that_cannot_be_is_refused_by_name(sec: int, nanosec: int) -> None:
    reason = StampGuard(SyncConfig()).refusal("rgb", SimpleNamespace(sec=sec, nanosec=nanosec), 0)
    assert "header.stamp is 0" in reason or f"sec {sec} and nanosec {nanosec}" in reason


def test_a_stamp_far_from_the_nodes_clock_is_refused_only_where_that_is_asked_for() -> None:
    hour_ns = 3600 * NS_PER_S
    assert StampGuard(SyncConfig()).refusal("rgb", stamp(BASE_NS), 0, BASE_NS + hour_ns) == ""
    strict = StampGuard(SyncConfig(), max_clock_offset_s=60.0)
    assert "-3600.000 s from the node's clock" in strict.refusal("rgb", stamp(BASE_NS), 0, BASE_NS + hour_ns)
    assert strict.refusal("rgb", stamp(BASE_NS), 0, BASE_NS + 30 * NS_PER_S) == ""
    assert strict.refusal("aux", stamp(BASE_NS), 0, 0) == ""


@pytest.mark.parametrize("glitch_ns", [(2**31 - 1) * NS_PER_S, NS_PER_S, BASE_NS + NS_PER_S // 2])
@pytest.mark.parametrize("streams", [("rgb",), ("aux",), ("rgb", "aux"), ("aux", "rgb")])
def test_an_outlier_on_one_or_both_streams_costs_no_other_frame(glitch_ns: int, streams: tuple[str, ...]) -> None:
    cameras = Streams()
    for index in range(40):
        cameras.pair(index)
        if index == 20:
            for stream in streams:
                reason = cameras.send(stream, glitch_ns, index * PERIOD_NS + 3_000_000)
                assert "refused as an outlier" in reason
    assert cameras.jumps == 0
    assert cameras.refused == len(streams)
    assert cameras.sync.counters.paired == 40


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(3, 55), st.sampled_from(["rgb", "aux"]), st.integers(1, 2**31 - 1), st.booleans()),
        max_size=3,
        unique_by=(lambda outlier: outlier[0], lambda outlier: outlier[2] // 60),
    )
)
def test_up_to_three_outliers_lose_no_target_and_every_image_is_released_or_counted(
    outliers: list[tuple[int, str, int, bool]],
) -> None:
    cameras, sent = Streams(), 0
    at = {(index, stream): (seconds, replaces) for index, stream, seconds, replaces in outliers}
    for index in range(60):
        for stream, late_ns in (("rgb", 1_000_000), ("aux", 2_000_000)):
            seconds, replaces = at.get((index, stream), (None, False))
            now_ns = index * PERIOD_NS + late_ns
            if seconds is not None:
                cameras.send(stream, seconds * NS_PER_S, now_ns)
                sent += 1
            if not replaces:
                cameras.send(stream, BASE_NS + index * PERIOD_NS, now_ns + 500_000)
                sent += 1
    cameras.released += cameras.sync.poll(61 * PERIOD_NS)
    assert cameras.jumps == 0
    count = cameras.sync.counters
    assert count.color_in + count.aux_in + cameras.refused == sent
    assert count.color_in == count.paired + count.color_alone + count.color_late + count.color_duplicate
    stamps = [synced.stamp_ns for synced in cameras.released]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("start_ns", [BASE_NS, BASE_NS - 3600 * NS_PER_S, BASE_NS + 3600 * NS_PER_S])
def test_a_loop_or_a_changed_clock_is_followed_from_the_second_pair(start_ns: int) -> None:
    cameras = Streams()
    for index in range(30):
        cameras.pair(index)
    for index in range(30, 60):
        cameras.pair(index, start_ns, first=30)
    assert cameras.refused == 2
    assert cameras.jumps == (start_ns <= BASE_NS)
    assert cameras.sync.counters.paired >= 58


def test_a_stream_alone_confirms_its_own_new_time() -> None:
    cameras = Streams()
    reasons = [cameras.send("rgb", BASE_NS + i * PERIOD_NS, i * PERIOD_NS) for i in range(10)]
    reasons += [cameras.send("rgb", BASE_NS + i * PERIOD_NS, (10 + i) * PERIOD_NS) for i in range(10)]
    assert [bool(reason) for reason in reasons] == [False] * 10 + [True] + [False] * 9


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0, 100.0])
def test_recordings_of_slow_cameras_play_at_any_rate(rate: float) -> None:
    cameras = Streams()
    for index in range(40):
        cameras.send("rgb", BASE_NS + index * 2 * NS_PER_S, round(index * 2 * NS_PER_S / rate))
    assert cameras.refused <= 3  # until the rhythm is known
    assert cameras.jumps == 0
