from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdstrack_ros.node.faults import FaultLog, guarded
from sdstrack_ros.node.health import Health, Latency, Level, Situation, judge, percentile
from sdstrack_ros.tracking.overload import FrameCost, OverloadPolicy
from sdstrack_ros.tracking.worker import MAX_REQUESTS, LatestFrameWorker


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentile_is_the_nearest_rank(samples: list[float], percent: int) -> None:
    assert percentile(samples, percent) == np.percentile(samples, percent, method="inverted_cdf")


def test_rates_ages_and_silence_follow_the_given_clock() -> None:
    health = Health()
    health.watch("rgb", "/rgb", now=100.0)
    assert health.silent(101.0, 2.0) == {}
    assert health.silent(103.0, 2.0) == {"rgb": 3.0}
    for index in range(31):
        health.arrived("rgb", 103.0 + index / 30)
    report = health.streams(104.5)["rgb"]
    assert report.rate_hz == pytest.approx(30)
    assert report.age_s == pytest.approx(0.5)
    assert report.received == 31
    assert health.silent(104.5, 2.0) == {}
    assert health.streams(110.0)["rgb"].rate_hz == 0.0


def test_values_name_every_stage_and_counter() -> None:
    health = Health()
    health.watch("aux", "/depth", now=0.0)
    health.rejected("aux")
    health.count("dropped", 3)
    health.paired(-0.004)
    health.served(Latency(0.04, 0.03, 0.001, 0.002, 0.003, 0.0025, 0.0, 0.004, 0.01))
    values = health.values(1.0)
    assert values["aux.age_ms"] == "never"
    assert values["aux.rejected"] == "1"
    assert values["frames.dropped"] == "3"
    assert values["skew_ms.p95"] == "4.0"
    assert values["latency_ms.total.p99"] == "10.00"
    assert values["latency_ms.network.p50"] == "2.50"


@pytest.mark.parametrize(
    ("situation", "level", "words"),
    [
        (Situation("active", "TRACKING"), Level.OK, "TRACKING"),
        (Situation("active", "NONE"), Level.OK, "no target"),
        (Situation("active", "UNCERTAIN"), Level.WARN, "UNCERTAIN"),
        (Situation("active", "LOST"), Level.WARN, "LOST"),
        (Situation("active", "TRACKING", {"/aux": 3.0}, ("/rgb", "/aux")), Level.WARN, "nothing on /aux for 3.0 s"),
        (Situation("active", "LOST", {"/rgb": 3.0, "/aux": 4.0}, ("/rgb", "/aux")), Level.ERROR, "no input"),
        (Situation("active", "TRACKING", paused=True), Level.WARN, "paused"),
        (Situation("unconfigured", "NONE", problems=("no such model",)), Level.ERROR, "no such model"),
        (Situation("inactive", "NONE"), Level.OK, "inactive"),
        (Situation("active", "TRACKING", unanswered="no frame answered: x"), Level.ERROR, "no frame answered: x"),
        (Situation("active", "TRACKING", paused=True, unanswered="no frame answered"), Level.WARN, "paused"),
        (
            Situation("active", "TRACKING", {"/aux": 3.0}, ("/rgb", "/aux"), unanswered="no frame answered"),
            Level.ERROR,
            "no frame answered; nothing on /aux",
        ),
    ],
)
def test_the_verdict_is_honest(situation: Situation, level: Level, words: str) -> None:
    verdict = judge(situation)
    assert verdict.level is level
    assert words in verdict.message


class Flow:
    """Two streams, watched from second 100 on, with answers expected; `run` sends colour at 10 Hz."""

    def __init__(self) -> None:
        self.now = 100.0
        self.health = Health()
        for name in ("rgb", "aux", "camera_info"):
            self.health.watch(name, f"/{name}", self.now)
        self.health.expect_answers(self.now)

    def run(self, seconds: float, answered: bool, reason: str = "") -> str:
        """Return the message at the end."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.health.arrived("rgb", self.now)
            if answered:
                self.health.answered(self.now)
            elif reason:
                self.health.refused_frame(reason)
        return self.message()

    def message(self) -> str:
        return self.health.unanswered(self.now, ("rgb", "aux"), 2.0)


def test_images_that_lead_to_no_answer_are_reported_with_the_last_reason() -> None:
    flow = Flow()
    assert flow.run(5.0, answered=True) == ""
    assert flow.run(1.9, answered=False, reason="no usable image") == ""
    assert flow.run(1.1, answered=False, reason="no usable image") == (
        "no frame answered for 3.0 s though images come: no usable image"
    )
    assert flow.health.counts() == {"answered": 50, "degraded": 0, "held": 0, "rejected": 30}
    assert flow.run(0.1, answered=True) == ""
    assert flow.run(3.0, answered=False) == "no frame answered for 3.0 s though images come", "stamps that stand still"
    flow.health.rejected("rgb", "/rgb: header.stamp is 0")
    assert flow.message().endswith("though images come: /rgb: header.stamp is 0")


def test_no_answer_is_expected_while_nothing_comes_or_the_node_is_paused() -> None:
    flow = Flow()
    flow.now += 60.0
    flow.health.arrived("camera_info", flow.now)
    assert flow.message() == "", "without images there is another warning"
    assert flow.run(0.2, answered=False) == "", "cameras that start late owe nothing for the time before"
    assert flow.run(2.5, answered=False) != ""
    flow.health.expect_answers(None)
    assert flow.run(5.0, answered=False) == "", "paused"
    flow.health.expect_answers(flow.now)
    assert flow.run(1.0, answered=False) == ""
    flow.run(5.0, answered=True)
    flow.now += 60.0
    assert flow.message() == ""
    assert flow.run(0.2, answered=False) == "", "cameras that return"
    assert flow.run(2.5, answered=False) != ""


def test_a_cause_is_logged_at_most_once_per_second_and_always_counted() -> None:
    lines: list[str] = []
    now = [0.0]
    faults = FaultLog(lines.append, lambda: now[0])
    for index in range(100):
        now[0] = index * 0.03
        faults.record("/rgb", f"bad {index}")
    faults.record("/aux", "other")
    assert [line for line in lines if line.startswith("/rgb")] == [
        "/rgb: bad 0",
        "/rgb: bad 34 (33 more since the last such line)",
        "/rgb: bad 68 (33 more since the last such line)",
    ]
    assert {fault.cause: fault.count for fault in faults.faults()} == {"/rgb": 100, "/aux": 1}
    assert faults.faults()[1].message == "bad 99"


def test_the_number_of_causes_is_bounded() -> None:
    faults = FaultLog(lambda _: None)
    for index in range(1000):
        faults.record(f"cause {index}", "x")
    assert len(faults.faults()) <= 65
    assert sum(fault.count for fault in faults.faults()) == 1000


def test_nothing_leaves_a_guarded_callback() -> None:
    class Thing:
        def __init__(self) -> None:
            self.faults = FaultLog(lambda _: None)

        @guarded("here", otherwise=-1)
        def work(self, value: int) -> int:
            return 10 // value

    thing = Thing()
    assert (thing.work(2), thing.work(0)) == (5, -1)
    assert thing.faults.faults()[0].message.startswith("ZeroDivisionError")


def run_policy(policy: OverloadPolicy, frames: int, period: float, cost: FrameCost, start: float = 0.0) -> list[str]:
    steps = []
    for index in range(frames):
        policy.arrived(start + index * period)
        kept = policy.plan
        policy.spent(
            FrameCost(
                cost.tracking,
                cost.detections_3d * kept.detections_3d,
                cost.markers * kept.markers,
                cost.overlay * kept.overlay,
            )
        )
        steps.append(",".join(policy.plan.shed))
    return steps


def test_overload_leaves_out_overlay_then_markers_then_3d() -> None:
    policy = OverloadPolicy()
    steps = run_policy(policy, 60, 0.033, FrameCost(0.031, 0.002, 0.002, 0.008))
    assert list(dict.fromkeys(steps)) == ["", "overlay", "overlay,markers", "overlay,markers,detections_3d"]


def test_only_what_is_necessary_is_left_out_and_it_comes_back() -> None:
    policy = OverloadPolicy()
    steps = run_policy(policy, 100, 0.033, FrameCost(0.020, 0.001, 0.001, 0.015))
    assert steps[-1] == "overlay"
    # The machine is idle again: half the load, so the overlay fits.
    steps = run_policy(policy, 300, 0.066, FrameCost(0.020, 0.001, 0.001, 0.015), start=10.0)
    assert steps[-1] == ""


def test_a_plan_does_not_oscillate() -> None:
    policy = OverloadPolicy()
    steps = run_policy(policy, 600, 0.033, FrameCost(0.020, 0.001, 0.001, 0.012))
    assert sum(a != b for a, b in itertools.pairwise(steps)) <= 1


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    release, served = threading.Event(), []

    def serve(frame: int) -> None:
        served.append(frame)
        release.wait(5)

    worker: LatestFrameWorker[int, str] = LatestFrameWorker(serve, lambda _: None, lambda _: None)
    worker.start()
    worker.offer(0)
    while not served:
        time.sleep(0.001)
    assert [worker.offer(frame) for frame in (1, 2, 3)] == [None, 1, 2]
    release.set()
    while len(served) < 2:
        time.sleep(0.001)
    assert worker.stop(5)
    assert served == [0, 3]


def test_requests_and_the_frame_that_were_not_served_are_handed_back() -> None:
    release, served = threading.Event(), []

    def serve(request: str) -> None:
        served.append(request)
        release.wait(5)

    worker: LatestFrameWorker[int, str] = LatestFrameWorker(lambda _: None, serve, lambda _: None)
    worker.start()
    worker.submit("first")
    while not served:
        time.sleep(0.001)
    worker.submit("second")
    worker.submit("of a stream", newest_only=True)
    assert worker.offer(7) is None
    assert not worker.stop(0)
    worker.submit("too late")
    release.set()
    assert worker.stop(5)
    assert worker.unserved() == ["second"]
    assert worker.unserved() == []
    assert (worker.unserved_frame(), worker.unserved_frame()) == (7, None)
    assert served == ["first"]


def test_requests_come_first_and_errors_do_not_end_the_thread() -> None:
    order: list[object] = []
    errors: list[BaseException] = []

    def fail(request: str) -> None:
        order.append(request)
        raise ValueError(request)

    worker: LatestFrameWorker[int, str] = LatestFrameWorker(order.append, fail, errors.append)
    worker.offer(7)
    worker.submit("a")
    worker.submit("b")
    worker.start()
    while 7 not in order:
        time.sleep(0.001)
    assert worker.stop(5)
    assert order == ["a", "b", 7]
    assert [str(error) for error in errors] == ["a", "b"]


def test_only_the_newest_request_of_a_stream_waits_and_an_evicted_one_is_handed_back() -> None:
    order: list[str] = []
    worker: LatestFrameWorker[int, str] = LatestFrameWorker(lambda _: None, order.append, lambda _: None)
    assert worker.submit("asked 0") is None
    assert {worker.submit(f"candidates {index}", newest_only=True) for index in range(100)} == {None}
    evicted = [worker.submit(f"asked {index}") for index in range(1, MAX_REQUESTS)]
    assert evicted == [None] * (MAX_REQUESTS - 2) + ["asked 0"]
    worker.start()
    while len(order) < MAX_REQUESTS:
        time.sleep(0.001)
    assert worker.stop(5)
    assert order == ["candidates 99", *(f"asked {index}" for index in range(1, MAX_REQUESTS))]


def test_the_idle_handler_is_called_while_nothing_comes() -> None:
    idle = threading.Event()
    worker: LatestFrameWorker[int, str] = LatestFrameWorker(lambda _: None, lambda _: None, lambda _: None, idle.set)
    worker.start()
    assert idle.wait(10)
    assert worker.stop(5)


def test_stop_does_not_wait_longer_than_asked() -> None:
    release, busy = threading.Event(), threading.Event()

    def serve(_: int) -> None:
        busy.set()
        release.wait(10)

    worker: LatestFrameWorker[int, str] = LatestFrameWorker(serve, lambda _: None, lambda _: None)
    worker.start()
    worker.offer(1)
    assert busy.wait(5)
    assert not worker.stop(0.05)
    assert worker.stopping
    release.set()
    assert worker.stop(5)


def test_a_fault_that_does_not_come_back_expires() -> None:
    now = [0.0]
    faults = FaultLog(lambda _: None, lambda: now[0])
    faults.record("/rgb", "unknown encoding")
    now[0] = 200.0
    faults.record("/aux", "empty image")
    now[0] = 400.0
    assert [fault.cause for fault in faults.faults()] == ["/aux"]


def test_faults_are_logged_short_and_printable() -> None:
    lines: list[str] = []
    faults = FaultLog(lines.append)
    faults.record("/rgb\x1b[2J", "encoding '" + "\x1b]0;owned\x07\nA" * 1_000_000)
    assert len(lines[0]) < 1000
    assert lines[0].isprintable()
    assert faults.faults()[0].message.isprintable()
