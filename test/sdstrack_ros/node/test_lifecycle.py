"""A node under a lifecycle manager."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lifecycle_msgs.msg import Transition
from std_srvs.srv import SetBool, Trigger

from ckd_core.models.checkpoint import load_tensors, save_tensors
from sdstrack_ros.node.tracker_node import main
from sdstrack_ros.parameters.table import TABLE
from testkit.reliability.lengths import LONG
from testkit.ros.camera import stamp_of

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
# A leak of one tiny network (2 MB) per cycle would be 40 MB in the short form, 160 MB in the long one.
CYCLES, SETTLED_AFTER = (100, 20) if LONG else (30, 10)
ALLOWED_GROWTH_MB = 12.0


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    return {"modality": "radar", "max_skw_s": 0.1, "init_box": "[200, 180, 60, 60]", "confidence": False}


def memory_mb(rig: Rig) -> float:
    lines = Path(f"/proc/{rig.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def unusable_weights(tiny_weights: Path, folder: Path) -> list[tuple[Path, str]]:
    """Weight files with right checksums that no network can be made of, and why."""
    tensors, metadata = load_tensors(tiny_weights)
    deep = replace(metadata, config={**metadata.config, "depth": 10_000_000})
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    files = {"deep": (tensors, deep), "nan": ({**tensors, name: torch.full_like(tensors[name], torch.nan)}, metadata)}
    for file, (content, about) in files.items():
        save_tensors(folder / f"{file}.safetensors", content, about)
    reasons = {"deep": "asks for depth = 10000000", "nan": "not finite"}
    return [(folder / f"{file}.safetensors", reason) for file, reason in reasons.items()]


def test_a_bad_start_value_fails_configure_with_the_reason_and_can_be_mended(
    rig: Rig, tiny_weights: Path, tmp_path: Path
) -> None:
    ros = rig.ros
    assert ros.lifecycle() == "unconfigured"
    assert not ros.transition(CONFIGURE)
    rig.until(lambda: "'modality' cannot be 'radar'" in (ros.status.message if ros.status else ""), "the reason")
    assert ros.status.level == bytes([2])
    assert "there is no parameter 'max_skw_s' (did you mean 'max_skew_s'?)" in rig.process.output
    assert ros.set_parameters(modality="depth", weights="nowhere.safetensors").successful
    assert not ros.transition(CONFIGURE)
    rig.until(lambda: "nowhere.safetensors" in ros.status.message, "the missing file named")
    assert ros.lifecycle() == "unconfigured"
    for weights in ("", str(tiny_weights)):
        assert ros.set_parameters(weights=weights, model="no_such_model").successful
        assert not ros.transition(CONFIGURE)
        rig.until(
            lambda: "unknown network 'no_such_model'; expected one of ckd_b256, " in ros.status.message,
            "known networks",
        )
        assert ros.set_parameters(model="sdstrack_tiny_test", weights="nowhere.safetensors").successful
        assert not ros.transition(CONFIGURE)
        rig.until(lambda: "nowhere.safetensors" in ros.status.message, "the missing file named")
    for weights, reason in unusable_weights(tiny_weights, tmp_path):
        assert ros.set_parameters(weights=str(weights)).successful
        begin = time.monotonic()
        assert not ros.transition(CONFIGURE)
        assert time.monotonic() - begin < 60, (
            "a second on an idle machine; the network that it asks for would take all day"
        )
        rig.until(lambda reason=reason: reason in ros.status.message, reason)
    assert ros.set_parameters(weights=str(tiny_weights)).successful
    assert ros.set_parameters(model="sdstrack_tiny_test", sync_policy="exact").successful
    assert not ros.transition(CONFIGURE)
    rig.until(lambda: "message_filters" in ros.status.message, "the missing package named")
    assert ros.set_parameters(sync_policy="tolerant").successful
    assert ros.transition(CONFIGURE)
    assert ros.lifecycle() == "inactive"
    rig.until(lambda: ros.status.message == "inactive", "no trace of the failures")


def test_inactive_is_silent_and_refuses_services(rig: Rig) -> None:
    assert rig.cameras.rgb.get_subscription_count() == 0
    response = rig.ros.call(Trigger, "/tracker/reset", Trigger.Request())
    assert (response.success, response.message) == (False, "refused: the node is inactive")
    assert not rig.ros.call(SetBool, "/tracker/pause", SetBool.Request(data=True)).success


def test_parameters_that_need_reconfigure_are_refused_while_configured(rig: Rig) -> None:
    result = rig.ros.set_parameters(modality="thermal")
    assert not result.successful
    assert "'modality' needs reconfigure" in result.reason


def test_impossible_transitions_get_a_response(rig: Rig) -> None:
    assert not rig.ros.transition(CONFIGURE)
    assert not rig.ros.transition(DEACTIVATE)
    assert rig.ros.lifecycle() == "inactive"


def test_activate_subscribes_and_deactivate_stops_within_a_second(rig: Rig) -> None:
    ros, lasted_s = rig.ros, []
    for _ in range(3):
        assert ros.transition(ACTIVATE)
        rig.active()
        assert "active: waiting for /rgb/image_raw and /aux/image_raw" in rig.process.output
        ros.detections.clear()
        rig.film_until(lambda: any(message.detections for message in ros.detections), "boxes")
        begin = time.monotonic()
        assert ros.transition(DEACTIVATE)
        lasted_s.append(time.monotonic() - begin)
        rig.until(lambda: rig.cameras.rgb.get_subscription_count() == 0, "no subscription")
        stamps = set(rig.cameras.film(5))
        rig.two_more_statuses()
        assert not stamps & {stamp_of(message) for message in ros.detections}
    assert min(lasted_s) < 3, f"one second, and what a busy machine adds: {lasted_s}"


def test_many_cycles_leave_memory_flat(rig: Rig) -> None:
    ros = rig.ros
    sizes = []
    for _ in range(CYCLES):
        assert ros.transition(CLEANUP)
        assert ros.transition(CONFIGURE)
        sizes.append(memory_mb(rig))
    growth = sizes[-1] - sizes[SETTLED_AFTER]
    assert growth < ALLOWED_GROWTH_MB, f"memory in MB every 10 cycles: {[round(size) for size in sizes[::10]]}"


def test_it_still_works_after_that(rig: Rig) -> None:
    ros = rig.ros
    assert ros.transition(ACTIVATE)
    rig.active()
    ros.detections.clear()
    rig.film_until(lambda: any(message.detections for message in ros.detections), "boxes")
    assert stamp_of(ros.detections[-1]) in rig.cameras.stamps


def test_shutdown_from_active_and_sigint_end_it_with_status_zero(rig: Rig) -> None:
    assert rig.ros.transition(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert rig.ros.lifecycle() == "finalized"
    assert rig.process.interrupt() == 0
    assert "Traceback" not in rig.process.output


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_lists_the_parameters_and_starts_no_node(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: tracker_node")
    assert [name for name in TABLE if f"\n  {name} " not in text] == []
