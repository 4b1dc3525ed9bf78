"""Outcome of a fault row, and how each row is run: healthy, fault, healthy again, with counts before and after."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from testkit.reliability.lengths import record
from testkit.reliability.matrix.bench import Bench, number
from testkit.reliability.matrix.camera import DEPTH
from testkit.reliability.weights import tiny_node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Frames that may be on their way between two counters when they are read.
IN_FLIGHT = 3
MIN_ANSWERS = 3
MEMORY_LIMIT_MB = 40.0
PATIENCE_S = 60.0
BOX = (80.0, 60.0, 50.0, 50.0)  # where the square of the camera process is at first


@dataclass(frozen=True, slots=True)
class Counted:
    """Something that was injected, and the node's own count of it."""

    what: str
    injected: int
    counted: int
    tolerance: int = 0

    def holds(self) -> bool:
        """Whether the two counts agree within the tolerance."""
        return abs(self.injected - self.counted) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the fault matrix.

    Attributes:
        name: of the row.
        injected: the fault, in words.
        act: injects the fault and returns while it still lasts; the counts that it returns must agree.
        shown: pattern that the node's status must match while the fault lasts.
        within: frames after the fault's end within which a result must come.
        boxes_flow: minimum share of the frames sent during the fault that get a result or are counted as dropped.
        memory_mb: limit of the growth of resident memory.
    """

    name: str
    injected: str
    act: Callable[[Bench], list[Counted] | None]
    shown: str = r"state=\w+"
    within: int = 30
    boxes_flow: float = 0.0
    memory_mb: float = MEMORY_LIMIT_MB


@dataclass(slots=True)
class Outcome:
    """The row's columns."""

    injected: str
    stayed_up: bool = False
    recovered_frames: int = -1
    answers: int = 0
    frames: int = 0
    counted: str = ""
    memory_mb: float = 0.0
    shown: str = ""
    faults: list[str] = field(default_factory=list)


def matrix_node(folder: Path, **changes: Any) -> dict[str, Any]:
    """Parameters of the node of a matrix, which starts on the square by itself; its weights are in `folder`.

    It takes every image that the cameras send, however late: what a shallow queue overwrites, nobody can count.
    """
    return tiny_node(folder, init_box=str(list(BOX)), input_reliability="reliable", input_depth=DEPTH, **changes)


def run_row(bench: Bench, row: Row) -> Outcome:
    """Run a row and return its outcome; `faults` lists what is wrong."""
    outcome = Outcome(row.injected)
    before = bench.healthy()
    if bench.aim(BOX):
        before = bench.values()
    memory, pid = bench.resources(), bench.node.pid
    status_before, answers_before = bench.statuses, len(bench.ros.messages["/tracker/detections"])
    sent_before = bench.camera.report()
    counted = row.act(bench) or []
    shown = _shown_under_fault(bench, row, status_before, answers_before)
    during = bench.camera.set()
    outcome.frames = (
        during["moments"] - sent_before["moments"] if during["moments"] >= sent_before["moments"] else during["moments"]
    )
    outcome.answers = len(bench.ros.messages["/tracker/detections"]) - answers_before
    outcome.recovered_frames = _frames_until_answer(bench)
    after = bench.healthy()
    outcome.stayed_up = bench.node.alive() and bench.node.pid == pid
    outcome.memory_mb = round(bench.resources().rss_mb - memory.rss_mb, 1)
    _judge(outcome, row, counted, shown, before, after)
    return outcome


def _shown_under_fault(bench: Bench, row: Row, status_before: int, answers_before: int) -> str:
    """What the status says while the fault is in force: one more at least, and as many as a busy machine needs."""
    deadline = time.monotonic() + PATIENCE_S
    while bench.node.alive():
        bench.values()
        enough = len(bench.answers) - answers_before >= MIN_ANSWERS or not row.boxes_flow
        said = bench.said_since(status_before)
        if (enough and re.search(row.shown, said)) or time.monotonic() > deadline:
            break
    return bench.said_since(status_before)


def _frames_until_answer(bench: Bench) -> int:
    """Frames filmed between the end of the fault and the first answer to one of them."""
    at = len(bench.ros.messages["/tracker/detections"])
    mark = bench.camera.report()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        bench.spin(0.02)
        fresh = [s for s in bench.answers[at:] if s > mark["last_stamp_ns"]]
        if fresh:
            return max(1, round((fresh[0] - int(mark["last_stamp_ns"])) / 1e9 * bench.camera.rate_hz))
    return -1


def _judge(
    outcome: Outcome, row: Row, counted: list[Counted], shown: str, before: dict[str, str], after: dict[str, str]
) -> None:
    problems = outcome.faults
    if not outcome.stayed_up:
        problems.append("the node did not stay up")
    if not 0 <= outcome.recovered_frames <= row.within:
        problems.append(f"recovered after {outcome.recovered_frames} frames; expected within {row.within}")
    # A busy machine drops frames, as it should: each must have a result or be counted as dropped.
    known = outcome.answers + number(after, "frames.dropped") - number(before, "frames.dropped")
    if row.boxes_flow and (known < row.boxes_flow * outcome.frames or outcome.answers < MIN_ANSWERS):
        problems.append(
            f"{outcome.answers} answers and {known - outcome.answers} counted drops for {outcome.frames} frames; "
            f"expected a share of {row.boxes_flow}"
        )
    if outcome.memory_mb > row.memory_mb:
        problems.append(f"memory rose by {outcome.memory_mb} MB; expected at most {row.memory_mb}")
    match = re.search(row.shown, shown)
    if match is None:
        problems.append(f"the status never said /{row.shown}/; it said:\n{shown[-3000:]}")
    outcome.shown = match.group(0)[:90] if match else ""
    accounts = _accounts(before, after)
    for item in [*counted, *([accounts] if accounts else [])]:
        if not item.holds():
            problems.append(f"{item.what}: {item.injected} injected, {item.counted} counted")
    outcome.counted = "; ".join(
        f"{item.what} {item.injected} / {item.counted}" for item in [*counted, accounts] if item
    )


def _accounts(before: dict[str, str], after: dict[str, str]) -> Counted | None:
    """Every frame that left the synchronizer is answered, dropped, refused or paused, and is counted as that."""

    def rise(key: str) -> int:
        return number(after, f"frames.{key}") - number(before, f"frames.{key}")

    served = sum(rise(key) for key in ("answered", "dropped", "rejected", "paused"))
    return Counted("frames = answered + dropped + refused", rise("frames"), served, IN_FLIGHT)


def finish(part: str, row: Row | str, outcome: Outcome) -> None:
    """Keep the row for the tables, then fail on what was wrong."""
    name = row if isinstance(row, str) else row.name
    record(part, name, asdict(outcome))
    assert not outcome.faults, f"{name}: " + "; ".join(outcome.faults)
