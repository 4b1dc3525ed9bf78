"""What the synthetic world is made of: the surfaces and real figures that scenes draw from, read once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ckd_core.data.synthetic.actors import Rigid, warm_bodies
from ckd_core.data.synthetic.textures import (
    Surface,
    package_surfaces,
    procedural_surfaces,
    read_rgbt_folder,
    read_rgbt_video,
    rgbt_surfaces,
)

if TYPE_CHECKING:
    from pathlib import Path

VIDEO_STEP = 15


@dataclass(frozen=True)
class World:
    """Sources of a synthetic world.

    seed: of the procedural surfaces. textures: `procedural` needs no file; `packages` adds the photographs inside the
    scikit-image and scikit-learn wheels. rgbt_folders: folders with aligned visible/ and infrared/ pictures;
    rgbt_videos: stems of NAME_visible.mp4 / NAME_infrared.mp4 pairs; both lend surfaces and real warm figures.
    """

    seed: int = 0
    textures: Literal["procedural", "packages"] = "procedural"
    rgbt_folders: tuple[Path, ...] = ()
    rgbt_videos: tuple[Path, ...] = ()

    @cached_property
    def surfaces(self) -> list[Surface]:
        """All surfaces; real ones count several times, so that they are drawn more often than procedural ones."""
        found = procedural_surfaces(self.seed)
        if self.textures == "packages":
            found += 3 * package_surfaces(self.seed)
        real = rgbt_surfaces(self.rgbt_folders, self.rgbt_videos, 2 * VIDEO_STEP)
        return found + 2 * real

    @cached_property
    def bodies(self) -> list[Rigid]:
        """Real warm figures cut out of the aligned pictures."""
        found = []
        for folder in self.rgbt_folders:
            for _, rgb, heat in read_rgbt_folder(folder):
                found += warm_bodies(rgb, heat)
        for video in self.rgbt_videos:
            for _, rgb, heat in read_rgbt_video(video, VIDEO_STEP):
                found += warm_bodies(rgb, heat)
        return [Rigid(colours_heat, alpha) for colours_heat, alpha in found]
