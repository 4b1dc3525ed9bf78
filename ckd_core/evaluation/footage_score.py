"""How well a network tracks footage: success AUC, also with one camera missing or degraded."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.data.footage import of_sequence
from ckd_core.data.sequences import open_sequence
from ckd_core.evaluation.running.conditions import AUX_ALONE, RGB_ALONE, parse_condition
from ckd_core.evaluation.scoring.metrics import overlap, success_auc
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.pytorch import TorchEngine
from ckd_core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ckd_core.data.footage import Footage
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.frame import MultiModalFrame
    from ckd_core.models.network import TrackingNetwork

CHOICE_WORLD, CHOICE_SEED = 977, 9000  # synthetic recordings on which `sdstrack choose` compares checkpoints
HELD_OUT_WORLD, HELD_OUT_SEED = 424_242, 70_000  # those that no training run and no choice uses
# A colour camera that still delivers, but no longer shows the target: the other one must outweigh it.
DEGRADED_COLOR = ("blackout@rgb", "noise=0.3@rgb", "blur=12@rgb", "overexposed=8@rgb", "smoke=0.9@rgb")


def with_one_camera(folder: Path) -> list[Footage]:
    """The sequence through each of its cameras alone, from its first frame on; empty where it has only one."""
    return _under(folder, (RGB_ALONE, AUX_ALONE))


def with_degraded_color(folder: Path) -> list[Footage]:
    """The sequence once per degradation of `DEGRADED_COLOR`; empty where it has only one camera."""
    return _under(folder, [parse_condition(text) for text in DEGRADED_COLOR])


def _under(folder: Path, conditions: Iterable[Condition]) -> list[Footage]:
    """A sequence of two cameras once under each condition; empty where it has only one."""
    sequence = open_sequence(folder)
    if not (sequence.rgb_paths and sequence.aux_paths):
        return []
    whole = of_sequence(sequence)
    footage = []
    for condition in conditions:
        show = partial(condition.frame, sequence, present=condition.presence(sequence))
        footage.append(replace(whole, name=f"{whole.name} {condition}", frame=cache(show)).since(sequence.start))
    return footage


def masked(footage: Footage, condition: Condition) -> Footage:
    """The footage without one camera after the first frame.

    Args:
        footage: With two cameras.
        condition: `rgb_only` or `aux_only`.
    """
    missing: dict[str, Any] = {"aux": None} if condition.name == RGB_ALONE.name else {"rgb": None}

    def frame(index: int) -> MultiModalFrame:
        whole = footage.frame(index)
        return replace(whole, **missing) if index else whole

    return replace(footage, name=f"{footage.name} {condition.name}", frame=frame)


def success(network: TrackingNetwork, footage: Footage, published_geometry: bool) -> float:
    """Success AUC 0..1 over the annotated frames after the first, with the tracker's defaults on one CPU engine.

    The confidence states are off: their thresholds belong to finished weights, not to a checkpoint.
    """
    config = TrackerConfig(published_geometry=published_geometry, confidence=ConfidenceConfig(enabled=False))
    tracker = Tracker(TorchEngine(copy.deepcopy(network), "fp32", "cpu"), footage.modality, config)
    tracker.start(footage.frame(0), footage.box(0))
    boxes = np.array([tracker.update(footage.frame(index)).box for index in range(1, len(footage))], dtype=np.float64)
    present = footage.present[1:]
    return success_auc(overlap(boxes.reshape(-1, 4)[present], footage.boxes[1:][present]))


def mean_success(network: TrackingNetwork, recordings: Iterable[Footage], published_geometry: bool) -> float:
    """Mean of `success`; nan without recordings."""
    values = [success(network, recording, published_geometry) for recording in recordings]
    return float(np.mean(values)) if values else float("nan")
