"""Rates, ages, skew, drops and latency percentiles, and what they mean; time is passed in. No ROS import."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RATE_INTERVAL_S = 2.0
LATENCY_FRAMES = 300
PERCENTILES = (50, 95, 99)


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


def percentile(samples: Iterable[float], percent: int) -> float:
    """Return the nearest-rank percentile; 0 without samples."""
    ordered = sorted(samples)
    if not ordered:
        return 0.0
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One topic at one moment.

    Attributes:
        topic: its resolved name.
        received: number of messages.
        rejected: number of those that could not be used.
        lost: number of messages that were sent and never came; None where the middleware does not number messages.
        rate_hz: messages per second over the last two seconds.
        age_s: seconds since the last message; None before the first.

    """

    topic: str
    received: int
    rejected: int
    lost: int | None
    rate_hz: float
    age_s: float | None


class StreamHealth:
    """One topic: how many messages, how often, how long ago."""

    def __init__(self, topic: str, started: float) -> None:
        self.topic = topic
        self.started = started
        self.received = 0
        self.rejected = 0
        self.lost: int | None = 0
        self.flows_since: float | None = None
        self._times: deque[float] = deque(maxlen=2048)

    def arrived(self, now: float, lost: int | None) -> None:
        """Count a message, as `Health.arrived` does."""
        if self.flows_since is None or self.silent_for(now) > RATE_INTERVAL_S:
            self.flows_since = now
        self.received += 1
        self.lost = None if lost is None or self.lost is None else self.lost + lost
        self._times.append(now)

    def report(self, now: float) -> StreamReport:
        """Return what is known at `now`."""
        times = [t for t in tuple(self._times) if now - t <= RATE_INTERVAL_S]
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
        age = now - self._times[-1] if self._times else None
        return StreamReport(self.topic, self.received, self.rejected, self.lost, rate, age)

    def silent_for(self, now: float) -> float:
        """Return the seconds since the last message, or since the start."""
        return now - (self._times[-1] if self._times else self.started)


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that one frame spent on its way, by stage.

    Attributes:
        age: of the box when it was published, by its stamp: `arrival` and `total`.
        arrival: from its stamp to the arrival of its first message, by the node's clock; without meaning where another
            clock stamps images.
        wait: from its first message to the tracking thread.
        decode: decoding its images.
        tracker: in the tracker.
        network: the network's part of `tracker`.
        extras: outputs after the box.
        overhead: from a complete pair to the published box, without the network.
        total: from the first message to the published box.

    """

    age: float
    arrival: float
    wait: float
    decode: float
    tracker: float
    network: float
    extras: float
    overhead: float
    total: float


class Health:
    """Everything that the node counts; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, StreamHealth] = {}
        self._counts: Counter[str] = Counter()
        self._skews: deque[float] = deque(maxlen=LATENCY_FRAMES)
        self._latencies: deque[Latency] = deque(maxlen=LATENCY_FRAMES)
        self._answers_due_since: float | None = None
        self._last_refusal = self._last_rejection = ""

    def watch(self, name: str, topic: str, now: float) -> None:
        """Begin to watch the stream `name`: 'rgb', 'aux', 'events' or 'camera_info'."""
        with self._lock:
            self._streams[name] = StreamHealth(topic, now)

    def unwatch_all(self) -> None:
        """Forget the streams; the counters stay."""
        with self._lock:
            self._streams.clear()

    def arrived(self, name: str, now: float, lost: int | None = 0) -> None:
        """Count a message of a stream.

        Args:
            name: of the stream.
            now: seconds of a steady clock.
            lost: how many messages before it never came; None where that cannot be known.

        """
        with self._lock:
            if name in self._streams:
                self._streams[name].arrived(now, lost)

    def rejected(self, name: str, reason: str = "") -> None:
        """Count a message of a stream that cannot be used, with the reason if it can keep frames from being tracked."""
        with self._lock:
            if name in self._streams:
                self._streams[name].rejected += 1
            self._last_rejection = reason or self._last_rejection

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter: 'frames', 'answered', 'dropped', 'stale' (of the dropped ones), 'degraded', 'held', ..."""
        with self._lock:
            self._counts[what] += number

    def expect_answers(self, since: float | None) -> None:
        """Expect frames to be answered from `since` on, in seconds of a steady clock; None for not at all."""
        with self._lock:
            self._answers_due_since, self._last_refusal, self._last_rejection = since, "", ""

    def answered(self, now: float, degraded: bool = False, held: bool = False) -> None:
        """Count a frame that was answered, with or without a box.

        Args:
            now: seconds of a steady clock.
            degraded: only one of its images could be used.
            held: its auxiliary image has served before.

        """
        with self._lock:
            self._counts.update(answered=1, degraded=int(degraded), held=int(held))
            self._last_refusal = self._last_rejection = ""
            if self._answers_due_since is not None:
                self._answers_due_since = now

    def refused_frame(self, reason: str) -> None:
        """Count a frame that could not be answered, with the reason."""
        with self._lock:
            self._counts["rejected"] += 1
            self._last_refusal = reason

    def unanswered(self, now: float, names: Iterable[str], limit_s: float) -> str:
        """Say that no frame has been answered for longer than `limit_s` although messages come, and why.

        Args:
            now: seconds of a steady clock.
            names: the streams of images.
            limit_s: the time allowed.

        Returns:
            The text; '' while frames are answered, while no images come, and while no answers are expected.

        """
        with self._lock:
            flows = [self._streams[name] for name in names if name in self._streams]
            begins = [s.flows_since for s in flows if s.flows_since is not None and s.silent_for(now) <= limit_s]
            if self._answers_due_since is None or not begins:
                return ""
            seconds = now - max(self._answers_due_since, min(begins))
            reasons = "; ".join(filter(None, [self._last_refusal, self._last_rejection]))
        if seconds <= limit_s:
            return ""
        return f"no frame answered for {seconds:.1f} s though images come" + (f": {reasons}" if reasons else "")

    def paired(self, skew_s: float) -> None:
        """Note the distance between the stamps of a pair."""
        with self._lock:
            self._skews.append(abs(skew_s))

    def served(self, latency: Latency) -> None:
        """Note the latency of a frame."""
        with self._lock:
            self._latencies.append(latency)

    def counts(self) -> Mapping[str, int]:
        """Return a copy of the counters."""
        with self._lock:
            return dict(self._counts)

    def streams(self, now: float) -> Mapping[str, StreamReport]:
        """Return the reports of all watched streams."""
        with self._lock:
            return {name: stream.report(now) for name, stream in self._streams.items()}

    def silent(self, now: float, limit_s: float) -> Mapping[str, float]:
        """Return the seconds of silence of the streams that are silent for longer than `limit_s`."""
        with self._lock:
            silences = {name: stream.silent_for(now) for name, stream in self._streams.items()}
        return {name: seconds for name, seconds in silences.items() if seconds > limit_s}

    def values(self, now: float) -> dict[str, str]:
        """Return everything as the key-value pairs of a status message, in milliseconds and hertz."""
        result: dict[str, str] = {}
        for name, report in self.streams(now).items():
            age = "never" if report.age_s is None else f"{report.age_s * 1e3:.0f}"
            result[f"{name}.topic"] = report.topic
            result[f"{name}.received"] = str(report.received)
            result[f"{name}.rejected"] = str(report.rejected)
            result[f"{name}.lost"] = "unknown" if report.lost is None else str(report.lost)
            result[f"{name}.rate_hz"] = f"{report.rate_hz:.1f}"
            result[f"{name}.age_ms"] = age
        with self._lock:
            skews, latencies = tuple(self._skews), tuple(self._latencies)
            result.update({f"frames.{what}": str(number) for what, number in sorted(self._counts.items())})
        result["skew_ms.p95"] = f"{percentile(skews, 95) * 1e3:.1f}"
        for stage in Latency.__dataclass_fields__:
            samples = [getattr(latency, stage) for latency in latencies]
            for percent in PERCENTILES:
                result[f"latency_ms.{stage}.p{percent}"] = f"{percentile(samples, percent) * 1e3:.2f}"
        return result


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line for people: how bad it is, and why."""

    level: Level
    message: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What the verdict depends on.

    Attributes:
        lifecycle: label of the lifecycle state.
        target: TRACKING, UNCERTAIN, LOST, or NONE.
        silences: seconds of silence by topic.
        needed: topics of which at least one is needed to track.
        paused: whether tracking is paused.
        problems: what else is wrong, in words.
        unanswered: that frames come and none is answered, and why; '' while they are answered.

    """

    lifecycle: str
    target: str
    silences: Mapping[str, float] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    paused: bool = False
    problems: tuple[str, ...] = ()
    unanswered: str = ""


def judge(situation: Situation) -> Verdict:
    """Return the level and message of ~/status.

    ERROR when nothing can be tracked; WARN when something is missing or the target is not certain; else OK.
    """
    if situation.lifecycle != "active":
        return Verdict(
            Level.ERROR if situation.problems else Level.OK, "; ".join([situation.lifecycle, *situation.problems])
        )
    silent = [f"nothing on {topic} for {seconds:.1f} s" for topic, seconds in sorted(situation.silences.items())]
    notes = [*silent, *situation.problems]
    if situation.needed and all(topic in situation.silences for topic in situation.needed):
        return Verdict(Level.ERROR, "; ".join(["no input", *notes]))
    if situation.paused:
        return Verdict(Level.WARN, "; ".join(["paused", *notes]))
    if situation.unanswered:
        # The state of the target is that of the last frame that was answered; it is unknown by now.
        return Verdict(Level.ERROR, "; ".join([situation.unanswered, *notes]))
    certain = situation.target in {"TRACKING", "NONE"}
    state = "no target" if situation.target == "NONE" else situation.target
    return Verdict(Level.OK if certain and not notes else Level.WARN, "; ".join([state, *notes]))
