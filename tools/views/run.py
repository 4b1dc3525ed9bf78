"""A run of the real node on a synthetic camera that drives, and all that viewers subscribe to."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core import DEFAULT_MODEL
from ckd_core.data.synthetic import clip
from ckd_core.data.synthetic.camera_path import camera_matrix
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import default_weights
from sdstrack_ros.bags.writer import FRAME_ID, ODOM_FRAME, odom_from_camera
from sdstrack_ros.messages.transforms import RigidTransform

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED, FRAMES, SIZE, FPS = 6, 75, (640, 480), 12.0
NODE = "/tracker"


@dataclass
class Seen:
    """What viewers had received when the last frame had been answered.

    Attributes:
        color: [H, W, 3] RGB, the last camera image.
        depth: [H, W] millimetres.
        matrix: [3, 3] intrinsics of both.
        camera: the last transform from the camera's to the fixed frame.
        messages: by topic, in order of arrival.
    """

    color: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    matrix: NDArray[np.float64]
    camera: RigidTransform
    messages: dict[str, list[Any]] = field(repr=False)


def run() -> Seen:
    """Drive past a person, with the default network and the parameters of follow.launch.py."""
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped, TwistStamped
    from sensor_msgs.msg import CameraInfo, Image
    from tf2_msgs.msg import TFMessage
    from visualization_msgs.msg import MarkerArray

    from testkit.ros.camera import image_message, stamp_of
    from testkit.ros.rig import running_node

    scene = clip(SEED, Modality.DEPTH, FRAMES, SIZE, FPS, movement="drive")
    if scene.space is None:
        raise SystemExit("the clip does not say where its camera was")
    matrix = camera_matrix(*SIZE)
    parameters = {
        "model": DEFAULT_MODEL, "engine": "auto", "autostart": True, "label": "person", "target_frame": ODOM_FRAME,
        "publish_tf": True, "ego_motion": "tf", "init_box": str([float(side) for side in scene.boxes[0]]),
    }  # fmt: skip
    topics = {
        f"{NODE}/overlay": Image, f"{NODE}/markers": MarkerArray, f"{NODE}/target_pose_cov": PoseWithCovarianceStamped,
        f"{NODE}/target_twist": TwistStamped, "/diagnostics": DiagnosticArray, "/tf": TFMessage,
    }  # fmt: skip
    weights = default_weights(DEFAULT_MODEL)
    with tempfile.TemporaryDirectory() as folder, running_node(weights, Path(folder), **parameters) as rig:
        rig.active()
        for topic, kind in topics.items():
            rig.ros.listen(kind, topic)
        frames = rig.ros.publisher(TFMessage, "/tf", 100)
        info = CameraInfo(width=SIZE[0], height=SIZE[1], distortion_model="plumb_bob", d=[0.0] * 5, k=matrix.ravel())
        info.header.frame_id = FRAME_ID
        camera, stamp_ns, due = RigidTransform(), 0, time.monotonic()
        color, depth = np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint16)
        for frame, pose in zip(scene.frames, scene.space.cameras, strict=True):
            stamp_ns, camera = time.time_ns(), odom_from_camera(pose)
            moved = TransformStamped(child_frame_id=FRAME_ID)
            moved.header.frame_id = ODOM_FRAME
            moved.header.stamp.sec, moved.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
            place, turn = moved.transform.translation, moved.transform.rotation
            place.x, place.y, place.z = camera.translation.tolist()
            turn.x, turn.y, turn.z, turn.w = camera.quaternion()
            frames.publish(TFMessage(transforms=[moved]))
            rig.cameras.info.publish(info)
            if frame.rgb is None or frame.aux is None:
                raise SystemExit(f"the clip lacks an image at {frame.stamp} s")
            color, depth = frame.rgb, frame.aux.astype(np.uint16)
            rig.cameras.rgb.publish(image_message(color, "rgb8", stamp_ns))
            rig.cameras.aux.publish(image_message(depth, "16UC1", stamp_ns))
            due += 1 / FPS
            rig.ros.spin(max(due - time.monotonic(), 0.001))
        poses = rig.ros.messages[f"{NODE}/target_pose_cov"]
        rig.until(lambda: bool(poses) and stamp_of(poses[-1]) == stamp_ns, "the pose of the last frame")
        rig.ros.spin(1.5)  # the status of all that
        return Seen(color, depth, matrix, camera, dict(rig.ros.messages.messages))
