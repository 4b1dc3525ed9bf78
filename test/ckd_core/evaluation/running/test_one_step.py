"""One step from true boxes: the number is the network's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.sequences import open_sequence, write_sequence
from ckd_core.evaluation.running.one_step import STARTS, one_step
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.result import StageTiming, TrackResult, TrackState

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = 40


class Wider:
    """A tracker that keeps its start box, ten percent wider."""

    label = "wider"

    def __init__(self) -> None:
        self.box = BoundingBox(0, 0, 0, 0)

    def build(self, modality: Modality, device: str, threads: int) -> Wider:
        del modality, device, threads
        return self

    def describe(self) -> dict[str, object]:
        return {"kind": "wider"}

    def start(self, frame: MultiModalFrame, box: BoundingBox) -> BoundingBox:
        del frame
        self.box = BoundingBox(box.x, box.y, box.w * 1.1, box.h)
        return box

    def update(self, frame: MultiModalFrame) -> TrackResult:
        return TrackResult(
            stamp=frame.stamp, box=self.box, score=1.0, state=TrackState.TRACKING, rgb_present=True, aux_present=True,
            timing=StageTiming(0.0, 0.0, 0.0), reference_size=(60, 80),
        )  # fmt: skip

    def reset(self) -> None:
        """Nothing is kept."""


def test_every_start_is_a_true_box_and_the_answer_is_held_against_the_next(tmp_path: Path) -> None:
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    boxes = np.tile((10.0, 10.0, 10.0, 30.0), (FRAMES, 1))
    boxes[20] = np.nan
    frames = (MultiModalFrame(index / 30, image, image, Modality.THERMAL) for index in range(FRAMES))
    sequence = open_sequence(write_sequence(tmp_path / "still", frames, boxes))
    row = one_step(Wider(), sequence, "cpu", 1)
    assert row.starts == STARTS
    assert row.shape == pytest.approx(3.0)
    assert row.iou == pytest.approx(1 / 1.1, abs=1e-6)
    assert row.width == pytest.approx(1.1)
    assert row.height == pytest.approx(1.0)
