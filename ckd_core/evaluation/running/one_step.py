"""One step from a true box: what a network says of a box before any tracking, in a minute for all sequences.

A tracker starts on a true box and answers for the next frame. Nothing drifts, nothing is re-acquired, and the size is
taken as predicted, so the number is the network's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.boxes import iou_xywh
from ckd_core.evaluation.running.trackers import ModelSpec, NanoTrackSpec
from ckd_core.frame import BoundingBox
from ckd_core.tracking.config import PUBLISHED_MOTION, TrackerConfig

if TYPE_CHECKING:
    from collections.abc import Sequence as Many
    from pathlib import Path

    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.runner import Progress
    from ckd_core.evaluation.running.trackers import TrackerSpec

STARTS = 25  # per sequence, spread evenly
LONG_SHAPE = 2.3  # long side / short side from which on targets are counted apart


@dataclass(frozen=True, slots=True)
class OneStepRow:
    """One tracker on one sequence, or the mean over several.

    Attributes:
        sequence: Its name, or that of the mean.
        tracker: The tracker's name.
        starts: True boxes that it started on.
        shape: Median long side / short side of those boxes.
        iou: Mean overlap with the true box of the next frame.
        width: Median of predicted / true width.
        height: Median of predicted / true height.
    """

    sequence: str
    tracker: str
    starts: int
    shape: float
    iou: float
    width: float
    height: float


def one_step_table(plan: RunPlan, nanotrack: Path | None, progress: Progress) -> list[OneStepRow]:
    """Rows of every sequence and tracker, then the means: all, and those with shapes above `LONG_SHAPE`."""
    spec = plan.tracker
    trackers: list[TrackerSpec] = [_without_memory(spec) if isinstance(spec, ModelSpec) else spec]
    if nanotrack is not None:
        trackers += [NanoTrackSpec(nanotrack, stream) for stream in ("rgb", "aux")]
    names = plan.inputs.names
    rows = []
    for number, name in enumerate(names):
        sequence = plan.inputs.sequences[name]
        for tracker in trackers:
            if isinstance(tracker, NanoTrackSpec) and tracker.stream == "aux" and not sequence.aux_paths:
                continue
            rows.append(one_step(tracker, sequence, plan.device, plan.threads))
        progress(name, number + 1, len(names))
    means = []
    for tracker in trackers:
        own = [row for row in rows if row.tracker == tracker.label]
        means.append(_mean("mean", own))
        if long := [row for row in own if row.shape > LONG_SHAPE]:
            means.append(_mean(f"mean, shape above {LONG_SHAPE}", long))
    return rows + means


def one_step(tracker: TrackerSpec, sequence: Sequence, device: str, threads: int) -> OneStepRow:
    """One tracker on one sequence."""
    running = tracker.build(sequence.modality, device, threads)
    both = np.flatnonzero(sequence.present[:-1] & sequence.present[1:])
    starts = np.unique(both[np.linspace(0, len(both) - 1, min(STARTS, len(both))).round().astype(int)])
    boxes = []
    for start in starts.tolist():
        running.start(sequence.frame(start), BoundingBox(*sequence.boxes[start].tolist()))
        boxes.append(np.array(running.update(sequence.frame(start + 1)).box, dtype=np.float64))
    answers, truths = np.stack(boxes), sequence.boxes[starts + 1]
    width, height = np.median(answers[:, 2:] / truths[:, 2:], axis=0).tolist()
    sides = sequence.boxes[starts, 2:]
    shape = float(np.median(sides.max(axis=1) / sides.min(axis=1)))
    overlap = float(np.mean(iou_xywh(answers, truths)))
    return OneStepRow(sequence.name, tracker.label, len(starts), shape, overlap, width, height)


def _without_memory(spec: ModelSpec) -> ModelSpec:
    config = spec.config or TrackerConfig()
    return replace(
        spec,
        config=replace(config, motion=PUBLISHED_MOTION, confidence=replace(config.confidence, enabled=False)),
        name=spec.label,
    )


def _mean(name: str, rows: Many[OneStepRow]) -> OneStepRow:
    shape, overlap, width, height = (
        float(np.mean([getattr(row, field) for row in rows])) for field in ("shape", "iou", "width", "height")
    )
    return OneStepRow(name, rows[0].tracker, sum(row.starts for row in rows), shape, overlap, width, height)
