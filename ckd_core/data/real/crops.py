"""One training pair out of real images: crop windows, degraded images, substitutes for a missing camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ckd_core.data.pseudo import draw_sensor
from ckd_core.data.synthetic.pairs import ABSENT_BOX, STRETCH
from ckd_core.data.synthetic.smoke import still_clouds, veil
from ckd_core.frame import BoundingBox, Modality
from ckd_core.settings import limits
from ckd_core.tracking.crop import CropSampler, CropWindow, window_around

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ckd_core.frame import Image
    from ckd_core.models.config import NetworkConfig

    Crops = list[Image]  # of one camera: template, search region

HIDDEN_SHARE = 0.7  # covered share of a target above which it counts as away
OTHERS_SHARE = 0.25  # of the pairs with other targets: the search region lies around one of them
SMOKE_CELLS = (1, 3)  # clouds across a search region
SMOKE_SHARE = 0.15  # of the pairs with an auxiliary camera: smoke before colour
MISALIGNED_PX, MISALIGNED_SIDES, MISALIGNED_SCALE = 12.0, 0.5, 0.02  # largest shift, also in box sides; deviation
REPLACED_SHARE = 0.15  # of the neighbours: in the target's place
TURN_DEGREES = 30.0  # standard deviation
SYNTHETIC_AUX = {Modality.THERMAL: 0.5, Modality.DEPTH: 0.25, Modality.EVENT: 0.25}  # probability of each modality


@dataclass(frozen=True, slots=True)
class TroubleSettings:
    """Shares of pairs in further trouble, beside what any pair may meet. Without any, pairs are drawn as without these.

    Attributes:
        misaligned: Of the pairs that colour shows, rendered ones too: the auxiliary camera looks beside their place.
        haze: Of the pairs that both cameras show: smoke before the auxiliary one.
        smoky: Of the pairs without a colour camera: one that smoke hides after the template.
        neighbour: Of the pairs with other targets: one of them is shown beside the target, or in its place.
        company: Of the draws from a clip: they look for a moment with another target close by.
        stretched: Of the pairs, rendered ones too: the search region lies around a box of quite another width and
            height, as after frames in which the box has swallowed a neighbour.
        turned: Of the pairs from images: the search frame is turned in its plane.
    """

    misaligned: float = field(default=0.0, metadata=limits(0.0, 1.0))
    haze: float = field(default=0.0, metadata=limits(0.0, 1.0))
    smoky: float = field(default=0.0, metadata=limits(0.0, 1.0))
    neighbour: float = field(default=0.0, metadata=limits(0.0, 1.0))
    company: float = field(default=0.0, metadata=limits(0.0, 1.0))
    stretched: float = field(default=0.0, metadata=limits(0.0, 1.0))
    turned: float = field(default=0.0, metadata=limits(0.0, 1.0))


NO_TROUBLE = TroubleSettings()


@dataclass(frozen=True, slots=True)
class RealPair:
    """What a pair is cut from.

    Attributes:
        rgb: Template frame and search frame of the colour camera; None without one.
        aux: The same of the auxiliary camera.
        boxes: [4] xywh in pixels, the target in the template frame and in the search frame.
        others: [4] xywh each, other targets in the search frame.
        away: Whether the target has left the search frame; its second box says where it was last.
    """

    rgb: tuple[Image, Image] | None
    aux: tuple[Image, Image] | None
    boxes: tuple[NDArray[np.float64], NDArray[np.float64]]
    others: tuple[NDArray[np.float64], ...] = ()
    away: bool = False


@dataclass(frozen=True, slots=True)
class CutPair:
    """One pair of crops.

    Attributes:
        template: [2, T, T, 3] uint8, colour first.
        search: [2, S, S, 3] uint8, colour first.
        box: [4] xywh of the target as shares of the search crop; `ABSENT_BOX` where it cannot be seen.
    """

    template: NDArray[np.uint8]
    search: NDArray[np.uint8]
    box: NDArray[np.float32]


class PairCutter:
    """Cuts pairs for one network.

    Args:
        network: Sides and shapes of the crops.
        others: Colour images, crops of which may replace those of a dead camera; may grow afterwards.
        troubles: Further trouble.
    """

    def __init__(
        self, network: NetworkConfig, others: Sequence[Image] = (), troubles: TroubleSettings = NO_TROUBLE
    ) -> None:
        self.network, self.troubles = network, troubles
        self.others = others
        self._sampler = CropSampler()

    def cut(self, pair: RealPair, rng: np.random.Generator) -> CutPair:
        """Cut one pair; `rng` draws everything that is random."""
        network = self.network
        if _happens(self.troubles.turned, rng):
            pair = _turned(pair, rng)
        windows = self._template_window(pair.boxes[0], rng), self._search_window(pair, rng)
        sides = network.template_size, network.search_size
        cameras = [
            None
            if images is None
            else [self._crop(image, window, side) for image, window, side in zip(images, windows, sides, strict=True)]
            for images in (pair.rgb, pair.aux)
        ]
        cx, cy, w, h = windows[1].to_crop(BoundingBox(*pair.boxes[1].tolist()))
        box = np.array((cx - w / 2, cy - h / 2, w, h), dtype=np.float32)
        hidden = 0.0
        if rng.random() < 0.15:
            hidden = _occlude([crops[1] for crops in cameras if crops is not None], (cx, cy, w, h), rng)
        if pair.others and _happens(self.troubles.neighbour, rng):
            hidden = max(hidden, self._neighbour(pair, cameras, (cx, cy, w, h), rng))
        rgb, aux, visible = self._both(cameras[0], cameras[1], rng)
        if pair.aux is not None and rng.random() < SMOKE_SHARE:
            rgb = [rgb[0], _smoke(rgb[1], rng)]
        elif visible[0] and _happens(self.troubles.misaligned, rng):
            aux = _misaligned(aux, pair.boxes[1], (w, h), rng)
        elif all(visible) and _happens(self.troubles.haze, rng):
            aux = [aux[0], _smoke(aux[1], rng)]
        degraded = [[_degrade(crop, rng) for crop in crops] for crops in (rgb, aux)]
        if rng.random() < 0.5:
            degraded = [[crop[:, ::-1] for crop in crops] for crops in degraded]
            box[0] = 1 - box[0] - box[2]
        if rng.random() < 0.1:
            degraded = [[crop[::-1] for crop in crops] for crops in degraded]
            box[1] = 1 - box[1] - box[3]
        if pair.away or hidden > HIDDEN_SHARE:
            box[:] = ABSENT_BOX
        return CutPair(np.stack([c[0] for c in degraded]), np.stack([c[1] for c in degraded]), box)

    def _crop(self, image: Image, window: CropWindow, side: int) -> Image:
        out = np.zeros((side, side, 3), dtype=np.uint8)
        self._sampler.sample(image, window, out)
        return out

    def _window(self, cx: float, cy: float, w: float, h: float, factor: float) -> CropWindow:
        box = BoundingBox(cx - w / 2, cy - h / 2, w, h)
        return window_around(box, factor, published=False, square_boxes=self.network.square_boxes)

    def _template_window(self, box: NDArray[np.float64], rng: np.random.Generator) -> CropWindow:
        """Window around a start box with a small error, in a quarter of the pairs a larger one."""
        x, y, w, h = box
        dx, dy, dw, dh = rng.normal(0, 0.035 if rng.random() < 0.75 else 0.1, 4)
        w2, h2 = w * np.exp(dw), h * np.exp(dh)
        return self._window(x + w / 2 + dx * w, y + h / 2 + dy * h, w2, h2, self.network.template_factor)

    def _search_window(self, pair: RealPair, rng: np.random.Generator) -> CropWindow:
        """Window around a box wrong in place, size and shape.

        Sometimes it is enlarged, far from the target, or around another target in the place of the right one.
        """
        x, y, w, h = pair.boxes[1]
        if pair.others and rng.random() < OTHERS_SHARE:
            x2, y2, w2, h2 = pair.others[int(rng.integers(len(pair.others)))]
            x, y = x2 + (w2 - w) / 2, y2 + (h2 - h) / 2
        kind = rng.random()
        if kind < 0.55:
            dx, dy = rng.normal(0, 0.2, 2)
        else:
            dx, dy = rng.uniform(-1.3, 1.3, 2) if kind < 0.93 else rng.uniform(-4, 4, 2)
        both, dw, dh = rng.normal(0, 0.14), *rng.normal(0, 0.13, 2)
        enlargement = rng.uniform(1, 2) if rng.random() < 0.12 else 1.0
        w2, h2 = w * np.exp(np.clip(both + dw, -0.5, 0.5)), h * np.exp(np.clip(both + dh, -0.5, 0.5))
        if _happens(self.troubles.stretched, rng):
            w2, h2 = (w, h) * np.exp(rng.uniform(-STRETCH, STRETCH, 2))
            # the edge that it has not lost stays: the middle moves to one side
            dx, dy = (dx, dy) + rng.integers(-1, 2, 2) * (1 - np.array((w / w2, h / h2))) / 2
        factor = self.network.search_factor * enlargement
        return self._window(x + w / 2 + dx * w2, y + h / 2 + dy * h2, w2, h2, factor)

    def _neighbour(
        self,
        pair: RealPair,
        cameras: list[Crops | None],
        target: tuple[float, float, float, float],
        rng: np.random.Generator,
    ) -> float:
        """Show one of the other targets beside the target or in its place, in the search regions of all cameras.

        Args:
            pair: Says where the other targets are.
            cameras: Crops of each; changed in place.
            target: Its cxcywh as shares of the search region.
            rng: Draws which one and where.

        Returns:
            The covered share of the target.
        """
        other, side = pair.others[int(rng.integers(len(pair.others)))], self.network.search_size
        center, extent = np.array(target[:2]) * side, np.array(target[2:]) * side
        relative = np.clip(other[2:] / np.maximum(pair.boxes[1][2:], 1), 0.6, 1.6)
        size = np.maximum(np.round(extent * relative), 6).astype(int)
        angle = rng.uniform(0, 2 * np.pi)
        reach = 0.1 if rng.random() < REPLACED_SHARE else rng.uniform(0.9, 1.9)
        place = center + reach * extent * (np.cos(angle), np.sin(angle))
        x, y = np.round(place - size / 2).astype(int).tolist()
        if x < 0 or y < 0 or x + size[0] > side or y + size[1] > side:
            return 0.0
        soft: NDArray[Any] = np.zeros((size[1], size[0]), dtype=np.float32)
        soft[1:-1, 1:-1] = 1
        soft = cv2.GaussianBlur(soft, (0, 0), 1.5)[..., None]
        left, top, right, bottom = np.round((*other[:2], *(other[:2] + other[2:]))).astype(int).tolist()
        for images, crops in zip((pair.rgb, pair.aux), cameras, strict=True):
            if images is None or crops is None:
                continue
            piece = images[1][max(top, 0) : bottom, max(left, 0) : right]
            if min(piece.shape[:2]) < 2:
                return 0.0
            piece = cv2.resize(piece, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
            piece = piece.reshape(*piece.shape[:2], -1)
            under = crops[1][y : y + size[1], x : x + size[0]]
            crops[1][y : y + size[1], x : x + size[0]] = (under * (1 - soft) + piece * soft).astype(np.uint8)
        return _covered(center, extent, (x, y), (x + size[0], y + size[1]))

    def _both(
        self, rgb: Crops | None, aux: Crops | None, rng: np.random.Generator
    ) -> tuple[Crops, Crops, tuple[bool, bool]]:
        """Crops of both cameras, and whether each shows the target.

        A missing auxiliary camera is synthetic, a copy of colour, or dead; a missing colour camera a copy of the
        auxiliary one, dim, dead, or a copy that smoke hides after the template.
        """
        if rgb is not None and (matrix := _color_matrix(rng)) is not None:
            rgb = [np.clip(cv2.transform(crop, matrix), 0, 255).astype(np.uint8) for crop in rgb]
        chance = rng.random()
        if rgb is None:
            assert aux is not None  # noqa: S101 - a pair has at least one camera
            if _happens(self.troubles.smoky, rng):
                clear = _dimmed(aux, rng.uniform(0.3, 1.0), rng)
                return [clear[0], _smoke(clear[1], rng)], aux, (False, True)
            if chance < 0.4:
                return [crop.copy() for crop in aux], aux, (True, True)
            if chance < 0.8:
                return self._dead(rng), aux, (False, True)
            return _dimmed(aux, rng.uniform(0.08, 0.5), rng), aux, (False, True)
        if aux is not None:
            return rgb, aux, (True, True)
        if chance < 0.62:
            kind = tuple(SYNTHETIC_AUX)[int(rng.choice(len(SYNTHETIC_AUX), p=tuple(SYNTHETIC_AUX.values())))]
            sensor = draw_sensor(kind, rng)
            return rgb, [sensor.image(crop) for crop in rgb], (True, True)
        if chance < 0.85:
            return rgb, [crop.copy() for crop in rgb], (True, True)
        return rgb, self._dead(rng), (True, False)

    def _dead(self, rng: np.random.Generator) -> Crops:
        return [self._dead_crop(side, rng) for side in (self.network.template_size, self.network.search_size)]

    def _dead_crop(self, side: int, rng: np.random.Generator) -> Image:
        kind = rng.random()
        shape = (side, side, 3)
        if kind < 0.4 or (kind >= 0.7 and not self.others):
            return np.zeros(shape, dtype=np.uint8)
        if kind < 0.6:
            noise = rng.normal(rng.uniform(5, 60), rng.uniform(3, 15), shape)
            return np.clip(noise, 0, 255).astype(np.uint8)
        if kind < 0.7:
            return np.full(shape, rng.integers(150, 256), dtype=np.uint8)
        image = self.others[int(rng.integers(len(self.others)))]
        height, width = image.shape[:2]
        length = rng.uniform(0.15, 0.8) * min(height, width)
        return self._crop(image, self._window(rng.uniform(0, width), rng.uniform(0, height), length, length, 1), side)


def _happens(share: float, rng: np.random.Generator) -> bool:
    """Whether something of that share happens; nothing is drawn for what never does."""
    return share > 0 and bool(rng.random() < share)


def _turned(pair: RealPair, rng: np.random.Generator) -> RealPair:
    """The pair with a search frame that is turned around the target; its box is that of an ellipse that fills it."""
    angle = float(np.clip(rng.normal(0, TURN_DEGREES), -90, 90))
    x, y, w, h = pair.boxes[1].tolist()
    center = x + w / 2, y + h / 2
    matrix = cv2.getRotationMatrix2D(center, angle, 1.0)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    sides = np.hypot(w * cosine, h * sine), np.hypot(w * sine, h * cosine)
    box = np.array((center[0] - sides[0] / 2, center[1] - sides[1] / 2, *sides))
    cameras = (
        None
        if images is None
        else (images[0], cv2.warpAffine(images[1], matrix, images[1].shape[1::-1], borderMode=cv2.BORDER_REPLICATE))
        for images in (pair.rgb, pair.aux)
    )
    rgb, aux = cameras
    return RealPair(rgb, aux, (pair.boxes[0], box), away=pair.away)


def _dimmed(crops: Crops, gain: float, rng: np.random.Generator) -> Crops:
    """Darker and noisy copies."""
    return [np.clip(crop * gain + rng.normal(0, 8, crop.shape), 0, 255).astype(np.uint8) for crop in crops]


def _occlude(crops: list[Image], target: tuple[float, float, float, float], rng: np.random.Generator) -> float:
    """Cover the target with a patch of the same crop, at the same place in every camera; in place.

    Args:
        crops: Search regions of all cameras.
        target: Its cxcywh as shares of the crop.
        rng: Draws place and size; a third of the patches is large enough for all of the target.

    Returns:
        The covered share of the target.
    """
    side = crops[0].shape[0]
    center, extent = np.array(target[:2]) * side, np.array(target[2:]) * side
    if rng.random() < 0.35:
        middle, reach = center + rng.normal(0, 0.06, 2) * extent, extent * rng.uniform(0.5, 0.8, 2)
    else:
        middle, reach = center + rng.normal(0, 0.1, 2) * side, rng.uniform(8, 34, 2)
    x1, y1 = np.clip(middle - reach, 0, side).astype(int)
    x2, y2 = np.clip(middle + reach, 0, side).astype(int)
    if x2 - x1 < 2 or y2 - y1 < 2 or x2 - x1 > 0.8 * side or y2 - y1 > 0.8 * side:
        return 0.0
    left, top = int(rng.integers(0, side - (x2 - x1) + 1)), int(rng.integers(0, side - (y2 - y1) + 1))
    for crop in crops:
        crop[y1:y2, x1:x2] = crop[top : top + y2 - y1, left : left + x2 - x1].copy()
    return _covered(center, extent, (x1, y1), (x2, y2))


def _covered(
    center: NDArray[np.float64], extent: NDArray[np.float64], low: tuple[int, int], high: tuple[int, int]
) -> float:
    """Share of the box `extent` around `center` that the rectangle from `low` to `high` covers."""
    common = np.clip(np.minimum(center + extent / 2, high) - np.maximum(center - extent / 2, low), 0, None)
    return float(common.prod() / max(float(extent.prod()), 1e-6))


def _misaligned(aux: Crops, box: NDArray[np.float64], share: tuple[float, float], rng: np.random.Generator) -> Crops:
    """Crops of an auxiliary camera that is not registered to colour: moved and scaled, the template in half the pairs.

    Args:
        aux: Its crops.
        box: xywh of the target in the search frame, for what a pixel is in the crop.
        share: Width and height of the target as shares of the search region.
        rng: Draws the error.
    """
    sides = np.minimum(rng.uniform(0, MISALIGNED_PX) / np.maximum(box[2:], 1), MISALIGNED_SIDES)
    angle = rng.uniform(0, 2 * np.pi)
    error = sides * (np.cos(angle), np.sin(angle))  # in sides of the box
    scale = float(np.exp(rng.normal(0, MISALIGNED_SCALE)))
    template = rng.random() < 0.5
    moved = []
    for number, crop in enumerate(aux):
        if number == 0 and not template:
            moved.append(crop)
            continue
        side = crop.shape[0]
        dx, dy = error * (share if number else (0.5, 0.5)) * side  # a template is two sides wide
        middle = (side - 1) / 2 * (1 - scale)
        matrix = np.array(((scale, 0, middle + dx), (0, scale, middle + dy)))
        moved.append(cv2.warpAffine(crop, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101))
    return moved


def _smoke(crop: Image, rng: np.random.Generator) -> Image:
    """Dense smoke before a colour camera; the target may be invisible in it."""
    clouds = still_clouds(rng, crop.shape[:2], int(rng.integers(*SMOKE_CELLS, endpoint=True)))
    return veil(crop, clouds, rng.uniform(0.5, 1.0), rng.uniform(0.3, 1.0), rng.uniform(110, 220), rng.uniform(10, 70))


def _color_matrix(rng: np.random.Generator) -> NDArray[np.float32] | None:
    kind = rng.random()
    if kind < 0.15:
        return np.full((3, 3), 1 / 3, dtype=np.float32)
    if kind < 0.5:
        return np.asarray(np.diag(np.exp(rng.normal(0, 0.12, 3))), dtype=np.float32)
    return np.eye(3, dtype=np.float32)[rng.permutation(3)] if kind < 0.55 else None


def _degrade(crop: Image, rng: np.random.Generator) -> Image:
    """Exposure, blur, motion blur, noise and compression, each applied at random."""
    if rng.random() < 0.5:
        gain, offset = np.exp(rng.normal(0, 0.18)), rng.normal(0, 10)
        crop = np.clip(crop.astype(np.float32) * gain + offset, 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.6, 2.2))
    if rng.random() < 0.08:
        length = int(rng.integers(3, 12))
        kernel: NDArray[Any] = np.zeros((length, length), dtype=np.float32)
        kernel[length // 2] = 1
        rotation = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1)
        rotated = cv2.warpAffine(kernel, rotation, (length, length))
        crop = cv2.filter2D(crop, -1, rotated * (1 / max(float(rotated.sum()), 1e-6)))
    if rng.random() < 0.15:
        crop = np.clip(crop + rng.normal(0, rng.uniform(2, 12), crop.shape), 0, 255).astype(np.uint8)
    if rng.random() < 0.12:
        quality = int(rng.integers(10, 50))
        decoded = cv2.imdecode(cv2.imencode(".jpg", crop, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR)
        assert decoded is not None  # noqa: S101 - encoded a moment ago
        crop = decoded
    return crop
