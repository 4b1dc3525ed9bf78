"""Training pairs painted straight into the tracker's crops: deterministic in (seed, index), some hundreds a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from ckd_core.data.pairs import TrainingSample
from ckd_core.data.synthetic import sensors
from ckd_core.data.synthetic.actors import Actor, Rigid, bystander, lookalike
from ckd_core.data.synthetic.render import (
    Backdrop,
    Placed,
    Rendered,
    apply,
    box_of,
    compose,
    pixel_view,
    render,
    similarity,
)
from ckd_core.data.synthetic.textures import SyntheticError
from ckd_core.frame import Modality
from ckd_core.models.normalisation import normalise_images
from ckd_core.settings import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.data.synthetic.textures import Surface
    from ckd_core.data.synthetic.world import Sighting, World

ABSENT_BOX = (2.0, 2.0, 0.25, 0.25)  # wholly outside the search region
TARGET_SIDE = 60.0  # world pixels; the world has no other scale
MIN_VISIBLE_SHARE = 0.35  # share of the target that must be visible for a pair to be a positive one


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Shape and statistics of the pairs.

    template_size, search_size: crop sides in pixels; template_factor, search_factor: in sides of the target.
    center_jitter: largest shift of the search window in target sides (each axis), reached by `wide_share` of the pairs;
    the others stay within what a tracker that follows well leaves. scale_jitter: standard deviation of the log side.
    attached_share: targets that are a part of the backdrop (a picture on a wall) instead of a thing before it.
    real_share: real people in aligned colour and thermal pictures, where the world has such pictures.
    absent_share: pairs without the target in the search region; their boxes are no part of a loss.
    drop_rgb, drop_aux: share of pairs in which that stream is dead in both images (black, or the other stream's images
    in its place). lose_rgb, lose_aux: share in which it dies between the template and the search image.
    hard: share of pairs with darkness, glare, smoke, blur or strong noise.
    """

    template_size: int = field(default=64, metadata=limits(16))
    search_size: int = field(default=128, metadata=limits(16))
    template_factor: float = field(default=2.0, metadata=limits(1.0, 16.0))
    search_factor: float = field(default=4.0, metadata=limits(1.0, 16.0))
    center_jitter: float = field(default=1.4, metadata=limits(0.0, 8.0))
    wide_share: float = field(default=0.5, metadata=limits(0.0, 1.0))
    scale_jitter: float = field(default=0.22, metadata=limits(0.0, 1.0))
    attached_share: float = field(default=0.25, metadata=limits(0.0, 1.0))
    real_share: float = field(default=0.15, metadata=limits(0.0, 1.0))
    absent_share: float = field(default=0.0, metadata=limits(0.0, 1.0))
    drop_rgb: float = field(default=0.1, metadata=limits(0.0, 1.0))
    drop_aux: float = field(default=0.2, metadata=limits(0.0, 1.0))
    lose_rgb: float = field(default=0.08, metadata=limits(0.0, 1.0))
    lose_aux: float = field(default=0.05, metadata=limits(0.0, 1.0))
    hard: float = field(default=0.5, metadata=limits(0.0, 1.0))
    modalities: tuple[Modality, ...] = (Modality.THERMAL, Modality.DEPTH, Modality.EVENT)


@dataclass(frozen=True, slots=True)
class _Moment:
    """Everything that stands in a scene at one time; `before` shows the same a few milliseconds earlier."""

    backdrop: Backdrop
    placed: list[Placed]
    target: int | None
    box: NDArray[np.float64]
    before: tuple[Backdrop, list[Placed]]


class SyntheticPairs:
    """Map-style set of pairs (`ckd_core.data.pairs.PairDataset`); endless.

    A pair without a target in its search region carries `ABSENT_BOX` as its search box.
    """

    def __init__(self, world: World, settings: PairSettings | None = None, seed: int = 0) -> None:
        self.world = world
        self.settings = settings or PairSettings()
        self.seed = seed
        if not self.settings.modalities:
            message = "modalities is empty; expected at least one of thermal, depth, event"
            raise SyntheticError(message)

    def __getitem__(self, index: int) -> TrainingSample:
        """Paint pair `index`."""
        if index < 0:
            message = f"index {index} is below 0; pairs count from 0 up"
            raise SyntheticError(message)
        rng = np.random.default_rng((self.seed, 3, index))
        modality = self.settings.modalities[int(rng.integers(len(self.settings.modalities)))]
        painter = _PairPainter(rng, self.world, self.settings, modality)
        template, search, template_box, search_box = painter.paint()
        return TrainingSample(
            template, search, template_box, search_box, f"synthetic {modality.value} seed {self.seed} pair {index}"
        )


class _PairPainter:
    """One pair: draws a scene, moves it, shows both moments through one set of cameras."""

    def __init__(self, rng: np.random.Generator, world: World, settings: PairSettings, modality: Modality) -> None:
        self.rng, self.world, self.settings, self.modality = rng, world, settings, modality
        surfaces = world.surfaces
        self.surface = surfaces[int(rng.integers(len(surfaces)))]
        self.attached = bool(rng.random() < settings.attached_share)
        self.sighting: Sighting | None = None
        if world.sightings and rng.random() < settings.real_share:
            self.attached = True
            self.sighting = world.sightings[int(rng.integers(len(world.sightings)))]
            self.surface = self.sighting.first
        self.texture_scale = float(np.exp(rng.uniform(np.log(0.35), np.log(1.6))))  # world pixels a surface pixel
        self.target: Actor = bystander(rng, surfaces, world.bodies)
        self.far = float(rng.uniform(2000, 9000))
        self.near = float(self.far * rng.uniform(0.3, 0.95))
        self.depth_limit = float(min(10000.0, self.far * rng.uniform(0.9, 3.0)))
        self.speed = float(abs(rng.normal(0, 0.05))) * TARGET_SIDE if rng.random() < 0.85 else 0.0
        self.camera_speed = float(abs(rng.normal(0, 0.05))) * TARGET_SIDE if rng.random() < 0.5 else 0.0
        self.duplicate = bool(rng.random() < 0.6)
        self.thermal = sensors.random_thermal_look(rng)
        self.depth = sensors.random_depth_look(rng)
        self.event = sensors.random_event_look(rng)

    def paint(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return template, search (normalised) and their boxes."""
        rng, settings = self.rng, self.settings
        first, second, absent = self._moments()
        dead = rng.random()
        drop_rgb, drop_aux = dead < settings.drop_rgb, dead > 1 - settings.drop_aux
        lose_rgb, lose_aux = self._losses(drop_rgb or drop_aux)
        calm = sensors.random_color_look(rng, 0.3 * settings.hard)
        look = calm if rng.random() < 0.4 else sensors.random_color_look(rng, settings.hard)
        side = float(np.sqrt(first.box[2] * first.box[3]))
        view_t, box_t = self._window(
            first.box, first.box, side * settings.template_factor, settings.template_size, 0.03
        )
        template = self._show(first, view_t, settings.template_size, calm, drop_rgb, drop_aux)
        near = rng.random() > settings.wide_share
        reach = 0.3 if near else settings.center_jitter
        around = second.box.copy()
        around[2:] *= np.exp(np.clip(rng.normal(0, settings.scale_jitter, 2), -0.6, 0.6))
        around[:2] += (second.box[2:] - around[2:]) / 2
        side = float(np.sqrt(around[2] * around[3]))
        view_x, box_x = self._window(
            second.box, around, side * settings.search_factor, settings.search_size, reach, gauss=near
        )
        search = self._show(second, view_x, settings.search_size, look, drop_rgb or lose_rgb, drop_aux or lose_aux)
        if absent:
            box_x = np.array(ABSENT_BOX)
        return template, search, torch.from_numpy(box_t).float(), torch.from_numpy(box_x).float()

    def _losses(self, dead: bool) -> tuple[bool, bool]:
        """Whether colour, whether the other stream dies before the search image; never the last one left."""
        if dead:
            return False, False
        chance = self.rng.random()
        lose_rgb = chance < self.settings.lose_rgb
        return lose_rgb, not lose_rgb and chance > 1 - self.settings.lose_aux

    def _window(
        self, box: NDArray[np.float64], around: NDArray[np.float64], side: float, out: int, reach: float,
        gauss: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
        unit = float(np.sqrt(around[2] * around[3]))
        shift = self.rng.normal(0, reach * 0.5, 2) if gauss else self.rng.uniform(-reach, reach, 2)
        cx, cy = around[:2] + around[2:] / 2 + shift * unit
        left, top = cx - side / 2, cy - side / 2
        inside = np.array(((box[0] - left) / side, (box[1] - top) / side, box[2] / side, box[3] / side))
        return pixel_view(left, top, side, out), inside

    def _moments(self) -> tuple[_Moment, _Moment, bool]:
        rng = self.rng
        surface_h, surface_w = self.surface.finest.shape[:2]
        margin = 0.15 if self.attached else 0.0
        span = np.array((surface_w, surface_h))
        place = span * rng.uniform(margin, 1 - margin, 2)
        aspect = float(np.exp(rng.normal(0, 0.45)))
        patch = np.concatenate((place, TARGET_SIDE / self.texture_scale * np.array((aspect**0.5, aspect**-0.5))))
        later_surface, later_patch = self.surface, patch
        if self.sighting is not None:
            patch, later_surface, later_patch = self.sighting.box, self.sighting.second, self.sighting.later_box
            self.texture_scale = TARGET_SIDE / float(np.sqrt(patch[2] * patch[3]))
            place = patch[:2]
        scale = self.texture_scale
        backdrop = similarity(scale, scale, float(rng.normal(0, 0.05)), tuple(place), (0.0, 0.0))
        phase = float(rng.uniform(0, 2 * np.pi))
        crowd = self._crowd()
        first = self._moment(
            self.surface, backdrop, patch, aspect, phase, 1.0, 0.0, [] if self.sighting else crowd, occluded=0.0
        )
        # some time later: the camera has moved, the target has moved before the backdrop, turned, come nearer
        if self.attached:
            stretch = scale * np.exp(rng.normal(0, 0.1, 2)) * float(np.exp(rng.normal(0, 0.12)))
            turn = float(rng.normal(0, 0.08))
            later = similarity(float(stretch[0]), float(stretch[1]), turn, tuple(later_patch[:2]), (0.0, 0.0))
        elif rng.random() < 0.35:  # long after: the target stands somewhere else
            later = similarity(scale, scale, 0.0, tuple(span * rng.uniform(0, 1, 2)), (0.0, 0.0))
        else:
            shift = tuple(rng.normal(0, 0.4 * TARGET_SIDE, 2))
            later = compose(similarity(1, 1, float(rng.normal(0, 0.04)), (0, 0), shift), backdrop)
        absent = bool(rng.random() < self.settings.absent_share)
        second = self._moment(
            later_surface, later, later_patch, aspect * float(np.exp(rng.normal(0, 0.08))),
            phase + float(rng.normal(0, 1.5)), float(np.exp(rng.normal(0, 0.15))), float(rng.normal(0, 0.08)),
            [] if self.sighting else self._stirred(crowd), occluded=0.25, absent=absent,
        )  # fmt: skip
        return first, second, absent

    def _crowd(self) -> list[tuple[Actor, NDArray[np.float64], float, float, float]]:
        """Others in the scene: (actor, place in target sides, size, phase, depth)."""
        rng = self.rng
        count = int(rng.choice(5, p=(0.3, 0.25, 0.2, 0.15, 0.1)))
        crowd = []
        for _ in range(count):
            like = not self.attached and rng.random() < 0.45
            actor = lookalike(rng, self.target) if like else bystander(rng, self.world.surfaces, self.world.bodies)
            angle, reach = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.75, 2.2))
            place = reach * np.array((np.cos(angle), np.sin(angle)))
            crowd.append((actor, place, float(np.exp(rng.normal(0, 0.2))), float(rng.uniform(0, 6.28)),
                          self.near * float(rng.uniform(0.9, 1.3))))  # fmt: skip
        return crowd

    def _stirred(
        self, crowd: Sequence[tuple[Actor, NDArray[np.float64], float, float, float]]
    ) -> list[tuple[Actor, NDArray[np.float64], float, float, float]]:
        moved = []
        for actor, place, size, phase, depth in crowd:
            to = place + self.rng.normal(0, 0.5, 2)
            distance = float(np.hypot(*to))
            if distance < 0.7:
                to = to * (0.7 / max(distance, 1e-3))
            moved.append((actor, to, size, phase + 1.0, depth))
        return moved

    def _moment(
        self, surface: Surface, backdrop: NDArray[np.float64], patch: NDArray[np.float64], aspect: float, phase: float,
        scale: float, angle: float, crowd: Sequence[tuple[Actor, NDArray[np.float64], float, float, float]],
        occluded: float, absent: bool = False,
    ) -> _Moment:  # fmt: skip
        """patch: centre and size of an attached target on its surface, in the surface's pixels."""
        rng = self.rng
        slope = (float(rng.normal(0, 2)), float(rng.normal(-3, 3)))
        wall = Backdrop(surface, backdrop, self.far, slope, float(rng.uniform(0, 900)))
        placed = [
            self._place(actor, other_phase, 1.0, size, 0.0, tuple(place * TARGET_SIDE), depth)
            for actor, place, size, other_phase, depth in crowd
        ]
        target: int | None = None
        if self.attached:
            w, h = patch[2:] / 2
            corners = apply(backdrop, patch[:2] + np.array(((-w, -h), (w, -h), (-w, h), (w, h))))
            low, high = corners.min(axis=0), corners.max(axis=0)
            box = np.concatenate((low, high - low))
            placed = [p for p in placed if not _covers(box_of(p), box)]
            if absent:
                away = similarity(1, 1, 0, (0, 0), (500.0, 350.0))
                wall = Backdrop(surface, compose(away, backdrop), self.far, slope)
        else:
            item = self._place(self.target, phase, aspect, scale, angle, (0.0, 0.0), self.near)
            box = box_of(item)
            if not absent:
                target = len(placed)
                placed.append(item)
        if rng.random() < occluded and not absent:
            placed.append(self._occluder(box))
        still = rng.normal(0, 1, 2) * self.speed
        shift = rng.normal(0, 1, 2) * self.camera_speed
        moved = similarity(1, 1, 0, (0, 0), tuple(still + shift))
        before_items = [Placed(p.canvas, compose(moved, p.matrix), p.depth_mm) for p in placed]
        earlier = Backdrop(wall.surface, compose(similarity(1, 1, 0, (0, 0), tuple(shift)), wall.matrix), wall.depth_mm)
        return _Moment(wall, placed, target, box, (earlier, before_items))

    def _place(
        self, actor: Actor, phase: float, aspect: float, scale: float, angle: float, at: tuple[float, ...], depth: float
    ) -> Placed:
        canvas = actor.paint(phase)
        h, w = canvas.alpha.shape
        unit = TARGET_SIDE * scale / float(np.sqrt(h * w))
        stretch = float(np.clip(aspect, 0.7, 1.4)) ** 0.5 if isinstance(actor, Rigid) else 1.0
        matrix = similarity(unit * stretch, unit / stretch, angle, ((w - 1) / 2, (h - 1) / 2), (at[0], at[1]))
        return Placed(canvas, matrix, depth)

    def _occluder(self, box: NDArray[np.float64]) -> Placed:
        """Something in front that hides a part of the target, never most of it."""
        rng = self.rng
        actor = bystander(rng, self.world.surfaces, self.world.bodies)
        canvas = actor.paint(float(rng.uniform(0, 6.28)))
        h, w = canvas.alpha.shape
        scale = float(rng.uniform(0.4, 0.9)) * float(np.sqrt(box[2] * box[3])) / float(np.sqrt(h * w))
        angle = float(rng.uniform(0, 2 * np.pi))
        center = box[:2] + box[2:] / 2 + 0.55 * box[2:] * np.array((np.cos(angle), np.sin(angle)))
        return Placed(canvas, similarity(scale, scale, 0.0, (w / 2, h / 2), (center[0], center[1])), self.near * 0.8)

    def _show(
        self, moment: _Moment, view: NDArray[np.float64], size: int, look: sensors.ColorLook, drop_rgb: bool,
        drop_aux: bool,
    ) -> torch.Tensor:  # fmt: skip
        rng = self.rng
        seen = render(moment.backdrop, moment.placed, view, (size, size), depth=self.modality is Modality.DEPTH)
        rgb = sensors.color_image(rng, seen.rgb(), look)
        aux = self._aux(seen, moment, view, size)
        if rng.random() < 0.12:  # the window reaches over the picture's edge
            self._cut(rgb, aux)
        # a tracker shows the network black or the other camera's window in place of a dead one
        if drop_rgb:
            rgb = aux if self.duplicate else np.zeros_like(rgb)
        if drop_aux:
            aux = rgb if self.duplicate else np.zeros_like(aux)
        return normalise_images(rgb, aux)

    def _aux(self, seen: Rendered, moment: _Moment, view: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
        rng = self.rng
        if self.modality is Modality.THERMAL:
            heat = sensors.thermal_image(rng, seen.heat(), self.thermal)
            return cv2.merge((heat, heat, heat)).astype(np.uint8, copy=False)
        if self.modality is Modality.DEPTH:
            if seen.depth_mm is None:
                message = "a depth pair was painted without depth"
                raise SyntheticError(message)
            raw = sensors.depth_image(rng, seen.depth_mm, self.depth)
            # as ckd_core.modality does with the whole frame, whose clipping limit a crop cannot know
            grey = cv2.convertScaleAbs(np.minimum(raw, np.uint16(self.depth_limit)), alpha=255.0 / self.depth_limit)
            return cv2.applyColorMap(grey, cv2.COLORMAP_JET).astype(np.uint8, copy=False)
        before = render(moment.before[0], moment.before[1], view, (size, size))
        polarity = sensors.event_polarity(rng, before.grey(), seen.grey(), self.event)
        return sensors.event_picture(polarity)

    def _cut(self, rgb: NDArray[np.uint8], aux: NDArray[np.uint8]) -> None:
        size = rgb.shape[0]
        edge = int(self.rng.uniform(0.03, 0.3) * size)
        part: tuple[slice, slice] = (
            (slice(None), slice(0, edge)),
            (slice(None), slice(size - edge, size)),
            (slice(0, edge), slice(None)),
            (slice(size - edge, size), slice(None)),
        )[int(self.rng.integers(4))]
        rgb[part] = 0
        aux[part] = 0


def _covers(other: NDArray[np.float64], box: NDArray[np.float64]) -> bool:
    """Whether a thing would hide more than a corner of the box."""
    low = np.maximum(other[:2], box[:2])
    high = np.minimum(other[:2] + other[2:], box[:2] + box[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared > (1 - MIN_VISIBLE_SHARE) * 0.4 * float(box[2] * box[3])
