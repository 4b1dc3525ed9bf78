"""A scene of points, lines and labels in space, painted by an orbiting camera as RViz and Foxglove have it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Points = NDArray[np.float64]
    Color = tuple[int, int, int]

NEAR_M = 0.05
_AXES = ((255, 60, 60), (80, 220, 80), (80, 120, 255))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Orbit:
    """A camera that looks at a point from a distance; z of the scene is up.

    Attributes:
        focus: [3] m.
        direction: from the focus to the camera, of any length.
        distance: m.
        fov_deg: vertical field of view.
    """

    focus: Points
    direction: Points
    distance: float
    fov_deg: float = 45.0

    def to_camera(self) -> tuple[Points, Points]:
        """Rotation [3, 3] from the scene's axes to the camera's (x right, y down, z ahead), and its place [3]."""
        ahead = -self.direction / np.linalg.norm(self.direction)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return np.stack((right, np.cross(ahead, right), ahead)), self.focus - self.distance * ahead


@dataclass
class Scene:
    """What there is to see; places in m, colours RGB.

    Attributes:
        cloud: points [N, 3] and their colours [N, 3].
        lines: ends [2, 3], colour, and width in pixels.
        labels: place [3], text and colour.
    """

    background: Color
    cloud: tuple[Points, NDArray[np.uint8]] | None = None
    lines: list[tuple[Points, Color, int]] = field(default_factory=list)
    labels: list[tuple[Points, str, Color]] = field(default_factory=list)

    def strip(self, points: Sequence[Points], color: Color, width: int = 1) -> None:
        """Join points by lines."""
        for begin, end in pairwise(points):
            self.lines.append((np.stack((begin, end)), color, width))

    def axes(self, rotation: Points, place: Points, length: float, name: str = "") -> None:
        """Three axes, x red, y green, z blue, and their name at the end of z."""
        for axis, color in zip(rotation.T, _AXES, strict=True):
            self.strip([place, place + length * axis], color, 2)
        if name:
            self.labels.append((place + length * rotation[:, 2], name, (235, 235, 235)))

    def grid(self, side: int, color: Color) -> None:
        """A grid of `side` metres and as many cells on the ground."""
        half = side / 2
        ticks = np.linspace(-half, half, side + 1)
        for at in ticks:  # cell by cell: what is behind the camera is left out
            self.strip([np.array((at, along, 0)) for along in ticks], color)
            self.strip([np.array((along, at, 0)) for along in ticks], color)

    def ellipsoid(self, place: Points, covariance: Points, color: Color, deviations: float = 1.0) -> None:
        """Three circles of an ellipsoid of that many standard deviations."""
        values, vectors = np.linalg.eigh(covariance)
        axes = deviations * vectors * np.sqrt(values)
        angles = np.linspace(0, 2 * np.pi, 33)
        for first, second in ((0, 1), (0, 2), (1, 2)):
            ring = np.outer(np.cos(angles), axes[:, first]) + np.outer(np.sin(angles), axes[:, second])
            self.strip(list(place + ring), color)

    def paint(self, view: Orbit, width: int, height: int) -> NDArray[np.uint8]:
        """Return the picture [height, width, 3] RGB."""
        rotation, eye = view.to_camera()
        focal = height / (2 * np.tan(np.radians(view.fov_deg) / 2))
        middle = np.array((width / 2, height / 2))
        picture = np.full((height, width, 3), self.background, np.uint8)

        def pixels(seen: Points) -> Points:
            return np.asarray(middle + focal * seen[:, :2] / seen[:, 2:])

        if self.cloud is not None:
            points, colors = self.cloud
            seen = (points - eye) @ rotation.T
            order = np.argsort(-seen[:, 2])  # the nearest is painted last
            order = order[seen[order, 2] > NEAR_M]
            at = np.round(pixels(seen[order])).astype(int)
            for dx, dy in np.ndindex(3, 3):
                x, y = at[:, 0] + dx, at[:, 1] + dy
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                picture[y[inside], x[inside]] = colors[order][inside]
        for ends, color, thickness in self.lines:
            seen = (ends - eye) @ rotation.T
            if seen[:, 2].min() <= NEAR_M:
                continue
            begin, end = (tuple(np.clip(np.round(16 * p), -(2**30), 2**30).astype(int).tolist()) for p in pixels(seen))
            cv2.line(picture, begin, end, color, thickness, cv2.LINE_AA, 4)
        for place, text, color in self.labels:
            seen = ((place - eye) @ rotation.T)[None]
            if seen[0, 2] > NEAR_M:
                x, y = pixels(seen)[0].round().astype(int).tolist()
                cv2.putText(picture, text, (x + 6, y - 6), _FONT, 0.42, color, 1, cv2.LINE_AA)
        return picture
