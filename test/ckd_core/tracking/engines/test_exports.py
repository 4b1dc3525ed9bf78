"""Exports of an engine: written, read back, and refused when they are damaged or of something else."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ckd_core.frame import Modality
from ckd_core.models.checkpoint import load_model
from ckd_core.models.layers.stem import EXACT_BLOCKS
from ckd_core.tracking import build_tracker
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.engines import EngineError, EngineSpec, EngineUnavailableError
from ckd_core.tracking.engines.build import engine_for, resolve_engine
from ckd_core.tracking.engines.export import (
    METADATA_FILE,
    ExportError,
    ExportMetadata,
    load_export,
    read_export_metadata,
    write_export,
)
from testkit.engine_boxes import MEDIAN_IOU, median_iou, predictions_of, sharp_weights
from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.small_scenes import TINY


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
        engine, read = load_export(tmp_path / "export", threads=1)  # refused on a CPU without bf16, unlike writing
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    assert read == written
    assert replace(read, files={}) == metadata
    assert (engine.name, engine.spec) == (name, metadata.spec)
    assert median_iou(predictions_of(engine, crops), expected) >= MEDIAN_IOU[name.split("/")[1]]
    tokens = engine.tokens_of(engine.embed_template(crops[0][:1]))
    assert (tokens.shape, tokens.dtype) == (template[0].shape, np.float32)
    assert np.corrcoef(tokens.ravel(), template[0].ravel())[0, 1] > (0.9 if name.endswith("int8") else 0.999)
    several, _ = load_export(tmp_path / "export", threads=2)
    assert median_iou(predictions_of(several, crops, batch=6), expected) >= MEDIAN_IOU[name.split("/")[1]]
    assert len(several._lanes[several.spec.search_size]) == 2
    if name.startswith("onnx"):
        np.testing.assert_allclose(predictions_of(engine, crops, batch=3), expected, atol=2e-5)  # in parts of 2 and 1
        tracker = build_tracker(TINY, tmp_path / "export", Modality.THERMAL)
        assert (tracker.thresholds.doubt, tracker.config.published_geometry) == (0.5, False)
        assert resolve_engine(TINY, tmp_path / "export", "auto", "cpu").engine == name
        with pytest.raises(EngineError, match="export for onnx/fp32; export again for torch"):
            build_tracker(TINY, tmp_path / "export", engine="torch")
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


def test_a_failed_export_leaves_nothing(tmp_path, network) -> None:
    with pytest.raises(ExportError, match="cannot be exported"):
        write_export(tmp_path / "export", network, metadata_for(network, "compile/fp32"))
    pytest.importorskip("openvino")
    with pytest.raises(ExportError, match="needs crops to calibrate on"):
        write_export(tmp_path / "export", network, metadata_for(network, "openvino/int8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "sdstrack-export-2"}'])
def test_foreign_metadata_are_refused(tmp_path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(ExportError, match="cannot be used"):
        read_export_metadata(tmp_path)
    with pytest.raises(ExportError, match="is no export"):
        read_export_metadata(tmp_path / "nowhere")


def test_an_export_of_an_earlier_version_is_refused_with_what_to_do(tmp_path) -> None:
    (tmp_path / "export.json").write_text('{"format": "sdstrack-export-1"}')
    with pytest.raises(
        ExportError, match=r"is sdstrack-export-1; expected 'sdstrack-export-2', which `sdstrack export`"
    ):
        read_export_metadata(tmp_path)
