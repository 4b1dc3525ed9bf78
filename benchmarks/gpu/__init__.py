"""Every network by every engine of a GPU, run without anybody watching: `make bench-gpu`, `python -m benchmarks.gpu`.

Needs PyTorch, OpenCV, NumPy and PyYAML (timm brings it); rows of ONNX Runtime need onnxscript. No ROS. A row that fails
or takes too long is a row with its reason; rows that are done are kept in the JSON file, and the next run goes on.

Columns: `golden_px`, largest distance of a side from the published implementation's boxes; `iou_*`, boxes of one step
against those of `torch/fp32` on the CPU; `p50_ms` and `p99_ms`, a whole frame from NumPy images to boxes; `faster`, how
many targets it follows in the time in which the published order, in eager float32, follows one; `gpu_ms`, sum of the
kernels; `launches`, calls that start work on the GPU; `memory_mb`, what the engine takes there; `roofline`, share of
the card's own measured matrix product that the operations reach in `gpu_ms` (on a CPU: in `p50_ms`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "GPU: every network by every engine, from NumPy frames to boxes"
OUT = Path("out/gpu.json")


def run(quick: bool) -> list[Row]:
    """All rows; one row where there is no CUDA device."""
    from benchmarks.gpu.runner import measure_all

    if not torch.cuda.is_available():
        return [{"name": "all", "note": "no CUDA device on this machine"}]
    return measure_all("cuda", quick, minutes=7.5, out=OUT)
