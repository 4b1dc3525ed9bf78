"""What the tracking thread makes of targets in space, without topics: outputs that keep what they are given."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ckd_core.frame import Modality
from ckd_core.tracking.result import TrackState
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.messages.transforms import RigidTransform, TransformError
from sdstrack_ros.node.faults import FaultLog
from sdstrack_ros.node.outputs.detections import FrameOutput
from sdstrack_ros.node.outputs.target_outputs import TargetOutputs
from sdstrack_ros.node.outputs.target_space import TargetSpace
from sdstrack_ros.parameters.table import Settings
from testkit.frame_results import (
    BOX,
    CAMERA,
    STAMP_NS,
    depth_frame,
    depth_scene,
    frame_result,
    frame_result_of,
    target_result,
)

PERIOD_NS = NS_PER_S // 15


class Outputs:
    """Keeps poses and predicted boxes."""

    def __init__(self) -> None:
        self.poses: list[Any] = []
        self.predicted: list[Any] = []
        self.targets = SimpleNamespace(publish=lambda poses, oldest: self.poses.append((poses, oldest)))
        self.publish_predicted = self.predicted.append


class Transforms:
    """The camera stands 10 m ahead of odom's origin, with its axes."""

    def __init__(self, available: bool = True, known: bool = True) -> None:
        self.available, self.known = available, known
        self.source = "tf2" if available else "none"

    def lookup(self, target: str, source: str, stamp_ns: int | None) -> RigidTransform:
        if not self.known:
            raise TransformError("'optical' in 'odom' is known only until 9.000 s before that time")
        return RigidTransform(np.eye(3), np.array((0.0, 0.0, 10.0)))


class Rig:
    """A target space, and frames for it."""

    def __init__(self, transforms: Transforms | None = None, **settings: Any) -> None:
        self.outputs, self.faults = Outputs(), FaultLog(lambda _: None)
        self.settings = replace(Settings(target_frame="odom"), **settings)
        self.space = TargetSpace(self.outputs, transforms or Transforms(), self.faults)  # type: ignore[arg-type]
        self.index = -1

    def frame(self, state: TrackState = TrackState.TRACKING, depth: bool = True, moved: float = 0.0) -> FrameOutput:
        self.index += 1
        stamp_ns = STAMP_NS + self.index * PERIOD_NS
        result = frame_result(state, box=BOX._replace(x=BOX.x + moved))
        images = replace(depth_frame(), stamp=stamp_ns / NS_PER_S, aux=depth_scene() if depth else None)
        result.source.stamp_ns = stamp_ns
        targets = tuple(
            replace(target, track=replace(target.track, stamp=stamp_ns / NS_PER_S)) for target in result.targets
        )
        return FrameOutput.of(replace(result, images=images, targets=targets))

    def serve(self, output: FrameOutput, camera: Any = CAMERA) -> list[Any]:
        return self.space.serve(output, self.settings, camera, markers=True)

    @property
    def last(self) -> Any:
        """Poses of the newest frame."""
        return self.outputs.poses[-1][0]

    def fault(self, cause: str) -> str:
        return next((fault.message for fault in self.faults.faults() if fault.cause == cause), "")


def test_a_pose_is_the_middle_of_the_box_at_its_depth_in_the_fixed_frame() -> None:
    rig = Rig()
    rig.serve(rig.frame())
    (pose,) = rig.last
    x, y = (BOX.x + BOX.w / 2 - 320) / 500 * 1.5, (BOX.y + BOX.h / 2 - 240) / 500 * 1.5
    np.testing.assert_allclose(pose.estimate.position, (x, y, 11.5), atol=0.02)
    assert (pose.frame_id, pose.stamp_ns) == ("odom", STAMP_NS)
    assert rig.outputs.poses[-1][1] == pose.number, "it is the oldest target"


def test_a_frame_that_comes_twice_counts_once_and_one_from_the_past_begins_anew() -> None:
    rig = Rig()
    first = rig.frame()
    rig.serve(first)
    assert rig.serve(first) == []
    assert len(rig.outputs.poses) == 1
    rig.serve(rig.frame())
    rig.index = -10
    rig.serve(rig.frame())
    assert rig.last, "measured anew"


def test_a_ray_stands_where_there_is_no_distance() -> None:
    rig = Rig()
    (ray,) = rig.serve(rig.frame(depth=False))
    assert (ray.ns, ray.header.frame_id) == ("ray", "optical")
    start, end = ray.points
    assert (start.x, start.y, start.z) == (0, 0, 0)
    center = BOX.center[0] - 0.5, BOX.center[1] - 0.5  # the half pixel between box and camera
    assert (end.x / end.z * 500 + 320, end.y / end.z * 500 + 240) == pytest.approx(center)
    thermal = rig.frame(depth=False)
    images = replace(thermal.result.images, modality=Modality.THERMAL, aux=np.zeros((480, 640), np.uint8))
    (ray,) = rig.serve(replace(thermal, result=replace(thermal.result, images=images)))
    assert ray.ns == "ray"
    assert not rig.last


def test_without_transforms_poses_stay_in_the_cameras_frame_and_the_status_says_so() -> None:
    rig = Rig(Transforms(available=False, known=False))
    rig.serve(rig.frame())
    (pose,) = rig.last
    assert pose.frame_id == "optical"
    assert "poses stay in the camera's frame 'optical'" in rig.fault("target_frame")
    assert rig.space.facts(rig.settings)["target_frame"] == "optical"


def test_a_transform_that_is_not_known_gives_no_pose_and_the_reason() -> None:
    rig = Rig(Transforms(known=False))
    for _ in range(12):
        rig.serve(rig.frame())
    assert not rig.last
    assert "known only until" in rig.fault("target pose")


def test_a_calibration_of_another_shape_gives_no_pose() -> None:
    rig = Rig()
    assert rig.serve(rig.frame(), replace(CAMERA, height=960)) == []
    assert not rig.last
    assert "it is of a 640 x 960 image, but images have 640 x 480" in rig.fault("camera_info")


@pytest.mark.parametrize("state", [TrackState.UNCERTAIN, TrackState.LOST])
def test_an_unsure_target_is_predicted_for_a_while(state: TrackState) -> None:
    rig = Rig(coast_s=0.5)
    for _ in range(5):
        rig.serve(rig.frame())
    found = []
    for _ in range(12):
        rig.serve(rig.frame(state))
        found.append(bool(rig.last))
    assert found == [True] * 7 + [False] * 5, "half a second at 15 Hz"


def test_poses_can_be_switched_off() -> None:
    rig = Rig(publish_pose=False)
    rig.serve(rig.frame())
    assert not rig.outputs.poses


def test_predicted_boxes_have_moved_on_to_the_present() -> None:
    rig = Rig()
    for step in range(5):
        output = rig.frame(moved=6.0 * step)
        now_ns = output.result.source.stamp_ns + PERIOD_NS
        rig.space.predict(output, now_ns)
    (detection,) = rig.outputs.predicted[-1].detections
    assert detection.bbox.center.position.x == pytest.approx(BOX.center[0] + 30, abs=0.5)
    stamp = rig.outputs.predicted[-1].header.stamp
    assert stamp.sec * NS_PER_S + stamp.nanosec == now_ns
    late = rig.frame()
    rig.space.predict(late, late.result.source.stamp_ns + 3 * NS_PER_S)
    assert not rig.outputs.predicted[-1].detections
    assert "the frame is 3.000 s old; expected 0 to 0.5 s" in rig.fault("prediction")


def test_two_targets_have_a_frame_each_and_the_oldest_has_the_topics() -> None:
    rig, node = Rig(), Node()
    first, second = target_result(target_id="anna", number=4), target_result(target_id="b/7", number=9)
    result = frame_result_of(first, second)
    rig.serve(FrameOutput.of(replace(result, images=replace(depth_frame(), aux=depth_scene()))))
    poses, oldest = rig.outputs.poses[-1]
    outputs = TargetOutputs(node, Settings(publish_tf=True), 10)  # type: ignore[arg-type]  # it only has publishers
    outputs.publish(poses, oldest)
    outputs.publish(poses[1:], oldest)
    (both, alone) = node.sent["/tf"]
    assert [frame.child_frame_id for frame in both.transforms] == ["target_anna", "target_b_7", "target"]
    assert [frame.child_frame_id for frame in alone.transforms] == ["target_b_7"]
    assert len(node.sent["~/target_pose"]) == len(node.sent["~/target_twist"]) == 1, "silent, not of another target"
    outputs.destroy()
    assert not node.sent


def test_without_tf2_msgs_the_frames_are_missed_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
    outputs = TargetOutputs(Node(), Settings(publish_tf=True), 10)  # type: ignore[arg-type]
    assert outputs.tf_refusal == "publish_tf needs tf2_msgs (apt: ros-$ROS_DISTRO-tf2-msgs)"
    outputs.publish((), None)


class Node:
    """Hands out publishers, and keeps what they send by topic."""

    def __init__(self) -> None:
        self.sent: dict[str, list[Any]] = {}

    def create_lifecycle_publisher(self, _: type, topic: str, __: object) -> Any:
        self.sent[topic] = []
        return SimpleNamespace(topic=topic, publish=self.sent[topic].append)

    def destroy_lifecycle_publisher(self, publisher: Any) -> None:
        del self.sent[publisher.topic]
