"""The surfaces and real figures from which synthetic scenes are composed, read once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from ckd_core.data.synthetic.actors import Rigid, warm_bodies, warm_boxes
from ckd_core.data.synthetic.textures import (
    Surface,
    make_surface,
    package_surfaces,
    procedural_surfaces,
    read_rgbt_folder,
    read_rgbt_video,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VIDEO_STEP = 5
MAX_GAP = 4  # pictures of one recording between the two of a sighting
SAME_FIGURE = 1.2  # distance of centres, in box sides, up to which two sightings show one figure


@dataclass(frozen=True, slots=True)
class Sighting:
    """One real warm figure in two pictures.

    Attributes:
        first: The earlier picture.
        box: Centre x, y, width and height in its pixels.
        second: The later picture.
        later_box: The same in its pixels.
    """

    first: Surface
    box: NDArray[np.float64]
    second: Surface
    later_box: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Shot:
    recording: str
    surface: Surface
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Sources of a synthetic world.

    Attributes:
        seed: Of the procedural surfaces.
        textures: `procedural` needs no file; `packages` adds the photographs inside the scikit-image and scikit-learn
            wheels.
        rgbt_folders: Folders with aligned visible/ and infrared/ pictures, for surfaces and real warm figures.
        rgbt_videos: Stems of NAME_visible.mp4 / NAME_infrared.mp4 pairs, for the same.
    """

    seed: int = 0
    textures: Literal["procedural", "packages"] = "procedural"
    rgbt_folders: tuple[Path, ...] = ()
    rgbt_videos: tuple[Path, ...] = ()

    @cached_property
    def surfaces(self) -> list[Surface]:
        """All surfaces; real ones are listed several times, so that they are drawn more often than procedural ones."""
        surfaces = procedural_surfaces(self.seed)
        if self.textures == "packages":
            surfaces += 3 * package_surfaces(self.seed)
        return surfaces + 2 * [shot.surface for shot in self._shots[::2]]

    @cached_property
    def _shots(self) -> list[_Shot]:
        """Real aligned pictures in the order in which they were recorded."""
        shots = []
        for folder in self.rgbt_folders:
            for name, rgb, heat in read_rgbt_folder(folder):
                surface = make_surface(rgb, heat, measured_heat=True)
                shots.append(_Shot(name.rpartition("_")[0], surface, warm_boxes(heat)))
        for video in self.rgbt_videos:
            for _, rgb, heat in read_rgbt_video(video, VIDEO_STEP):
                shots.append(_Shot(str(video), make_surface(rgb, heat, measured_heat=True), warm_boxes(heat)))
        return shots

    @cached_property
    def sightings(self) -> list[Sighting]:
        """Real warm figures near one place in two pictures of one recording; both may be the same picture."""
        sightings = []
        for i, shot in enumerate(self._shots):
            for later in self._shots[i : i + MAX_GAP]:
                if later.recording != shot.recording:
                    break
                sightings += [
                    Sighting(shot.surface, box, later.surface, other)
                    for box in shot.boxes
                    for other in later.boxes
                    if _same_figure(box, other)
                ]
        return sightings

    @cached_property
    def bodies(self) -> list[Rigid]:
        """Real warm figures, cut out of the aligned pictures."""
        cuts = []
        for shot in self._shots:
            picture = shot.surface.finest
            cuts += warm_bodies(np.ascontiguousarray(picture[..., :3]), np.ascontiguousarray(picture[..., 3]))
        return [Rigid(color_heat, alpha) for color_heat, alpha in cuts]


def _same_figure(box: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    side = float(np.sqrt(box[2] * box[3]))
    near = float(np.hypot(*(other[:2] - box[:2]))) < SAME_FIGURE * min(box[2], other[2])
    return near and 0.7 < float(np.sqrt(other[2] * other[3])) / side < 1.4
