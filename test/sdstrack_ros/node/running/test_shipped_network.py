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
    stamps = rig.film_to_the_last_answer(FRAMES)
    rig.every_frame_is_counted(stamps)
    # The newest frame never waits behind others, so the last answer belongs to the last frame.
    assert stamp_of(rig.ros.detections[-1]) == stamps[-1]
    assert rig.ros.value("model") == DEFAULT_MODEL
