"""How well a network tracks: whole recordings, painted ones and folders, held in memory and scored by success AUC."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.sequences import open_sequence
from ckd_core.data.synthetic.clips import clip
from ckd_core.data.synthetic.world import World
from ckd_core.evaluation.conditions import AUX_ALONE, FULL, RGB_ALONE
from ckd_core.evaluation.metrics import overlap, success_auc
from ckd_core.frame import BoundingBox, Modality
from ckd_core.tracking.confidence import ConfidenceConfig
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines_torch import TorchEngine
from ckd_core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.synthetic.clips import TargetKind, Trouble
    from ckd_core.evaluation.conditions import Condition
    from ckd_core.frame import MultiModalFrame
    from ckd_core.models.network import TrackingNetwork

CHOICE_WORLD, CHOICE_SEED = 977, 9000  # what `sdstrack choose` looks at
HELD_OUT_WORLD, HELD_OUT_SEED = 424_242, 70_000  # what no training run and no choice has seen
SCENES: tuple[tuple[TargetKind, Trouble], ...] = (
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


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """name; frames in order; boxes [N, 4] xywh pixels, nan = absent; the first frame has a box.

    condition: which cameras the tracker is shown, from the first frame on.
    """

    name: str
    modality: Modality
    frames: tuple[MultiModalFrame, ...]
    boxes: NDArray[np.float64]
    condition: str = FULL.name


def painted_recordings(count: int, frames: int, seed: int, world_seed: int) -> list[Recording]:
    """`count` synthetic clips: modalities in turn, then targets and troubles in turn; the same for the same numbers.

    A clip whose target is not seen in its first frame begins where it is.
    """
    world, made, kinds = World(world_seed), [], tuple(Modality)
    for number in range(count):
        modality = kinds[number % len(kinds)]
        target, trouble = SCENES[number // len(kinds) % len(SCENES)]
        found = clip(seed + number, modality, frames, target=target, trouble=trouble, world=world)
        begin = int(np.flatnonzero(np.isfinite(found.boxes[:, 0]))[0])
        name = f"clip {seed + number} {modality.value} {target} {trouble}"
        made.append(Recording(name, modality, tuple(found.frames[begin:]), found.boxes[begin:]))
    return made


def folder_recording(folder: Path, condition: Condition = FULL) -> Recording:
    """One sequence in the plain layout, read whole. Raises SequenceError, ConditionError (a camera that it lacks)."""
    sequence = open_sequence(folder)
    present = condition.presence(sequence)
    start = sequence.start
    frames = tuple(condition.frame(sequence, index, present) for index in range(start, len(sequence)))
    return Recording(sequence.name, sequence.modality, frames, sequence.boxes[start:], condition.name)


def with_one_camera(folder: Path) -> list[Recording]:
    """The same sequence through each of its cameras alone; nothing where it has only one."""
    sequence = open_sequence(folder)
    if not (sequence.rgb_paths and sequence.aux_paths):
        return []
    return [folder_recording(folder, condition) for condition in (RGB_ALONE, AUX_ALONE)]


def masked(recording: Recording, condition: Condition) -> Recording:
    """The same without one camera after the first frame (`rgb_only` or `aux_only`)."""
    first, *rest = recording.frames
    without_aux = condition.name == RGB_ALONE.name
    shown = [replace(frame, aux=None) if without_aux else replace(frame, rgb=None) for frame in rest]
    return replace(recording, frames=(first, *shown), condition=condition.name)


def success(network: TrackingNetwork, recording: Recording, published_geometry: bool) -> float:
    """Success AUC 0..1 over the annotated frames after the first, with the tracker's defaults on one CPU engine.

    The confidence states stay out: their thresholds belong to finished weights, not to a checkpoint.
    """
    config = TrackerConfig(published_geometry=published_geometry, confidence=ConfidenceConfig(enabled=False))
    tracker = Tracker(TorchEngine(copy.deepcopy(network), "fp32", "cpu"), recording.modality, config)
    tracker.start(recording.frames[0], BoundingBox(*(float(v) for v in recording.boxes[0])))
    boxes = np.array([tracker.update(frame).box for frame in recording.frames[1:]], dtype=np.float64).reshape(-1, 4)
    seen = np.isfinite(recording.boxes[1:]).all(axis=1)
    return success_auc(overlap(boxes[seen], recording.boxes[1:][seen]))


def mean_success(network: TrackingNetwork, recordings: Iterable[Recording], published_geometry: bool) -> float:
    """Mean of `success`; nan without recordings."""
    found = [success(network, recording, published_geometry) for recording in recordings]
    return float(np.mean(found)) if found else float("nan")
