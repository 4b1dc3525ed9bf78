"""Frames with the truth about them, from folders or painted: to choose weights, find thresholds and check exports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.sequences import Truth, open_folder
from ckd_core.data.synthetic import World, clip
from ckd_core.frame import BoundingBox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.sequences import Sequence
    from ckd_core.data.synthetic import SyntheticClip
    from ckd_core.data.synthetic.clips import TargetKind, Trouble
    from ckd_core.frame import Modality, MultiModalFrame

# What happens in painted clips, in turn. The target walks out early and has time to be found again.
SCENES: tuple[tuple[TargetKind, Trouble], ...] = (("person", "none"), ("rigid", "dark"), ("deforming", "smoke"))
ABSENT = (0.2, 0.6)
CLIP_SIZE = (320, 240)
CLIP_FPS = 15.0


@dataclass(frozen=True, slots=True, eq=False)
class Footage(Truth):
    """A recording whose truth is known.

    boxes: [N, 4] float64 xywh in reference pixels, nan where the target cannot be seen. labelled: [N] bool, False where
    nobody knows. frame: gives frame i.
    """

    name: str
    modality: Modality
    boxes: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    frame: Callable[[int], MultiModalFrame]

    def since(self, first: int) -> Footage:
        """The same without the frames before `first`."""
        return replace(
            self,
            boxes=self.boxes[first:],
            labelled=self.labelled[first:],
            frame=lambda index: self.frame(first + index),
        )

    def box(self, index: int) -> BoundingBox:
        """True box of a frame in which the target is present."""
        return BoundingBox(*(float(value) for value in self.boxes[index]))


def of_sequence(sequence: Sequence) -> Footage:
    """Footage of a sequence on disk; every image is read when first asked for, and kept."""
    return Footage(sequence.name, sequence.modality, sequence.boxes, sequence.labelled, cache(sequence.frame))


def of_clip(name: str, recording: SyntheticClip) -> Footage:
    """Footage of a painted clip, all of it labelled."""
    labelled = np.ones(len(recording.boxes), dtype=np.bool_)
    return Footage(name, recording.modality, recording.boxes, labelled, recording.frames.__getitem__)


def folder_footage(folders: Iterable[Path]) -> list[Footage]:
    """Every sequence of the folders (each a sequence or a folder of sequences). Errors: SequenceError."""
    return [of_sequence(sequence) for folder in folders for sequence in open_folder(folder)]


def painted_footage(seed: int, modalities: Iterable[Modality], scenes: int, frames: int) -> list[Footage]:
    """`scenes` painted clips a modality, in each of which the target is absent for a while; the same for a seed."""
    world = World(seed)
    made = []
    for modality in modalities:
        for index in range(scenes):
            target, trouble = SCENES[index % len(SCENES)]
            recording = clip(
                seed * 100 + index, modality, frames, CLIP_SIZE, CLIP_FPS,
                target=target, trouble=trouble, absent=ABSENT, world=world,
            )  # fmt: skip
            made.append(of_clip(f"painted {modality.value} {seed}-{index}", recording))
    return made
