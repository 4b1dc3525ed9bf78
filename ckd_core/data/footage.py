"""Footage with ground truth, recorded or synthetic: to select weights, calibrate thresholds and check exports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.sequences import Truth, open_folder, open_sequence
from ckd_core.data.synthetic import World, clip
from ckd_core.frame import BoundingBox, Modality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.sequences import Sequence
    from ckd_core.data.synthetic import SyntheticClip
    from ckd_core.data.synthetic.clips import TargetKind, Trouble
    from ckd_core.frame import MultiModalFrame

    Scene = tuple[TargetKind, Trouble]

# What synthetic recordings show, in turn: every target under every trouble.
SCENES: tuple[Scene, ...] = (
    ("person", "none"),
    ("rigid", "smoke"),
    ("deforming", "dark"),
    ("person", "smoke"),
    ("rigid", "none"),
    ("deforming", "none"),
    ("person", "dark"),
    ("rigid", "dark"),
    ("deforming", "smoke"),
)
# What synthetic footage with absences shows, in turn. The target leaves early, so that there is time to find it again.
ABSENCE_SCENES: tuple[Scene, ...] = (("person", "none"), ("rigid", "dark"), ("deforming", "smoke"))
ABSENT = (0.2, 0.6)


@dataclass(frozen=True, slots=True, eq=False)
class Footage(Truth):
    """A recording with ground truth.

    Attributes:
        name: For tables and messages.
        modality: Kind of the auxiliary images.
        boxes: [N, 4] float64 xywh in reference pixels, nan where the target is not visible.
        labelled: [N] bool, False where there is no annotation.
        frame: Returns frame i.
    """

    name: str
    modality: Modality
    boxes: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    frame: Callable[[int], MultiModalFrame]

    def since(self, first: int) -> Footage:
        """Return the footage from frame `first` on."""
        return replace(
            self,
            boxes=self.boxes[first:],
            labelled=self.labelled[first:],
            frame=lambda index: self.frame(first + index),
        )

    def box(self, index: int) -> BoundingBox:
        """Return the true box of a frame in which the target is present."""
        return BoundingBox(*(float(value) for value in self.boxes[index]))


def of_sequence(sequence: Sequence) -> Footage:
    """Wrap a sequence on disk; every frame is read at its first use and stays in memory."""
    return Footage(sequence.name, sequence.modality, sequence.boxes, sequence.labelled, cache(sequence.frame))


def of_clip(name: str, recording: SyntheticClip) -> Footage:
    """Wrap a synthetic clip, all of it labelled."""
    labelled = np.ones(len(recording.boxes), dtype=np.bool_)
    return Footage(name, recording.modality, recording.boxes, labelled, recording.frames.__getitem__)


def folder_footage(folders: Iterable[Path]) -> list[Footage]:
    """Open every sequence of the folders (each a sequence or a folder of sequences).

    Raises:
        SequenceError: A folder is not a sequence and holds none.
    """
    return [of_sequence(sequence) for folder in folders for sequence in open_folder(folder)]


def recording_footage(folder: Path) -> Footage:
    """Open one sequence in the plain layout, from its first box on.

    Raises:
        SequenceError: The folder is not a sequence, or has no box.
    """
    sequence = open_sequence(folder)
    return of_sequence(sequence).since(sequence.start)


def synthetic_footage(seed: int, modalities: Iterable[Modality], scenes: int, frames: int) -> list[Footage]:
    """Render `scenes` clips per modality, each with a while without the target; deterministic by seed."""
    clips = [
        (seed * 100 + index, modality, ABSENCE_SCENES[index % len(ABSENCE_SCENES)])
        for modality in modalities
        for index in range(scenes)
    ]
    return _render(clips, frames, World(seed), ABSENT)


def synthetic_recordings(seed: int, world_seed: int, count: int, frames: int) -> list[Footage]:
    """Render `count` clips: modalities in turn, then targets and troubles in turn; deterministic by the seeds.

    A clip starts at the first frame in which its target is visible.
    """
    kinds = tuple(Modality)
    clips = [
        (seed + number, kinds[number % len(kinds)], SCENES[number // len(kinds) % len(SCENES)])
        for number in range(count)
    ]
    return [footage.since(footage.start) for footage in _render(clips, frames, World(world_seed))]


def _render(
    clips: Iterable[tuple[int, Modality, Scene]],
    frames: int,
    world: World,
    absent: tuple[float, float] | None = None,
) -> list[Footage]:
    """One piece of footage per (seed, modality, scene)."""
    return [
        of_clip(
            f"clip {seed} {modality.value} {target} {trouble}",
            clip(seed, modality, frames, target=target, trouble=trouble, absent=absent, world=world),
        )
        for seed, modality, (target, trouble) in clips
    ]
