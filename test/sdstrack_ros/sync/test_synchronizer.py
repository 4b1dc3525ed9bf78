from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdstrack_ros.sync.synchronizer import SyncConfig, SyncedSet, SyncError, Synchronizer

MS = 1_000_000
CONFIG = SyncConfig(max_skew_s=0.015, max_wait_s=0.05)


@dataclass(frozen=True)
class Arrival:
    now_ms: float
    kind: str
    stamp_ms: float


def stream(kind: str, period: float, count: int, phase: float = 0.0, delay: float = 2.0) -> list[Arrival]:
    return [Arrival(i * period + phase + delay, kind, i * period + phase) for i in range(count)]


def play(sync: Synchronizer, arrivals: list[Arrival], until_ms: float = 1e5) -> list[SyncedSet]:
    """Feed arrivals in time order, polling at every deadline in between, as the node's timer does."""
    released: list[SyncedSet] = []

    def run_until(limit_ns: int) -> None:
        while (deadline := sync.next_deadline_ns) is not None and deadline <= limit_ns:
            before = len(released)
            released.extend(sync.poll(deadline))
            assert len(released) > before, "a deadline at which nothing leaves would spin"

    for arrival in sorted(arrivals, key=lambda a: a.now_ms):
        now = round(arrival.now_ms * MS)
        run_until(now - 1)
        add = sync.add_color if arrival.kind == "color" else sync.add_aux
        released.extend(add(round(arrival.stamp_ms * MS), now, arrival))
    run_until(round(until_ms * MS))
    return released


def color_stamps(released: list[SyncedSet]) -> list[float]:
    return [s.color.stamp_ns / MS for s in released if s.color]


def waited_ns(synced: SyncedSet) -> int:
    """Time that the leading message waited."""
    leader = synced.color or synced.aux
    assert leader is not None
    return synced.released_ns - leader.arrival_ns


def check_accounts(sync: Synchronizer, released: list[SyncedSet]) -> None:
    count = sync.counters
    assert count.color_in == count.paired + count.held + count.color_alone + count.color_late + count.color_duplicate
    assert sum(s.color is not None and s.aux is not None and not s.aux_held for s in released) == count.paired
    assert sum(s.color is not None and s.aux is None for s in released) == count.color_alone
    assert sum(s.aux_held for s in released) == count.held
    assert sum(s.color is None for s in released) == count.aux_alone


def test_steady_streams_pair_and_hardly_wait() -> None:
    sync = Synchronizer(CONFIG)
    released = play(sync, stream("color", 33.3, 60) + stream("aux", 33.3, 60, phase=-7, delay=9))
    assert len(released) == 60
    assert all(s.aux and abs(s.skew_ns or 0) <= 15 * MS for s in released[1:])
    # The auxiliary frame is always earlier: only its rhythm says that no nearer one will come.
    assert max(waited_ns(s) for s in released[8:]) <= 1 * MS


@pytest.mark.parametrize("rate", [1.0, 0.25, 0.1, 0.02])
def test_a_recording_played_slowly_pairs_when_the_wait_grows_by_the_same_factor(rate: float) -> None:
    arrivals = stream("color", 66.7, 30) + stream("aux", 66.7, 30, phase=12)
    slowed = [replace(arrival, now_ms=arrival.now_ms / rate) for arrival in arrivals]
    sync = Synchronizer(replace(CONFIG, max_wait_s=CONFIG.max_wait_s / rate))
    released = play(sync, slowed, until_ms=3e3 / rate)
    assert len(released) == sync.counters.paired == 30


def test_a_slower_auxiliary_sensor_is_used_again_only_while_it_may_be_held() -> None:
    arrivals = stream("color", 33.3, 90) + stream("aux", 111.1, 27)
    held = Synchronizer(replace(CONFIG, aux_hold_s=0.12))
    released = play(held, arrivals)
    assert len(released) == 90
    assert held.counters.held > 50
    assert all(s.aux for s in released[1:])
    assert all(s.color.stamp_ns - s.aux.stamp_ns <= 120 * MS for s in released if s.color and s.aux_held)
    waits = sorted(waited_ns(s) for s in released[30:80])
    assert waits[len(waits) // 2] <= 1 * MS, "a rhythm that is known is not waited for"
    # A frame waits only while the next auxiliary one, at 0.8 periods or later, could still be within the skew.
    assert waits[-1] <= (0.2 * 111.1 + 15 + 2) * MS
    plain = Synchronizer(CONFIG)
    play(plain, arrivals)
    assert plain.counters.held == 0
    assert 20 <= plain.counters.paired <= 30


def test_a_dead_auxiliary_sensor_costs_no_waiting_and_comes_back() -> None:
    aux = [a for a in stream("aux", 33.3, 150) if not 1000 < a.now_ms < 3000]
    sync = Synchronizer(CONFIG)
    released = play(sync, stream("color", 33.3, 150) + aux)
    assert color_stamps(released) == [round(i * 33.3 * MS) / MS for i in range(150)]
    dead = [s for s in released if 1600 * MS < s.stamp_ns < 2900 * MS]
    assert dead
    assert all(s.aux is None and waited_ns(s) == 0 for s in dead)
    assert all(s.aux for s in released if s.stamp_ns > 3100 * MS)


def test_the_auxiliary_sensor_drives_while_colour_is_dead() -> None:
    color = [a for a in stream("color", 33.3, 150) if not 1000 < a.now_ms < 3000]
    sync = Synchronizer(CONFIG)
    released = play(sync, color + stream("aux", 33.3, 150), until_ms=5000)
    assert color_stamps(released) == [round(a.stamp_ms * MS) / MS for a in color]
    alone = [s for s in released if s.color is None]
    assert len(alone) >= 45
    assert all(990 * MS < s.stamp_ns < 3000 * MS for s in alone)
    stamps = [s.stamp_ns for s in released]
    assert stamps == sorted(set(stamps))
    assert all(s.aux and s.color for s in released if s.stamp_ns > 3100 * MS)
    check_accounts(sync, released)


def test_the_auxiliary_sensor_drives_when_colour_never_comes() -> None:
    sync = Synchronizer(CONFIG)
    released = play(sync, stream("aux", 33.3, 60), until_ms=3000)
    assert [s.stamp_ns for s in released] == [round(i * 33.3 * MS) for i in range(60)]
    assert all(s.color is None for s in released)


def test_looped_bag_begins_an_epoch_and_pairs_again() -> None:
    one = stream("color", 33.3, 20) + stream("aux", 33.3, 20, phase=7)
    again = [replace(a, now_ms=a.now_ms + 700) for a in one]
    sync = Synchronizer(CONFIG)
    released = play(sync, one + again, until_ms=1600)
    by_color = [s for s in released if s.color]
    assert len(by_color) == 40
    assert [s.epoch for s in by_color] == [0] * 20 + [1] * 20
    assert [s.jumped_back_ns > 0 for s in by_color] == [False] * 20 + [True] + [False] * 19
    assert sum(s.aux is not None for s in by_color[20:]) >= 19
    assert sync.counters.color_jumps == 1


@pytest.mark.parametrize("first", ["color", "aux"])
def test_jump_seen_by_one_stream_first(first: str) -> None:
    old = stream("color", 33.3, 30) + stream("aux", 33.3, 30)
    new = [replace(a, now_ms=a.now_ms + 1000 + (0 if a.kind == first else 90)) for a in old]
    sync = Synchronizer(CONFIG)
    released = play(sync, old + new, until_ms=2300)
    assert len(color_stamps(released)) == 60
    assert sync.epoch == 1
    check_accounts(sync, released)


def test_one_stamp_from_the_far_future_does_not_stop_anything() -> None:
    for kind in ("color", "aux"):
        wild = [Arrival(500.5, kind, 1e9)]
        sync = Synchronizer(CONFIG)
        released = play(sync, stream("color", 33.3, 60) + stream("aux", 33.3, 60) + wild, until_ms=2100)
        assert len(color_stamps(released)) == 60 + (kind == "color")
        assert sum(s.aux is not None and s.color is not None for s in released) >= 55


def test_duplicates_and_late_frames_are_dropped_and_counted() -> None:
    extra = [Arrival(320, "color", 300), Arrival(350, "color", 266.4), Arrival(310, "aux", 299.7)]
    sync = Synchronizer(CONFIG)
    released = play(sync, stream("color", 33.3, 30) + stream("aux", 33.3, 30) + extra)
    stamps = color_stamps(released)
    assert stamps == sorted(stamps)
    assert len(stamps) == 30 + 1
    assert sync.counters.color_late + sync.counters.color_duplicate == 1
    assert sync.counters.aux_duplicate == 1
    check_accounts(sync, released)


def test_the_counters_show_how_far_apart_streams_on_different_clocks_are() -> None:
    sync = Synchronizer(CONFIG)
    released = play(sync, stream("color", 33.3, 30) + stream("aux", 33.3, 30, phase=5000, delay=-4998))
    assert len(released) >= 30
    assert sync.counters.paired == 0
    assert sync.counters.nearest_miss_ns is not None
    assert sync.counters.nearest_miss_ns > 3000 * MS


@pytest.mark.parametrize("change", [{"max_skew_s": -1}, {"max_wait_s": float("nan")}, {"max_pending": 0}])
def test_meaningless_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(SyncError, match=next(iter(change))):
        SyncConfig(**change)


def test_settings_change_while_running() -> None:
    sync = Synchronizer(CONFIG)
    arrivals = stream("color", 33.3, 30) + stream("aux", 33.3, 30, phase=16)
    first = play(sync, [a for a in arrivals if a.now_ms < 500], until_ms=500)
    assert sum(s.aux is not None for s in first) == 0
    sync.configure(replace(CONFIG, max_skew_s=0.017))
    second = play(sync, [a for a in arrivals if a.now_ms >= 500], until_ms=1200)
    assert sum(s.aux is not None for s in second) >= 13


@st.composite
def steady_scenes(draw: st.DrawFn) -> tuple[SyncConfig, list[Arrival]]:
    """Two ordered streams with jitter, delays, losses and gaps; colour is never silent long enough to be dead."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    arrivals: list[Arrival] = []
    for kind in ("color", "aux"):
        period = draw(st.sampled_from([8.0, 16.7, 33.3, 40.0, 111.0]))
        jitter = draw(st.sampled_from([0.0, 0.05, 0.3])) * period
        count = draw(st.integers(0, 40))
        stamps = np.arange(count) * period + rng.uniform(-jitter, jitter, count) + rng.uniform(0, period)
        arrived = np.maximum.accumulate(stamps + rng.exponential(draw(st.sampled_from([0.1, 5.0, 30.0])), count))
        arrived += 1e-3 * np.arange(count)  # one after the other, even in a burst: a release cannot know the next frame
        lost = rng.random(count) < draw(st.sampled_from([0.0, 0.2]))
        gap = rng.uniform(0, period * 30) if kind == "aux" and draw(st.booleans()) else None
        for stamp, now in zip(np.sort(stamps), arrived, strict=True):
            if gap is None or not gap < stamp < gap + 800:
                arrivals.append(Arrival(float(now), kind, float(stamp)))
        arrivals = [a for a, gone in itertools.zip_longest(arrivals, lost, fillvalue=False) if a and not gone]
    hold = draw(st.sampled_from([0.0, 0.0, 0.1]))
    skew, wait = draw(st.sampled_from([0.0, 0.005, 0.017, 0.1])), draw(st.sampled_from([0.0, 0.02, 0.05]))
    return SyncConfig(max_skew_s=skew, max_wait_s=wait, aux_hold_s=hold, color_timeout_s=1e6), arrivals


@settings(max_examples=150, deadline=None)
@given(steady_scenes())
def test_every_colour_frame_is_released_once_in_order_in_time_with_its_nearest_partner(
    scene: tuple[SyncConfig, list[Arrival]],
) -> None:
    config, arrivals = scene
    sync = Synchronizer(config)
    released = play(sync, arrivals, until_ms=1e7)
    check_accounts(sync, released)
    expected = [a for a in sorted(arrivals, key=lambda a: a.stamp_ms) if a.kind == "color"]
    assert [s.color.payload for s in released if s.color] == expected, "each colour frame exactly once, in order"
    assert all(waited_ns(s) <= config.ns("max_wait_s") for s in released)

    fresh = [s for s in released if s.aux is not None and not s.aux_held]
    assert len({id(s.aux) for s in fresh}) == len(fresh), "no partner twice unless held"
    skew_ns, hold_ns = config.ns("max_skew_s"), config.ns("aux_hold_s")
    used_ns = -(10**18)
    for s in released:
        assert s.color is not None
        here = [round(a.stamp_ms * MS) for a in arrivals if a.kind == "aux" and round(a.now_ms * MS) <= s.released_ns]
        usable = [abs(stamp - s.stamp_ns) for stamp in here if stamp > used_ns and abs(stamp - s.stamp_ns) <= skew_ns]
        if s.aux is None or s.aux_held:
            assert not usable, "a partner within the skew was there"
        if s.aux is not None and s.aux_held:
            assert 0 <= s.stamp_ns - s.aux.stamp_ns <= hold_ns
        if s.aux is not None and not s.aux_held:
            assert abs(s.skew_ns or 0) == min(usable), "not the nearest one"
            used_ns = s.aux.stamp_ns


@settings(max_examples=150, deadline=None)
@given(
    data=st.lists(
        st.tuples(
            st.sampled_from(["color", "aux"]),
            st.integers(-5, 400) | st.sampled_from([-(2**31), 2**40, 0]),
            st.integers(-20, 120),
        ),
        max_size=250,
    ),
    pending=st.sampled_from([1, 3, 32]),
)
def test_memory_is_bounded_and_accounts_balance_for_any_input(data: list[tuple[str, int, int]], pending: int) -> None:
    sync = Synchronizer(replace(CONFIG, max_pending=pending, aux_hold_s=0.05))
    now, released = 0, []
    for kind, stamp_ms, step_ms in data:
        now += step_ms * MS  # the steady clock goes back, too: nothing may rely on it
        add = sync.add_color if kind == "color" else sync.add_aux
        released += add(stamp_ms * MS, now, None)
        count = sync.counters
        waiting = count.color_in - sum(s.color is not None for s in released) - count.color_late - count.color_duplicate
        assert 0 <= waiting <= pending
        gone = count.paired + count.aux_alone + count.aux_unused + count.aux_overflow + count.aux_duplicate
        assert 0 <= count.aux_in - gone <= pending
    released += sync.poll(now + 10**12)
    check_accounts(sync, released)
    for epoch, sets in itertools.groupby(released, key=lambda s: s.epoch):
        stamps = [s.stamp_ns for s in sets]
        assert stamps == sorted(set(stamps)), f"order within epoch {epoch}"


class Pixels:
    """The one field of an image message that the synchronizer's memory depends on."""

    def __init__(self, size: int) -> None:
        self.data = bytes(size)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["color", "aux"]), st.integers(0, 60), st.integers(0, 400)), min_size=1, max_size=120
    ),
    st.sampled_from([200, 1000, 4000]),
)
def test_what_waits_is_bounded_in_bytes_but_for_one_image_of_either_stream(
    data: list[tuple[str, int, int]], max_bytes: int
) -> None:
    sync = Synchronizer(replace(CONFIG, max_wait_s=1e3, max_bytes=max_bytes))
    newest, released = 0, []
    for kind, step_ms, size in data:
        newest += step_ms
        add = sync.add_color if kind == "color" else sync.add_aux
        released += add(newest * MS, newest * MS, Pixels(size))
        assert sync.nbytes <= max_bytes + 2 * 400 + 400, "half for each, one image more of each, and the last one used"
    check_accounts(sync, released + sync.poll(10**15))
