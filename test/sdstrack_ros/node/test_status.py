"""~/status stays small and printable, whatever messages, files and parameters bring."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message

from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.result import TrackState
from sdstrack_ros.node.faults import FaultLog
from sdstrack_ros.node.health import Health, Level, Verdict
from sdstrack_ros.node.status import diagnostic_status, engine_facts, target_facts, uncertain_targets, worst_state
from sdstrack_ros.parameters.table import TABLE
from sdstrack_ros.tracking.target_requests import MAX_ID_CHARACTERS
from sdstrack_ros.tracking.warm_tracker import WarmTracker
from testkit.frame_results import target_result

pytestmark = pytest.mark.ros

MAX_STATUS_BYTES = 64 * 1024
LONG = st.sampled_from(["A" * 2_000_000, "\x1b[2J\x1b]0;owned\x07\n" * 100_000, "\U0001f600" * 500_000])
TEXTS = st.text() | LONG


@settings(max_examples=30, deadline=None)
@example("\U0001f600" * 500_000, "\U0001f600" * 500_000, [])
@given(TEXTS, TEXTS, st.lists(st.tuples(st.text(max_size=20), TEXTS), max_size=40))
def test_a_status_stays_below_64_kb_without_control_characters(
    message: str, request: str, faults: list[tuple[str, str]]
) -> None:
    health, log = Health(), FaultLog(lambda _: None)
    for name in ("rgb", "aux", "events", "camera_info"):
        health.watch(name, f"/{name}", 0.0)
    for cause, text in faults:
        log.record(cause, text)
    for index in range(100):
        log.record(f"{request[:50]}{index}", request)
    crowd = [
        replace(target_result(target_id=f"{number:0{MAX_ID_CHARACTERS}}", number=number), label=request)
        for number in range(int(TABLE["max_targets"].high or 0))
    ]
    assert len(crowd) == 32
    values = {"last_request": request, "weights": message, **target_facts(crowd), **health.values(1.0)}
    values.update({f"fault.{fault.cause}": f"{fault.count} x, last: {fault.message}" for fault in log.faults()})
    status = diagnostic_status("/tracker", Verdict(Level.ERROR, message), values, request)
    assert len(serialize_message(status)) < MAX_STATUS_BYTES
    texts = [status.message, status.hardware_id, *(text for item in status.values for text in (item.key, item.value))]
    assert all(text.isprintable() for text in texts)


def test_the_status_of_one_target_is_its_own_and_each_of_several_has_a_block() -> None:
    anna, lost = target_result(target_id="anna", number=1), target_result(TrackState.LOST, target_id="2", number=2)
    assert target_facts(()) == {"state": "NONE", "score": "0.000", "target_id": "", "targets": "0"}
    assert (worst_state(()), uncertain_targets(())) == ("NONE", "")
    facts = target_facts((anna, lost))
    assert (facts["state"], facts["target_id"], facts["targets"]) == ("LOST", "2", "2"), "that without an id"
    assert (facts["target.anna.state"], facts["target.anna.score"], facts["target.anna.label"]) == (
        "TRACKING",
        "0.750",
        "cup",
    )
    assert target_facts((anna,))["target_id"] == "anna"
    assert (worst_state((anna, lost)), uncertain_targets((anna, lost))) == ("LOST", "1 of 2 targets: 2 LOST")
    assert uncertain_targets((lost,)) == "", "the state says it"
    doubtful = target_result(TrackState.UNCERTAIN, target_id="b", number=3)
    assert worst_state((anna, doubtful)) == "UNCERTAIN"


def test_the_status_says_which_rule_chose_the_engine() -> None:
    engine = SimpleNamespace(name="torch/fp32", device="cpu", chosen_by="by rule, not tuned")
    warm = WarmTracker(SimpleNamespace(engine=engine), Thresholds(), "m", "w")  # type: ignore[arg-type]
    assert engine_facts(warm)["engine_choice"] == "by rule, not tuned"
    assert set(engine_facts(None).values()) == {""}
