"""The soak of hours: the real node at 30 Hz, a fault every minute, and a log that a stopped run continues.

Memory by kind and the allocator's own numbers say whether anything grows, a control process beside the node
(`control.py`) whether a slow stretch was the node's or the machine's. Each start is a session; its warm-up counts for
nothing, and memory is compared within sessions only.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.files import write_text
from testkit.reliability.matrix.bench import bench
from testkit.reliability.soak import (
    BOX,
    COMPARED,
    FAULTS,
    HEIGHT,
    RATE_HZ,
    RECOVERY_LIMIT_S,
    WIDTH,
    Criterion,
    Fault,
    Run,
    Soak,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
LOG, CONTROL, SETTINGS = "log.jsonl", "control.jsonl", "settings.json"
WARM_UP_S, HEALTHY_S = 60.0, 50.0
WINDOW_S, MINUTE_S = 600.0, 60.0
KEPT_MESSAGES = 500  # of each topic in the observer

SLOPE_LIMIT_MB_H = 1.0
RISE_LIMIT = 0.10
MIN_JUDGED_H = 0.5  # memory settles and caches fill before that
SETTLING_S = 600.0  # of a session: no part of the slopes where it is at least three times as long
# A minute counts as calm while the control's p99 is at most this much above that of the calmest quarter of minutes.
CALM_SHARE = 0.25
MIN_CALM_FRAMES = 3000  # calm ones in a window, or it says nothing about the node: 30 decide about a p99 of these
# Anonymous memory without what the heap keeps free between its blocks. The latter is used again where a block fits;
# it depends on what lay beside what, moves by megabytes after single faults, and hides what really grows.
HELD = "held_mb"
ANONYMOUS, FREE = "anon_mb", "heap_free_mb"
MEMORY = (ANONYMOUS, "mapped_mb", "shared_mb", "heap_mb", "heap_used_mb", FREE, "gpu_mb")


class HoursError(Exception):
    """A log that belongs to another run."""


@dataclass(frozen=True, slots=True)
class Window:
    """Ten minutes of one session.

    Attributes:
        session: From 1.
        start_s: Since the session's start.
        frames: Boxes in healthy seconds.
        p50_ms: From the image's stamp to the observer.
        p99_ms: The same.
        control_p99_ms: Of the control process at that time; nan without its log.
        calm_frames: Boxes in the window's calm minutes, in which the machine itself was not slow.
        calm_p99_ms: Of these; nan where there are none.
        memory: Medians in MB by kind.
    """

    session: int
    start_s: float
    frames: int
    p50_ms: float
    p99_ms: float
    control_p99_ms: float
    calm_frames: int
    calm_p99_ms: float
    memory: dict[str, float]


@dataclass(slots=True)
class Hours:
    """What a log says.

    Attributes:
        settings: As the run was asked for.
        hours: Recorded so far, without warm-ups.
        sessions: How many starts.
        faults: How many were injected.
        windows: In order.
        slopes: MB/h by kind of memory: the value and both ends of its 95 % interval.
        criteria: The verdict.
    """

    settings: dict[str, Any]
    hours: float = 0.0
    sessions: int = 0
    faults: int = 0
    windows: list[Window] = field(default_factory=list)
    slopes: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    criteria: list[Criterion] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no criterion failed."""
        return all(criterion.passed is not False for criterion in self.criteria)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "passed": self.passed}


def memory_by_kind(pid: int) -> dict[str, float]:
    """Resident MB of a process: anonymous (heap and stacks, also what was swapped out), mapped from files, shared."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    kinds = {"anon_mb": ("RssAnon", "VmSwap"), "mapped_mb": ("RssFile",), "shared_mb": ("RssShmem",)}
    return {
        name: sum(int(values.get(kind, "0 kB").split()[0]) for kind in parts) / 1024 for name, parts in kinds.items()
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that a crash cut off does not count."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows


@contextmanager
def _control(folder: Path) -> Iterator[None]:
    with (folder / CONTROL).open("ab") as stream:
        command = [sys.executable, "-m", "testkit.reliability.control", str(os.getpid())]
        process = subprocess.Popen(command, stdout=stream, cwd=ROOT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


def run_hours(
    folder: Path, scratch: Path, parameters: dict[str, Any], hours: float, seed: int, say: Callable[[str], object]
) -> Hours:
    """Run until the log in `folder` holds that many hours; returns what it says then.

    Args:
        folder: Of the log; what is there is continued.
        scratch: For the logs of processes.
        parameters: Of the node, with `model` and `engine`.
        hours: In all, without the warm-up of each start.
        seed: Of the random faults.
        say: Receives a line per minute.

    Raises:
        HoursError: The folder holds the log of another network, engine or seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"hours": hours, "seed": seed, "model": parameters["model"], "engine": parameters["engine"]}
    note = folder / SETTINGS
    before = json.loads(note.read_text()) if note.exists() else settings
    if {**before, "hours": hours} != settings:
        raise HoursError(f"{folder} holds a run of {before}; expected {settings}, or another folder")
    write_text(note, json.dumps(settings))
    rows = read_lines(folder / LOG)
    remaining = hours * 3600 - recorded_s(rows)
    session = max((row["session"] for row in rows), default=0) + 1
    if remaining <= 1:
        return analysed(folder)
    values = {"autostart": True, "init_box": str(list(BOX)), "device": "cpu", **parameters}
    arguments = ("--width", str(WIDTH), "--height", str(HEIGHT), "--best-effort")
    source = random.Random(seed * 1000 + session)
    with _control(folder), bench(scratch, values, arguments, rate_hz=RATE_HZ) as running:
        run = Run(running, Soak(hours * 60, seed, str(parameters["model"])))
        say(f"session {session}: {remaining / 3600:.2f} of {hours:g} h to go, warm-up first")
        run.warm_up(min(WARM_UP_S, remaining), source if remaining > 2 * WARM_UP_S else None)
        with (folder / LOG).open("a") as stream:
            stream.write("\n")  # ends the line that a kill may have cut off
            _record(run, session, remaining, source, stream, say)
    return analysed(folder)


def _record(
    run: Run, session: int, seconds: float, source: random.Random, stream: Any, say: Callable[[str], object]
) -> None:
    begin = time.monotonic()
    deck: list[Fault] = []
    pid = run.bench.node.pid
    while time.monotonic() - begin < seconds:
        _healthy(run, session, begin, min(HEALTHY_S, seconds - (time.monotonic() - begin)), stream)
        if not run.bench.node.alive() or run.bench.node.pid != pid:
            raise HoursError(f"the node ended after {time.monotonic() - begin:.0f} s: {run.bench.node.output[-2000:]}")
        if time.monotonic() - begin < seconds - 2:
            deck = deck or source.sample(FAULTS, len(FAULTS))
            run.inject(deck.pop(), source.uniform(1.0, 3.0))
            fault = run.result.faults.pop()
            at = round(time.monotonic() - begin, 2)
            row = {"session": session, "t": at, "fault": fault.name, "recovered_s": fault.recovered_s}
            stream.write(json.dumps(row) + "\n")
            say(f"{at:7.0f} s  {fault.name:<18} back after {fault.recovered_s} s")
        run.result.samples.clear()
        for messages in run.bench.ros.messages.messages.values():
            del messages[:-KEPT_MESSAGES]


def _healthy(run: Run, session: int, begin: float, seconds: float, stream: Any) -> None:
    """Write a row per status: what was measured since the last one."""
    until = time.monotonic() + seconds
    since = time.monotonic()
    while time.monotonic() < until and run.bench.node.alive():
        values = run.sample("healthy")
        now = time.monotonic()
        latencies = [round(ms, 2) for at, ms in run.observer.latencies_ms if at >= since]
        run.observer.latencies_ms.clear()
        since = now
        sample = run.result.samples[-1]
        row = {
            "session": session,
            "t": round(now - begin, 2),
            "time": round(time.time(), 3),
            **{name: round(value, 3) for name, value in memory_by_kind(run.bench.node.pid).items()},
            **{name: float(values.get(f"memory.{name}", "nan")) for name in MEMORY[3:]},
            "fds": sample.fds,
            "threads": sample.threads,
            "ms": latencies,
        }
        stream.write(json.dumps(row) + "\n")
        stream.flush()


def recorded_s(rows: Sequence[dict[str, Any]]) -> float:
    """Seconds that a log holds."""
    last: dict[int, float] = {}
    for row in rows:
        last[row["session"]] = max(last.get(row["session"], 0.0), row["t"])
    return sum(last.values())


def slope_interval(
    hours: NDArray[np.float64], values: NDArray[np.float64], sessions: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Slope by least squares with a level per session, and its 95 % interval; nan where there is too little.

    Memory that grew stays grown, so neighbouring residuals are alike. Their correlation widens the interval, for such
    values say less than as many independent ones.
    """
    kept = np.isfinite(values)
    hours, values, sessions = hours[kept].copy(), values[kept].copy(), sessions[kept]
    levels = np.unique(sessions)
    for level in levels:
        same = sessions == level
        hours[same] -= hours[same].mean()
        values[same] -= values[same].mean()
    freedom, spread = len(values) - len(levels) - 1, float((hours**2).sum())
    if freedom < 3 or spread == 0:
        return (math.nan,) * 3
    slope = float((hours * values).sum() / spread)
    residuals = values - slope * hours
    power = float((residuals**2).sum())
    pairs = sessions[1:] == sessions[:-1]
    alike = float((residuals[1:] * residuals[:-1])[pairs].sum() / power) if power > 0 else 0.0
    alike = min(max(alike, 0.0), 0.95)
    error = math.sqrt(power / freedom / spread * (1 + alike) / (1 - alike))
    free = max(freedom * (1 - alike) / (1 + alike), 2.0)
    z = NormalDist().inv_cdf(0.975)
    reach = error * (z + (z**3 + z) / (4 * free))  # Student's quantile, to the second term of its expansion
    return slope, slope - reach, slope + reach


def analysed(folder: Path) -> Hours:
    """Read a log and judge it."""
    rows = read_lines(folder / LOG)
    control = read_lines(folder / CONTROL)
    result = Hours(json.loads((folder / SETTINGS).read_text()))
    samples = [row for row in rows if "ms" in row]
    result.hours = round(recorded_s(rows) / 3600, 3)
    result.sessions = len({row["session"] for row in rows})
    result.faults = sum("fault" in row for row in rows)
    window_s = min(WINDOW_S, max(result.hours * 3600 / 6, 1.0))
    result.windows = _windows(samples, control, window_s)
    settled = {session: _settled_s(rows, session) for session in {row["session"] for row in samples}}
    minutes = [one for one in _medians(samples, min(MINUTE_S, window_s)) if one[1] >= settled[one[0]]]
    sessions = np.array([session for session, _, _ in minutes], dtype=np.int64)
    t = np.array([at / 3600 for _, at, _ in minutes])
    for kind in (HELD, *MEMORY, "fds", "threads"):
        values = np.array([row[kind] for _, _, row in minutes], dtype=np.float64)
        result.slopes[kind] = slope_interval(t, values, sessions)
    late = [row for row in rows if row.get("recovered_s", 0.0) < 0]
    calm, begins = calm_minutes(control), {row["session"]: row["time"] - row["t"] for row in samples}
    # What the node could not do in time on a machine that had no time for the control either, does not count.
    ends = [begins[row["session"]] + row["t"] for row in late if row["session"] in begins]
    blamed = sum({int((end - back) // MINUTE_S) for back in (0, RECOVERY_LIMIT_S)} <= calm for end in ends)
    result.criteria = _judged(result, blamed, len(late) - blamed)
    return result


def _settled_s(rows: Sequence[dict[str, Any]], session: int) -> float:
    """When the memory of a session begins to count."""
    return SETTLING_S if recorded_s([row for row in rows if row["session"] == session]) >= 3 * SETTLING_S else 0.0


def _medians(samples: Sequence[dict[str, Any]], seconds: float) -> list[tuple[int, float, dict[str, float]]]:
    """Session, middle [s] and medians of stretches of that many seconds."""
    stretches: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in samples:
        stretches.setdefault((row["session"], int(row["t"] // seconds)), []).append(row)
    names = (*MEMORY, "fds", "threads")
    found = []
    for (session, index), part in sorted(stretches.items()):
        middle = {name: float(median(row[name] for row in part)) for name in names}
        middle[HELD] = float(median(row[ANONYMOUS] - _known(row[FREE]) for row in part))
        found.append((session, (index + 0.5) * seconds, middle))
    return found


def _known(mb: float) -> float:
    """0 where the C library cannot be asked."""
    return mb if math.isfinite(mb) else 0.0


def calm_minutes(control: Sequence[dict[str, Any]]) -> set[int]:
    """Minutes of the day's clock in which the machine was as fast as in its calmest quarter, by `CALM_SHARE`.

    A rule in place of a look: whatever else ran on the machine, it slowed the control as well.
    """
    minutes: dict[int, list[float]] = {}
    for row in control:
        minutes.setdefault(int(row["time"] // MINUTE_S), []).extend(row["ms"])
    noise = {minute: float(np.percentile(late, 99)) for minute, late in minutes.items() if late}
    if not noise:
        return set()
    limit = float(np.percentile(list(noise.values()), 25)) * (1 + CALM_SHARE)
    return {minute for minute, p99 in noise.items() if p99 <= limit}


def _windows(samples: Sequence[dict[str, Any]], control: Sequence[dict[str, Any]], seconds: float) -> list[Window]:
    windows = []
    times = np.array([row["time"] for row in control])
    calm = calm_minutes(control)
    for session, middle, memory in _medians(samples, seconds):
        start = middle - seconds / 2
        part = [row for row in samples if row["session"] == session and start <= row["t"] < start + seconds]
        latencies = np.array([ms for row in part for ms in row["ms"]])
        if len(latencies) < 100 and len(samples) > len(part):  # the rest of a session, or a fault's shadow
            continue
        first, last = part[0]["time"], part[-1]["time"]
        beside = [ms for i in np.flatnonzero((times >= first) & (times <= last)).tolist() for ms in control[i]["ms"]]
        p50, p99 = np.percentile(latencies, (50, 99)) if len(latencies) else (math.nan, math.nan)
        noise = float(np.percentile(beside, 99)) if beside else math.nan
        kinds = {name: round(memory[name], 2) for name in MEMORY}
        quiet = [ms for row in part if int(row["time"] // MINUTE_S) in calm for ms in row["ms"]]
        quiet_p99 = float(np.percentile(quiet, 99)) if quiet else math.nan
        windows.append(
            Window(session, round(start, 1), len(latencies), round(float(p50), 2), round(float(p99), 2),
                   round(noise, 2), len(quiet), round(quiet_p99, 2), kinds)
        )  # fmt: skip
    return windows


def rise(values: Sequence[float]) -> float:
    """Relative rise from the median of the first third to that of the last one; nan with fewer than four values."""
    if len(values) < 4:
        return math.nan
    third = max(1, len(values) // 3)
    return median(values[-third:]) / median(values[:third]) - 1


def _judged(result: Hours, lost: int, excused: int) -> list[Criterion]:
    held, low, high = result.slopes[HELD]
    raw = rise([window.p99_ms for window in result.windows])
    calm = rise([window.calm_p99_ms for window in result.windows if window.calm_frames >= MIN_CALM_FRAMES])
    sure = True if high < SLOPE_LIMIT_MB_H else False if low > SLOPE_LIMIT_MB_H else None
    steady = None if math.isnan(calm) else calm <= RISE_LIMIT
    if result.hours < MIN_JUDGED_H:
        sure = steady = None
    machine = _correlation(result.windows)
    between = f"{low:+.2f} to {high:+.2f}"
    others = [(kind, result.slopes[kind]) for kind in MEMORY if math.isfinite(result.slopes[kind][0])]
    rows = [
        ("faults without recovery in calm minutes", float(lost), "0", lost == 0),
        ("the same in other minutes", float(excused), COMPARED, None),
        (f"anonymous memory without what the heap keeps free, MB/h (95 %: {between})", held, "< 1, all of it", sure),
        *(
            (f"{kind.removesuffix('_mb')}, MB/h (95 %: {begin:+.2f} to {end:+.2f})", value, COMPARED, None)
            for kind, (value, begin, end) in others
        ),
        ("p99: last third / first third - 1, calm minutes", calm, f"<= {RISE_LIMIT:g}", steady),
        ("the same, all minutes", raw, COMPARED, None),
        ("correlation of p99 with the control's", machine, COMPARED, None),
        *(
            (f"{kind}: per hour", result.slopes[kind][0], "not surely > 1", not result.slopes[kind][1] > 1)
            for kind in ("fds", "threads")
        ),
    ]
    return [Criterion(what, round(float(value), 3), limit, passed) for what, value, limit, passed in rows]


def _correlation(windows: Sequence[Window]) -> float:
    """Of the node's p99 with the control's over the windows; nan where either does not vary."""
    pairs = np.array([(w.p99_ms, w.control_p99_ms) for w in windows if math.isfinite(w.control_p99_ms)])
    if len(pairs) < 4 or (pairs.std(axis=0) == 0).any():
        return math.nan
    return float(np.corrcoef(pairs.T)[0, 1])
