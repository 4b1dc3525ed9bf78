"""~/status stays small and printable, whatever messages, files and parameters bring."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message

from sdstrack_ros.node.faults import FaultLog
from sdstrack_ros.node.health import Health, Level, Verdict
from sdstrack_ros.node.status import diagnostic_status

pytestmark = pytest.mark.ros

MAX_STATUS_BYTES = 64 * 1024
LONG = st.sampled_from(["A" * 2_000_000, "\x1b[2J\x1b]0;owned\x07\n" * 100_000, "\U0001f600" * 500_000])
TEXTS = st.text() | LONG


@settings(max_examples=30, deadline=None)
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
    values = {"last_request": request, "weights": message, **health.values(1.0)}
    values.update({f"fault.{fault.cause}": f"{fault.count} x, last: {fault.message}" for fault in log.faults()})
    status = diagnostic_status("/tracker", Verdict(Level.ERROR, message), values, request)
    assert len(serialize_message(status)) < MAX_STATUS_BYTES
    texts = [status.message, status.hardware_id, *(text for item in status.values for text in (item.key, item.value))]
    assert all(text.isprintable() for text in texts)
