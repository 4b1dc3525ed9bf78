"""`sdstrack evaluate` is the node's path: each kind of recording, played into the node, gives the same counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle_msgs.msg import Transition

from ckd_core.frame import BoundingBox, Modality
from sdstrack_ros.bags.frames import BagTopics, read_bag_frames
from sdstrack_ros.bags.player import play
from sdstrack_ros.bags.storage import open_bag
from sdstrack_ros.sync.types import SyncConfig, SyncCounters
from testkit.bag_cameras import AUX, KINDS, RGB, record
from testkit.ros_processes import ChildProcessFailure
from testkit.ros_rig import Rig, running_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.ros
# A machine under load delivers late; with a long wait no pair is missed for that.
WAIT_S = 1.0
BOX = BoundingBox(4.0, 3.0, 6.0, 5.0)
ATTEMPTS = 3  # of playing: a frame that the busy node has to drop is never decoded, so its faults are not counted


@pytest.fixture(scope="module")
def rig(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    parameters = {
        "max_wait_s": WAIT_S, "rgb_topic": RGB, "aux_topic": AUX, "confidence": False, "publish_3d": False,
        "input_depth": 100, "autostart": True, "init_box": str([float(v) for v in BOX]),
    }  # fmt: skip
    with running_node(tiny_weights, tmp_path_factory.mktemp("node"), **parameters) as running:
        yield running


def from_recording(path: Path) -> dict[str, int]:
    counters: list[SyncCounters] = []
    rejected: Counter[str] = Counter()
    with open_bag(path) as bag:
        topics = {topic.name for topic in bag.topics}
        frames = read_bag_frames(
            bag,
            BagTopics(RGB, AUX if AUX in topics else ""),
            Modality.DEPTH,
            SyncConfig(max_wait_s=WAIT_S),
            on_reject=lambda rejection: rejected.update([rejection.stream]),
            counters=counters.append,
        )
        list(frames)
    counted = {f"sync.{name}": n for name, n in asdict(counters[0]).items() if name != "nearest_miss_ns"}
    return {**counted, "rgb.rejected": rejected["rgb"], "aux.rejected": rejected["aux"]}


def live(rig: Rig, expected: dict[str, int]) -> dict[str, int]:
    return {name: int(rig.ros.value(name) or 0) for name in expected}


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_counts_as_evaluate_does(rig: Rig, tmp_path: Path, kind: str) -> None:
    path = record(tmp_path / "bag", *KINDS[kind])
    expected = from_recording(path)
    rig.ros.until(lambda: bool(rig.ros.value("lifecycle")), 240, "a status", rig.process)
    for attempt in range(ATTEMPTS):
        if rig.ros.value("lifecycle") == "active":
            assert rig.ros.transition(Transition.TRANSITION_DEACTIVATE)
        assert rig.ros.transition(Transition.TRANSITION_ACTIVATE)
        rig.ros.until(lambda: rig.ros.value("lifecycle") == "active", 60, "an active node", rig.process)
        dropped = rig.ros.count("dropped")
        report = play(path, wait_s=30.0, clock=False)
        assert report.passes == 1
        try:
            rig.until(lambda: live(rig, expected) == expected, f"the counts {expected}", 25.0)
        except ChildProcessFailure as error:
            if attempt + 1 < ATTEMPTS and rig.ros.count("dropped") > dropped:
                continue
            raise AssertionError(f"live: {live(rig, expected)}\nrecorded: {expected}") from error
        break


def test_the_kinds_differ_in_what_becomes_of_them(tmp_path: Path) -> None:
    outcomes: dict[str, Any] = {kind: from_recording(record(tmp_path / kind, *KINDS[kind])) for kind in KINDS}
    assert outcomes["in step"]["sync.paired"] == 30
    assert outcomes["no stamps"]["rgb.rejected"] == 30
    assert outcomes["truncated"]["aux.rejected"] == 15
    assert outcomes["each image twice"]["sync.color_duplicate"] == 30
    assert outcomes["another clock ahead"]["sync.color_alone"] == 30
