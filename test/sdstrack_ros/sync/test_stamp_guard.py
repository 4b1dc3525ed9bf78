"""One glitched stamp is refused and counted; time jumps only once a second image says so."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.sync.stamp_guard import StampGuard
from sdstrack_ros.sync.synchronizer import SyncConfig, SyncedSet, Synchronizer
from sdstrack_ros.tracking.time_jump import after_jump
from testkit.reliability.lengths import examples

BASE_NS = 1_700_000_000 * NS_PER_S
PERIOD_NS = NS_PER_S // 15


def stamp(ns: int) -> Any:
    return SimpleNamespace(sec=ns // NS_PER_S, nanosec=ns % NS_PER_S)


class Streams:
    """Two cameras in front of a guard and a synchronizer, as in the node."""

    def __init__(self, clock_offset_ns: int | None = None) -> None:
        """Begin; the offset is that of the node's clock from the steady one, None where it says nothing of stamps."""
        self.clock_offset_ns = clock_offset_ns
        self.guard = StampGuard(SyncConfig())
        self.sync = Synchronizer(SyncConfig())
        self.released: list[SyncedSet] = []
        self.refused = 0

    def send(self, stream: str, stamp_ns: int, now_ns: int) -> str:
        while (deadline := self.sync.next_deadline_ns) is not None and deadline < now_ns:
            self.released += self.sync.poll(deadline)
        clock_ns = None if self.clock_offset_ns is None else now_ns + self.clock_offset_ns
        reason = self.guard.refusal(stream, stamp(stamp_ns), now_ns, clock_ns)
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


Outlier = tuple[
    int, str, float, bool
]  # number of the image, stream, seconds by which it is off, instead of it or beside
STREAMS = st.sampled_from(["rgb", "aux"])
OFF_S = st.floats(-1.7e9, 4.4e8) | st.floats(-100, 100)
COUNT = 60


def outliers(
    index: st.SearchStrategy[int], off_s: st.SearchStrategy[float] = OFF_S, most: int = 3
) -> st.SearchStrategy[list[Outlier]]:
    """Images that are stamped wrong."""
    one = st.tuples(index, STREAMS, off_s, st.booleans())
    return st.lists(one, min_size=1, max_size=most, unique_by=lambda outlier: outlier[:2])


@dataclass(frozen=True)
class Pause:
    """A time in which nothing arrives, from one image to another: it comes at the end, at once, or never."""

    first: int
    after: int
    streams: tuple[str, ...]
    held_up: bool


def film(
    outliers: list[Outlier],
    late: int = 0,
    late_stream: str = "rgb",
    jitter_ns: tuple[int, ...] = (0,),
    hz: int = 15,
    pause: Pause | None = None,
) -> None:
    """Send 60 images of two cameras: no target is lost, and every image is released or counted.

    The cameras are stamped by another clock than the node's, by the same, or by one that is 0.8 s behind it.
    """
    for clock_offset_ns in (None, BASE_NS, BASE_NS + 800_000_000):
        _film(Streams(clock_offset_ns), outliers, late, late_stream, jitter_ns, hz, pause)


def _film(
    cameras: Streams,
    outliers: list[Outlier],
    late: int,
    late_stream: str,
    jitter_ns: tuple[int, ...],
    hz: int,
    pause: Pause | None,
) -> None:
    period_ns = NS_PER_S // hz
    wrong = {outlier[:2]: outlier[2:] for outlier in outliers}
    arrivals: list[tuple[int, str, int]] = []
    for index in range(COUNT):
        for number, stream in enumerate(("rgb", "aux")):
            if stream == late_stream and index < late:
                continue
            true_ns, when = BASE_NS + index * period_ns, index
            if pause is not None and stream in pause.streams and pause.first <= index < pause.after:
                if not pause.held_up:
                    continue
                when = pause.after
            now_ns = when * period_ns + (1 + number) * 1_000_000 + jitter_ns[(2 * index + number) % len(jitter_ns)]
            off_s, replaces = wrong.get((index, stream), (0.0, False))
            if off_s:
                stamp_ns = min(max(true_ns + round(off_s * NS_PER_S), NS_PER_S), (2**31 - 1) * NS_PER_S)
                arrivals.append((now_ns, stream, stamp_ns))
            if not replaces:
                arrivals.append((now_ns + 500_000, stream, true_ns))
    for now_ns, stream, stamp_ns in sorted(arrivals, key=lambda arrival: arrival[0]):
        cameras.send(stream, stamp_ns, now_ns)
    sent = len(arrivals)
    cameras.released += cameras.sync.poll((COUNT + 15) * period_ns)
    count = cameras.sync.counters
    assert count.color_in + count.aux_in + cameras.refused == sent
    assert count.color_in == count.paired + count.color_alone + count.color_late + count.color_duplicate
    # Only a first image of all, or of colour before the other camera leads alone, can be an outlier that is believed.
    begin = late if late_stream == "rgb" and late <= SyncConfig().color_dead_s * hz else 0
    for synced in cameras.released:
        if synced.jumped_back_ns:  # the start box serves again
            first_ns, back_s = cameras.released[0].stamp_ns, synced.jumped_back_ns / NS_PER_S
            assert any(index in (0, begin) for index, _, _, _ in outliers), f"back by {back_s} s"
            assert after_jump(back_s, synced.stamp_ns, "init_box", first_ns)[1]
    newest = [synced.stamp_ns for synced in cameras.released if synced.epoch == cameras.sync.epoch]
    assert newest == sorted(newest)


def disagree(outliers: list[Outlier], least_s: float = 1.0) -> bool:
    """Whether no two of them confirm each other, as images of one new time do; both of a pair may be off alike."""
    pairs = itertools.combinations(outliers, 2)
    return all(abs(a[2] - b[2]) > least_s or (a[2] == b[2] and a[0] == b[0]) for a, b in pairs)


@pytest.mark.parametrize(
    "where",
    [st.integers(0, COUNT - 1), st.integers(0, 4), st.integers(20, 24)],
    ids=["anywhere", "at the start", "near"],
)
@given(data=st.data())
@settings(max_examples=examples(100, 3000))
def test_up_to_three_outliers_lose_no_target(where: st.SearchStrategy[int], data: st.DataObject) -> None:
    chosen = data.draw(outliers(where).filter(disagree))
    film(chosen)


@given(outliers(st.integers(0, COUNT - 1), st.floats(-3, 3)).filter(lambda some: disagree(some, 0.5)))
@settings(max_examples=examples(100, 3000))
def test_small_jumps_lose_no_target(chosen: list[Outlier]) -> None:
    film(chosen)


@given(st.integers(0, COUNT - 1), OFF_S, st.booleans(), outliers(st.integers(0, COUNT - 1), most=1))
@settings(max_examples=examples(100, 3000))
def test_one_glitch_on_both_streams_and_another_lose_no_target(
    index: int, off_s: float, replaces: bool, more: list[Outlier]
) -> None:
    chosen = {(index, stream): (index, stream, off_s, replaces) for stream in ("rgb", "aux")}
    chosen.update({outlier[:2]: outlier for outlier in more if outlier[0] != index})
    assume(disagree(list(chosen.values())))
    film(list(chosen.values()))


@given(
    st.integers(1, 30),
    STREAMS,
    st.sampled_from([5, 15, 100]),
    outliers(st.integers(0, 40)).filter(lambda some: disagree(some, 3.0)),
)
@example(15, "rgb", 15, [(15, "rgb", -1000.0, False)])
@example(15, "rgb", 15, [(15, "rgb", 1.0, False)])
@example(15, "aux", 15, [(15, "aux", 1000.0, True)])
@settings(max_examples=examples(100, 3000))
def test_outliers_of_a_camera_that_begins_later_lose_no_target(
    first: int, late: str, hz: int, chosen: list[Outlier]
) -> None:
    film([one for one in chosen if one[1] != late or one[0] >= first], first, late, hz=hz)


@given(
    st.lists(st.integers(0, 60_000_000), min_size=3, max_size=40),
    st.sampled_from([5, 30, 200]),
    outliers(st.integers(0, COUNT - 1)).filter(lambda some: disagree(some, 3.0)),
)
@settings(max_examples=examples(100, 3000))
def test_outliers_among_images_that_arrive_unevenly_lose_no_target(
    jitter_ns: list[int], hz: int, chosen: list[Outlier]
) -> None:
    film(chosen, jitter_ns=tuple(jitter_ns), hz=hz)


@given(
    st.integers(5, 30), st.integers(1, 25), st.sampled_from([("rgb",), ("aux",), ("rgb", "aux")]), st.booleans(),
    STREAMS, st.floats(-0.1, 3.0), st.booleans(), st.sampled_from([5, 15, 30]),
)  # fmt: skip
@example(20, 15, ("rgb", "aux"), True, "rgb", 0.9, False, 15)
@example(20, 15, ("rgb",), True, "rgb", 0.9, True, 15)
@settings(max_examples=examples(200, 3000))
def test_an_outlier_that_a_pause_explains_loses_no_target(
    first: int, length: int, streams: tuple[str, ...], held_up: bool, stream: str, off_s: float, beside: bool, hz: int
) -> None:
    index = first if held_up else first + length
    film([(index, stream, off_s, not beside)], hz=hz, pause=Pause(first, first + length, streams, held_up))


@given(
    st.lists(st.tuples(st.integers(0, 900), st.booleans()), min_size=3, max_size=60),
    st.sampled_from([5, 15, 30, 100]),
    st.integers(0, 100_000_000),
)
@example([(900, True), (0, False), (0, True)], 15, 0)
@settings(max_examples=examples(300, 10_000))
def test_no_image_with_a_right_stamp_is_refused_however_late_it_comes(
    images: list[tuple[int, bool]], hz: int, behind_ns: int
) -> None:
    """Stamps are by the node's clock; what held an image up for so many ms held up those after it, and lost some."""
    cameras, now_ns = Streams(BASE_NS), 0
    for index, (late_ms, arrives) in enumerate(images):
        taken_ns = index * NS_PER_S // hz
        now_ns = max(now_ns, taken_ns + behind_ns + late_ms * 1_000_000)
        if arrives:
            for stream in ("rgb", "aux"):
                assert cameras.send(stream, BASE_NS + taken_ns, now_ns) == ""


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
