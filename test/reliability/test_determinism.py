"""Same recording, same weights, same engine: the same bytes, in every process and on every distribution's wheels."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from sdstrack_ros.bags.writer import write_bag
from testkit.reliability.lengths import LONG, record
from testkit.reliability.weights import write_tiny_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
FRAMES = 40
ENGINES = ("torch/fp32", "openvino/fp32", "onnx/fp32") if LONG else ("torch/fp32",)
FILES = ("result.json", "boxes.txt", "streaming.json")


def _recording(folder: Path) -> Path:
    """Colour + depth of a square that walks and is away for three frames; depth is missing twice."""
    source = np.random.default_rng(4)
    ground = source.integers(0, 110, (120, 160, 3), dtype=np.uint8)
    patch = source.integers(140, 255, (24, 24, 3), dtype=np.uint8)
    frames: list[MultiModalFrame] = []
    boxes: list[BoundingBox | None] = []
    for i in range(FRAMES):
        rgb, depth = ground.copy(), np.full((120, 160), 4000, np.uint16)
        x, y, here = 20 + 2 * i, 40 + i % 9, not 20 <= i < 23
        if here:
            rgb[y : y + 24, x : x + 24], depth[y : y + 24, x : x + 24] = patch, 1500
        frames.append(MultiModalFrame(i / 30, rgb, None if i in (11, 12) else depth, Modality.DEPTH))
        boxes.append(BoundingBox(x, y, 24, 24) if here else None)
    return write_bag(folder / "bag", frames, boxes)


def _evaluate(python: Path, bag: Path, weights: Path, engine: str, out: Path) -> Mapping[str, str]:
    """Digests of the result files of `sdstrack evaluate` in a process of its own."""
    # Another environment's python finds its own libraries; ours must not come in between.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    }
    environment = {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    out.mkdir()
    # Random weights find nothing: every box is believed, so that all of the network's numbers come out.
    config = out / "node.yaml"
    config.write_text("/**:\n  ros__parameters:\n    confidence: false\n    init_box: [20.0, 40.0, 24.0, 24.0]\n")
    done = subprocess.run(
        [
            str(python), "-m", "sdstrack_ros.cli", "evaluate", str(bag), "--model", "sdstrack_tiny_test",
            "--weights", str(weights), "--device", "cpu", "--engine", engine,
            "--config", str(config), "--latency-ms", "45", "--out", str(out),
        ],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}


@cache
def _material(folder: Path) -> tuple[Path, Path]:
    return _recording(folder), write_tiny_weights(folder / "tiny.safetensors")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _material(tmp_path_factory.mktemp("determinism"))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_write_the_same_bytes(engine: str, material: tuple[Path, Path], tmp_path: Path) -> None:
    bag, weights = material
    runs = [_evaluate(Path(sys.executable), bag, weights, engine, tmp_path / str(run)) for run in range(2)]
    assert runs[0] == runs[1]
    boxes = (tmp_path / "0" / "boxes.txt").read_text().splitlines()
    assert len(boxes) == FRAMES
    assert len(set(boxes)) > 5, "a constant answer would be the same in any case"
    record("determinism", f"two processes, {engine.replace('/', ' ')}", {"digests": runs[0], "equal": True})


def test_both_distributions_write_the_same_bytes(material: tuple[Path, Path], tmp_path: Path) -> None:
    """Jazzy's wheels and Kilted's: an environment each."""
    other = ROOT / (".venv" if Path(sys.prefix).name == ".venv-kilted" else ".venv-kilted") / "bin" / "python"
    if not other.exists():
        pytest.skip(f"needs a second environment, {other.parents[1].name}: make setup ROS_WHEELS=kilted")
    bag, weights = material
    runs = [
        _evaluate(python, bag, weights, "torch/fp32", tmp_path / str(run))
        for run, python in enumerate((Path(sys.executable), other))
    ]
    assert runs[0] == runs[1]
    record("determinism", "Jazzy and Kilted, torch fp32", {"digests": runs[0], "equal": True})
