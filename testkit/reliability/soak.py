"""The soak: 30 Hz colour + depth into the real node for minutes, random faults in between, and the resources it used.

Warm-up (in a long run with every fault once, so that every path has its buffers), a quiet stretch, faults with healthy
seconds between them, and a quiet stretch of the same length at the end: latencies are compared between the two.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from testkit.reliability.matrix.bench import NODE, Bench, bench, number
from testkit.ros.camera import stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WIDTH, HEIGHT = 640, 480
RATE_HZ = 30.0
STANDSTILL_S = 1.0  # 30 images per camera, for queues of five
LARGEST_CONTENT = "nan"  # depth in floats, twice as large as in millimetres
BOX = (160.0, 120.0, 50.0, 50.0)  # where the square of the camera process is at first
SETTLE_S = 2.0
LEAST_FAULTS = 2  # however little a slow machine gets done in the time of a short run
RECOVERY_LIMIT_S = 20.0
# Slopes and percentiles of less than this are noise: the short form checks bounds instead.
MIN_JUDGED_S = 240.0

SLOPE_LIMIT_MB_H = 1.0
# A partner that comes later than max_wait_s is not waited for; on idle cores none does.
LOST_SHARE_LIMIT = 0.001
GROWTH_LIMIT_MB = 25.0
WARMING_LIMIT_MB = 50.0  # in the first minutes the heap still grows; beside a full suite by 34 MB, alone by 9
P99_RISE_LIMIT = 0.10
COMPARED = "for comparison"  # the limit of a line that nothing depends on
FD_RISE_LIMIT = 8
THREAD_RISE_LIMIT = 2
SHM_RISE_LIMIT_MB = 40.0  # one camera's segment of 32 MiB more than at first, never two


@dataclass(frozen=True, slots=True)
class Sample:
    """One second: time since the start [s], phase, resources, the node's counters and latencies [ms]."""

    t: float
    phase: str
    rss_mb: float
    fds: int
    threads: int
    shm_mb: float
    color_in: int
    aux_in: int
    paired: int
    answered: int
    dropped: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Latencies of a quiet stretch, from the image's stamp to the observer, in ms."""

    frames: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault: when [s], which, and the seconds until boxes and pairs were back (-1: never)."""

    t: float
    name: str
    recovered_s: float


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the verdict. `passed` None: the run was too short to say."""

    what: str
    value: float
    limit: str
    passed: bool | None

    @property
    def word(self) -> str:
        """The verdict on this line."""
        if self.passed is None:
            return "-" if self.limit == COMPARED else "run too short to say"
        return "ok" if self.passed else "FAILED"


def verdict(criteria: Sequence[Criterion]) -> str:
    """The verdict on a whole run, for the head of its page: `passed`, `FAILED`, or what it was too short to judge."""
    if any(criterion.passed is False for criterion in criteria):
        return "FAILED"
    open_ones = [one.what.partition(" (")[0] for one in criteria if one.passed is None and one.limit != COMPARED]
    return f"nothing failed, but too short to judge {'; '.join(open_ones)}" if open_ones else "passed"


@dataclass(slots=True)
class Soak:
    """Everything that a run measured."""

    minutes: float
    seed: int
    model: str
    engine: str = ""
    samples: list[Sample] = field(default_factory=list)
    faults: list[Injected] = field(default_factory=list)
    begin: Stretch | None = None
    end: Stretch | None = None
    lost_pairs: int = 0
    healthy_frames: int = 0
    answers: int = 0
    stayed_up: bool = False
    criteria: list[Criterion] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no criterion failed."""
        return all(criterion.passed is not False for criterion in self.criteria)

    def as_json(self) -> dict[str, Any]:
        """The result as plain values."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name, and what it does for that many seconds."""

    name: str
    act: Callable[[Bench, float], None]


def _script(**changes: Any) -> Callable[[Bench, float], None]:
    def act(bench: Bench, seconds: float) -> None:
        bench.camera.set(**changes)
        bench.spin(seconds)

    return act


def _cameras_killed(bench: Bench, seconds: float) -> None:
    bench.camera.kill()
    bench.spin(seconds)
    bench.camera.start()


def _clock_jumps(bench: Bench, seconds: float) -> None:
    for shift_s in (3600.0, 0.0, -3600.0):
        bench.camera.set(shift_s=shift_s)
        bench.spin(seconds / 3)


def _parameters_change(bench: Bench, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        bench.ros.set_parameters(max_wait_s=0.04)
        bench.ros.set_parameters(max_skew_s=-1.0)  # refused
        bench.ros.set_parameters(max_wait_s=0.05)
        bench.spin(0.05)


FAULTS = (
    Fault("depth dies", _script(aux=False)),
    Fault("colour dies", _script(rgb=False)),
    Fault("both die", _script(rgb=False, aux=False)),
    Fault("stamp jitter", _script(jitter_s=0.05)),
    Fault("depth 40 ms late", _script(aux_offset_s=0.04)),
    Fault("duplicates", _script(repeat=True)),
    Fault("reordering", _script(swap=True)),
    Fault("half the rate", _script(rate_hz=RATE_HZ / 2)),
    Fault("half the size", _script(scale=0.5)),
    Fault("unknown encoding", _script(rgb_encoding="p010")),
    Fault("NaN depth", _script(content="nan")),
    Fault("black images", _script(content="black")),
    Fault("frozen stamps", _script(frozen_stamp=True)),
    Fault("clock jumps", _clock_jumps),
    Fault("cameras killed", _cameras_killed),
    Fault("parameters change", _parameters_change),
)


class Observer:
    """Receives the boxes and notes how long after its image each came."""

    def __init__(self, bench: Bench) -> None:
        self.latencies_ms: list[tuple[float, float]] = []
        node = bench.ros.node
        node.create_subscription(Detection2DArray, f"{NODE}/detections", self._on_boxes, 100)
        # Subscribed so that the node has all of its work to do.
        node.create_subscription(Detection3DArray, f"{NODE}/detections_3d", lambda _: None, 10)
        node.create_subscription(MarkerArray, f"{NODE}/markers", lambda _: None, 10)

    def _on_boxes(self, message: Any) -> None:
        self.latencies_ms.append((time.monotonic(), (time.time_ns() - stamp_of(message)) / 1e6))

    def stretch(self, since: float) -> Stretch:
        """Percentiles of what came since then, a time of the steady clock."""
        values = [latency for at, latency in self.latencies_ms if at >= since]
        if not values:
            return Stretch(0, float("nan"), float("nan"), float("nan"))
        p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
        return Stretch(len(values), p50, p95, p99)


class Run:
    """One soak under way."""

    def __init__(self, bench: Bench, result: Soak) -> None:
        self.bench = bench
        self.result = result
        self.start = time.monotonic()
        self.observer = Observer(bench)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def sample(self, phase: str) -> dict[str, str]:
        """Wait for a status and note a second's numbers; returns the status's values."""
        values = self.bench.values()
        held = self.bench.resources()
        self.result.samples.append(
            Sample(
                round(self.elapsed_s, 2),
                phase,
                *(round(held.rss_mb, 3), held.fds, held.threads, round(held.shm_mb, 2)),
                *(number(values, f"sync.{name}") for name in ("color_in", "aux_in", "paired")),
                *(number(values, f"frames.{name}") for name in ("answered", "dropped")),
                *(float(values.get(f"latency_ms.total.p{percent}", "nan")) for percent in (50, 99)),
            )
        )
        return values

    def healthy(self, seconds: float, phase: str) -> None:
        """Sample for that many seconds without a fault, and count the pairs that could have been and were not."""
        before = self.sample(phase)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            after = self.sample(phase)
        rise = {name: number(after, name) - number(before, name) for name in _COUNTERS}
        partners = min(rise["sync.color_in"], rise["sync.aux_in"])
        # A frame may wait for its partner at either end of the stretch.
        self.result.lost_pairs += max(0, partners - rise["sync.paired"] - 2)
        self.result.healthy_frames += rise["sync.color_in"]

    def warm_up(self, seconds: float, source: random.Random | None) -> None:
        """Film for that many seconds; with a `source`, after every fault once.

        Before that the node stands still, so that the middleware's queues fill to their depth with the largest images
        of all faults. They keep the memory of as many images as they ever held at once, each at its largest size, which
        would look like a leak when a busy moment needs one more.
        """
        self.stand_still(content=LARGEST_CONTENT)
        for fault in source.sample(FAULTS, len(FAULTS)) if source is not None else ():
            fault.act(self.bench, 1.0)
            self.bench.camera.set()
            self._recovery()
            self.bench.aim(BOX)
            self.sample("warm-up")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.sample("warm-up")

    def stand_still(self, **script: Any) -> None:
        """Stop the node's process for `STANDSTILL_S`; the cameras go on, by a script if one is given."""
        os.kill(self.bench.node.pid, signal.SIGSTOP)
        try:
            self.bench.camera.set(**script)
            time.sleep(STANDSTILL_S)
            self.bench.camera.set()
        finally:
            os.kill(self.bench.node.pid, signal.SIGCONT)

    def quiet(self, seconds: float, phase: str) -> Stretch:
        """Latencies of a stretch without a fault."""
        since = time.monotonic()
        self.healthy(seconds, phase)
        return self.observer.stretch(since)

    def inject(self, fault: Fault, seconds: float) -> None:
        """Let a fault act for that many seconds, and note how long recovery took."""
        at = round(self.elapsed_s, 1)
        fault.act(self.bench, seconds)
        if self.bench.node.alive():
            self.sample(fault.name)
        self.bench.camera.set()
        recovered_s = self._recovery()
        self.bench.aim(BOX)
        self.result.faults.append(Injected(at, fault.name, recovered_s))

    def _recovery(self) -> float:
        """Seconds until a status second in which every colour frame that could be paired was."""
        begin = time.monotonic()
        before = self.bench.values()
        while time.monotonic() - begin < RECOVERY_LIMIT_S and self.bench.node.alive():
            after = self.bench.values()
            rise = {name: number(after, name) - number(before, name) for name in _COUNTERS}
            if rise["frames.answered"] >= 3 and rise["sync.paired"] >= rise["sync.color_in"] - 2 > 0:
                return round(time.monotonic() - begin, 2)
            before = after
        return -1.0


_COUNTERS = ("sync.color_in", "sync.aux_in", "sync.paired", "frames.answered")


def soak(
    folder: Path, parameters: dict[str, Any], minutes: float, seed: int = 1, say: Callable[[str], object] = print
) -> Soak:
    """Run a soak.

    Args:
        folder: for logs.
        parameters: of the node, with `model`; `init_box` and the like are set here.
        minutes: length of the whole run; longer where that is too short for `LEAST_FAULTS` faults.
        seed: of the random faults.
        say: receives one line per fault.
    """
    total_s = minutes * 60
    warm_s, quiet_s = min(30.0, 0.15 * total_s), 0.15 * total_s
    source = random.Random(seed)
    result = Soak(minutes, seed, str(parameters["model"]))
    values = {"autostart": True, "init_box": str(list(BOX)), "device": "cpu", **parameters}
    with bench(
        folder, values, ("--width", str(WIDTH), "--height", str(HEIGHT), "--best-effort"), rate_hz=RATE_HZ
    ) as running:
        run = Run(running, result)
        result.engine = running.values().get("engine", "")
        say(f"soak of {minutes:g} min: {result.model} by {result.engine}, warm-up {warm_s:.0f} s")
        run.warm_up(warm_s, source if total_s >= MIN_JUDGED_S else None)
        result.begin = run.quiet(quiet_s, "quiet")
        deck: list[Fault] = []
        while run.elapsed_s < total_s - quiet_s - SETTLE_S or len(result.faults) < LEAST_FAULTS:
            # Every fault once before any comes twice.
            deck = deck or source.sample(FAULTS, len(FAULTS))
            run.inject(deck.pop(), source.uniform(1.0, 3.0))
            run.healthy(source.uniform(1.0, 3.0), "healthy")
            last = result.faults[-1]
            say(f"{run.elapsed_s:6.0f} s  {last.name:<18} back after {last.recovered_s} s")
        run.healthy(SETTLE_S, "healthy")
        result.end = run.quiet(quiet_s, "quiet")
        result.answers = len(run.observer.latencies_ms)
        result.stayed_up = running.node.alive()
    result.criteria = _judge(result)
    return result


def slope_mb_h(samples: list[Sample]) -> float:
    """Median of the slopes between all pairs of samples (Theil-Sen), which single bursts do not move."""
    t = np.array([sample.t for sample in samples]) / 3600
    rss = np.array([sample.rss_mb for sample in samples])
    first, second = np.triu_indices(len(samples), 1)
    apart = t[second] - t[first]
    # Close samples say more about noise than about a trend.
    far = apart > (t[-1] - t[0]) / 4
    return float(np.median((rss[second] - rss[first])[far] / apart[far])) if far.any() else float("nan")


def judged_samples(result: Soak) -> list[Sample]:
    """Samples after the warm-up, without a fault in force."""
    return [sample for sample in result.samples if sample.phase in ("quiet", "healthy")]


def _judge(result: Soak) -> list[Criterion]:
    samples = judged_samples(result)
    assert result.begin is not None
    assert result.end is not None
    long_enough = result.minutes * 60 >= MIN_JUDGED_S
    growth = GROWTH_LIMIT_MB if long_enough else WARMING_LIMIT_MB
    slope = slope_mb_h(samples)
    rise = result.end.p99_ms / result.begin.p99_ms - 1 if result.begin.frames and result.end.frames else float("nan")

    def grown(name: str) -> float:
        quiet = [getattr(sample, name) for sample in samples if sample.phase == "quiet"]
        half = len(quiet) // 2
        return float(np.median(quiet[half:]) - np.median(quiet[:half]))

    lost = [fault for fault in result.faults if fault.recovered_s < 0]
    share = result.lost_pairs / max(1, result.healthy_frames)
    rows = [
        ("the same process from beginning to end", 1.0 if result.stayed_up else 0.0, "1", result.stayed_up),
        ("faults without recovery", len(lost), "0", not lost),
        (
            "share of pairs lost in healthy time",
            share,
            f"<= {LOST_SHARE_LIMIT:g}",
            share <= LOST_SHARE_LIMIT if long_enough else None,
        ),
        ("memory: slope after warm-up, MB/h", slope, "< 1", slope < SLOPE_LIMIT_MB_H if long_enough else None),
        ("memory: end - beginning, MB", grown("rss_mb"), f"< {growth:g}", grown("rss_mb") < growth),
        ("p99 latency: end / beginning - 1", rise, "<= 0.10", rise <= P99_RISE_LIMIT if long_enough else None),
        ("file descriptors: end - beginning", grown("fds"), f"<= {FD_RISE_LIMIT}", grown("fds") <= FD_RISE_LIMIT),
        (
            "threads: end - beginning",
            grown("threads"),
            f"<= {THREAD_RISE_LIMIT}",
            grown("threads") <= THREAD_RISE_LIMIT,
        ),
        (
            "shared memory: end - beginning, MB",
            grown("shm_mb"),
            f"<= {SHM_RISE_LIMIT_MB:g}",
            grown("shm_mb") <= SHM_RISE_LIMIT_MB,
        ),
    ]
    return [Criterion(what, round(float(value), 4), limit, passed) for what, value, limit, passed in rows]
