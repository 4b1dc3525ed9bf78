"""Training pairs rendered straight into the tracker's crops: deterministic in (seed, index), hundreds per second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from ckd_core.data.pairs import TrainingSample
from ckd_core.data.synthetic import sensors
from ckd_core.data.synthetic.pair_scene import PairScene
from ckd_core.data.synthetic.render import pixel_view, render
from ckd_core.data.synthetic.textures import SyntheticError
from ckd_core.frame import Modality
from ckd_core.models.normalisation import normalise_images
from ckd_core.settings import limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.data.synthetic.pair_scene import SceneMoment
    from ckd_core.data.synthetic.render import Rendered
    from ckd_core.data.synthetic.world import World

MISALIGNED_SIDES = 0.35
STRETCH = 0.6  # largest logarithm of the factor on each side of a stretched box
ABSENT_BOX = (2.0, 2.0, 0.25, 0.25)  # wholly outside the search region


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Shape and statistics of the pairs.

    Attributes:
        template_size: Side of the template crop in pixels.
        search_size: Side of the search crop in pixels.
        template_factor: Side of the template window in sides of the target.
        search_factor: Side of the search window in sides of the target.
        center_jitter: Largest shift of the search window in target sides (each axis), reached by `wide_share` of the
            pairs; the others have the shifts of a tracker that follows well.
        wide_share: See `center_jitter`.
        scale_jitter: Standard deviation of the log side of the search window.
        attached_share: Share of targets that are a part of the backdrop (a picture on a wall) and not in front of it.
        real_share: Share of real people in aligned colour and thermal pictures, where the world has such pictures.
        absent_share: Share of pairs without the target in the search region; their boxes do not count in a loss.
        drop_rgb: Share of pairs in which colour is dead in both images: black, or the auxiliary image in its place.
        drop_aux: The same for the auxiliary camera.
        lose_rgb: Share of pairs in which colour dies between the template and the search image.
        lose_aux: The same for the auxiliary camera.
        hard: Share of pairs with darkness, glare, smoke, blur or strong noise.
        modalities: Kinds of auxiliary cameras, drawn equally often.
        misaligned: Share of pairs, of those in which both cameras live, whose auxiliary camera looks beside colour's
            place in the search image, by up to `MISALIGNED_SIDES` of the target's.
        stretched: Share of pairs whose search window lies around a box of quite another width and height.
        square_boxes: Whether crops are stretched until the box they are cut around is square (`window_around`).
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
    misaligned: float = field(default=0.0, metadata=limits(0.0, 1.0))
    stretched: float = field(default=0.0, metadata=limits(0.0, 1.0))
    square_boxes: bool = False


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Crops of one pair and where its target is.

    Attributes:
        modality: Kind of the auxiliary images.
        template: Colour and auxiliary crop, [T, T, 3] uint8 each.
        search: The same, [S, S, 3].
        template_box: [4] xywh as shares of the template crop.
        search_box: The same in the search crop; `ABSENT_BOX` without a target.
    """

    modality: Modality
    template: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    search: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    template_box: NDArray[np.float64]
    search_box: NDArray[np.float64]


class SyntheticPairs:
    """Endless map-style set of pairs (`ckd_core.data.pairs.PairDataset`).

    The search box of a pair without a target in its search region is `ABSENT_BOX`.
    """

    def __init__(self, world: World, settings: PairSettings | None = None, seed: int = 0) -> None:
        self.world = world
        self.settings = settings or PairSettings()
        self.seed = seed
        if not self.settings.modalities:
            message = "modalities is empty; expected at least one of thermal, depth, event"
            raise SyntheticError(message)

    def __getitem__(self, index: int) -> TrainingSample:
        """Render pair `index`.

        Raises:
            SyntheticError: `index` is negative.
        """
        rendered = self.render(index)
        return TrainingSample(
            normalise_images(*rendered.template),
            normalise_images(*rendered.search),
            torch.from_numpy(rendered.template_box).float(),
            torch.from_numpy(rendered.search_box).float(),
            f"synthetic {rendered.modality.value} seed {self.seed} pair {index}",
        )

    def render(self, index: int) -> RenderedPair:
        """Render pair `index` as pixels.

        Raises:
            SyntheticError: `index` is negative.
        """
        if index < 0:
            message = f"index is {index}; expected 0 or more"
            raise SyntheticError(message)
        rng = np.random.default_rng((self.seed, 3, index))
        modality = self.settings.modalities[int(rng.integers(len(self.settings.modalities)))]
        return _PairRenderer(rng, self.world, self.settings, modality).render()


class _PairRenderer:
    """One pair: both moments of a scene through one set of cameras."""

    def __init__(self, rng: np.random.Generator, world: World, settings: PairSettings, modality: Modality) -> None:
        self.rng, self.settings, self.modality = rng, settings, modality
        self.scene = PairScene(rng, world, settings.attached_share, settings.real_share)
        self.duplicate = bool(rng.random() < 0.6)
        self.thermal = sensors.random_thermal_look(rng)
        self.depth = sensors.random_depth_look(rng)
        self.event = sensors.random_event_look(rng)

    def render(self) -> RenderedPair:
        """Render template and search crop."""
        rng, settings = self.rng, self.settings
        first, second, absent = self.scene.moments(settings.absent_share)
        dead = rng.random()
        drop_rgb, drop_aux = dead < settings.drop_rgb, dead > 1 - settings.drop_aux
        lose_rgb, lose_aux = self._losses(drop_rgb or drop_aux)
        calm = sensors.random_color_look(rng, 0.3 * settings.hard)
        look = calm if rng.random() < 0.4 else sensors.random_color_look(rng, settings.hard)
        view_t, box_t = self._window(first.box, first.box, settings.template_factor, settings.template_size, 0.03)
        template = self._show(first, view_t, settings.template_size, calm, drop_rgb, drop_aux)
        near = rng.random() > settings.wide_share
        reach = 0.3 if near else settings.center_jitter
        around = second.box.copy()
        if settings.stretched and rng.random() < settings.stretched:
            around[2:] *= np.exp(rng.uniform(-STRETCH, STRETCH, 2))
        else:
            around[2:] *= np.exp(np.clip(rng.normal(0, settings.scale_jitter, 2), -0.6, 0.6))
        around[:2] += (second.box[2:] - around[2:]) / 2
        view_x, box_x = self._window(
            second.box, around, settings.search_factor, settings.search_size, reach, gauss=near
        )
        search = self._show(second, view_x, settings.search_size, look, drop_rgb or lose_rgb, drop_aux or lose_aux)
        alive = not (drop_rgb or drop_aux or lose_rgb or lose_aux)
        if settings.misaligned and alive and rng.random() < settings.misaligned:
            search = search[0], self._beside(search[1], box_x)
        if absent:
            box_x = np.array(ABSENT_BOX)
        return RenderedPair(self.modality, template, search, box_t, box_x)

    def _beside(self, aux: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The auxiliary crop of a camera that is not registered to colour; `box` is the target's, as shares."""
        angle, reach = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0, MISALIGNED_SIDES)
        dx, dy = reach * box[2:] * (np.cos(angle), np.sin(angle)) * aux.shape[0]
        matrix = np.array(((1, 0, dx), (0, 1, dy)))
        moved = cv2.warpAffine(aux, matrix, aux.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
        return moved.astype(np.uint8, copy=False)

    def _losses(self, dead: bool) -> tuple[bool, bool]:
        """Whether colour and whether the auxiliary stream dies before the search image; one always survives."""
        if dead:
            return False, False
        chance = self.rng.random()
        lose_rgb = chance < self.settings.lose_rgb
        return lose_rgb, not lose_rgb and chance > 1 - self.settings.lose_aux

    def _window(
        self, box: NDArray[np.float64], around: NDArray[np.float64], factor: float, out: int, reach: float,
        gauss: bool = False,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
        unit = around[2:] if self.settings.square_boxes else np.full(2, np.sqrt(around[2] * around[3]))
        shift = self.rng.normal(0, reach * 0.5, 2) if gauss else self.rng.uniform(-reach, reach, 2)
        sides = unit * factor
        corner = around[:2] + around[2:] / 2 + shift * unit - sides / 2
        inside = np.concatenate(((box[:2] - corner) / sides, box[2:] / sides))
        (left, top), (width, height) = corner.tolist(), sides.tolist()
        return pixel_view(left, top, width, height, out), inside

    def _show(
        self, moment: SceneMoment, view: NDArray[np.float64], size: int, look: sensors.ColorLook, drop_rgb: bool,
        drop_aux: bool,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:  # fmt: skip
        rng = self.rng
        rendered = render(moment.backdrop, moment.placed, view, (size, size), depth=self.modality is Modality.DEPTH)
        rgb = sensors.color_image(rng, rendered.rgb(), look)
        aux = self._aux(rendered, moment, view, size)
        if rng.random() < 0.12:  # the window extends over the edge of the image
            self._blank_edge(rgb, aux)
        # a tracker shows the network black or the other camera's crop in place of a dead one
        if drop_rgb:
            rgb = aux if self.duplicate else np.zeros_like(rgb)
        if drop_aux:
            aux = rgb if self.duplicate else np.zeros_like(aux)
        return rgb, aux

    def _aux(self, rendered: Rendered, moment: SceneMoment, view: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
        rng = self.rng
        if self.modality is Modality.THERMAL:
            heat = sensors.thermal_image(rng, rendered.heat(), self.thermal)
            return cv2.merge((heat, heat, heat)).astype(np.uint8, copy=False)
        if self.modality is Modality.DEPTH:
            if rendered.depth_mm is None:
                message = "a depth pair was rendered without depth"
                raise SyntheticError(message)
            raw = sensors.depth_image(rng, rendered.depth_mm, self.depth)
            # as ckd_core.modality with a whole frame, whose clipping limit a crop cannot know
            grey = cv2.convertScaleAbs(
                np.minimum(raw, np.uint16(self.scene.depth_limit)), alpha=255.0 / self.scene.depth_limit
            )
            return cv2.applyColorMap(grey, cv2.COLORMAP_JET).astype(np.uint8, copy=False)
        before = render(moment.before[0], moment.before[1], view, (size, size))
        polarity = sensors.event_polarity(rng, before.grey(), rendered.grey(), self.event)
        return sensors.event_picture(polarity)

    def _blank_edge(self, rgb: NDArray[np.uint8], aux: NDArray[np.uint8]) -> None:
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
