"""The node as users start it: shipped weights, `engine: auto`, 640 x 480 colour and depth at 30 Hz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ckd_core import DEFAULT_MODEL
from ckd_core.models.checkpoint import default_weights
from testkit.reliability.lengths import LONG
from testkit.ros.camera import stamp_of

if TYPE_CHECKING:
    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros
FRAMES = 150 if LONG else 60


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    model = DEFAULT_MODEL
    box = "[200.0, 180.0, 60.0, 60.0]"
    return {
        "autostart": True, "model": model, "weights": default_weights(model), "engine": "auto", "threads": 1,
        "init_box": box,
    }  # fmt: skip


def test_every_frame_is_answered_or_counted_and_nothing_queues(rig: Rig) -> None:
    rig.active()
    stamps = rig.cameras.film(FRAMES, 30.0)
    rig.until(lambda: stamps[-1] in {stamp_of(message) for message in rig.ros.detections}, "the last frame's answer")
    # The status comes once a second, on busy cores later: the newest may be older than the last answer's count.
    rig.until(lambda: rig.ros.count("answered") >= len(rig.ros.detections), "a status that counts the last answer")
    answered = [stamp_of(message) for message in rig.ros.detections]
    counts = {name: rig.ros.count(name) for name in ("frames", "answered", "dropped", "rejected")}
    assert answered == sorted(set(answered))
    assert set(answered) <= set(stamps)
    assert counts["answered"] == len(answered)
    assert counts["frames"] == counts["answered"] + counts["dropped"] + counts["rejected"]
    # On busy cores images come in bursts: one after a stall that the guard takes for an outlier is counted there.
    refused = sum(int(rig.ros.value(name)) for name in ("rgb.rejected", "sync.color_late", "sync.color_duplicate"))
    assert counts["frames"] + refused == int(rig.ros.value("rgb.received"))
    # The newest frame never waits behind others, so the last answer belongs to the last frame.
    assert answered[-1] == stamps[-1]
    assert rig.ros.value("model") == DEFAULT_MODEL
