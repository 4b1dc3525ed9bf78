"""How well a network tracks: whole recordings, painted ones and folders, scored by success AUC."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.data.footage import of_clip, of_sequence
from ckd_core.data.sequences import open_sequence
from ckd_core.data.synthetic.clips import clip
from ckd_core.data.synthetic.world import World
from ckd_core.evaluation.running.conditions import AUX_ALONE, RGB_ALONE, parse_condition
from ckd_core.evaluation.scoring.metrics import overlap, success_auc
from ckd_core.frame import Modality
from ckd_core.tracking.confidence import ConfidenceConfig
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.pytorch import TorchEngine
from ckd_core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ckd_core.data.footage import Footage
    from ckd_core.data.synthetic.clips import TargetKind, Trouble
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.frame import MultiModalFrame
    from ckd_core.models.network import TrackingNetwork

CHOICE_WORLD, CHOICE_SEED = 977, 9000  # what `sdstrack choose` looks at
HELD_OUT_WORLD, HELD_OUT_SEED = 424_242, 70_000  # what no training run and no choice has seen
# A camera that still delivers, but no longer the target: what the other one must outweigh.
SPOILT = ("blackout@rgb", "noise=0.3@rgb", "blur=12@rgb", "overexposed=8@rgb", "smoke=0.9@rgb")
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


def painted_recordings(count: int, frames: int, seed: int, world_seed: int) -> list[Footage]:
    """`count` synthetic clips: modalities in turn, then targets and troubles in turn; the same for the same numbers.

    A clip whose target is not seen in its first frame begins where it is.
    """
    world, made, kinds = World(world_seed), [], tuple(Modality)
    for number in range(count):
        modality = kinds[number % len(kinds)]
        target, trouble = SCENES[number // len(kinds) % len(SCENES)]
        found = clip(seed + number, modality, frames, target=target, trouble=trouble, world=world)
        footage = of_clip(f"clip {seed + number} {modality.value} {target} {trouble}", found)
        made.append(footage.since(footage.start))
    return made


def folder_recording(folder: Path) -> Footage:
    """One sequence in the plain layout, from its first box on. Raises SequenceError."""
    sequence = open_sequence(folder)
    return of_sequence(sequence).since(sequence.start)


def with_one_camera(folder: Path) -> list[Footage]:
    """The same sequence through each of its cameras alone, from its first frame on; nothing where it has only one."""
    return _under(folder, (RGB_ALONE, AUX_ALONE))


def with_spoilt_colour(folder: Path) -> list[Footage]:
    """The same sequence with colour spoilt in the ways of `SPOILT`; nothing where there is no other camera to trust."""
    return _under(folder, [parse_condition(text) for text in SPOILT])


def _under(folder: Path, conditions: Iterable[Condition]) -> list[Footage]:
    """A sequence of two cameras once under each condition, nothing where it has only one."""
    sequence = open_sequence(folder)
    if not (sequence.rgb_paths and sequence.aux_paths):
        return []
    whole = of_sequence(sequence)
    found = []
    for condition in conditions:
        show = partial(condition.frame, sequence, present=condition.presence(sequence))
        found.append(replace(whole, name=f"{whole.name} {condition}", frame=cache(show)).since(sequence.start))
    return found


def masked(footage: Footage, condition: Condition) -> Footage:
    """The same without one camera after the first frame (`rgb_only` or `aux_only`)."""
    missing: dict[str, Any] = {"aux": None} if condition.name == RGB_ALONE.name else {"rgb": None}

    def frame(index: int) -> MultiModalFrame:
        whole = footage.frame(index)
        return replace(whole, **missing) if index else whole

    return replace(footage, name=f"{footage.name} {condition.name}", frame=frame)


def success(network: TrackingNetwork, footage: Footage, published_geometry: bool) -> float:
    """Success AUC 0..1 over the annotated frames after the first, with the tracker's defaults on one CPU engine.

    The confidence states stay out: their thresholds belong to finished weights, not to a checkpoint.
    """
    config = TrackerConfig(published_geometry=published_geometry, confidence=ConfidenceConfig(enabled=False))
    tracker = Tracker(TorchEngine(copy.deepcopy(network), "fp32", "cpu"), footage.modality, config)
    tracker.start(footage.frame(0), footage.box(0))
    boxes = np.array([tracker.update(footage.frame(index)).box for index in range(1, len(footage))], dtype=np.float64)
    seen = footage.present[1:]
    return success_auc(overlap(boxes.reshape(-1, 4)[seen], footage.boxes[1:][seen]))


def mean_success(network: TrackingNetwork, recordings: Iterable[Footage], published_geometry: bool) -> float:
    """Mean of `success`; nan without recordings."""
    found = [success(network, recording, published_geometry) for recording in recordings]
    return float(np.mean(found)) if found else float("nan")
