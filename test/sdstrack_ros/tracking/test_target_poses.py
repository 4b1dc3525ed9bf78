from __future__ import annotations

import math

import numpy as np
import pytest

from ckd_core.tracking.result import TrackState
from sdstrack_ros.messages.metric_box import MetricPoint
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.messages.transforms import RigidTransform, TransformError
from sdstrack_ros.tracking.target_poses import SightedTarget, TargetPose, TargetPoses

CAMERA, ODOM = "camera", "odom"
STILL = np.array((3.0, 1.0, 0.5))  # a target in the fixed frame
PERIOD_NS = NS_PER_S // 15
BEGIN_NS = 1_700_000_000 * NS_PER_S
NOISE = 1e-4 * np.eye(3)


def camera_at(stamp_ns: int) -> RigidTransform:
    """A camera that drives forward at 1 m/s and turns at 30 degrees a second: its coordinates to the fixed frame's."""
    seconds = (stamp_ns - BEGIN_NS) / NS_PER_S
    angle = math.radians(30) * seconds
    c, s = math.cos(angle), math.sin(angle)
    return RigidTransform(np.array(((c, -s, 0), (s, c, 0), (0, 0, 1.0))), np.array((seconds, 0, 0)))


class Odometry:
    """Knows the camera's place up to `known_ns`."""

    def __init__(self, known_ns: int | None = None, drift: float = 0.0) -> None:
        self.known_ns, self.drift = known_ns, drift

    def lookup(self, target: str, source: str, stamp_ns: int) -> RigidTransform:
        assert (target, source) == (ODOM, CAMERA)
        if self.known_ns is not None and stamp_ns > self.known_ns:
            raise TransformError("'camera' in 'odom' is known only until 0.100 s before that time")
        moved = camera_at(stamp_ns)
        return RigidTransform(moved.rotation, moved.translation + self.drift)


def sighted(stamp_ns: int, state: TrackState = TrackState.TRACKING, number: int = 1, depth: bool = True):
    point = MetricPoint(camera_at(stamp_ns).inverse().apply(STILL), NOISE) if depth else None
    return SightedTarget(number, str(number), state, point)


def run(poses: TargetPoses, frames: range, frame: str = ODOM, **options) -> list[tuple[TargetPose, ...]]:
    stamps = [BEGIN_NS + PERIOD_NS * index for index in frames]
    return [poses.update(stamp, CAMERA, [sighted(stamp, **options)], frame, 1.0) for stamp in stamps]


def test_a_still_target_stands_still_in_the_fixed_frame_whatever_the_camera_does() -> None:
    complaints: list[str] = []
    (pose,) = run(TargetPoses(Odometry().lookup, complaints.append), range(30))[-1]
    assert (pose.frame_id, pose.target_id, pose.number) == (ODOM, "1", 1)
    np.testing.assert_allclose(pose.estimate.position, STILL, atol=1e-3)
    np.testing.assert_allclose(pose.estimate.velocity, 0, atol=0.01)
    assert not complaints


def test_without_a_fixed_frame_it_moves_as_the_camera_sees_it() -> None:
    (pose,) = run(TargetPoses(pytest.fail, pytest.fail), range(30), frame="")[-1]
    assert pose.frame_id == CAMERA
    before, after = (camera_at(BEGIN_NS + PERIOD_NS * index).inverse().apply(STILL) for index in (28, 29))
    np.testing.assert_allclose(pose.estimate.velocity, (after - before) * 15, atol=0.35)
    assert np.linalg.norm(pose.estimate.velocity) > 0.5


def test_a_transform_that_comes_late_is_waited_for() -> None:
    complaints: list[str] = []
    odometry = Odometry()
    poses = TargetPoses(odometry.lookup, complaints.append)
    for index in range(30):
        stamp = BEGIN_NS + PERIOD_NS * index
        odometry.known_ns = stamp - 2 * PERIOD_NS
        found = poses.update(stamp, CAMERA, [sighted(stamp)], ODOM, 1.0)
    assert not complaints
    (pose,) = found
    assert pose.stamp_ns - round(pose.estimate.measured * NS_PER_S) == pytest.approx(2 * PERIOD_NS, abs=1000)
    np.testing.assert_allclose(pose.estimate.position, STILL, atol=2e-3)


def test_a_transform_that_never_comes_leaves_no_pose_and_says_why() -> None:
    complaints: list[str] = []
    found = run(TargetPoses(Odometry(known_ns=0).lookup, complaints.append), range(30))
    assert not any(found)
    assert complaints
    assert "known only until" in complaints[0]


def test_a_jump_of_the_fixed_frame_begins_anew_within_three_frames() -> None:
    odometry = Odometry()
    poses = TargetPoses(odometry.lookup, pytest.fail)
    run(poses, range(15))
    odometry.drift = 2.0
    (pose,) = run(poses, range(15, 18))[-1]
    np.testing.assert_allclose(pose.estimate.position, STILL + 2.0, atol=1e-3)
    assert poses.restarts == 1


@pytest.mark.parametrize("state", [TrackState.UNCERTAIN, TrackState.LOST])
def test_it_coasts_with_growing_doubt_and_not_for_ever(state: TrackState) -> None:
    poses = TargetPoses(Odometry().lookup, pytest.fail)
    (before,) = run(poses, range(15))[-1]
    found = run(poses, range(15, 40), state=state)
    (after,) = found[5]
    assert after.state is state
    assert np.trace(after.estimate.covariance[:3, :3]) > 2 * np.trace(before.estimate.covariance[:3, :3])
    assert not found[-1], "after more than a second"


def test_depth_that_says_nothing_is_no_measurement() -> None:
    assert not any(run(TargetPoses(Odometry().lookup, pytest.fail), range(5), depth=False))


def test_every_target_has_its_own_filter_which_goes_with_it() -> None:
    poses = TargetPoses(Odometry().lookup, pytest.fail)
    stamps = [BEGIN_NS + PERIOD_NS * index for index in range(3)]
    both = poses.update(stamps[0], CAMERA, [sighted(stamps[0]), sighted(stamps[0], number=2)], ODOM, 1.0)
    assert [pose.target_id for pose in both] == ["1", "2"]
    run(poses, range(1, 2))
    lost = poses.update(stamps[2], CAMERA, [sighted(stamps[2], TrackState.LOST, 2)], ODOM, 1.0)
    assert not lost, "a target that was gone begins without a past"
