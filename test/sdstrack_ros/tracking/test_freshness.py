"""A frame that has waited too long gives way to the next one where that will do better, and only there."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from sdstrack_ros.tracking.overload import FRESH_PERIODS, MAX_PASSED, MIN_FRAMES, Freshness
from sdstrack_ros.tracking.worker import LatestFrameWorker

PERIOD = 1 / 60


def steady(age: float = 0.015, overhead: float = 0.004, frames: int = 2 * MIN_FRAMES) -> tuple[Freshness, float]:
    """A stream that has run for a while, and when its last frame came."""
    freshness, now = Freshness(), 100.0
    for index in range(frames):
        now = 100.0 + index * PERIOD
        freshness.came(index * PERIOD, now, age)
        freshness.answered(overhead)
    return freshness, now


def test_a_fresh_frame_is_answered_and_an_old_one_waits_for_the_next() -> None:
    freshness, now = steady()
    assert freshness.patience(0.020, now + 0.005) == 0
    assert 0 < freshness.patience(0.031, now + 0.016) < 2 * PERIOD


def test_after_the_last_frame_of_a_stream_nothing_is_waited_for() -> None:
    freshness, now = steady()
    assert freshness.patience(0.050, now + 2.1 * PERIOD) == 0


def test_an_old_frame_gives_way_to_a_newer_one_that_waits_for_its_partner() -> None:
    """Of cameras of 60 and 9 Hz, some frames are held until the other camera's image is there or overdue."""
    freshness, now = steady()
    late = now + 2.5 * PERIOD
    assert freshness.patience(0.055, late) == 0, "as at the end of a stream"
    assert freshness.patience(0.055, late, late + 0.012) == pytest.approx(0.012)
    assert freshness.patience(0.055, late, late - 0.001) == 0
    assert freshness.patience(0.055, late, late + 0.5) == 0, "with a long max_wait_s it would come late, too"
    assert freshness.patience(0.020, late, late + 0.012) == 0, "it is fresh"


@pytest.mark.parametrize(("age", "overhead"), [(0.06, 0.004), (0.015, 0.03)])
def test_where_no_frame_can_be_fresh_enough_none_gives_way(age: float, overhead: float) -> None:
    """A driver that delivers late, or a machine on which the node's own work takes long: late boxes beat none."""
    freshness, now = steady(age, overhead)
    assert freshness.patience(age + 0.01, now + 0.01) == 0


def test_before_the_rhythm_is_known_every_frame_is_answered() -> None:
    freshness, now = steady(frames=MIN_FRAMES - 1)
    assert freshness.patience(0.5, now) == 0


def test_not_too_many_in_a_row_give_way() -> None:
    freshness, now = steady()
    waits = [freshness.patience(0.04, now + 0.001) > 0 for _ in range(2 * (MAX_PASSED + 1))]
    assert waits == 2 * [*[True] * MAX_PASSED, False]


@pytest.mark.parametrize("age", [-0.2, 1.5, 1.7e9])
def test_stamps_of_another_clock_say_nothing_about_age(age: float) -> None:
    freshness, now = steady(age)
    assert freshness.came(1.0, now, age) == 0
    assert freshness.patience(0.020, now + 0.001) == 0
    assert freshness.patience(0.032, now + 0.001) > 0


def published_ages(with_rule: bool, seed: int = 5, seconds: float = 60.0) -> tuple[list[float], list[float]]:
    """A camera, transport and a worker in simulated time: age of each box, and its network's time."""
    random = np.random.default_rng(seed)
    stamps = np.arange(0, seconds, PERIOD)
    arrivals = np.maximum.accumulate(stamps + random.normal(0.015, 0.003, len(stamps)).clip(0.008, 0.028))
    freshness, free, ages, networks, next_up = Freshness(), 0.0, [], [], 0
    told = 0

    def tell(until: float) -> None:
        nonlocal told
        while told < len(stamps) and arrivals[told] <= until:
            freshness.came(stamps[told], arrivals[told], arrivals[told] - stamps[told])
            told += 1

    while next_up < len(stamps):
        now = max(free, arrivals[next_up])
        newest = int(np.searchsorted(arrivals, now, "right")) - 1
        tell(now)
        if with_rule:
            wait = freshness.patience(now - stamps[newest], now)
            if wait > 0 and newest + 1 < len(stamps):
                free, next_up = min(now + wait, arrivals[newest + 1]), newest
                if arrivals[newest + 1] <= now + wait:
                    next_up = newest + 1
                    continue
                now = free
        network, own = float(random.uniform(0.014, 0.028)), float(random.uniform(0.003, 0.006))
        free = now + network + own
        ages.append(free - stamps[newest])
        networks.append(network)
        freshness.answered(own)
        next_up = newest + 1
    return ages, networks


def test_boxes_are_within_two_periods_and_the_networks_time_however_slow_that_is() -> None:
    limit = FRESH_PERIODS * PERIOD
    late = {}
    for with_rule in (False, True):
        ages, networks = published_ages(with_rule)
        late[with_rule] = np.mean([age - network > limit for age, network in zip(ages, networks, strict=True)])
        assert len(ages) > 20 * 60, "at least every third frame is answered"
    assert late[False] > 0.1
    assert late[True] < 0.01


def test_the_worker_holds_an_old_frame_until_a_newer_one_comes_and_serves_it_where_none_does() -> None:
    served: list[int] = []
    asked, done = threading.Event(), threading.Event()

    def patience(frame: int) -> float:
        asked.set()
        return {1: 30.0, 3: 0.01}.get(frame, 0.0)

    def serve(frame: int) -> None:
        served.append(frame)
        done.set()

    worker: LatestFrameWorker[int, str] = LatestFrameWorker(serve, served.append, served.append, patience=patience)
    worker.start()
    try:
        worker.offer(1)
        assert asked.wait(10)
        assert worker.submit("request") is None  # does not wait behind the frame
        assert worker.offer(2) == 1, "given back to be counted"
        assert done.wait(10)
        done.clear()
        worker.offer(3)
        assert done.wait(10)
    finally:
        assert worker.stop(10)
    assert served in ([2, "request", 3], ["request", 2, 3])
