"""The parameter `ego_motion`: where the tracker learns of the camera's own motion. No ROS import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.tracking.camera_motion import ImageMotion, RotationMotion
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.messages.transforms import RigidTransform, TransformError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ckd_core.tracking.camera_motion import CameraMotion
    from sdstrack_ros.messages.camera import PinholeCamera
    from sdstrack_ros.parameters.table import Settings

    Lookup = Callable[[str, str, int | None], RigidTransform]


def camera_motion_of(
    settings: Settings,
    lookup: Lookup,
    camera: Callable[[], PinholeCamera | None],
    complain: Callable[[str], object],
) -> CameraMotion | None:
    """Return the way that the settings ask for; None for `off`.

    Args:
        settings: the values of all parameters.
        lookup: returns for a target frame, a source frame and a stamp (None: the newest) the transform from the source
            to the target frame; raises TransformError.
        camera: returns the calibration of the colour camera; None while there is none.
        complain: receives why a rotation is not known.
    """
    if settings.ego_motion == "image":
        return ImageMotion()
    if settings.ego_motion == "tf":
        turns = _Turns(settings.target_frame, lookup, camera, complain)
        return RotationMotion(turns.between, turns.matrix)
    return None


class _Turns:
    """Rotations of the camera, as the transforms tell them."""

    def __init__(
        self,
        fixed_frame: str,
        lookup: Lookup,
        camera: Callable[[], PinholeCamera | None],
        complain: Callable[[str], object],
    ) -> None:
        self._fixed_frame = fixed_frame
        self._lookup = lookup
        self._camera = camera
        self._complain = complain

    def matrix(self) -> NDArray[np.float64] | None:
        camera = self._camera()
        if camera is None:
            return None
        return np.array(((camera.fx, 0, camera.cx), (0, camera.fy, camera.cy), (0, 0, 1.0)))

    def between(self, before: float, after: float) -> NDArray[np.float64] | None:
        try:
            first, second = self._fixed_from_camera(before), self._fixed_from_camera(after)
        except TransformError as error:
            self._complain(str(error))
            return None
        return np.asarray(second.rotation.T @ first.rotation)

    def _fixed_from_camera(self, stamp: float) -> RigidTransform:
        camera = self._camera()
        frame = "" if camera is None else camera.frame_id
        try:
            return self._lookup(self._fixed_frame, frame, round(stamp * NS_PER_S))
        except TransformError:
            # Odometry comes a little after the image; the newest is better than to take the camera for still.
            return self._lookup(self._fixed_frame, frame, None)
