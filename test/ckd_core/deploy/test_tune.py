from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckd_core.deploy import tune as module
from ckd_core.deploy.tune import TuneError, fastest, tune
from ckd_core.tracking import build_tracker
from ckd_core.tracking.engines import EngineError
from ckd_core.tracking.engines.tuned import Measured, read_tuned
from testkit.reliability.lengths import LONG
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _few_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that start at once, one that cannot."""
    monkeypatch.setenv("SDSTRACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "candidates", lambda *_: ["torch/bf16", "torch/fp32", "cudagraph/fp16"])
    monkeypatch.setattr(module, "MAX_ROUNDS", 3)


def test_the_verb_stores_what_auto_uses_then(
    tiny_weights: Path, scenes: Path, tmp_path: Path, call: Callable[..., str]
) -> None:
    words = ("--model", TINY, "--weights", tiny_weights, "--device", "cpu", "--sequences", scenes)
    output = call("tune", *words, "--threads", 1)
    (file,) = (tmp_path / "cache" / "tuned").iterdir()
    choice = read_tuned(file)
    assert set(choice.measured) <= {"torch/bf16", "torch/fp32"}
    assert "torch/fp32" in choice.measured
    assert choice.measured["torch/fp32"].agreement == 1.0
    assert "CUDA graphs need a CUDA device" in choice.refused["cudagraph/fp16"]
    assert f"is {choice.engine}; boxes compared on real crops; wrote {file}" in output
    said = call("run", scenes / "b", "--init", "10,20,24,20", *words[:6], "--threads", 1, "--out", tmp_path / "o")
    assert f"{choice.engine} on cpu (tuned here on {choice.made[:10]}" in said
    tracker = build_tracker(TINY, tiny_weights, device="cpu", threads=1)
    assert tracker.engine.name == choice.engine
    lines = call(
        "benchmark", "-d", "folder", "--root", scenes, "--out", tmp_path / "b", "--engine", "auto", "--threads", 1,
        *words[:6], "--no-report",
    )  # fmt: skip
    assert f"{choice.engine} (tuned here on " in lines


def test_an_engine_with_other_boxes_is_no_choice(
    tiny_weights: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.engine_for

    def shifted(network: Any, *, engine: str, **options: Any) -> Any:
        built = original(network, engine=engine, **options)
        if engine == "torch/bf16":
            track = built.track
            built.track = lambda *values: track(*values) + np.float32(0.02)
        return built

    monkeypatch.setattr(module, "engine_for", shifted)
    report = tune(TINY, tiny_weights, "cpu", 1, sequences=[scenes])
    assert report.choice.engine == "torch/fp32"
    assert list(report.choice.measured) == ["torch/fp32"]
    assert "its boxes differ: median IoU 0." in report.choice.refused["torch/bf16"]
    monkeypatch.setattr(module, "candidates", lambda *_: ["torch/bf16"])
    with pytest.raises(TuneError, match="no engine on cpu gives the boxes of torch/fp32"):
        tune(TINY, tiny_weights, "cpu", 1, sequences=[scenes])


def test_equally_fast_engines_are_told_apart_by_their_precision() -> None:
    def row(ms: float) -> Measured:
        return Measured(ms, 0.1, 1.0)

    assert fastest({"torch/bf16": row(4.0), "openvino/fp32": row(4.1), "onnx/fp32": row(4.15)}) == "openvino/fp32"
    assert fastest({"torch/bf16": row(4.0), "openvino/fp32": row(4.3)}) == "torch/bf16"
    with pytest.raises(EngineError, match="nothing was measured"):
        fastest({})


def test_an_export_is_not_tuned(tmp_path: Path) -> None:
    with pytest.raises(TuneError, match="an export has one engine, expected a weight file"):
        tune(TINY, tmp_path)


@pytest.mark.skipif(not LONG, reason="quantising takes a minute: in the long form only")
def test_int8_is_made_measured_and_used(
    tiny_weights: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf", reason="the optional package nncf is not installed")
    monkeypatch.setattr(module, "fastest", lambda _: module.INT8)
    monkeypatch.setitem(module.MEDIAN_IOU, "int8", 0.0)  # boxes of random weights say nothing
    report = tune(TINY, tiny_weights, "cpu", 1, sequences=[scenes], int8=True)
    assert report.choice.measured[module.INT8].median_ms > 0
    assert (tmp_path / "cache" / "exports" / report.choice.export / "export.json").is_file()
    tracker = build_tracker(TINY, tiny_weights, device="cpu", threads=1)
    assert tracker.engine.name == module.INT8
