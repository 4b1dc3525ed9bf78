"""Whole recordings of a synthetic scene, as sensors would deliver them, with the true box of the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ckd_core.data.synthetic import sensors
from ckd_core.data.synthetic.actors import Actor, Deforming, Person, Rigid, bystander, cut_out, lookalike
from ckd_core.data.synthetic.camera_path import CameraPose, Movement, MovingCamera, SpaceTruth, camera_at, camera_matrix
from ckd_core.data.synthetic.render import Backdrop, Placed, Rendered, box_of, compose, render, similarity
from ckd_core.data.synthetic.textures import SyntheticError
from ckd_core.data.synthetic.world import World
from ckd_core.frame import Modality, MultiModalFrame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.modality import Events

Trouble = Literal["none", "smoke", "dark"]
TargetKind = Literal["person", "rigid", "deforming"]
MIN_VISIBLE_SHARE = 0.2  # a target of which less is visible counts as absent
BYSTANDERS = 4
MIN_SIDE = 64


@dataclass(frozen=True, slots=True)
class SyntheticClip:
    """A recording with ground truth.

    Attributes:
        modality: Kind of the auxiliary images.
        frames: In the order of their stamps, raw as from the sensors.
        boxes: [N, 4] float64 `xywh` pixels, nan where the target is not visible.
        masks: [N, H, W] uint8, visible share of the target per pixel (0..255).
        others: [N, BYSTANDERS, 4] float64 `xywh` pixels of the other figures, whether the target covers them or not.
        events: For the event modality the raw events between frame i - 1 and frame i (stamps in seconds), else empty.
        space: Where camera and target are; only of a clip whose camera moves through space.
    """

    modality: Modality
    frames: list[MultiModalFrame]
    boxes: NDArray[np.float64]
    masks: NDArray[np.uint8]
    others: NDArray[np.float64]
    events: list[Events]
    space: SpaceTruth | None = None


@dataclass(frozen=True, slots=True)
class _Walker:
    """An actor on a smooth path.

    Attributes:
        actor: What it looks like.
        center: Middle of the path in pixels (x, y).
        sway: Reach of the path in pixels.
        rates: Radians per second along x and y.
        shifts: Phase at the start.
        scale: Canvas pixels to image pixels.
        pulse: Amplitude of the change of the log scale.
        gait: Phase of the actor's own motion per second.
        depth_mm: Mean distance.
    """

    actor: Actor
    center: NDArray[np.float64]
    sway: NDArray[np.float64]
    rates: NDArray[np.float64]
    shifts: NDArray[np.float64]
    scale: float
    pulse: float
    gait: float
    depth_mm: float

    def at(self, seconds: float, leave: float, width: float) -> Placed:
        """Return the appearance at a time; `leave` 0..1 moves it out of an image of `width`."""
        x, y = self.center + self.sway * np.sin(self.rates * seconds + self.shifts)
        growth = self.scale * float(np.exp(self.pulse * np.sin(0.7 * seconds + self.shifts[0])))
        canvas = self.actor.draw(self.gait * seconds)
        h, w = canvas.alpha.shape
        x += leave * (1.3 * width - x)
        matrix = similarity(growth, growth, 0.03 * float(np.sin(seconds)), ((w - 1) / 2, (h - 1) / 2), (x, y))
        return Placed(
            canvas, matrix, self.depth_mm / float(np.exp(self.pulse * np.sin(0.7 * seconds + self.shifts[0])))
        )


def clip(
    seed: int,
    modality: Modality,
    frames: int = 90,
    size: tuple[int, int] = (320, 240),
    fps: float = 15.0,
    *,
    target: TargetKind = "person",
    trouble: Trouble = "none",
    absent: tuple[float, float] | None = None,
    movement: Movement | None = None,
    world: World | None = None,
) -> SyntheticClip:
    """Record `frames` moments of one scene.

    Args:
        seed: Of everything random.
        modality: Of the auxiliary sensor: thermal and event images uint8, depth uint16 millimetres (0 = no return).
        frames: Their number.
        size: (width, height) in pixels.
        fps: Frames per second; stamps start at 0.
        target: Kind of the target.
        trouble: With `smoke`, smoke drifts in front of the colour camera after a fifth of the clip; `dark` dims it.
        absent: Part of the clip (begin, end as shares of it) in which the target leaves the image and returns.
        movement: How the camera moves through space, told by `SyntheticClip.space`; None = it shakes on the spot.
        world: Its surfaces; None = procedural ones from `seed`.

    Raises:
        SyntheticError: A size, count or interval that cannot be recorded.
    """
    width, height = size
    if frames < 1 or min(size) < MIN_SIDE or fps <= 0:
        message = (
            f"cannot record {frames} frames of {width} x {height} at {fps} fps; "
            f"expected at least 1 frame, {MIN_SIDE} px and a positive rate"
        )
        raise SyntheticError(message)
    if absent is not None and not 0 < absent[0] < absent[1] <= 1:
        message = f"absent is {absent}; expected (begin, end) with 0 < begin < end <= 1"
        raise SyntheticError(message)
    studio = _Studio(seed, modality, frames, size, fps, target, trouble, absent, movement, world or World(seed))
    shots = [studio.shoot(i) for i in range(frames)]
    return SyntheticClip(
        modality,
        [shot[0] for shot in shots],
        np.stack([shot[1] for shot in shots]),
        np.stack([shot[2] for shot in shots]),
        np.stack([shot[3] for shot in shots]),
        studio.events,
        None if movement is None else SpaceTruth(tuple(studio.cameras), np.stack(studio.positions)),
    )


class _Studio:
    """One scene with its cameras."""

    def __init__(
        self, seed: int, modality: Modality, frames: int, size: tuple[int, int], fps: float, target: TargetKind,
        trouble: Trouble, absent: tuple[float, float] | None, movement: Movement | None, world: World,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng((seed, 7))
        self.seed, self.modality, self.count, self.fps = seed, modality, frames, fps
        self.width, self.height = size
        self.trouble, self.absent, self.movement = trouble, absent, movement
        self.cameras: list[CameraPose] = []
        self.positions: list[NDArray[np.float64]] = []
        surface = world.surfaces[int(rng.integers(len(world.surfaces)))]
        surface_h, surface_w = surface.finest.shape[:2]
        fit = 1.25 * max(self.width / surface_w, self.height / surface_h)
        middle = ((surface_w - 1) / 2, (surface_h - 1) / 2)
        center = (self.width / 2, self.height / 2)
        self.backdrop = Backdrop(surface, similarity(fit, fit, 0.0, middle, center), 5500.0, (0.5, -4.0))
        self.shake = rng.uniform(0, 6.28, 4)
        self.sway_pixels = 0.02 * self.width * rng.uniform(0.3, 1.0)
        figure = self._figure(rng, target, world)
        self.target = self._walker(rng, figure, 0.28 * self.height, depth=2500.0, sway=0.22)
        self.others = []
        for _ in range(BYSTANDERS):
            actor = lookalike(rng, figure) if rng.random() < 0.5 else bystander(rng, world.surfaces, world.bodies)
            self.others.append(
                self._walker(rng, actor, 0.25 * self.height, depth=float(rng.uniform(2700, 4500)), sway=0.4)
            )
        self.look = replace(sensors.random_color_look(rng, 0.0), noise=3.0)
        self.smoke_cells = rng.random((9, 64)).astype(np.float32)
        self.thermal = sensors.ThermalLook(1.1, float(rng.uniform(-30, 0)))
        self.depth = sensors.DepthLook(0.008, float(rng.uniform(0.03, 0.12)))
        self.event = sensors.EventLook(0.18, 0.001)
        self.events: list[Events] = []
        self._last_grey: NDArray[np.uint8] | None = None

    @staticmethod
    def _figure(rng: np.random.Generator, kind: TargetKind, world: World) -> Actor:
        surface = world.surfaces[int(rng.integers(len(world.surfaces)))]
        if kind == "person":
            return Person(rng, np.ascontiguousarray(surface.levels[-1][..., 1]))
        color_heat, alpha = cut_out(rng, surface)
        color_heat[..., 3] = np.clip(color_heat[..., 3].astype(np.int16) + 90, 0, 255)
        return Rigid(color_heat, alpha) if kind == "rigid" else Deforming(color_heat, alpha, 0.05)

    def _walker(self, rng: np.random.Generator, actor: Actor, side: float, depth: float, sway: float) -> _Walker:
        canvas = actor.draw(0.0)
        scale = side / float(np.sqrt(np.prod(canvas.alpha.shape)))
        size = np.array((self.width, self.height), dtype=np.float64)
        return _Walker(
            actor, size * (0.5 + rng.uniform(-0.12, 0.12, 2)), size * sway * rng.uniform(0.5, 1.0, 2) * (1.0, 0.5),
            rng.uniform(0.3, 0.9, 2), rng.uniform(0, 6.28, 2), scale * float(rng.uniform(0.85, 1.15)),
            float(rng.uniform(0.05, 0.2)), float(rng.uniform(5, 8)), depth,
        )  # fmt: skip

    def _leaving(self, index: int) -> float:
        """0 = in view .. 1 = out of view; leaving and returning take a third of the interval each."""
        if self.absent is None:
            return 0.0
        begin, end = (share * self.count for share in self.absent)
        ramp = (end - begin) / 3
        return float(np.clip(min(index - begin, end - index) / max(ramp, 1e-6), 0.0, 1.0))

    def _camera(self, seconds: float) -> NDArray[np.float64]:
        a, b, c, _ = self.shake
        shift = self.sway_pixels * np.array((np.sin(0.9 * seconds + a), 0.6 * np.sin(1.3 * seconds + b)))
        middle = (self.width / 2, self.height / 2)
        target = (middle[0] + float(shift[0]), middle[1] + float(shift[1]))
        return similarity(1, 1, 0.008 * float(np.sin(1.1 * seconds + c)), middle, target)

    def shoot(self, index: int) -> tuple[MultiModalFrame, NDArray[np.float64], NDArray[np.uint8], NDArray[np.float64]]:
        """Record frame, box, mask and the other figures' boxes of moment `index`; to be called in their order."""
        rng = np.random.default_rng((self.seed, 8, index))
        seconds = index / self.fps
        placed = [other.at(seconds, 0.0, self.width) for other in self.others]
        figure = self.target.at(seconds, self._leaving(index), self.width)
        placed.append(figure)
        if self.movement is None:
            view, homography = self._camera(seconds), None
            rendered = self._render(self.backdrop, placed, view, (self.height, self.width))
        else:
            camera = self._move(seconds, figure)
            placed = [camera.place(item) for item in placed]
            figure, view, homography = placed[-1], camera.view, camera.homography
            rendered = camera.turn(self._render(camera.backdrop(self.backdrop), placed, view, camera.size))
        if rendered.cover is None:
            message = "a clip was rendered without its target's cover"
            raise SyntheticError(message)
        clean = rendered.rgb()
        rgb = sensors.color_image(rng, clean, self._light(index))
        if self.trouble == "smoke":
            rgb = self._smoke(rgb, index)
        aux = self._aux_image(rng, rendered.color_heat, rendered.depth_mm, clean, seconds)
        seen = Placed(figure.canvas, compose(view, figure.matrix), figure.depth_mm)
        box = self._visible_box(seen, rendered.cover, homography)
        others = [box_of(Placed(p.canvas, compose(view, p.matrix), p.depth_mm), homography) for p in placed[:-1]]
        return MultiModalFrame(seconds, rgb, aux, self.modality), box, rendered.cover, np.stack(others)

    def _render(
        self, backdrop: Backdrop, placed: list[Placed], view: NDArray[np.float64], size: tuple[int, int]
    ) -> Rendered:
        return render(backdrop, placed, view, size, self.modality is Modality.DEPTH, len(placed) - 1)

    def _move(self, seconds: float, figure: Placed) -> MovingCamera:
        """The camera at this moment; where it and the target's middle are is kept."""
        assert self.movement is not None  # noqa: S101  # the caller asks for a camera that moves
        self.cameras.append(camera_at(self.movement, seconds))
        x, y, w, h = box_of(figure)
        middle = np.array((x + w / 2 - 0.5, y + h / 2 - 0.5, 1.0))  # boxes count from the first pixel's corner
        ray = np.linalg.inv(camera_matrix(self.width, self.height)) @ middle
        self.positions.append(figure.depth_mm / 1000 * ray)
        return MovingCamera(self.cameras[-1], self.width, self.height)

    def _light(self, index: int) -> sensors.ColorLook:
        if self.trouble != "dark":
            return self.look
        gain = max(0.08, 1.0 - 3.0 * index / self.count)
        return replace(self.look, gain=gain, noise=6.0)

    def _smoke(self, rgb: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Clouds that drift over the picture and thicken after a fifth of the clip."""
        thickness = float(np.clip((index / self.count - 0.2) * 4, 0, 1))
        start = 0.05 * index % 48
        columns = start + np.linspace(0, 8, self.width, dtype=np.float32)
        rows = np.linspace(0, 8, self.height, dtype=np.float32)
        map_x, map_y = np.meshgrid(columns, rows)
        cloud = cv2.remap(self.smoke_cells, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR)
        weight = np.clip(thickness * (0.55 + 0.6 * cloud), 0, 0.97)[..., None]
        hazy: NDArray[np.uint8] = (rgb * (1 - weight) + 195 * weight).astype(np.uint8)
        return hazy

    def _aux_image(
        self, rng: np.random.Generator, color_heat: NDArray[np.uint8], depth_mm: NDArray[np.float32] | None,
        clean: NDArray[np.uint8], seconds: float,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:  # fmt: skip
        if self.modality is Modality.THERMAL:
            return sensors.thermal_image(rng, np.ascontiguousarray(color_heat[..., 3]), self.thermal)
        if depth_mm is not None:
            return sensors.depth_image(rng, depth_mm, self.depth)
        grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY).astype(np.uint8)
        before = grey if self._last_grey is None else self._last_grey
        polarity = sensors.event_polarity(rng, before, grey, self.event)
        self._last_grey = grey
        self.events.append(sensors.events_of(rng, polarity, seconds - 1 / self.fps, seconds))
        return sensors.event_picture(polarity)

    def _visible_box(
        self, figure: Placed, cover: NDArray[np.uint8], homography: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        whole = box_of(figure, homography)
        low = np.clip(whole[:2], 0, (self.width, self.height))
        high = np.clip(whole[:2] + whole[2:], 0, (self.width, self.height))
        linear = figure.matrix[:, :2]
        opaque = float((figure.canvas.alpha > 127).sum()) * abs(float(np.linalg.det(linear)))
        if float((cover > 127).sum()) < MIN_VISIBLE_SHARE * opaque or (high - low).min() < 2:
            return np.full(4, np.nan)
        return np.concatenate((low, high - low))
