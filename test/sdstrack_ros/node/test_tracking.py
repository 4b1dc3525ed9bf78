from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ros_camera import stamp_of

if TYPE_CHECKING:
    from conftest import Rig

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    return {"autostart": True, "init_box": "[200.0, 180.0, 60.0, 60.0]", "label": "square"}


def test_every_frame_is_answered_or_counted(rig: Rig) -> None:
    rig.active()
    stamps = rig.cameras.film(60)
    ros = rig.ros
    ros.until(lambda: ros.count("frames") > 50, 10, "frames", rig.process)
    ros.spin(1.5)
    answered = [stamp_of(message) for message in ros.detections]
    assert set(answered) <= set(stamps)
    assert ros.count("frames") == ros.count("answered") + ros.count("dropped") + ros.count("rejected")
    assert any(message.detections for message in ros.detections)
