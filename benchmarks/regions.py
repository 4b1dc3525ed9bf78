"""What the smaller search regions of targets among others cost in accuracy: a target alone, and in company.

The same box followed twice has company, so that it is looked for in smaller regions wherever it moves as foreseen. The
validation sequences are read below the folder that the environment variable `SEQUENCES` names; without it the row says
so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_core import DEFAULT_MODEL
from ckd_core.data.footage import recording_footage
from ckd_core.data.trials import validation_folders
from ckd_core.evaluation.scoring.metrics import overlap, success_auc
from ckd_core.tracking.engines.build import build_engine
from ckd_core.tracking.looks import is_calm
from ckd_core.tracking.multi import MultiTracker

if TYPE_CHECKING:
    from benchmarks.harness import Row
    from ckd_core.data.footage import Footage
    from ckd_core.tracking.engines.build import BuiltEngine

TITLE = "Search regions: success AUC on the validation sequences with the whole region, and as among other targets"
SEQUENCES = "SEQUENCES"
STEPS = {"every frame": 1, "half the frames": 2}


def run(quick: bool) -> list[Row]:
    """One row per sequence and rate, then the means."""
    root = os.environ.get(SEQUENCES)
    if not root:
        return [{"name": DEFAULT_MODEL, "whole": f"not measured: {SEQUENCES} names no folder"}]
    built = build_engine(DEFAULT_MODEL, engine="auto")
    rows: list[Row] = []
    for rate, step in STEPS.items():
        part: list[Row] = []
        for folder in validation_folders(Path(root))[: 1 if quick else None]:
            footage = recording_footage(folder)
            whole, _ = _success(built, footage, step, 1)
            narrow, share = _success(built, footage, step, 2)
            part.append({"name": f"{footage.name}, {rate}", "whole": whole, "among others": narrow, "narrow": share})
        mean = {
            key: round(float(np.mean([row[key] for row in part])), 3) for key in ("whole", "among others", "narrow")
        }
        rows += [*part, {"name": f"mean, {rate}", **mean}]
    return rows


def _success(built: BuiltEngine, footage: Footage, step: int, copies: int) -> tuple[float, float]:
    """Success AUC of a target that is followed that many times, and the share of frames in which it was calm."""
    tracker = MultiTracker(built.engine, footage.modality, built.config_for(None), built.thresholds)
    frames = range(0, len(footage), step)
    tracker.start(footage.frame(0), dict.fromkeys(range(copies), footage.box(0)))
    boxes, calm = [], 0
    for index in frames[1:]:
        calm += is_calm(tracker._targets[0])
        boxes.append(tracker.update(footage.frame(index))[0].box)
    present = footage.present[frames[1:]]
    score = success_auc(overlap(np.array(boxes, dtype=np.float64)[present], footage.boxes[frames[1:]][present]))
    return round(float(score), 3), round(calm / len(boxes), 2)
