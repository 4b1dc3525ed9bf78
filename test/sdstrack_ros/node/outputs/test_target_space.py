"""A target in space, from a node in another process: poses, frames on /tf, markers, predicted boxes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped, TwistStamped
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray
from visualization_msgs.msg import MarkerArray

from ckd_core import DEFAULT_MODEL
from ckd_core.models.checkpoint import default_weights
from sdstrack_ros.messages.camera import PinholeCamera
from sdstrack_ros.messages.transforms import RigidTransform
from sdstrack_ros.node.outputs.transforms import BROADCAST_QOS
from testkit.ros.camera import FOCAL_PX, HEIGHT, NODE, OPTICAL_FRAME, WIDTH, Cameras, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.ros.rig import Rig

pytestmark = pytest.mark.ros
TOPICS = {
    "target_pose": PoseStamped, "target_pose_cov": PoseWithCovarianceStamped, "target_twist": TwistStamped,
    "markers": MarkerArray, "detections_predicted": Detection2DArray,
}  # fmt: skip
CAMERA = PinholeCamera(WIDTH, HEIGHT, FOCAL_PX, FOCAL_PX, WIDTH / 2, HEIGHT / 2)
# The axes of the optical frame in those of odom; as a quaternion of /tf below.
ODOM_FROM_OPTICAL = np.array(((0.0, 0, 1), (-1, 0, 0), (0, -1, 0)))
SPEED = 0.3  # [m/s] of the robot, along odom's x


@pytest.fixture(scope="module")
def node_parameters() -> dict[str, Any]:
    return {
        "autostart": True, "model": DEFAULT_MODEL, "weights": default_weights(DEFAULT_MODEL), "threads": 1,
        "init_box": "[200.0, 180.0, 60.0, 60.0]", "target_frame": "odom", "publish_tf": True, "coast_s": 0.7,
        "publish_predicted": True, "shed_outputs": False, "ego_motion": "tf",
    }  # fmt: skip


@dataclass
class Robot:
    """A robot that drives, with the cameras and its odometry; remembers where the target was."""

    rig: Rig
    begin_ns: int = field(default_factory=time.time_ns)
    quaternion: tuple[float, float, float, float] | None = None
    odometry: bool = True
    true: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)

    def place(self, stamp_ns: int) -> RigidTransform:
        return RigidTransform(ODOM_FROM_OPTICAL, np.array((SPEED * (stamp_ns - self.begin_ns) / 1e9, 0.0, 1.0)))

    def shoot(self, shoot: Any, **options: Any) -> int:
        stamp_ns, cameras = time.time_ns(), self.rig.cameras
        place = self.place(stamp_ns)
        if self.odometry:
            self.rig.ros.publisher(TFMessage, "/tf", BROADCAST_QOS).publish(self.message(stamp_ns, place))
        x, y, w, h = cameras.box(cameras.index)
        ray = np.array((*CAMERA.ray(x + w / 2 - 0.5, y + h / 2 - 0.5), 1.0))
        self.true[stamp_ns] = place.apply(cameras.TARGET_DEPTH_MM / 1000 * ray)
        return int(shoot(stamp_ns=stamp_ns, **options))

    def message(self, stamp_ns: int, place: RigidTransform) -> TFMessage:
        transform = TransformStamped(child_frame_id=OPTICAL_FRAME)
        transform.header.frame_id = "odom"
        transform.header.stamp.sec, transform.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        q, t = transform.transform.rotation, transform.transform.translation
        q.x, q.y, q.z, q.w = self.quaternion or place.quaternion()
        t.x, t.y, t.z = place.translation.tolist()
        return TFMessage(transforms=[transform])


def to_and_fro(index: int) -> tuple[int, int, int, int]:
    """Box of the square in a frame: it never jumps, however many frames a busy machine needs."""
    return 300 - abs(index % 200 - 100), 180, Cameras.TARGET_SIZE, Cameras.TARGET_SIZE


@pytest.fixture(scope="module")
def robot(rig: Rig) -> Iterator[Robot]:
    rig.cameras.box = to_and_fro  # type: ignore[method-assign]
    robot, shoot = Robot(rig), rig.cameras.shoot
    rig.cameras.shoot = lambda **options: robot.shoot(shoot, **options)  # type: ignore[method-assign]
    for name, kind in TOPICS.items():
        rig.ros.listen(kind, f"{NODE}/{name}")
    rig.ros.listen(TFMessage, "/tf", BROADCAST_QOS)
    rig.active()
    rig.calibrate()
    yield robot


def heard(rig: Rig, name: str) -> list[Any]:
    return list(rig.ros.messages[f"{NODE}/{name}"])


def place_of(point: Any) -> np.ndarray[Any, Any]:
    return np.array((point.x, point.y, point.z))


def poses_again(rig: Rig) -> None:
    """Film until poses come again after they had stopped."""
    rig.ros.messages.clear()
    rig.film_until(lambda: len(heard(rig, "target_pose")) > 3, "poses")


def no_poses(rig: Rig, fault: str) -> str:
    """Film until frames are answered without poses and the status names a cause; returns what it says of it.

    Half a second without poses, five frames of it answered: an overloaded node is silent for that long without a cause.
    """

    def silent() -> bool:
        before, answers = len(heard(rig, "target_pose")), len(rig.ros.detections)
        rig.cameras.film(15)
        rig.film_until(lambda: len(rig.ros.detections) >= answers + 5, "answers")
        return len(heard(rig, "target_pose")) == before and bool(rig.fault(fault))

    rig.film_until(silent, f"silence and a fault of {fault}")
    return rig.fault(fault)


def test_the_pose_is_where_the_target_is_in_the_fixed_frame(rig: Rig, robot: Robot) -> None:
    rig.film_until(lambda: len(heard(rig, "target_pose")) > 20, "poses")
    errors = []
    for message in heard(rig, "target_pose")[5:]:
        assert message.header.frame_id == "odom"
        errors.append(np.linalg.norm(place_of(message.pose.position) - robot.true[stamp_of(message)]))
        q = message.pose.orientation
        assert (q.x, q.y, q.z, q.w) == (0.0, 0.0, 0.0, 1.0)
    assert np.sqrt(np.mean(np.square(errors))) < 0.05 * robot.rig.cameras.TARGET_DEPTH_MM / 1000
    assert rig.ros.value("target_frame") == "odom"
    assert rig.ros.value("transforms") in {"tf2", "own buffer (tf2_ros is not installed)"}


def test_covariance_and_twist_belong_to_the_pose(rig: Rig, robot: Robot) -> None:
    by_stamp = {stamp_of(message): message for message in heard(rig, "target_pose")}
    twists = {stamp_of(message): message for message in heard(rig, "target_twist")}
    compared = 0
    for message in heard(rig, "target_pose_cov"):
        pose = by_stamp.get(stamp_of(message))
        if pose is None or stamp_of(message) not in twists:
            continue
        assert message.pose.pose == pose.pose
        covariance = np.array(message.pose.covariance).reshape(6, 6)
        np.testing.assert_allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance[:3, :3])[0] > 0
        assert covariance[3, 3] > 9, "the orientation of a point is not known"
        twist = twists[stamp_of(message)]
        assert twist.header.frame_id == "odom"
        assert np.all(np.isfinite(place_of(twist.twist.linear)))
        compared += 1
    assert compared > 10


def test_the_target_has_frames_on_tf(rig: Rig, robot: Robot) -> None:
    ours = [
        transform
        for message in rig.ros.messages["/tf"]
        for transform in message.transforms
        if transform.child_frame_id.startswith("target")
    ]
    assert {transform.child_frame_id for transform in ours} == {"target", "target_1"}
    poses = {stamp_of(message): message for message in heard(rig, "target_pose")}
    shared = [transform for transform in ours if stamp_of(transform) in poses]
    assert len(shared) > 20
    for transform in shared:
        assert transform.header.frame_id == "odom"
        pose = poses[stamp_of(transform)].pose
        np.testing.assert_allclose(place_of(transform.transform.translation), place_of(pose.position))
        assert transform.transform.rotation.w == 1.0


def test_markers_show_the_course_and_the_track(rig: Rig, robot: Robot) -> None:
    def shown() -> set[str]:
        return {marker.ns for message in heard(rig, "markers") for marker in message.markers}

    rig.film_until(lambda: {"velocity", "track"} <= shown(), "markers of the course and the track")
    line = [marker for message in heard(rig, "markers") for marker in message.markers if marker.ns == "track"][-1]
    assert line.header.frame_id == "odom"
    assert len(line.points) > 1


def test_predicted_boxes_are_of_the_time_at_which_they_are_published(rig: Rig, robot: Robot) -> None:
    rig.ros.messages.clear()
    rig.film_until(lambda: any(message.detections for message in heard(rig, "detections_predicted")), "a prediction")
    message = next(message for message in heard(rig, "detections_predicted") if message.detections)
    now_ns = time.time_ns()
    assert min(robot.true) < stamp_of(message) < now_ns
    assert stamp_of(message) not in robot.true, "not of a frame"
    (detection,) = message.detections
    assert detection.id == "1"
    assert detection.header == message.header


def test_depth_of_zeros_gives_no_pose_after_coasting_and_a_ray_instead(rig: Rig, robot: Robot) -> None:
    cameras = rig.cameras
    cameras.TARGET_DEPTH_MM = cameras.GROUND_DEPTH_MM = 0
    try:
        assert "too few valid readings" in no_poses(rig, "target depth")
        rig.ros.messages.clear()

        def rays() -> list[Any]:
            return [m for message in heard(rig, "markers") for m in message.markers if m.ns == "ray"]

        rig.film_until(lambda: bool(rays()), "a ray in place of the poses")
        assert rays()[-1].header.frame_id == OPTICAL_FRAME
        assert len(rays()[-1].points) == 2
        assert not heard(rig, "target_pose")
    finally:
        cameras.TARGET_DEPTH_MM, cameras.GROUND_DEPTH_MM = Cameras.TARGET_DEPTH_MM, Cameras.GROUND_DEPTH_MM
    poses_again(rig)


def test_odometry_that_stops_ends_the_poses_and_says_until_when_it_is_known(rig: Rig, robot: Robot) -> None:
    robot.odometry = False
    assert "known only until" in no_poses(rig, "target pose")
    robot.odometry = True
    poses_again(rig)


def test_a_transform_that_is_no_rotation_is_refused_by_name(rig: Rig, robot: Robot) -> None:
    robot.quaternion = (0.5, 0.5, 0.5, 0.9)
    assert "expected finite numbers and a rotation" in no_poses(rig, "tf")
    robot.quaternion = None
    poses_again(rig)


def test_a_calibration_of_another_image_gives_no_poses(rig: Rig, robot: Robot) -> None:
    wrong = CameraInfo(width=WIDTH, height=2 * HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5)
    wrong.header.frame_id = OPTICAL_FRAME
    wrong.k = [FOCAL_PX, 0.0, WIDTH / 2, 0.0, FOCAL_PX, HEIGHT, 0.0, 0.0, 1.0]
    rig.calibrate(wrong)
    assert "expected the same shape" in no_poses(rig, "camera_info")
    rig.calibrate()
    poses_again(rig)


def test_in_the_cameras_own_frame_no_transform_is_needed(rig: Rig, robot: Robot) -> None:
    robot.odometry = False
    refused = rig.ros.set_parameters(target_frame="")
    assert not refused.successful
    assert "ego_motion 'tf' needs target_frame" in refused.reason
    assert rig.ros.set_parameters(target_frame=OPTICAL_FRAME).successful
    poses_again(rig)
    assert {message.header.frame_id for message in heard(rig, "target_pose")[1:]} == {OPTICAL_FRAME}
    assert rig.process.interrupt() == 0
    assert "Traceback" not in rig.process.output
