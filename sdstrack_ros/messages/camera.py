"""A calibrated camera: pixels to rays and back. Reads the fields of sensor_msgs/CameraInfo without importing ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.text import shown
from sdstrack_ros.messages.header_texts import MAX_NAME

PLUMB_BOB, EQUIDISTANT = "plumb_bob", "equidistant"
# Numbers of coefficients by distortion model. OpenCV tells those of its main model apart by their number, so drivers
# that call a rational polynomial plumb_bob are right, too; its fisheye model is the equidistant one.
_LENS, _FISHEYE = (4, 5, 8, 12, 14), (4,)
COEFFICIENTS = {
    PLUMB_BOB: _LENS,
    "rational_polynomial": _LENS,
    "thin_prism": _LENS,
    EQUIDISTANT: _FISHEYE,
    "fisheye": _FISHEYE,
}
NO_MODEL = ("", "none")  # of a camera without distortion
# Of the longer side: from a fisheye (a quarter) to a telescope. A lens is far from the limits, a broken number is not.
MAX_FOCAL_RATIO, MAX_CENTER_RATIO = 1000.0, 10.0
MAX_SLOPE = 1000.0  # |X/Z| of a ray; where the lens model gives more, it has left the range for which it was fitted


class CameraError(TrackingError):
    """A calibration that does not describe a camera, or a point that the camera cannot see."""


@dataclass(frozen=True, slots=True)
class PinholeCamera:
    """Intrinsics in pixels of an image of `width` x `height`; axes of the optical frame (REP 103: x right, y down)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    model: str = PLUMB_BOB
    frame_id: str = ""

    @classmethod
    def from_message(cls, info: Any) -> PinholeCamera:
        """Read a CameraInfo: the camera of its region of interest. Binning is left to `scaled`.

        Raises:
            CameraError: the focal length is 0 or not finite, or there is no size (drivers send such messages while
                uncalibrated), or these numbers have nothing to do with it; the distortion model is unknown, or has
                another number of coefficients; the region of interest is outside the image.
        """
        numbers = [float(v) for v in info.k]
        fx, fy, cx, cy = numbers[0], numbers[4], numbers[2], numbers[5]
        if not all(np.isfinite(numbers)) or fx <= 0 or fy <= 0 or info.width <= 0 or info.height <= 0:
            raise CameraError(
                f"camera_info is uncalibrated: {info.width} x {info.height}, fx {fx}, fy {fy}; expected all above 0"
            )
        longer = max(info.width, info.height)
        if not all(longer / MAX_FOCAL_RATIO <= f <= longer * MAX_FOCAL_RATIO for f in (fx, fy)):
            raise CameraError(
                f"camera_info's fx is {fx:g}, fy {fy:g} pixels; expected between {longer / MAX_FOCAL_RATIO:g} and"
                f" {longer * MAX_FOCAL_RATIO:g} for {info.width} x {info.height}"
            )
        if max(abs(cx), abs(cy)) > longer * MAX_CENTER_RATIO:
            raise CameraError(
                f"camera_info's cx is {cx:g}, cy {cy:g} pixels; expected within {longer * MAX_CENTER_RATIO:g} for"
                f" {info.width} x {info.height}"
            )
        distortion, model = _distortion(info)
        frame_id = str(info.header.frame_id)
        if len(frame_id) > MAX_NAME:
            raise CameraError(f"camera_info's frame_id is '{shown(frame_id)}'; expected up to {MAX_NAME} characters")
        left, top, width, height = _region_of_interest(info)
        return cls(width, height, fx, fy, cx - left, cy - top, distortion, model, frame_id)

    def scaled(self, width: int, height: int) -> PinholeCamera:
        """Return the camera of the same view at another size (a driver's binning, another resolution)."""
        if (width, height) == (self.width, self.height):
            return self
        sx, sy = width / self.width, height / self.height
        return PinholeCamera(
            width,
            height,
            self.fx * sx,
            self.fy * sy,
            (self.cx + 0.5) * sx - 0.5,
            (self.cy + 0.5) * sy - 0.5,
            self.distortion,
            self.model,
            self.frame_id,
        )

    def box_ray(self, x: float, y: float) -> tuple[float, float]:
        """Return the `ray` through a point in the coordinates of boxes, in which the first pixel covers 0..1."""
        return self.ray(x - 0.5, y - 0.5)

    def ray(self, x: float, y: float) -> tuple[float, float]:
        """Return (X/Z, Y/Z) of the ray through a pixel's centre, an integer, with the lens distortion removed."""
        if self.distortion:
            matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
            pixel = np.array([[[x, y]]], dtype=np.float64)
            coefficients = np.array(self.distortion)
            if self.model == EQUIDISTANT:
                point = cv2.fisheye.undistortPoints(pixel, matrix, coefficients)
            else:
                point = cv2.undistortPoints(pixel, matrix, coefficients)
            if np.all(np.abs(point) <= MAX_SLOPE):
                return float(point[0, 0, 0]), float(point[0, 0, 1])
        return (x - self.cx) / self.fx, (y - self.cy) / self.fy

    def pixel(self, point: tuple[float, float, float]) -> tuple[float, float]:
        """Return the pixel of a point [m] in the optical frame; integers are pixel centres.

        Raises:
            CameraError: the point is not in front of the camera.
        """
        x, y, z = point
        if not np.all(np.isfinite(point)) or z <= 0:
            raise CameraError(f"point ({x:.2f}, {y:.2f}, {z:.2f}) m is not in front of the camera; z must be above 0")
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])
        if self.distortion:
            points = np.array([[[x, y, z]]], dtype=np.float64)
            zero = np.zeros(3)
            coefficients = np.array(self.distortion)
            if self.model == EQUIDISTANT:
                pixels, _ = cv2.fisheye.projectPoints(points, zero, zero, matrix, coefficients)
            else:
                pixels, _ = cv2.projectPoints(points, zero, zero, matrix, coefficients)
            return float(pixels[0, 0, 0]), float(pixels[0, 0, 1])
        return x / z * self.fx + self.cx, y / z * self.fy + self.cy


def _distortion(info: Any) -> tuple[tuple[float, ...], str]:
    """Return the coefficients, none for a lens without distortion, and the model: plumb_bob or equidistant.

    Drivers fill up with zeros: realsense2_camera sends five coefficients of the equidistant model, which has four.
    """
    name = str(info.distortion_model)
    coefficients = tuple(float(v) for v in info.d)
    if not all(np.isfinite(coefficients)):
        coefficients = ()
    known = COEFFICIENTS.get(name)
    if known is None:
        if name in NO_MODEL and not any(coefficients):
            return (), PLUMB_BOB
        raise CameraError(
            f"camera_info's distortion_model is '{shown(name)}', with {len(coefficients)} coefficients; expected "
            f"one of: {', '.join(COEFFICIENTS)}; without it there are no 3-D boxes"
        )
    model = EQUIDISTANT if known is _FISHEYE else PLUMB_BOB
    if not any(coefficients):
        return (), model
    used = max(index for index, value in enumerate(coefficients) if value) + 1
    count = len(coefficients) if len(coefficients) in known else next((n for n in known if used <= n), 0)
    if not count or count > len(coefficients):
        raise CameraError(
            f"camera_info has {len(coefficients)} '{name}' distortion coefficients; expected "
            f"{' or '.join(map(str, known))}"
        )
    return coefficients[:count], model


def _region_of_interest(info: Any) -> tuple[int, int, int, int]:
    """Return left, top, width, height of the images in pixels of the calibration; a region of size 0 means all."""
    roi = info.roi
    left, top, width, height = int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)
    if width == 0 or height == 0:
        return 0, 0, int(info.width), int(info.height)
    if left + width > info.width or top + height > info.height:
        raise CameraError(
            f"camera_info's roi of {width} x {height} at ({left}, {top}) is not within its {info.width} x"
            f" {info.height}; expected a part of the full resolution, or zeros"
        )
    return left, top, width, height
