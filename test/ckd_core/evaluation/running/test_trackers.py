"""A run's numbers are those of the engine that its manifest names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from ckd_core.evaluation.benchmark import open_plan
from ckd_core.evaluation.running.inputs import RunError
from ckd_core.evaluation.running.options import BenchmarkOptions
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.frame import Modality
from ckd_core.tracking.engines import EngineError, EngineUnavailableError, build
from ckd_core.tracking.tracker import Tracker
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.evaluation.running.plan import RunPlan


def plan_of(scenes: Path, weights: Path, **changes: str) -> RunPlan:
    words = {"engine": "auto", "device": "cpu"} | changes
    where = {"dataset": "folder", "root": scenes, "out": scenes / "never"}
    return open_plan(BenchmarkOptions(**where, **words, model=TINY, weights=weights, threads=1))  # type: ignore[arg-type]


def test_auto_becomes_one_engine_for_all_devices(
    scenes: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "auto_engine", lambda device, _: "torch/bf16" if device == "cpu" else "torch/fp16")
    assert plan_of(scenes, tiny_weights).tracker.describe()["engine"] == "torch/bf16"
    monkeypatch.setattr(build, "resolve_device", lambda device, strict: device)
    with pytest.raises(RunError, match="'auto' would be torch/bf16 on cpu, torch/fp16 on cuda:0; name one for all"):
        plan_of(scenes, tiny_weights, device="cpu, cuda:0")
    with pytest.raises(RunError, match="'auto' may differ between the machines of the pool 'ray'"):
        plan_of(scenes, tiny_weights, pool="ray")


def test_unknown_engines_are_refused_before_the_dataset_is_read(tmp_path: Path) -> None:
    for engine, message in (
        ("measure", "'measure', which leaves the choice open"),
        ("opnvino", "unknown engine 'opnvino'"),
    ):
        with pytest.raises(EngineError, match=message):
            plan_of(tmp_path / "nowhere", tmp_path / "w.safetensors", engine=engine)
    with pytest.raises(EngineError, match="is 'auto', which leaves the choice open"):
        ModelSpec(TINY, __file__, "auto").describe()  # type: ignore[arg-type]  # any file


def test_an_unavailable_engine_has_no_fallback(tiny_weights: Path) -> None:
    tracker = ModelSpec(TINY, tiny_weights, "cudagraph/fp16")
    with pytest.raises(EngineUnavailableError, match="CUDA graphs need a CUDA device"):
        tracker.build(Modality.DEPTH, "cpu", 1)


def test_the_cameras_motion_is_foreseen_where_it_is_asked_for(tiny_weights: Path) -> None:
    for asked in (False, True):
        tracker = ModelSpec(TINY, tiny_weights, ego_motion=asked).build(Modality.DEPTH, "cpu", 1)
        assert isinstance(tracker, Tracker)
        assert (tracker.camera_motion is not None) is asked


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a CUDA device")
def test_a_missing_device_is_named(scenes: Path, tiny_weights: Path) -> None:
    plan = plan_of(scenes, tiny_weights, engine="torch/fp32", device="cpu,cuda:1")
    with pytest.raises(RunError, match="device cuda:1 is not available here; give --device cpu, or auto"):
        run_benchmark(plan)
    assert replace(plan, pool="ray").decisive()["devices"]["cuda:1"] is None  # type: ignore[index]  # a mapping
    with pytest.raises(EngineError, match="unknown device 'gpu'"):
        plan_of(scenes, tiny_weights, engine="torch/fp32", device="gpu")
