from __future__ import annotations

import copy
import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ckd_core.boxes import cxcywh_to_xyxy, iou
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import WeightsFileError, load_model, metadata_of, save_model
from ckd_core.models.layers.stem import EXACT_BLOCKS
from ckd_core.models.registry import build_model, model_config
from ckd_core.tracking import build_tracker
from ckd_core.tracking.confidence import Thresholds
from ckd_core.tracking.engines import EngineError, EngineSpec, EngineUnavailableError, Prediction, parse_engine
from ckd_core.tracking.engines.build import auto_engine, candidates, engine_for, resolve_engine
from ckd_core.tracking.engines.export import (
    METADATA_FILE,
    ExportError,
    ExportMetadata,
    load_export,
    read_export_metadata,
    write_export,
)
from ckd_core.tracking.engines.pytorch import CompiledEngine
from testkit.reliability.lengths import LONG, ONLY_LONG

MODEL = "sdstrack_tiny_test"
# Median box IoU with torch/fp32 on the same crops.
MEDIAN_IOU = {"fp32": 0.9999, "bf16": 0.99, "fp16": 0.99, "int8": 0.97}


@pytest.fixture(scope="module")
def network():
    """Random weights with attention as peaked as trained ones have it: elimination then ranks by more than noise."""
    network = build_model(MODEL).eval()
    with torch.no_grad():
        for block in network.backbone.blocks:
            block.attn.qkv.weight *= 8
    return network


@pytest.fixture(scope="module")
def crops(network):
    """Twelve smooth template and search crops."""
    generator = np.random.default_rng(5)

    def smooth(count: int, side: int) -> np.ndarray:
        coarse = torch.from_numpy(generator.random((count * 2, 3, 5, 5), dtype=np.float32))
        fine = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic", align_corners=False)
        planes = (fine.clamp(0, 1) * 255).to(torch.uint8).unflatten(0, (count, 2))
        return np.ascontiguousarray(planes.permute(0, 1, 3, 4, 2).numpy())

    return smooth(1, network.config.template_size), smooth(12, network.config.search_size)


def sharp_weights(engine, count: int) -> np.ndarray:
    """Weights that leave one cell per crop: the box is then a smooth function of the network's numbers."""
    weights = np.full((count, 1, engine.spec.grid, engine.spec.grid), 0.01, dtype=np.float32)
    for row in range(count):
        weights[row, 0, (row * 3) % engine.spec.grid, (row * 5) % engine.spec.grid] = 1
    return weights


def predictions_of(engine, crops, batch: int = 1) -> np.ndarray:
    template_crops, search_crops = crops
    engine.template_crops(1)[:] = template_crops
    template = engine.embed_template(engine.template_crops(1))
    templates = engine.join([template] * batch) if batch > 1 else template
    weights = sharp_weights(engine, len(search_crops))
    rows = []
    for row in range(0, len(search_crops), batch):
        engine.search_crops(batch)[:] = search_crops[row : row + batch]
        engine.response_weights(batch)[:] = weights[row : row + batch]
        rows.append(engine.track(templates, engine.search_crops(batch), engine.response_weights(batch)).copy())
    return np.concatenate(rows)


@pytest.fixture(scope="module")
def expected(network, crops) -> np.ndarray:
    return predictions_of(engine_for(copy.deepcopy(network), engine="torch/fp32", device="cpu"), crops)


def median_iou(rows: np.ndarray, expected: np.ndarray) -> float:
    return float(np.median(iou(cxcywh_to_xyxy(rows[:, :4]), cxcywh_to_xyxy(expected[:, :4]))))


def test_a_prediction_is_the_box_at_the_highest_weighted_response(network, crops, expected) -> None:
    grid = network.config.grid
    for row, prediction in enumerate(Prediction(*values) for values in expected):
        cell = ((row * 5) % grid, (row * 3) % grid)  # x, y of the cell with weight 1
        assert np.all(np.abs(expected[row, :2] * grid - cell) < 2)
        assert 0 < prediction.score <= prediction.raw_score < 1
        assert prediction.rival <= 0.0101


@pytest.mark.parametrize("name", ["torch/bf16", "onnx/fp32", "openvino/fp32"])
def test_every_engine_gives_the_same_boxes(network, crops, expected, name: str) -> None:
    try:
        engine = engine_for(copy.deepcopy(network), engine=name, device="cpu", strict_device=True)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    assert engine.name == name
    precision = name.split("/")[1]
    alone = predictions_of(engine, crops)
    assert median_iou(alone, expected) >= MEDIAN_IOU[precision]
    if precision == "fp32":
        np.testing.assert_allclose(alone, expected, atol=2e-5)
    if name == "torch/bf16":
        together = predictions_of(engine, crops, batch=4)
        assert median_iou(together, expected) >= MEDIAN_IOU[precision]


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


def test_a_batch_gives_the_boxes_of_its_targets_alone(network, crops, expected) -> None:
    engine = engine_for(copy.deepcopy(network), engine="torch/fp32", device="cpu")
    np.testing.assert_allclose(predictions_of(engine, crops, batch=3), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["onnx/fp32", "openvino/fp32"])
def test_several_targets_run_side_by_side_and_no_number_of_them_is_converted(
    network, crops, expected, monkeypatch, name: str
) -> None:
    """A live node must not stand still for a conversion when a target is added or a lost one is searched for."""
    try:
        engine = engine_for(copy.deepcopy(network), engine=name, device="cpu", threads=2, strict_device=True)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    monkeypatch.setattr("ckd_core.tracking.engines.convert.search_program", lambda *_: pytest.fail("converted"))
    for batch in (1, 2, 3, 4, 6):  # with 3 the last one has both cores
        np.testing.assert_allclose(predictions_of(engine, crops, batch), expected, atol=2e-5)
    assert len(engine._lanes) == 2
    first, again = predictions_of(engine, crops, 3), predictions_of(engine, crops, 3)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", ["onnx/fp32", "openvino/fp32"])
def test_a_target_that_fails_in_its_lane_is_an_error(network, crops, monkeypatch, name: str) -> None:
    try:
        engine = engine_for(copy.deepcopy(network), engine=name, device="cpu", threads=2, strict_device=True)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
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


def test_compiled_gives_the_same_boxes(network, crops, expected) -> None:
    try:
        engine = engine_for(copy.deepcopy(network), engine="compile", device="cpu", strict_device=True)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(predictions_of(engine, crops), expected, atol=2e-5)


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
    assert resolve_engine(MODEL, None, "openvino", "cpu").engine == "openvino/fp32"
    default = resolve_engine("sdstrack_s128", None, "auto", "cpu")
    assert default.engine == auto_engine("cpu", model_config("sdstrack_s128"))
    assert default.reason == "by rule, not tuned"
    with pytest.raises(EngineError, match="'measure', which leaves the choice open; expected one of: torch/fp32"):
        resolve_engine(MODEL, None, "measure", "cpu")
    with pytest.raises(EngineError, match="unknown engine 'opnvino'"):
        resolve_engine(MODEL, None, "opnvino", "cpu")


def metadata_for(network, engine: str, batches: tuple[int, ...] = (1,)) -> ExportMetadata:
    return ExportMetadata(
        engine=engine,
        device="cpu",
        spec=EngineSpec.of(network.name, network.config),
        batches=batches,
        modalities=("thermal",),
        source="random weights of a test",
        weights_sha256="0" * 64,
        thresholds=Thresholds(doubt=0.5),
        published_geometry=False,
    )


@pytest.mark.parametrize(
    ("name", "batches"),
    [
        ("onnx/fp32", (1, 2)),
        ("openvino/bf16", (1,)),
        # The command `export` makes one in every run of the tests.
        pytest.param("openvino/int8", (1,), marks=pytest.mark.skipif(not LONG, reason=ONLY_LONG)),
    ],
)
def test_an_export_loads_back_with_the_same_boxes(
    tmp_path, network, crops, expected, name: str, batches: tuple[int, ...]
) -> None:
    metadata = metadata_for(network, name, batches)
    reference = engine_for(copy.deepcopy(network), engine="torch", device="cpu")
    template = reference.embed_template(crops[0]).numpy()
    weights = sharp_weights(reference, 12)
    items = [(template, crops[1][row : row + 1], weights[row : row + 1]) for row in range(12)]
    try:
        written = write_export(tmp_path / "export", network, metadata, items if name.endswith("int8") else ())
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    engine, read = load_export(tmp_path / "export", threads=1)
    assert read == written
    assert replace(read, files={}) == metadata
    assert (engine.name, engine.spec) == (name, metadata.spec)
    assert median_iou(predictions_of(engine, crops), expected) >= MEDIAN_IOU[name.split("/")[1]]
    several, _ = load_export(tmp_path / "export", threads=2)
    assert median_iou(predictions_of(several, crops, batch=6), expected) >= MEDIAN_IOU[name.split("/")[1]]
    assert len(several._lanes) == 2
    if name.startswith("onnx"):
        np.testing.assert_allclose(predictions_of(engine, crops, batch=3), expected, atol=2e-5)  # in parts of 2 and 1
        tracker = build_tracker(MODEL, tmp_path / "export", Modality.THERMAL)
        assert (tracker.thresholds.doubt, tracker.config.published_geometry) == (0.5, False)
        assert resolve_engine(MODEL, tmp_path / "export", "auto", "cpu").engine == name
        with pytest.raises(EngineError, match="export for onnx/fp32; export again for torch"):
            build_tracker(MODEL, tmp_path / "export", engine="torch")
        with pytest.raises(ExportError, match="exists; give a new folder"):
            write_export(tmp_path / "export", network, metadata)
        (tmp_path / "export" / "search_2.onnx").unlink()
        with pytest.raises(ExportError, match=r"not complete: search_2\.onnx missing"):
            load_export(tmp_path / "export")


def test_the_manifest_of_an_export_covers_every_file_of_it(tmp_path, network) -> None:
    folder = tmp_path / "export"
    write_export(folder, network, metadata_for(network, "torch/fp32"))
    (folder / ".hidden").write_text("nothing reads it")
    load_export(folder)
    (folder / "more").mkdir()
    (folder / "more" / "weights.bin").write_text("what a program could refer to")
    with pytest.raises(ExportError, match=r"does not name: more/weights\.bin; remove them, or export again"):
        load_export(folder)
    shutil.rmtree(folder / "more")
    plain = json.loads((folder / METADATA_FILE).read_text())
    for name in ("../weights.safetensors", "/etc/passwd", "a\x1b[2J", ""):
        changed = {**plain, "files": {**plain["files"], name: "0" * 64}}
        (folder / METADATA_FILE).write_text(json.dumps(changed))
        with pytest.raises(ExportError, match="expected files of the folder") as refused:
            load_export(folder)
        assert str(refused.value).isprintable()


def test_the_weights_of_an_openvino_export_are_verified_even_where_the_manifest_is_silent(tmp_path, network) -> None:
    folder = tmp_path / "export"
    try:
        write_export(folder, network, metadata_for(network, "openvino/fp32"))
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    plain = json.loads((folder / METADATA_FILE).read_text())
    assert "search_1.bin" in plain["files"]
    del plain["files"]["search_1.bin"]
    (folder / METADATA_FILE).write_text(json.dumps(plain))
    with pytest.raises(ExportError, match=r"search_1\.bin"):
        load_export(folder)


def test_a_small_network_keeps_its_first_layers_exact_in_bf16(tmp_path) -> None:
    network, _ = load_model("sdstrack_s128")
    engine = engine_for(copy.deepcopy(network), engine="torch/bf16", device="cpu", strict_device=True)
    stem = engine._search.network.stem
    assert torch.equal(stem.first.weight, network.stem.first.weight)
    kinds = [next(block.parameters()).dtype for block in stem.blocks]
    assert kinds == [torch.float32] * EXACT_BLOCKS + [torch.bfloat16] * (len(kinds) - EXACT_BLOCKS)
    write_export(tmp_path / "export", network, metadata_for(network, "torch/bf16"))
    loaded, _ = load_export(tmp_path / "export", threads=0)
    search = np.random.default_rng(3).integers(0, 256, (1, 2, 128, 128, 3), dtype=np.uint8)
    template = search[:, :, 32:96, 32:96].copy()
    rows = [one.track(one.embed_template(template), search, one.response_weights(1)) for one in (engine, loaded)]
    np.testing.assert_array_equal(*rows)
    pytest.importorskip("openvino")
    with pytest.raises(EngineUnavailableError, match="must keep its first layers in fp32"):
        engine_for(network, engine="openvino/bf16", device="cpu", strict_device=True)
    with pytest.raises(EngineUnavailableError, match="must keep its first layers in fp32"):
        write_export(tmp_path / "other", network, metadata_for(network, "openvino/bf16"))
    assert not (tmp_path / "other").exists()


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


def test_a_failed_export_leaves_nothing(tmp_path, network) -> None:
    with pytest.raises(ExportError, match="cannot be exported"):
        write_export(tmp_path / "export", network, metadata_for(network, "compile/fp32"))
    pytest.importorskip("openvino")
    with pytest.raises(ExportError, match="needs crops to calibrate on"):
        write_export(tmp_path / "export", network, metadata_for(network, "openvino/int8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "sdstrack-export-1"}'])
def test_foreign_metadata_are_refused(tmp_path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(ExportError, match="cannot be used"):
        read_export_metadata(tmp_path)
    with pytest.raises(ExportError, match="is no export"):
        read_export_metadata(tmp_path / "nowhere")


def test_build_tracker_reads_thresholds_from_the_weights(tmp_path, network) -> None:
    metadata = metadata_of(network, [Modality.THERMAL], "random weights of a test")
    metadata.tracking.update(thresholds={"doubt": 0.45, "unseen": 0.3}, published_geometry=False)
    save_model(tmp_path / "w.safetensors", network, metadata)
    tracker = build_tracker(MODEL, tmp_path / "w.safetensors", Modality.THERMAL, engine="torch", device="cpu")
    assert (tracker.thresholds.doubt, tracker.thresholds.unseen) == (0.45, 0.3)
    assert tracker.config.published_geometry is False
    with pytest.raises(WeightsFileError, match="not of sdstrack_b256"):
        build_tracker("sdstrack_b256", tmp_path / "w.safetensors", engine="torch")
