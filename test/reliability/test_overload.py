"""What the real node leaves out first when the network takes longer than a frame, and that boxes keep flowing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from testkit.reliability.lengths import record
from testkit.reliability.matrix.bench import NODE, Bench, bench, number
from testkit.reliability.weights import tiny_node
from testkit.ros.camera import stamp_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]
# Slow enough for a busy machine to keep up without the fault.
RATE_HZ = 4.0
BLOCK_S = 0.75
ORDER = ("overlay", "markers", "detections_3d")


class _Extras:
    """Stamps of the optional outputs, by topic."""

    def __init__(self, bench: Bench) -> None:
        self.stamps: dict[str, list[int]] = {name: [] for name in ORDER}
        for kind, name in ((Image, "overlay"), (MarkerArray, "markers"), (Detection3DArray, "detections_3d")):
            bench.ros.node.create_subscription(kind, f"{NODE}/{name}", self._hear(name), 100)

    def _hear(self, name: str) -> Any:
        def hear(message: Any) -> None:
            first = message.markers[0] if name == "markers" and message.markers else message
            if hasattr(first, "header"):
                self.stamps[name].append(stamp_of(first))

        return hear

    def all_since(self, stamp_ns: int) -> bool:
        return all(stamps and stamps[-1] > stamp_ns for stamps in self.stamps.values())

    def last_until(self, stamp_ns: int) -> list[int]:
        return [max(stamp for stamp in self.stamps[name] if stamp <= stamp_ns) for name in ORDER]

    def first_after(self, stamp_ns: int) -> list[int]:
        return [min(stamp for stamp in self.stamps[name] if stamp > stamp_ns) for name in ORDER]


def test_overlay_goes_first_boxes_stay_and_everything_comes_back(tmp_path: Path) -> None:
    parameters = tiny_node(
        tmp_path,
        init_box="[80.0, 60.0, 50.0, 50.0]",
        confidence=False,  # random weights: believe every box, so that each output has something to show
    )
    orders = tmp_path / "orders"
    environment = {"SDSTRACK_ENGINE_ORDERS": str(orders)}
    with bench(
        tmp_path,
        parameters,
        module="testkit.reliability.matrix.faulty_node",
        rate_hz=RATE_HZ,
        extra_environment=environment,
    ) as running:
        extras = _Extras(running)
        running.until(lambda: extras.all_since(0), 60, "all outputs")
        begin = running.answers[-1]
        running.until(lambda: extras.all_since(begin), 60, "all outputs again")
        running.until(lambda: running.values()["left_out"] == "", 60, "nothing left out")

        before = running.values()
        orders.write_text(f"block {BLOCK_S}")
        running.until(lambda: running.ros.value("left_out") == ", ".join(ORDER), 60, "all extras left out")
        full = running.answers[-1]
        answers = len(running.answers)
        running.until(lambda: len(running.answers) >= answers + 10, 60, "boxes while everything else is left out")
        after = running.values()
        assert "overload: left out overlay, markers, detections_3d" in running.ros.status.message
        assert not any(stamp > full + 10**9 for stamps in extras.stamps.values() for stamp in stamps)
        dropped = number(after, "frames.dropped") - number(before, "frames.dropped")
        assert dropped > 0, "frames are the last to go, and are counted"
        # One step a frame: each output's last message is earlier than the next one's.
        gone = extras.last_until(full + 10**9)
        assert gone[0] < gone[1] < gone[2]

        orders.unlink()
        calm = running.answers[-1]
        running.until(lambda: extras.all_since(calm), 240, "all outputs are back")
        back = extras.first_after(calm)
        assert back[2] < back[1] < back[0]
        assert running.node.alive()
        record(
            "overload",
            "network slower than the frames",
            {
                "left_out": ", ".join(ORDER),
                "boxes": len(running.answers) - answers,
                "dropped": dropped,
                "back": "detections_3d, markers, overlay",
            },
        )
