"""Targets in space over a recording: its transforms, its true poses, and how far the node's poses are from them."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.tracking.result import TrackState
from ckd_core.tracking.witnesses.box_depth import target_depth
from sdstrack_ros.bags.scoring import INIT
from sdstrack_ros.bags.storage.opening import CAMERA_INFO, POSE, TF
from sdstrack_ros.bags.truth import TRUTH_TOLERANCE_NS, EvaluationError
from sdstrack_ros.messages.camera import CameraError, PinholeCamera
from sdstrack_ros.messages.metric_box import metric_point
from sdstrack_ros.messages.stamps import NS_PER_S, stamp_of
from sdstrack_ros.messages.transforms import TransformError, TransformTree
from sdstrack_ros.tracking.target_poses import SightedTarget, TargetPoses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sdstrack_ros.bags.frames import BagFrame
    from sdstrack_ros.bags.scoring import FrameRow
    from sdstrack_ros.bags.storage.opening import Bag
    from sdstrack_ros.messages.metric_box import MetricPoint
    from sdstrack_ros.parameters.table import Settings
    from sdstrack_ros.tracking.target_poses import TargetPose

ALL_S = 1e9  # a recording's transforms are kept whole
INSIDE_95 = 7.815  # squared Mahalanobis distance, chi-square with 3 degrees of freedom
SETTLED_NS = NS_PER_S  # a filter has to know a velocity a second after it began
# The true velocity is the slope of the true places around a moment: limbs swing within this, a body goes on.
SLOPE_NS = NS_PER_S // 2
MIN_SLOPE_S = 0.8
KNOWN_VELOCITY = 0.2  # [m/s] of error


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSpace:
    """What a recording knows of space.

    Attributes:
        camera: the colour camera's calibration.
        camera_frame: frame of the images; '' when the calibration names none.
        transforms: all of them.
        frame_id: frame of the true poses.
        true_poses: [3] m by stamp [ns].
    """

    camera: PinholeCamera
    camera_frame: str
    transforms: TransformTree
    frame_id: str
    true_poses: dict[int, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class PoseSummary:
    """How far poses are from the truth, over the frames that have both.

    Attributes:
        frames: their number.
        missing: frames with a true pose and a target that was tracked, but without a pose.
        rms_m: root of the mean squared distance [m].
        rms_share: the same, each distance as a share of the camera's distance from the target.
        rms_deg: the same of the angle between both as the camera sees them [degrees].
        inside_95: share of true places inside the ellipse that the node takes for 95 %.
        coasting_rms_m: as `rms_m`, over the frames in which the target was not measured; nan without any.
        velocity_rms: root of the mean squared error of the velocity [m/s], over the measured frames from a second after
            the filter began; nan without any.
        velocity_known: share of these with an error below `KNOWN_VELOCITY`; nan without any.
    """

    frames: int
    missing: int
    rms_m: float
    rms_share: float
    rms_deg: float
    inside_95: float
    coasting_rms_m: float
    velocity_rms: float
    velocity_known: float


def read_space(bag: Bag) -> RecordedSpace | None:
    """Read calibration, transforms and true poses; None unless there is one topic of true poses and a calibration.

    Raises:
        BagError: the recording is damaged.
        EvaluationError: the true poses are in several frames.
    """
    poses = [topic.name for topic in bag.topics if topic.type_name == POSE and "truth" in topic.name]
    infos = [topic.name for topic in bag.topics if topic.type_name == CAMERA_INFO]
    if len(poses) != 1 or not infos:
        return None
    camera = _first_camera(bag, infos[0])
    if camera is None:
        return None
    tree = TransformTree(ALL_S)
    for message in bag.messages([topic.name for topic in bag.topics if topic.type_name == TF]):
        for transform in bag.decode(message).transforms:
            try:
                tree.add(transform, message.time_ns, fixed=message.topic.endswith("/tf_static"))
            except TransformError:
                continue  # as the node does: what is no transform leaves a gap, which the lookup reports
    frames: set[str] = set()
    true: dict[int, NDArray[np.float64]] = {}
    for message in bag.messages(poses):
        pose = bag.decode(message)
        frames.add(str(pose.header.frame_id))
        place = pose.pose.position
        true[stamp_of(pose)] = np.array((place.x, place.y, place.z), dtype=np.float64)
    if len(frames) != 1:
        raise EvaluationError(f"{poses[0]}: true poses are in {len(frames)} frames; expected one")
    return RecordedSpace(camera, camera.frame_id, tree, frames.pop(), true)


def _first_camera(bag: Bag, topic: str) -> PinholeCamera | None:
    for message in bag.messages([topic]):
        try:
            return PinholeCamera.from_message(bag.decode(message))
        except CameraError:
            continue  # drivers send such messages while they start
    return None


class PoseEvaluation:
    """Follows the rows of an evaluation in space, as the node would, and compares with the true poses."""

    def __init__(self, space: RecordedSpace, settings: Settings) -> None:
        self.complaints: list[str] = []
        self._space = space
        self._stamps = sorted(space.true_poses)
        self._settings = settings
        self._poses = TargetPoses(space.transforms.lookup, self.complaints.append)
        self._errors: list[tuple[float, float, float, bool, bool]] = []
        self._missing = 0
        self._began: tuple[int, int] | None = None  # stamp, and how many restarts there had been
        self._velocities: list[float] = []

    def observe(self, frame: BagFrame, row: FrameRow) -> TargetPose | None:
        """Take in one frame with its result; return the target's pose."""
        if row.box is None or row.state is None:
            return None
        state = TrackState.TRACKING if row.state == INIT else TrackState(row.state)
        sighted = SightedTarget(1, "1", state, self._point(frame, row))
        found = self._poses.update(
            frame.stamp_ns,
            self._space.camera_frame,
            [sighted],
            self._space.frame_id,
            self._settings.coast_s,
        )
        self._compare_velocity(found[0] if found else None)
        true = self._true(frame.stamp_ns)
        if true is None:
            return found[0] if found else None
        if not found:
            self._missing += 1
            return None
        self._compare(found[0], true)
        return found[0]

    def summary(self) -> PoseSummary | None:
        """The numbers so far; None when no frame has both a pose and a true one."""
        return self.of_all([self])

    @property
    def first_velocity(self) -> float:
        """Error of the first velocity that counts, a second after the first pose [m/s]; nan without one."""
        return self._velocities[0] if self._velocities else math.nan

    @staticmethod
    def of_all(evaluations: Sequence[PoseEvaluation]) -> PoseSummary | None:
        """The numbers over all frames of several recordings; None as for `summary`."""
        errors = [row for evaluation in evaluations for row in evaluation._errors]
        if not errors:
            return None
        metres, share, degrees, inside, measured = (np.array(column) for column in zip(*errors, strict=True))
        coasting = metres[~measured.astype(bool)]
        velocities = np.array([error for evaluation in evaluations for error in evaluation._velocities])
        return PoseSummary(
            len(metres),
            sum(evaluation._missing for evaluation in evaluations),
            _rms(metres),
            _rms(share),
            _rms(degrees),
            float(inside.mean()),
            _rms(coasting) if len(coasting) else math.nan,
            _rms(velocities) if len(velocities) else math.nan,
            float(np.mean(velocities < KNOWN_VELOCITY)) if len(velocities) else math.nan,
        )

    def _point(self, frame: BagFrame, row: FrameRow) -> MetricPoint | None:
        images, settings = frame.frame, self._settings
        reference = images.rgb if images.rgb is not None else images.aux
        if reference is None or row.box is None:
            return None
        size = reference.shape[1], reference.shape[0]
        depth = target_depth(images, row.box, size, settings.min_depth_m, settings.max_depth_m, row.distance)
        return None if depth is None else metric_point(row.box, depth, self._space.camera.scaled(*size))

    def _true(self, stamp_ns: int) -> NDArray[np.float64] | None:
        after = bisect_left(self._stamps, stamp_ns)
        near = (at for at in self._stamps[max(after - 1, 0) : after + 1] if abs(at - stamp_ns) <= TRUTH_TOLERANCE_NS)
        return next((self._space.true_poses[at] for at in near), None)

    def _true_velocity(self, stamp_ns: int) -> NDArray[np.float64] | None:
        begin, end = bisect_left(self._stamps, stamp_ns - SLOPE_NS), bisect_left(self._stamps, stamp_ns + SLOPE_NS + 1)
        near = self._stamps[begin:end]
        if not near or near[-1] - near[0] < MIN_SLOPE_S * NS_PER_S:
            return None
        seconds = (np.array(near) - stamp_ns) / NS_PER_S
        places = np.stack([self._space.true_poses[at] for at in near])
        return np.asarray(np.polyfit(seconds, places, 1)[0])

    def _compare_velocity(self, pose: TargetPose | None) -> None:
        if pose is None:
            self._began = None
            return
        if self._began is None or self._began[1] != self._poses.restarts:
            self._began = pose.stamp_ns, self._poses.restarts
        measured = pose.estimate.measured >= pose.estimate.stamp - 1e-6
        if measured and pose.stamp_ns - self._began[0] >= SETTLED_NS:
            true = self._true_velocity(pose.stamp_ns)
            if true is not None:
                self._velocities.append(float(np.linalg.norm(pose.estimate.velocity - true)))

    def _compare(self, pose: TargetPose, true: NDArray[np.float64]) -> None:
        try:
            to_camera = self._space.transforms.lookup(self._space.camera_frame, self._space.frame_id, pose.stamp_ns)
        except TransformError:
            return
        estimate = pose.estimate
        error = estimate.position - true
        seen, expected = to_camera.apply(estimate.position), to_camera.apply(true)
        distance = float(np.linalg.norm(expected))
        cosine = float(seen @ expected) / max(float(np.linalg.norm(seen)) * distance, 1e-9)
        distance2 = float(error @ np.linalg.solve(estimate.covariance[:3, :3], error))
        metres = float(np.linalg.norm(error))
        self._errors.append(
            (
                metres,
                metres / max(distance, 1e-9),
                math.degrees(math.acos(min(max(cosine, -1.0), 1.0))),
                distance2 <= INSIDE_95,
                estimate.measured >= estimate.stamp - 1e-6,
            )
        )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
