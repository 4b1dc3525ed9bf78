"""Rows of the fault matrix on a node that follows several targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D

from testkit.reliability.matrix.bench import NODE, Bench, number
from testkit.reliability.matrix.outcome import BOX, Counted, Row
from testkit.ros.camera import stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TARGETS = 4
REQUESTED = 100
# No score reaches them: what the seeded network of the matrix says means nothing.
UNREACHABLE = {"doubt_score": 1.0, "unseen_score": 1.0, "confirm_score": 1.0}
OWN = dict.fromkeys(UNREACHABLE, -1.0)


def _request(bench: Bench, target_id: str) -> None:
    publisher = bench.ros.publisher(Detection2D, f"{NODE}/init_box", 2 * REQUESTED)
    bench.until(lambda: publisher.get_subscription_count() > 0, 30, "a listener on ~/init_box")
    x, y, w, h = BOX
    message = Detection2D(id=target_id)
    message.bbox.center.position.x, message.bbox.center.position.y = x + w / 2, y + h / 2
    message.bbox.size_x, message.bbox.size_y = w, h
    publisher.publish(message)
    bench.spin(0.02)


def _states(bench: Bench) -> list[str]:
    values = bench.values()
    return [value for key, value in values.items() if key.startswith("target.") and key.endswith(".state")]


def _with_unreachable_scores(act: Callable[[Bench], list[Counted]]) -> Callable[[Bench], list[Counted]]:
    """Do it while every target is LOST; afterwards only the target of the matrix is left, with its own scores."""

    def lost(bench: Bench) -> list[Counted]:
        assert bench.ros.set_parameters(**UNREACHABLE).successful
        try:
            return act(bench)
        finally:
            assert bench.ros.call(Trigger, f"{NODE}/reset", Trigger.Request()).success
            bench.until(lambda: bench.ros.value("targets") == "0", 30, "no target")
            assert bench.ros.set_parameters(**OWN).successful
            bench.aim(BOX)

    return lost


@_with_unreachable_scores
def lose_all(bench: Bench) -> list[Counted]:
    """Let four targets be LOST at once, in the dark."""
    for index in range(MAX_TARGETS - 1):
        _request(bench, f"t{index}")
    bench.until(lambda: bench.ros.value("targets") == str(MAX_TARGETS), 30, "all targets")
    bench.camera.set(content="black")
    bench.until(lambda: _states(bench) == ["LOST"] * MAX_TARGETS, 60, "all targets lost")
    since_ns = bench.camera.report()["last_stamp_ns"]  # of frames filmed from now on; others may be under way

    def answers() -> list[Any]:
        return [message for message in bench.ros.messages[f"{NODE}/detections"] if stamp_of(message) > since_ns]

    bench.until(lambda: len(answers()) >= 20, 60, "answers without a box")
    messages = answers()
    return [
        Counted("targets LOST", MAX_TARGETS, _states(bench).count("LOST")),
        Counted("boxes of lost targets", 0, sum(len(message.detections) for message in messages)),
    ]


@_with_unreachable_scores
def request_a_hundred(bench: Bench) -> list[Counted]:
    """Request a hundred targets, each under its own id, as fast as a detector of a crowd would."""
    before = number(bench.values(), "frames.refused")
    refused = REQUESTED - (MAX_TARGETS - 1)
    for index in range(REQUESTED):
        _request(bench, f"crowd{index}")
    bench.until(lambda: bench.ros.count("refused") >= before + refused, 60, "every refusal")
    values = bench.values()
    return [
        Counted("requests refused", refused, number(values, "frames.refused") - before),
        Counted("targets", MAX_TARGETS, number(values, "targets")),
    ]


def target_rows() -> list[Row]:
    """Rows on a node with `max_targets` of MAX_TARGETS."""
    return [
        Row(
            "all targets lost",
            f"{MAX_TARGETS} targets, scores out of reach, black images",
            lose_all,
            rf"{MAX_TARGETS} of {MAX_TARGETS} targets: ",
            boxes_flow=0.7,
        ),
        Row(
            "100 targets requested",
            f"{REQUESTED} ids on ~/init_box, max_targets {MAX_TARGETS}",
            request_a_hundred,
            rf"max_targets is {MAX_TARGETS}, and so many are followed",
            boxes_flow=0.7,
        ),
    ]
