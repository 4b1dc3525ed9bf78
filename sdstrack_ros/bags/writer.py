"""Write frames as a rosbag2 recording: colour, auxiliary image, camera_info and true box, one message each per frame.

Raw events are written as packets, several per frame, as an event camera's driver sends them.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.bags.storage.opening import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    DETECTIONS,
    EVENT_PACKET,
    IMAGE,
    POSE,
    TF,
    BagError,
    typestore,
)
from sdstrack_ros.messages.compressed_image import DEPTH_HEADER_BYTES
from sdstrack_ros.messages.event_encoder import ENCODING, encode_evt3
from sdstrack_ros.messages.image_codec import encode
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.messages.transforms import RigidTransform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ckd_core.data.synthetic.camera_path import CameraPose, SpaceTruth
    from ckd_core.modality import Events

RGB_TOPIC = "/camera/color/image_raw"
INFO_TOPIC = "/camera/color/camera_info"
AUX_TOPICS = {
    Modality.DEPTH: "/camera/aligned_depth_to_color/image_raw",
    Modality.THERMAL: "/thermal/image_raw",
    Modality.EVENT: "/event_camera/image_raw",
}
EVENTS_TOPIC = "/event_camera/events"
TRUTH_TOPIC = "/ground_truth"
TRUE_POSE_TOPIC = "/ground_truth_pose"
TF_TOPIC = "/tf"
ODOM_FRAME = "odom"
FRAME_ID = "camera_color_optical_frame"
FIRST_STAMP_S = 1_700_000_000  # added to stamps that count from 0, because ROS takes a stamp of 0 for "not set"
STORAGES = ("mcap", "sqlite3")
COMPRESSIONS = ("none", "zstd")
# Axes of the optical frame (x right, y down, z ahead) in those of the fixed one (x ahead, y left, z up); REP 103.
_ODOM_FROM_OPTICAL = np.array(((0.0, 0, 1), (-1, 0, 0), (0, -1, 0)))
PACKET_S = 0.008  # drivers send the events of a few milliseconds together


def write_bag(
    path: Path | str,
    frames: Iterable[MultiModalFrame],
    boxes: Iterable[BoundingBox | None] = (),
    *,
    events: Iterable[Events] = (),
    event_images: bool = False,
    space: SpaceTruth | None = None,
    storage: str = "mcap",
    compression: str = "none",
    images: str = "raw",
    camera_matrix: NDArray[np.float64] | None = None,
    label: str = "target",
    first_stamp_s: float = FIRST_STAMP_S,
) -> Path:
    """Write a new recording. It appears complete or not at all.

    Args:
        path: folder of the recording; it must not exist.
        frames: their stamps (seconds, ascending) count from `first_stamp_s`; either image may be missing.
        boxes: true box of each frame in colour pixels, None where the object is absent; frames beyond its end get no
            message.
        events: for the event modality, the raw events between each frame and the one before it, on the clock of the
            frames' stamps. They are written as packets, and the event images of these frames only with `event_images`.
        event_images: see `events`.
        space: where the camera and the target are, frame by frame: written as /tf from `odom` to the camera, and as the
            target's true pose in `odom` (REP 103: x ahead, y to the left, z up).
        storage: mcap or sqlite3.
        compression: none or zstd (by chunk in mcap, by message in sqlite3).
        images: raw, or png (CompressedImage on topics ending in /compressed, depth /compressedDepth; lossless).
        camera_matrix: 3x3 intrinsics for camera_info; None stands for a 60 degree camera with a central axis.
        label: class_id of the true boxes.
        first_stamp_s: stamp of a frame at 0 s.

    Returns:
        The recording's folder.

    Raises:
        BagError: the path exists, an option is unknown, there are no frames, stamps do not ascend, an image fits no
            message, or the disk cannot take it.
    """
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    path = Path(path)
    for name, value, known in (
        ("storage", storage, STORAGES), ("compression", compression, COMPRESSIONS), ("images", images, ("raw", "png")),
    ):  # fmt: skip
        if value not in known:
            raise BagError(f"unknown {name} '{value}'; expected {' or '.join(known)}")
    if path.exists():
        raise BagError(f"{path} already exists; recordings are not overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    # rosbags names the storage file after its folder, so the temporary folder holds one with the final name.
    staging = path.parent / f".{path.name}.{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        writer = Writer(staging / path.name, version=9, storage_plugin=plugin)
        if compression == "zstd":
            mode = CompressionMode.STORAGE if storage == "mcap" else CompressionMode.MESSAGE
            writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            recorder = _Recorder(writer, images == "png", camera_matrix, label, first_stamp_s)
            recorder.write_all(frames, boxes, events, event_images, space)
        (staging / path.name).rename(path)
    except (OSError, sqlite3.Error) as error:
        raise BagError(f"{path} cannot be written: {error}; nothing was kept") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return path


def odom_from_camera(camera: CameraPose) -> RigidTransform:
    """The transform of coordinates in the camera's optical frame to those in `odom`."""
    return RigidTransform(_ODOM_FROM_OPTICAL @ camera.rotation().T, _ODOM_FROM_OPTICAL @ camera.position)


class _Recorder:
    """Turns frames into messages of an open rosbags writer."""

    def __init__(
        self, writer: Any, png: bool, camera_matrix: NDArray[np.float64] | None, label: str, first_stamp_s: float
    ) -> None:
        self._writer = writer
        self._png = png
        self._camera_matrix = camera_matrix
        self._label = label
        self._first_ns = round(first_stamp_s * NS_PER_S)
        self._connections: dict[str, Any] = {}
        self._packets = 0
        self._events_begin_s: float | None = None

    def write_all(
        self,
        frames: Iterable[MultiModalFrame],
        boxes: Iterable[BoundingBox | None],
        events: Iterable[Events],
        event_images: bool,
        space: SpaceTruth | None,
    ) -> None:
        remaining_boxes, remaining_events = iter(boxes), iter(events)
        last_ns = -1
        for index, frame in enumerate(frames):
            stamp_ns = self._first_ns + round(frame.stamp * NS_PER_S)
            if stamp_ns <= last_ns:
                raise BagError(f"the frame at {frame.stamp} s is not later than the one before it; stamps must ascend")
            last_ns = stamp_ns
            if space is not None:
                self._camera(stamp_ns, space.cameras[index])
            burst = next(remaining_events, None) if frame.modality is Modality.EVENT else None
            if burst is not None:
                self._events(burst, frame)
            if frame.rgb is not None:
                self._image(RGB_TOPIC, stamp_ns, np.asarray(frame.rgb), "rgb8")
                self._info(stamp_ns, frame.rgb.shape[1], frame.rgb.shape[0])
            if frame.aux is not None and (burst is None or event_images):
                self._image(AUX_TOPICS[frame.modality], stamp_ns, frame.aux, _aux_encoding(frame))
            try:
                box = next(remaining_boxes)
            except StopIteration:
                continue
            self._truth(stamp_ns, box)
            if space is not None and box is not None:
                self._true_pose(stamp_ns, space.positions[index])
        if last_ns < 0:
            raise BagError("no frames to write")

    def _write(self, topic: str, type_name: str, stamp_ns: int, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, type_name, typestore=typestore())
        data = typestore().serialize_cdr(message, type_name)
        self._writer.write(self._connections[topic], stamp_ns, bytes(data))

    def _header(self, stamp_ns: int, frame_id: str = FRAME_ID) -> Any:
        types = typestore().types
        stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, NS_PER_S))
        return types["std_msgs/msg/Header"](stamp, frame_id)

    def _camera(self, stamp_ns: int, camera: CameraPose) -> None:
        """Write where the camera is, as /tf."""
        types, mounting = typestore().types, odom_from_camera(camera)
        place = types["geometry_msgs/msg/Vector3"](*mounting.translation.tolist())
        turn = types["geometry_msgs/msg/Quaternion"](*mounting.quaternion())
        transform = types["geometry_msgs/msg/TransformStamped"](
            self._header(stamp_ns, ODOM_FRAME), FRAME_ID, types["geometry_msgs/msg/Transform"](place, turn)
        )
        self._write(TF_TOPIC, TF, stamp_ns, types[TF]([transform]))

    def _true_pose(self, stamp_ns: int, position: NDArray[np.float64]) -> None:
        types = typestore().types
        place = types["geometry_msgs/msg/Point"](*(_ODOM_FROM_OPTICAL @ position).tolist())
        upright = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        pose = types["geometry_msgs/msg/Pose"](place, upright)
        self._write(TRUE_POSE_TOPIC, POSE, stamp_ns, types[POSE](self._header(stamp_ns, ODOM_FRAME), pose))

    def _image(self, topic: str, stamp_ns: int, pixels: NDArray[Any], encoding: str) -> None:
        types, header = typestore().types, self._header(stamp_ns)
        if not self._png:
            raw: Any = encode(pixels, encoding, SimpleNamespace())
            data = np.frombuffer(raw.data, np.uint8)
            message = types[IMAGE](header, raw.height, raw.width, encoding, raw.is_bigendian, raw.step, data)
            self._write(topic, IMAGE, stamp_ns, message)
            return
        if pixels.dtype == np.float32:
            raise BagError("32FC1 depth cannot be written as png; use images='raw'")
        bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        _, png = cv2.imencode(".png", np.ascontiguousarray(bgr))
        data, form, transport = png.ravel(), f"{encoding}; png compressed", "compressed"
        if pixels.ndim == 3:
            form += " bgr8"
        elif encoding == "16UC1":  # depth has a transport of its own; its header matters for 32FC1 alone
            data = np.append(np.zeros(DEPTH_HEADER_BYTES, np.uint8), data)
            form, transport = "16UC1; compressedDepth png", "compressedDepth"
        self._write(f"{topic}/{transport}", COMPRESSED_IMAGE, stamp_ns, types[COMPRESSED_IMAGE](header, form, data))

    def _events(self, events: Events, frame: MultiModalFrame) -> None:
        """Write the events as packets of `PACKET_S`, each stamped with its last event's time."""
        if not len(events.t):
            return
        image = frame.aux if frame.aux is not None else frame.rgb
        if image is None:
            raise BagError(f"the frame at {frame.stamp} s has events but no image that gives the sensor's size")
        if self._events_begin_s is None:
            self._events_begin_s = float(events.t[0])
        packets = int((events.t[-1] - events.t[0]) / PACKET_S) + 1
        starts = np.searchsorted(events.t, events.t[0] + PACKET_S * np.arange(packets)).tolist()
        packet_type = typestore().types[EVENT_PACKET]
        for begin, end in zip(starts, [*starts[1:], len(events.t)], strict=True):
            if begin == end:
                continue
            part = type(events)(events.x[begin:end], events.y[begin:end], events.t[begin:end], events.p[begin:end])
            stamp_ns = self._first_ns + round(float(part.t[-1]) * NS_PER_S)
            data = encode_evt3(part, self._events_begin_s)
            height, width = image.shape[:2]
            packet = packet_type(self._header(stamp_ns), height, width, self._packets, 0, ENCODING, False, data)
            self._write(EVENTS_TOPIC, EVENT_PACKET, stamp_ns, packet)
            self._packets += 1

    def _info(self, stamp_ns: int, width: int, height: int) -> None:
        types = typestore().types
        k = self._camera_matrix
        if k is None:
            focal = width / (2 * np.tan(np.pi / 6))
            k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        p = np.hstack([k, np.zeros((3, 1))])
        roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        message = types[CAMERA_INFO](
            self._header(stamp_ns), height, width, "plumb_bob", np.zeros(5), k.astype(np.float64).ravel(),
            np.eye(3).ravel(), p.astype(np.float64).ravel(), 0, 0, roi,
        )  # fmt: skip
        self._write(INFO_TOPIC, CAMERA_INFO, stamp_ns, message)

    def _truth(self, stamp_ns: int, box: BoundingBox | None) -> None:
        types, header = typestore().types, self._header(stamp_ns)
        detections = []
        if box is not None and box.is_finite():
            vision = {name.rsplit("/", 1)[1]: kind for name, kind in types.items() if name.startswith("vision_msgs/")}
            zero = types["geometry_msgs/msg/Point"](0.0, 0.0, 0.0)
            upright = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
            pose = types["geometry_msgs/msg/PoseWithCovariance"](
                types["geometry_msgs/msg/Pose"](zero, upright), np.zeros(36)
            )
            result = vision["ObjectHypothesisWithPose"](vision["ObjectHypothesis"](self._label, 1.0), pose)
            center = vision["Pose2D"](vision["Point2D"](*map(float, box.center)), 0.0)
            bounds = vision["BoundingBox2D"](center, float(box.w), float(box.h))
            detections.append(vision["Detection2D"](header, [result], bounds, "1"))
        self._write(TRUTH_TOPIC, DETECTIONS, stamp_ns, types[DETECTIONS](header, detections))


def _aux_encoding(frame: MultiModalFrame) -> str:
    pixels = np.asarray(frame.aux)
    if pixels.ndim == 3 and pixels.dtype == np.uint8:
        return "rgb8"
    kinds = {"uint8": "mono8", "uint16": "16UC1" if frame.modality is Modality.DEPTH else "mono16", "float32": "32FC1"}
    if pixels.ndim != 2 or str(pixels.dtype) not in kinds:
        raise BagError(f"no image message can carry a {frame.modality.value} image of {pixels.dtype} {pixels.shape}")
    return kinds[str(pixels.dtype)]
