"""The soak of hours: what its log says, and that a stopped run goes on; the run itself in the long form."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ckd_core.files import write_json
from testkit.reliability.about import about
from testkit.reliability.control import calibrated, work
from testkit.reliability.hours import (
    CONTROL,
    LOG,
    MEMORY,
    ROOT,
    SETTINGS,
    HoursError,
    analysed,
    calm_minutes,
    recorded_s,
    rise,
    run_hours,
    slope_interval,
)
from testkit.reliability.lengths import LONG
from testkit.reliability.soak import verdict
from testkit.reliability.weights import write_tiny_weights
from testkit.ros.processes import wait_until
from tools.reliability_report import hours as hours_page

HOURS = 2.5


def interval(values: np.ndarray, sessions: np.ndarray | None = None) -> tuple[float, float, float]:
    hours = np.linspace(0, HOURS, len(values))
    return slope_interval(hours, values, np.zeros(len(values), int) if sessions is None else sessions)


def test_the_slope_has_an_interval_that_knows_leaks_from_noise() -> None:
    random, hours = np.random.default_rng(1), np.linspace(0, HOURS, 150)
    noise = random.normal(0, 0.5, 150)
    value, low, high = interval(600 + 2.0 * hours + noise)
    assert 1 < low < 2.0 < high < 3
    assert low < value < high
    _, low, high = interval(600 + noise)
    assert -1 < low < 0 < high < 1
    steps = np.cumsum(random.normal(0, 0.5, 150))  # memory that wanders: no evidence for a slope of either sign
    _, low, high = interval(600 + steps)
    assert high - low > 2
    assert all(map(math.isnan, interval(np.array([1.0, 2.0, 3.0]))))


def test_the_interval_holds_the_true_slope_as_often_as_it_says() -> None:
    random, hits = np.random.default_rng(2), 0
    for _ in range(300):
        noise = np.zeros(150)
        for index in range(1, 150):
            noise[index] = 0.5 * noise[index - 1] + random.normal(0, 0.3)
        _, low, high = interval(600 + 0.4 * np.linspace(0, HOURS, 150) + noise)
        hits += low <= 0.4 <= high
    assert hits / 300 > 0.9


def test_sessions_differ_in_level_not_in_slope() -> None:
    sessions = np.repeat([1, 2], 75)
    values = np.where(sessions == 1, 600.0, 700.0) + np.random.default_rng(3).normal(0, 0.2, 150)
    value, low, high = interval(values, sessions)
    assert abs(value) < 0.3
    assert low < 0 < high


def test_the_rise_is_from_the_first_third_to_the_last() -> None:
    assert rise([10.0] * 9 + [13.0] * 3) == pytest.approx(0.3)
    assert rise([10.0] * 9) == 0.0
    assert math.isnan(rise([10.0, 11.0, 12.0]))


def test_calm_minutes_are_those_of_a_fast_control() -> None:
    rows = [{"time": 60.0 * minute + 5, "ms": [2.0 if minute < 9 else 5.0] * 30} for minute in range(12)]
    assert calm_minutes(rows) == set(range(9))
    assert calm_minutes([]) == set()


@pytest.mark.parametrize(("busy", "rises"), [(True, False), (False, True)])
def test_a_slow_neighbour_is_told_from_a_slow_node(tmp_path: Path, busy: bool, rises: bool) -> None:
    """The last 20 minutes are slow, also in the control where it was a neighbour, but for three minutes of each ten."""
    write_log(tmp_path, 0.0, sessions=(1,), seconds=3600)
    rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()[:-1]]
    control = [json.loads(line) for line in (tmp_path / CONTROL).read_text().splitlines()]
    for row in rows:
        if row["t"] > 2400 and "ms" in row and not (busy and row["t"] % 600 < 200):
            row["ms"] = [2 * ms for ms in row["ms"]]
    for row in control:
        if busy and row["time"] - 1e6 > 2400 and (row["time"] - 1e6) % 600 >= 200:
            row["ms"] = [9.0] * 30
    last = rows[-1]["t"]
    rows += [{"session": 1, "t": last, "fault": "both die", "recovered_s": -1.0}]
    (tmp_path / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / CONTROL).write_text("".join(json.dumps(row) + "\n" for row in control))
    result = analysed(tmp_path)
    by_name = {one.what: one for one in result.criteria}
    assert by_name["p99: last third / first third - 1, calm minutes"].passed is not rises
    assert by_name["the same, all minutes"].value > 0.5
    assert by_name["faults without recovery in calm minutes"].value == (0 if busy else 1)
    assert by_name["the same in other minutes"].value == (1 if busy else 0)


def write_log(folder: Path, leak_mb_h: float, sessions: tuple[int, ...] = (1, 2), seconds: int = 1800) -> None:
    random = np.random.default_rng(4)
    (folder / SETTINGS).write_text(json.dumps({"hours": 1, "seed": 1, "model": "m", "engine": "e"}))
    rows: list[dict[str, Any]] = []
    control: list[dict[str, Any]] = []
    for session in sessions:
        for second in range(1, seconds + 1):
            at = 1e6 * session + second
            memory = dict.fromkeys(MEMORY, 10.0)
            memory["anon_mb"] = 500.0 + 20 * session + leak_mb_h * second / 3600 + random.normal(0, 0.05)
            latencies = np.round(5 + random.exponential(1.0, 30), 2).tolist()
            rows.append(
                {"session": session, "t": second, "time": at, **memory, "fds": 30, "threads": 20, "ms": latencies}
            )
            control.append({"time": at, "ms": [2.0] * 30})
        rows.append({"session": session, "t": seconds, "fault": "both die", "recovered_s": 1.5})
    (folder / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"session": 2, "t": 18')
    (folder / CONTROL).write_text("".join(json.dumps(row) + "\n" for row in control))


@pytest.mark.parametrize(("leak", "passed"), [(0.0, True), (3.0, False)])
def test_a_log_of_two_sessions_is_judged_as_one(tmp_path: Path, leak: float, passed: bool) -> None:
    write_log(tmp_path, leak)
    result = analysed(tmp_path)
    assert (result.hours, result.sessions, result.faults) == (1.0, 2, 2)
    assert len(result.windows) == 6
    assert {one.frames for one in result.windows} == {17_970, 18_000}
    assert result.windows[0].control_p99_ms == 2.0
    value, low, high = result.slopes["anon_mb"]
    assert low < leak < high
    assert value == pytest.approx(leak, abs=0.3)
    memory = next(one for one in result.criteria if "anonymous memory" in one.what)
    assert memory.passed is passed
    assert result.passed is passed
    json.dumps(result.as_json())


def test_what_memory_does_in_the_first_ten_minutes_of_a_session_is_no_slope(tmp_path: Path) -> None:
    write_log(tmp_path, 0.0, sessions=(1,), seconds=3600)
    rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()[:-1]]
    for row in rows:
        if "ms" in row:
            row["anon_mb"] += min(row["t"], 600) / 30
    (tmp_path / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = analysed(tmp_path)
    assert result.slopes["anon_mb"][0] == pytest.approx(0.0, abs=0.3)
    assert result.windows[-1].memory["anon_mb"] - result.windows[0].memory["anon_mb"] > 5, "the table shows it"


def test_what_the_heap_keeps_free_hides_no_growth_and_makes_none(tmp_path: Path) -> None:
    """For a quarter of an hour six megabytes more lie between its blocks, as after a fault with larger images."""
    for leak, passed in ((0.0, True), (3.0, False)):
        write_log(tmp_path, leak, sessions=(1,), seconds=7200)
        rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()[:-1]]
        for row in rows:
            if "ms" in row and 2400 < row["t"] < 3300:
                row["anon_mb"] += 6
                row["heap_free_mb"] += 6
        (tmp_path / LOG).write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = analysed(tmp_path)
        assert next(one for one in result.criteria if "keeps free" in one.what).passed is passed
        low, high = result.slopes["anon_mb"][1:]
        assert high - low > 1, "all of it together would say nothing"


def test_a_log_without_the_heap_is_judged_by_all_of_its_memory(tmp_path: Path) -> None:
    write_log(tmp_path, 3.0, sessions=(1,), seconds=3600)
    log = (tmp_path / LOG).read_text().replace('"heap_free_mb": 10.0', '"heap_free_mb": NaN')
    (tmp_path / LOG).write_text(log)
    assert analysed(tmp_path).slopes["held_mb"] == analysed(tmp_path).slopes["anon_mb"]


def test_a_run_of_minutes_is_not_judged_by_its_slope(tmp_path: Path) -> None:
    write_log(tmp_path, 50.0, sessions=(1,), seconds=300)
    result = analysed(tmp_path)
    assert result.slopes["anon_mb"][0] > 20
    assert next(one for one in result.criteria if "anonymous memory" in one.what).passed is None
    assert verdict(result.criteria) == (
        "nothing failed, but too short to judge anonymous memory without what the heap keeps free, MB/h; "
        "p99: last third / first third - 1, calm minutes"
    )


def test_the_head_of_the_page_says_what_a_run_could_not_judge(tmp_path: Path) -> None:
    (tmp_path / "hours.json").parent.mkdir(exist_ok=True)
    for leak, seconds, words in (
        (0.0, 300, "5 faults: **nothing failed, but too short"), (0.0, 1800, "**passed**"), (9.0, 1800, "**FAILED**")
    ):  # fmt: skip
        write_log(tmp_path, leak, sessions=(1,), seconds=seconds)
        write_json(tmp_path / "hours.json", {"about": about(), **analysed(tmp_path).as_json()})
        page = "\n".join(hours_page(tmp_path))
        assert words.removeprefix("5 faults: ") in page
        assert "| - | for comparison | - |" in page or seconds > 300


def test_a_run_that_is_complete_needs_no_node_and_another_one_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path, 0.0)
    parameters = {"model": "m", "engine": "e"}
    assert run_hours(tmp_path, tmp_path, parameters, 1, 1, lambda _: None).sessions == 2
    with pytest.raises(HoursError, match=r"holds a run of .*'seed': 1.*; expected .*'seed': 2"):
        run_hours(tmp_path, tmp_path, parameters, 1, 2, lambda _: None)


@pytest.mark.ros
def test_a_run_that_is_killed_leaves_no_process_and_goes_on_with_more_hours(tmp_path: Path) -> None:
    folder = tmp_path / "hours"
    write = [sys.executable, "-m", "tools.soak", "--model", "sdstrack_s128", "--out", str(tmp_path), "--hours"]
    with subprocess.Popen([*write, "1"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        wait_until(lambda: len(members(run.pid)) >= 4, 120, "control process, node and cameras")
        run.kill()
        wait_until(lambda: members(run.pid) <= {run.pid}, 60, "the end of its processes")
    write_log(folder, 0.0)  # as if it had recorded until then
    settings = {"hours": 1.0, "seed": 1, "model": "sdstrack_s128", "engine": "auto"}
    (folder / SETTINGS).write_text(json.dumps(settings))
    with subprocess.Popen([*write, "2"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "session 3: 1.00 of 2 h to go, warm-up first\n"
        run.send_signal(signal.SIGINT)
        assert run.communicate(timeout=180)[0].startswith("stopped; ")
    assert json.loads((folder / SETTINGS).read_text()) == {**settings, "hours": 2.0}


def members(session: int) -> set[int]:
    """Living processes of a session."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.add(int(stat.parent.name))
    return found


@pytest.mark.ros
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_it_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "hours"
    command = [sys.executable, "-m", "tools.soak", "--hours", "1", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        wait_until(lambda: (folder / CONTROL).is_file(), 120, "the control process")
        run.send_signal(number)
        said = run.communicate(timeout=180)[0]
    assert run.returncode == 1
    assert said.splitlines()[-1] == f"stopped; the same command goes on from {folder / LOG}"
    assert "Traceback" not in said


def test_the_control_works_for_about_two_milliseconds() -> None:
    assert 1000 <= calibrated() < 10**8
    assert work(4) == pytest.approx(1 + math.sqrt(2) + math.sqrt(5) + math.sqrt(10))


@pytest.mark.ros
@pytest.mark.timeout(280)
@pytest.mark.skipif(not LONG, reason="two nodes film for a minute: in the long form only")
def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    parameters = {
        "model": "sdstrack_tiny_test",
        "weights": write_tiny_weights(tmp_path / "weights.safetensors"),
        "engine": "torch/fp32",
    }
    log = tmp_path / "log"

    def stop(line: str) -> None:
        if "back after" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_hours(log, tmp_path, parameters, 0.02, 1, stop)
    rows = [json.loads(line) for line in (log / LOG).read_text().splitlines()]
    assert 40 < recorded_s(rows) < 72
    result = run_hours(log, tmp_path, parameters, 0.02, 1, lambda _: None)
    assert result.sessions == 2
    assert result.hours == pytest.approx(0.02, abs=0.002)
    assert all(one.memory["heap_mb"] > 10 and one.memory["anon_mb"] > 10 for one in result.windows)
    assert all(one.control_p99_ms > 0 for one in result.windows)
