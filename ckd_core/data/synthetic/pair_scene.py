"""The scene of a synthetic training pair: what stands in it at the template's moment and at the search image's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.synthetic.actors import Actor, Rigid, bystander, lookalike
from ckd_core.data.synthetic.render import Backdrop, Placed, apply, box_of, compose, similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.data.synthetic.textures import Surface
    from ckd_core.data.synthetic.world import Sighting, World

TARGET_SIDE = 60.0  # world pixels; the world has no other scale
MIN_VISIBLE_SHARE = 0.35  # share of the target that must be visible for a pair to be a positive one


@dataclass(frozen=True, slots=True)
class SceneMoment:
    """Everything in a scene at one moment.

    Attributes:
        backdrop: The far surface.
        placed: The actors from back to front.
        target: Index of the target among them; None where it is part of the backdrop or absent.
        box: `xywh` [4] of the target in world pixels.
        before: Backdrop and actors a few milliseconds earlier, for event cameras.
    """

    backdrop: Backdrop
    placed: list[Placed]
    target: int | None
    box: NDArray[np.float64]
    before: tuple[Backdrop, list[Placed]]


class PairScene:
    """Draws one scene from a generator and moves it once."""

    def __init__(self, rng: np.random.Generator, world: World, attached_share: float, real_share: float) -> None:
        """Draw what stays the same in both moments; the shares are those of `PairSettings`."""
        self.rng, self.world = rng, world
        surfaces = world.surfaces
        self.surface = surfaces[int(rng.integers(len(surfaces)))]
        self.attached = bool(rng.random() < attached_share)
        self.sighting: Sighting | None = None
        if world.sightings and rng.random() < real_share:
            self.attached = True
            self.sighting = world.sightings[int(rng.integers(len(world.sightings)))]
            self.surface = self.sighting.first
        self.texture_scale = float(np.exp(rng.uniform(np.log(0.35), np.log(1.6))))  # world pixels per surface pixel
        self.target: Actor = bystander(rng, surfaces, world.bodies)
        self.far = float(rng.uniform(2000, 9000))
        self.near = float(self.far * rng.uniform(0.3, 0.95))
        self.depth_limit = float(min(10000.0, self.far * rng.uniform(0.9, 3.0)))
        self.speed = float(abs(rng.normal(0, 0.05))) * TARGET_SIDE if rng.random() < 0.85 else 0.0
        self.camera_speed = float(abs(rng.normal(0, 0.05))) * TARGET_SIDE if rng.random() < 0.5 else 0.0

    def moments(self, absent_share: float) -> tuple[SceneMoment, SceneMoment, bool]:
        """Draw (moment of the template, moment of the search image, whether the target is absent from the second)."""
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
        # some time later: the camera has moved, the target has moved in front of the backdrop, turned, come nearer
        if self.attached:
            stretch = scale * np.exp(rng.normal(0, 0.1, 2)) * float(np.exp(rng.normal(0, 0.12)))
            turn = float(rng.normal(0, 0.08))
            later = similarity(float(stretch[0]), float(stretch[1]), turn, tuple(later_patch[:2]), (0.0, 0.0))
        elif rng.random() < 0.35:  # long after: the target stands somewhere else
            later = similarity(scale, scale, 0.0, tuple(span * rng.uniform(0, 1, 2)), (0.0, 0.0))
        else:
            shift = tuple(rng.normal(0, 0.4 * TARGET_SIDE, 2))
            later = compose(similarity(1, 1, float(rng.normal(0, 0.04)), (0, 0), shift), backdrop)
        absent = bool(rng.random() < absent_share)
        second = self._moment(
            later_surface, later, later_patch, aspect * float(np.exp(rng.normal(0, 0.08))),
            phase + float(rng.normal(0, 1.5)), float(np.exp(rng.normal(0, 0.15))), float(rng.normal(0, 0.08)),
            [] if self.sighting else self._moved_crowd(crowd), occluded=0.25, absent=absent,
        )  # fmt: skip
        return first, second, absent

    def _crowd(self) -> list[tuple[Actor, NDArray[np.float64], float, float, float]]:
        """Draw the other actors: (actor, place in target sides, size, phase, depth)."""
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

    def _moved_crowd(
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
    ) -> SceneMoment:  # fmt: skip
        """Place everything; `patch` is centre and size of an attached target in pixels of its surface."""
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
        return SceneMoment(wall, placed, target, box, (earlier, before_items))

    def _place(
        self, actor: Actor, phase: float, aspect: float, scale: float, angle: float, at: tuple[float, ...], depth: float
    ) -> Placed:
        canvas = actor.draw(phase)
        h, w = canvas.alpha.shape
        unit = TARGET_SIDE * scale / float(np.sqrt(h * w))
        stretch = float(np.clip(aspect, 0.7, 1.4)) ** 0.5 if isinstance(actor, Rigid) else 1.0
        matrix = similarity(unit * stretch, unit / stretch, angle, ((w - 1) / 2, (h - 1) / 2), (at[0], at[1]))
        return Placed(canvas, matrix, depth)

    def _occluder(self, box: NDArray[np.float64]) -> Placed:
        """Draw an actor in front of the target that hides a part of it, never most of it."""
        rng = self.rng
        actor = bystander(rng, self.world.surfaces, self.world.bodies)
        canvas = actor.draw(float(rng.uniform(0, 6.28)))
        h, w = canvas.alpha.shape
        scale = float(rng.uniform(0.4, 0.9)) * float(np.sqrt(box[2] * box[3])) / float(np.sqrt(h * w))
        angle = float(rng.uniform(0, 2 * np.pi))
        center = box[:2] + box[2:] / 2 + 0.55 * box[2:] * np.array((np.cos(angle), np.sin(angle)))
        return Placed(canvas, similarity(scale, scale, 0.0, (w / 2, h / 2), (center[0], center[1])), self.near * 0.8)


def _covers(other: NDArray[np.float64], box: NDArray[np.float64]) -> bool:
    """Whether an actor with box `other` would hide more than a corner of `box`."""
    low = np.maximum(other[:2], box[:2])
    high = np.minimum(other[:2] + other[2:], box[:2] + box[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared > (1 - MIN_VISIBLE_SHARE) * 0.4 * float(box[2] * box[3])
