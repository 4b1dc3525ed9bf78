"""What engines answer on the same crops, for comparing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.boxes import cxcywh_to_xyxy, iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ckd_core.tracking.engines import Engine

# Median box IoU with torch/fp32 on the same crops.
MEDIAN_IOU = {"fp32": 0.9999, "bf16": 0.99, "fp16": 0.99, "int8": 0.97}


def sharp_weights(engine: Engine, count: int) -> NDArray[np.float32]:
    """Weights that leave a cell for the peak and one for its rival: the boxes there hardly depend on rounding."""
    grid = engine.spec.grid
    weights = np.full((count, 1, grid, grid), 0.01, dtype=np.float32)
    for row in range(count):
        for weight, (x, y) in zip((1.0, 0.2), sharp_cells(row, grid), strict=True):
            weights[row, 0, y, x] = weight
    return weights


def sharp_cells(row: int, grid: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The cell (x, y) of the peak that `sharp_weights` leave in a row of a batch, and that of its rival."""
    x, y = (row * 5) % grid, (row * 3) % grid
    return (x, y), ((x + grid // 2) % grid, (y + grid // 2) % grid)


def predictions_of(
    engine: Engine, crops: tuple[NDArray[np.uint8], NDArray[np.uint8]], batch: int = 1
) -> NDArray[np.float32]:
    """Predictions of an engine, one row per search crop.

    Args:
        engine: Any.
        crops: One template crop, and the search crops.
        batch: Search crops per call; a divisor of their number.
    """
    template_crops, search_crops = crops
    engine.template_crops(1)[:] = template_crops
    template = engine.embed_template(engine.template_crops(1))
    templates: Any = engine.join([template] * batch) if batch > 1 else template
    weights = sharp_weights(engine, len(search_crops))
    rows = []
    for row in range(0, len(search_crops), batch):
        engine.search_crops(batch)[:] = search_crops[row : row + batch]
        engine.response_weights(batch)[:] = weights[row : row + batch]
        rows.append(engine.track(templates, engine.search_crops(batch), engine.response_weights(batch)).copy())
    return np.concatenate(rows)


def median_iou(rows: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Median overlap of the boxes of two arrays of predictions."""
    return float(np.median(iou(cxcywh_to_xyxy(rows[:, :4]), cxcywh_to_xyxy(expected[:, :4]))))
