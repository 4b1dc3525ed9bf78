"""Frames of a colour and a depth camera with the tracker's result, for tests of messages and publishers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import TrackResult, TrackState
from sdstrack_ros.messages.camera import PinholeCamera
from sdstrack_ros.sync.frame_builder import FrameBuilder
from sdstrack_ros.sync.types import Sample, SyncedSet
from sdstrack_ros.tracking.results import FrameResult, TargetResult
from sdstrack_ros.tracking.source_frame import SourceFrame

SIZE = (640, 480)
CAMERA = PinholeCamera(640, 480, 500.0, 500.0, 320.0, 240.0, frame_id="optical")
BOX = BoundingBox(200.0, 180.0, 60.0, 40.0)
STAMP_NS = 1_700_000_000_123_456_789


def depth_frame(rgb: bool = True, aux: bool = True) -> MultiModalFrame:
    """A colour + depth frame of 640 x 480 at `STAMP_NS`; without an image where one is switched off."""
    color = np.zeros((480, 640, 3), np.uint8) if rgb else None
    depth = np.full((480, 640), 2000, np.uint16) if aux else None
    return MultiModalFrame(STAMP_NS / 1e9, color, depth, Modality.DEPTH)


def target_result(
    state: TrackState = TrackState.TRACKING, box: BoundingBox = BOX, target_id: str = "3", number: int = 3
) -> TargetResult:
    """A cup that is tracked in `depth_frame()`."""
    track = TrackResult(STAMP_NS / 1e9, box, 0.75, state, reference_size=SIZE[::-1])
    return TargetResult(target_id, "cup", track, number, named=not target_id.isdecimal())


def frame_result(state: TrackState | None = TrackState.TRACKING, box: BoundingBox = BOX) -> FrameResult:
    """Result of the tracker for `depth_frame()`; without a target for state None."""
    return frame_result_of(*([] if state is None else [target_result(state, box)]))


def frame_result_of(*targets: TargetResult) -> FrameResult:
    """Result of the tracker for `depth_frame()` with these targets."""
    frame = depth_frame()
    leader = Sample(STAMP_NS, 0, SimpleNamespace(header=SimpleNamespace(frame_id="optical")))
    source = SourceFrame(0, SyncedSet(STAMP_NS, leader, None, False, 0, 0, 0), FrameBuilder(Modality.DEPTH))
    return FrameResult(source, frame, targets)


def depth_scene(target_mm: int = 1500, ground_mm: int = 4000, dtype: type = np.uint16) -> np.ndarray:
    """Depth [480, 640] of a target on a ground: uint16 in millimetres, or float32 in metres."""
    depth = np.full((480, 640), ground_mm, np.float64)
    depth[180:220, 200:260] = target_mm
    return depth.astype(np.uint16) if dtype is np.uint16 else (depth / 1000).astype(np.float32)
