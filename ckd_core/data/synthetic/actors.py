"""Actors of the synthetic world: each draws itself on its own canvas at a phase of its motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from ckd_core.data.synthetic.textures import Surface, smooth_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PERSON_SIZE = (128, 96)  # height, width of a person's canvas
OBJECT_SIDE = 80
WARM_LEVEL = 150  # thermal value above which a real blob counts as a warm body


@dataclass(frozen=True, slots=True)
class Canvas:
    """Appearance of an object.

    Attributes:
        color_heat: [h, w, 4] uint8, colour and thermal value.
        alpha: [h, w] uint8, opacity.
        hull: [n, 2] float32 outline of the opaque part in pixels.
    """

    color_heat: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    hull: NDArray[np.float32]


def outline(alpha: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the convex hull [n, 2] of the opaque pixels with their edges (a pixel is a unit square at its centre)."""
    contours, _ = cv2.findContours((alpha > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.zeros((0, 2), dtype=np.float32)
    points = cv2.convexHull(np.concatenate(contours))[:, 0].astype(np.float32)
    corners = np.array(((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)), dtype=np.float32)
    return (points[:, None] + corners).reshape(-1, 2)


class Actor(Protocol):
    """Anything that can stand in a scene."""

    def draw(self, phase: float) -> Canvas:
        """Return the appearance at a phase (radians) of its own periodic motion."""
        ...


class Rigid:
    """An object that keeps its shape."""

    def __init__(self, color_heat: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
        self._canvas = Canvas(color_heat, alpha, outline(alpha))

    def draw(self, phase: float) -> Canvas:
        """Return the same appearance at every phase."""
        del phase
        return self._canvas


class Deforming:
    """An object that bends and swells with its phase."""

    def __init__(self, color_heat: NDArray[np.uint8], alpha: NDArray[np.uint8], strength: float) -> None:
        self._color_heat = color_heat
        self._alpha = alpha
        height, width = alpha.shape
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        self._xs, self._ys = xs, ys
        self._strength = strength * min(height, width)

    def draw(self, phase: float) -> Canvas:
        """Bend by sines whose shift is the phase."""
        height, width = self._alpha.shape
        dx = self._strength * np.sin(self._ys * np.float32(4.0 / height) + np.float32(phase))
        dy = self._strength * np.cos(self._xs * np.float32(5.0 / width) + np.float32(1.3 * phase))
        map_x, map_y = self._xs + dx, self._ys + dy
        colors = cv2.remap(self._color_heat, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        alpha = cv2.remap(self._alpha, map_x, map_y, cv2.INTER_LINEAR).astype(np.uint8)
        return Canvas(colors.astype(np.uint8), alpha, outline(alpha))


Color = tuple[float, float, float, float]


class Person:
    """A walking figure: head, torso and jointed limbs in clothes of their own colours, warm where skin shows."""

    def __init__(self, rng: np.random.Generator, cloth: NDArray[np.uint8]) -> None:
        skin = np.array((225, 180, 150)) * rng.uniform(0.35, 1.05)
        body = float(rng.uniform(150, 235))
        clothed = body - float(rng.uniform(10, 80))
        red, green, blue = (float(c) for c in np.clip(skin, 0, 255))
        self._skin: Color = (red, green, blue, body)
        self._top = self._clothes(rng, clothed)
        self._legs = self._clothes(rng, clothed - float(rng.uniform(-20, 30)))
        red, green, blue = (float(c) for c in rng.uniform(5, 90, 3))
        self._hair: Color = (red, green, blue, body - 30)
        self._build = float(rng.uniform(0.8, 1.35))
        self._stride = float(rng.uniform(0.15, 0.6))
        self._lean = float(rng.uniform(-0.1, 0.1))
        self._side_view = bool(rng.random() < 0.6)
        self._bag = bool(rng.random() < 0.35)
        self._bag_color = self._clothes(rng, clothed - 70)
        shade = cv2.resize(cloth, (PERSON_SIZE[1], PERSON_SIZE[0]), interpolation=cv2.INTER_AREA)
        self._shade = (0.65 + 0.7 * shade.astype(np.float32) / 255)[..., None]

    @staticmethod
    def _clothes(rng: np.random.Generator, heat: float) -> Color:
        red, green, blue = rng.uniform(10, 235, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(10, 235))
        return float(red), float(green), float(blue), max(0.0, heat)

    def draw(self, phase: float) -> Canvas:
        """Draw the pose of this phase of the walk."""
        height, width = PERSON_SIZE
        colors = np.zeros((height, width, 4), dtype=np.uint8)
        alpha = np.zeros((height, width), dtype=np.uint8)
        build = self._build

        def limb(points: Sequence[tuple[float, float]], thickness: float, color: Color) -> None:
            line = [np.round(np.array(points) * 16).astype(np.int32)]
            wide = max(1, round(thickness * build))
            cv2.polylines(colors, line, isClosed=False, color=color, thickness=wide, lineType=cv2.LINE_8, shift=4)
            cv2.polylines(alpha, line, isClosed=False, color=255, thickness=wide, lineType=cv2.LINE_8, shift=4)

        swing = self._stride * np.sin(phase)
        neck, hip = (48 + 20 * self._lean, 30.0), (48.0, 68.0)
        spread = 0.0 if self._side_view else 6 * build

        def joint(start: tuple[float, float], angle: float, length: float) -> tuple[float, float]:
            return start[0] + length * float(np.sin(angle)), start[1] + length * float(np.cos(angle))

        for sign in (-1, 1):  # the far side first
            if sign == 1:
                limb([neck, (48 + 10 * self._lean, 48), hip], 21, self._top)
            side = sign * spread
            start = (hip[0] + side * 0.6, hip[1])
            knee = joint(start, sign * swing, 24)
            foot = joint(knee, sign * swing - max(0.0, -sign * swing) * 0.9, 26)
            limb([start, knee, foot], 9, self._legs)
            shoulder = (neck[0] + side * 1.3, neck[1] + 5)
            elbow = joint(shoulder, -sign * swing * 0.9 + 0.02 * side, 17)
            hand = joint(elbow, -sign * swing * 0.9 + 0.35, 15)
            limb([shoulder, elbow, hand], 7, self._top)
            limb([hand, (hand[0] + 1, hand[1] + 2)], 5, self._skin)
        if self._bag:
            limb([(neck[0] - 9, 38), (neck[0] - 10, 55)], 13, self._bag_color)
        head = (round(neck[0] * 16), (17 * 16))
        for image, value in ((colors, self._hair), (alpha, (255.0,))):
            cv2.ellipse(image, head, ((8 * 16), round(10.5 * 16)), 0, 0, 360, value, -1, cv2.LINE_8, 4)
        face = (round((neck[0] + 2) * 16), (19 * 16))
        cv2.ellipse(colors, face, (round(5.5 * 16), (7 * 16)), 0, 0, 360, self._skin, -1, cv2.LINE_8, 4)
        colors[..., :3] = np.clip(colors[..., :3] * self._shade, 0, 255)
        return Canvas(colors, cv2.blur(alpha, (3, 3)).astype(np.uint8), outline(alpha))


def random_mask(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Opacity of a random compact shape that fills most of the canvas: box, ellipse, polygon, blob or vehicle."""
    alpha = np.zeros((height, width), dtype=np.uint8)
    kind = int(rng.integers(5))
    margin = 4
    if kind == 0:
        alpha[margin:-margin, margin:-margin] = 255
    elif kind == 1:
        axes = (width // 2 - margin, height // 2 - margin)
        cv2.ellipse(alpha, (width // 2, height // 2), axes, 0, 0, 360, 255, -1)
    elif kind == 4:
        cv2.rectangle(alpha, (margin, height // 2), (width - margin, height - 3 * margin), 255, -1)
        roof = np.array(((width // 5, height // 2), (width // 3, margin), (2 * width // 3, margin),
                         (4 * width // 5, height // 2)))  # fmt: skip
        cv2.fillPoly(alpha, [roof.astype(np.int32)], 255)
        for part in (0.25, 0.75):
            cv2.circle(alpha, (int(width * part), height - 3 * margin), 2 * margin, 255, -1)
    else:
        corners = int(rng.integers(4, 14))
        angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
        radii = rng.uniform(0.55 if kind == 2 else 0.75, 1.0, corners)
        xs = width / 2 + radii * (width / 2 - margin) * np.cos(angles)
        ys = height / 2 + radii * (height / 2 - margin) * np.sin(angles)
        cv2.fillPoly(alpha, [np.stack((xs, ys), axis=1).astype(np.int32)], 255)
    return cv2.blur(alpha, (3, 3)).astype(np.uint8)


def cut_out(rng: np.random.Generator, surface: Surface) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut a piece of random shape out of a surface: (colours and heat [h, w, 4], alpha [h, w])."""
    aspect = float(np.exp(rng.normal(0, 0.45)))
    height = int(np.clip(OBJECT_SIDE * np.sqrt(aspect), 36, 150))
    width = int(np.clip(OBJECT_SIDE / np.sqrt(aspect), 36, 150))
    level = surface.levels[int(rng.integers(min(2, len(surface.levels))))]
    share = float(rng.uniform(0.5, 1.0))
    src_h, src_w = min(level.shape[0], int(height * 1.6 * share)), min(level.shape[1], int(width * 1.6 * share))
    y = int(rng.integers(level.shape[0] - src_h + 1))
    x = int(rng.integers(level.shape[1] - src_w + 1))
    piece = cv2.resize(level[y : y + src_h, x : x + src_w], (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:  # a uniform tint sets it off from the surface that it is cut from
        tint = rng.uniform(0, 255, 3)
        piece[..., :3] = np.clip(piece[..., :3] * 0.6 + tint * 0.4, 0, 255)
    heat = piece[..., 3].astype(np.float32) + float(rng.normal(0, 45))  # hot engines, cold bottles, no contrast
    if rng.random() < 0.5:
        heat += 60 * (smooth_noise(rng, heat.shape, 3) - 0.5)
    piece[..., 3] = np.clip(heat, 0, 255)
    return piece.astype(np.uint8), random_mask(rng, height, width)


def _warm_blobs(heat: NDArray[np.uint8]) -> tuple[NDArray[np.int32], list[tuple[int, tuple[int, int, int, int]]]]:
    """Labels of a thermal picture's blobs, and (label, xywh) of those that are as upright and as full as a person."""
    warm = cv2.morphologyEx((heat > WARM_LEVEL).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 5), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(warm)
    blobs = []
    for i in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[i])
        inside = x > 2 and y > 2 and x + w < heat.shape[1] - 2 and y + h < heat.shape[0] - 2
        if inside and area > 220 and h > 24 and 0.9 < h / w < 4.5 and area > 0.35 * w * h:
            blobs.append((i, (x, y, w, h)))
    return labels.astype(np.int32, copy=False), blobs


def warm_boxes(heat: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Boxes [n, 4] (centre x, y, width, height in pixels) of real warm figures in a thermal picture."""
    boxes = [(x + w / 2 - 0.5, y + h / 2 - 0.5, w, h) for _, (x, y, w, h) in _warm_blobs(heat)[1]]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def warm_bodies(rgb: NDArray[np.uint8], heat: NDArray[np.uint8]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Cut the real warm figures of an aligned picture out along their outlines: (colours and heat, alpha) each."""
    labels, blobs = _warm_blobs(heat)
    bodies = []
    for i, (x, y, w, h) in blobs:
        part = (slice(y - 3, y + h + 3), slice(x - 3, x + w + 3))
        alpha = cv2.blur(cv2.dilate((labels[part] == i).astype(np.uint8) * 255, np.ones((3, 3), np.uint8)), (3, 3))
        bodies.append((np.dstack((rgb[part], heat[part])), alpha.astype(np.uint8)))
    return bodies


def bystander(rng: np.random.Generator, surfaces: Sequence[Surface], bodies: Sequence[Rigid]) -> Actor:
    """Draw a random actor: a person, a real warm body, a rigid or a deforming cut-out."""
    choice = float(rng.random())
    surface = surfaces[int(rng.integers(len(surfaces)))]
    if choice < 0.3:
        level = surface.levels[-1][..., 1]
        return Person(rng, np.ascontiguousarray(level))
    if choice < 0.5 and bodies:
        return bodies[int(rng.integers(len(bodies)))]
    color_heat, alpha = cut_out(rng, surface)
    if choice < 0.65:
        return Deforming(color_heat, alpha, float(rng.uniform(0.02, 0.07)))
    return Rigid(color_heat, alpha)


def lookalike(rng: np.random.Generator, actor: Actor) -> Actor:
    """Draw an actor easily confused with `actor`: its shape and pattern in slightly other colours and temperature."""
    canvas = actor.draw(float(rng.uniform(0, 6.28)))
    colors = canvas.color_heat.astype(np.float32)
    colors[..., :3] = colors[..., :3] * rng.uniform(0.6, 1.4, 3) + rng.normal(0, 25, 3)
    colors[..., 3] += rng.normal(0, 12)
    if rng.random() < 0.5:
        colors, alpha = colors[:, ::-1], canvas.alpha[:, ::-1]
    else:
        alpha = canvas.alpha
    return Rigid(np.ascontiguousarray(np.clip(colors, 0, 255).astype(np.uint8)), np.ascontiguousarray(alpha))
