from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch

from ckd_core.frame import Modality
from ckd_core.models.checkpoint import WeightsFileError, load_model, metadata_of, save_model
from ckd_core.models.registry import build_model, model_config
from ckd_core.tracking import build_tracker
from ckd_core.tracking.engines import EngineError, EngineUnavailableError, Prediction, parse_engine
from ckd_core.tracking.engines.build import auto_engine, candidates, engine_for, resolve_engine
from ckd_core.tracking.engines.pytorch import CompiledEngine
from testkit.engine_boxes import MEDIAN_IOU, median_iou, predictions_of, sharp_cells
from testkit.reliability.lengths import LONG
from testkit.small_scenes import TINY


def test_a_prediction_is_the_box_at_the_highest_weighted_response_and_that_of_its_rival(network, expected) -> None:
    grid = network.config.grid
    for row, prediction in enumerate(Prediction(*values) for values in expected):
        cell, rival_cell = sharp_cells(row, grid)
        assert np.all(np.abs(expected[row, :2] * grid - cell) < 2)
        assert np.all(np.abs(np.array([prediction.rival_cx, prediction.rival_cy]) * grid - rival_cell) < 2)
        assert min(prediction.w, prediction.h, prediction.rival_w, prediction.rival_h) > 0
        assert 0 < prediction.score <= prediction.raw_score < 1
        assert 0.01 < prediction.rival <= 0.2


@pytest.mark.parametrize("name", ["onnx/fp32", "openvino/fp32"])
def test_every_engine_gives_the_same_boxes(converted, crops, expected, name: str) -> None:
    engine = converted(name)
    assert engine.name == name
    alone = predictions_of(engine, crops)
    assert median_iou(alone, expected) >= MEDIAN_IOU["fp32"]
    np.testing.assert_allclose(alone, expected, atol=2e-5)


def test_bf16_gives_nearly_the_same_boxes(network, crops, expected) -> None:
    engine = engine_for(copy.deepcopy(network), engine="torch/bf16", device="cpu", strict_device=True)
    assert engine.name == "torch/bf16"
    for batch in (1, 4):
        assert median_iou(predictions_of(engine, crops, batch), expected) >= MEDIAN_IOU["bf16"]


def test_bf16_uses_the_attention_that_is_faster_on_this_cpu(network, monkeypatch, tmp_path) -> None:
    calls = []
    monkeypatch.setattr("ckd_core.models.layers.vit.F.scaled_dot_product_attention", lambda q, *_: calls.append(1) or q)
    for flags, fused in (("avx512_bf16", False), ("avx512_bf16 amx_bf16", True)):
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
        monkeypatch.setattr("ckd_core.tracking.engines.base.CPU_FLAGS", tmp_path / "cpuinfo")
        engine = engine_for(copy.deepcopy(network), engine="torch/bf16", device="cpu")
        calls.clear()
        engine.track(
            engine.embed_template(engine.template_crops(1)), engine.search_crops(1), engine.response_weights(1)
        )
        assert bool(calls) is fused


@pytest.mark.parametrize("name", ["torch/fp32", "torch/bf16", "onnx/fp32", "openvino/fp32"])
def test_a_blended_template_lies_between_its_two(converted, crops, name: str) -> None:
    engine = converted(name)
    template, search = crops
    first, newest = engine.embed_template(template), engine.embed_template(template[:, :, ::-1].copy())
    weights = np.ones_like(engine.response_weights(1))

    def boxes(tokens: Any) -> np.ndarray:
        return engine.track(tokens, search[:1], weights).copy()

    np.testing.assert_array_equal(boxes(engine.blend(first, newest, 0.0)), boxes(first))
    np.testing.assert_allclose(boxes(engine.blend(first, newest, 1.0)), boxes(newest), atol=0.02)
    half = engine.blend(first, newest, 0.5)
    assert half.shape == first.shape
    assert half.dtype == first.dtype
    middle = (engine.tokens_of(first) + engine.tokens_of(newest)) / 2
    np.testing.assert_allclose(engine.tokens_of(half), middle, atol=0.02)


def test_a_batch_gives_the_boxes_of_its_targets_alone(network, crops, expected) -> None:
    engine = engine_for(copy.deepcopy(network), engine="torch/fp32", device="cpu")
    np.testing.assert_allclose(predictions_of(engine, crops, batch=3), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["onnx/fp32", "openvino/fp32"])
def test_several_targets_run_side_by_side_and_no_number_of_them_is_converted(
    converted, crops, expected, monkeypatch, name: str
) -> None:
    """A live node must not stand still for a conversion when a target is added or a lost one is searched for."""
    engine = converted(name)
    monkeypatch.setattr("ckd_core.tracking.engines.convert.search_program", lambda *_: pytest.fail("converted"))
    for batch in (1, 2, 3, 4, 6):  # with 3 the last one has both cores
        np.testing.assert_allclose(predictions_of(engine, crops, batch), expected, atol=2e-5)
    assert len(engine._lanes[engine.spec.search_size]) == 2
    first, again = predictions_of(engine, crops, 3), predictions_of(engine, crops, 3)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", ["onnx/fp32", "openvino/fp32"])
def test_a_target_that_fails_in_its_lane_is_an_error(converted, crops, monkeypatch, name: str) -> None:
    engine = converted(name)
    run = engine._run

    def broken(program, inputs):
        if len(inputs) == 3 and inputs[1].max() == 0:
            raise EngineError("a black crop")
        return run(program, inputs)

    monkeypatch.setattr(engine, "_run", broken)
    black = crops[1].copy()
    black[5] = 0
    with pytest.raises(EngineError, match="a black crop"):
        predictions_of(engine, (crops[0], black), batch=6)
    predictions_of(engine, crops, batch=6)  # and the next frame goes on


def test_compiled_gives_the_same_boxes(network, crops) -> None:
    """Compiling takes as long as there are blocks: the short form has two, one of them with elimination."""
    if not LONG:
        network = build_model(TINY, depth=2, ce_blocks=(1,), cross_blocks=(0, 1)).eval()
    try:
        engine = engine_for(copy.deepcopy(network), engine="compile", device="cpu", strict_device=True)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    plain = engine_for(copy.deepcopy(network), engine="torch/fp32", device="cpu")
    np.testing.assert_allclose(predictions_of(engine, crops), predictions_of(plain, crops), atol=2e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["torch/fp32", "torch/fp16", "cudagraph/fp32", "cudagraph/fp16", "cudagraph/bf16"])
def test_cuda_engines_give_the_same_boxes(network, crops, expected, name: str) -> None:
    engine = engine_for(copy.deepcopy(network), engine=name, device="cuda", strict_device=True)
    for batch in (1, 3):
        assert median_iou(predictions_of(engine, crops, batch), expected) >= MEDIAN_IOU[name.split("/")[1]] - 1e-3


def test_input_buffers_are_the_same_memory_every_frame(network) -> None:
    engine = engine_for(copy.deepcopy(network), engine="torch", device="cpu")
    for make in (engine.search_crops, engine.template_crops, engine.response_weights):
        assert make(2) is make(2)


@pytest.mark.parametrize("name", ["torch/int8", "tensorflow", "torch/", "openvino/fp16", ""])
def test_an_unknown_engine_is_refused_with_a_list_of_engines(network, name: str) -> None:
    with pytest.raises(EngineError, match="expected one of: auto, measure, torch/fp32"):
        engine_for(network, engine=name, device="cpu")


def test_engine_names_have_default_precisions() -> None:
    assert parse_engine("torch") == ("torch", "fp32")
    assert parse_engine("openvino/int8") == ("openvino", "int8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a CUDA device")
@pytest.mark.parametrize(
    ("engine", "device", "message"),
    [
        ("torch", "cuda", "device cuda is not available here"),
        ("cudagraph", "cpu", "CUDA graphs need a CUDA device"),
        ("tensorrt", "cpu", "cannot run tensorrt on cpu"),
        ("openvino/int8", "cpu", "must be calibrated"),
    ],
)
def test_a_missing_engine_or_device_is_one_warning_or_an_error(
    network, caplog, engine: str, device: str, message: str
) -> None:
    with caplog.at_level(logging.WARNING, "ckd_core"):
        fallen_back = engine_for(copy.deepcopy(network), engine=engine, device=device)
    assert (fallen_back.name, fallen_back.device) == ("torch/fp32", "cpu")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert message in warnings[0]
    with pytest.raises(EngineUnavailableError, match=message):
        engine_for(copy.deepcopy(network), engine=engine, device=device, strict_device=True)


def test_a_device_without_room_for_the_network_is_left_or_an_error(network, caplog, monkeypatch) -> None:
    real = torch.nn.Module.to

    def full(self: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        if kwargs.get("device") == torch.device("cuda"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", full)
    monkeypatch.setattr("ckd_core.tracking.engines.build.resolve_device", lambda device, strict: device)
    with caplog.at_level(logging.WARNING, "ckd_core"):
        engine = engine_for(copy.deepcopy(network), engine="torch/fp16", device="cuda")
    assert (engine.name, engine.device) == ("torch/fp32", "cpu")
    assert "torch/fp32 does not start on cuda (OutOfMemoryError: CUDA out of memory" in caplog.text
    with pytest.raises(EngineUnavailableError, match=r"OutOfMemoryError: CUDA out of memory\. Tried"):
        engine_for(copy.deepcopy(network), engine="torch/fp16", device="cuda", strict_device=True)


def test_unknown_devices_and_negative_threads_are_refused(network) -> None:
    with pytest.raises(EngineError, match="unknown device 'gpu'"):
        engine_for(network, device="gpu")
    with pytest.raises(EngineError, match="threads is -1"):
        engine_for(network, threads=-1)


def test_auto_names_an_engine_that_exists() -> None:
    large, small = model_config("sdstrack_b256"), model_config("sdstrack_s128")
    assert parse_engine(auto_engine("cpu", large))
    assert auto_engine("cuda:1", small) == "cudagraph/fp16"
    # OpenVINO cannot keep single convolutions in float32
    assert auto_engine("cpu", small) != "openvino/bf16"
    assert "openvino/bf16" in candidates("cpu", large)
    assert "openvino/bf16" not in candidates("cpu", small)
    assert "torch/bf16" in candidates("cpu", small)


def test_an_engine_is_resolved_without_being_started() -> None:
    assert resolve_engine(TINY, None, "openvino", "cpu").engine == "openvino/fp32"
    default = resolve_engine("sdstrack_s128", None, "auto", "cpu")
    assert default.engine == auto_engine("cpu", model_config("sdstrack_s128"))
    assert default.reason == "by rule, not tuned"
    with pytest.raises(EngineError, match="'measure', which leaves the choice open; expected one of: torch/fp32"):
        resolve_engine(TINY, None, "measure", "cpu")
    with pytest.raises(EngineError, match="unknown engine 'opnvino'"):
        resolve_engine(TINY, None, "opnvino", "cpu")


def test_when_the_compiler_fails_the_fallback_has_full_precision(monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler")

    network, _ = load_model("sdstrack_s128")
    reference = engine_for(copy.deepcopy(network), engine="torch/fp32", device="cpu")
    monkeypatch.setattr(CompiledEngine, "track", broken)
    engine = engine_for(copy.deepcopy(network), engine="compile/bf16", device="cpu")
    assert engine.name == "torch/fp32"
    search = np.random.default_rng(3).integers(0, 256, (1, 2, 128, 128, 3), dtype=np.uint8)
    template = search[:, :, 32:96, 32:96].copy()
    rows = [one.track(one.embed_template(template), search, one.response_weights(1)) for one in (engine, reference)]
    np.testing.assert_array_equal(*rows)


def test_build_tracker_reads_thresholds_from_the_weights(tmp_path, network) -> None:
    metadata = metadata_of(network, [Modality.THERMAL], "random weights of a test")
    metadata.tracking.update(thresholds={"doubt": 0.45, "unseen": 0.3}, published_geometry=False)
    save_model(tmp_path / "w.safetensors", network, metadata)
    tracker = build_tracker(TINY, tmp_path / "w.safetensors", Modality.THERMAL, engine="torch", device="cpu")
    assert (tracker.thresholds.doubt, tracker.thresholds.unseen) == (0.45, 0.3)
    assert tracker.config.published_geometry is False
    with pytest.raises(WeightsFileError, match="not of sdstrack_b256"):
        build_tracker("sdstrack_b256", tmp_path / "w.safetensors", engine="torch")
