from __future__ import annotations

import csv
import json
import logging
import re
import shutil

import numpy as np
import pytest

from ckd_core.boxes import iou_xywh
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import load_tensors
from ckd_core.tracking import build_tracker
from ckd_core.tracking.engines import EngineUnavailableError
from ckd_core.tracking.engines.export import MEDIAN_IOU, ExportError, load_export, read_export_metadata
from testkit.small_scenes import TINY


def boxes_of(folder) -> np.ndarray:
    with (folder / "boxes.csv").open(newline="") as stream:
        return np.array([[float(row[key]) for key in "xywh"] for row in csv.DictReader(stream)])


@pytest.mark.parametrize("engine", ["torch/bf16", "onnx/fp32", "openvino/int8"])
def test_an_export_is_written_compared_and_tracked_with(tmp_path, call, scenes, tiny_weights, engine: str) -> None:
    pytest.importorskip({"torch": "torch", "onnx": "onnxscript", "openvino": "nncf"}[engine.split("/")[0]])
    common = ["--model", TINY, "--threads", 1]
    export = tmp_path / "export"
    handler = logging.NullHandler()
    logging.getLogger("nncf").addHandler(handler)
    output = call(
        "export", "--out", export, "--model", TINY, "--weights", tiny_weights, "--engine", engine,
        "--sequences", scenes, "--crops", 12, "--batches", "1,2" if engine.startswith("onnx") else "1",
    )  # fmt: skip
    logging.getLogger("nncf").removeHandler(handler)
    assert handler.level == logging.NOTSET, "a library's logger may have handlers of the application"
    assert f"{TINY} for {engine} on cpu" in output
    agreement = float(re.search(r"on \d+ real crops: ([\d.]+)", output).group(1))
    assert (agreement < MEDIAN_IOU[engine.split("/")[1]]) == ("warning" in output)
    assert list(tmp_path.iterdir()) == [export]
    metadata = read_export_metadata(export)
    assert metadata.weights_sha256 == load_tensors(tiny_weights)[1].sha256
    assert (metadata.engine, metadata.batches, metadata.modalities) == (
        engine,
        (1, 2) if engine.startswith("onnx") else (1,),
        ("thermal", "depth"),
    )

    output = call("run", scenes / "a", "--weights", export, "--out", tmp_path / "by_export", "--no-video", *common)
    assert f"{engine} on cpu" in output
    call("run", scenes / "a", "--weights", tiny_weights, "--engine", "torch/fp32", "--device", "cpu",
         "--out", tmp_path / "by_torch", "--no-video", *common)  # fmt: skip
    first, second = boxes_of(tmp_path / "by_export"), boxes_of(tmp_path / "by_torch")
    if engine.endswith("fp32"):
        np.testing.assert_allclose(first[:2], second[:2], atol=0.01)
    if not engine.endswith("int8"):  # int8 on random weights proves nothing; see test_real_sequences.py
        assert iou_xywh(first[:2], second[:2]).min() > 0.9  # later frames: random weights amplify any difference
    if engine.startswith("onnx"):
        output = call(
            "benchmark", "--dataset", "folder", "--root", scenes, "--out", tmp_path / "bench", "--weights", export,
            "--engine", engine, "--device", "cpu", "--sequences", "a", "--no-report", *common,
        )  # fmt: skip
        manifest = json.loads((tmp_path / "bench" / "manifest.json").read_text())
        assert manifest["run"]["tracker"]["engine"] == engine


@pytest.fixture(scope="module")
def exported(tmp_path_factory, call, tiny_weights):
    folder = tmp_path_factory.mktemp("exported") / "folder"
    call("export", "--out", folder, "--model", TINY, "--weights", tiny_weights, "--engine", "torch/bf16")
    return folder


def test_without_sequences_synthetic_frames_are_compared(tmp_path, call, tiny_weights) -> None:
    output = call("export", "--out", tmp_path / "m", "--model", TINY, "--weights", tiny_weights, "--engine", "torch")
    assert re.search(r"on \d+ synthetic crops: 1\.0000", output)
    assert read_export_metadata(tmp_path / "m").engine == "torch/fp32"


def test_a_damaged_export_is_refused(tmp_path, exported) -> None:
    for name, damage, message in (
        ("cut", lambda path: path.write_bytes(path.read_bytes()[:-9]), "was changed after it was written: weights"),
        ("gone", lambda path: path.unlink(), r"not complete: weights\.safetensors missing"),
    ):
        copy = shutil.copytree(exported, tmp_path / name)
        damage(copy / "weights.safetensors")
        with pytest.raises(ExportError, match=message):
            load_export(copy)
    copy = shutil.copytree(exported, tmp_path / "emptied")
    text = json.loads((copy / "export.json").read_text())
    (copy / "export.json").write_text(json.dumps({**text, "files": {}}))
    with pytest.raises(ExportError, match=r"holds files that its export\.json does not name: weights\.safetensors"):
        load_export(copy)


def test_an_export_for_another_device_says_so(exported) -> None:
    with pytest.raises(EngineUnavailableError, match="not available here"):
        build_tracker(TINY, exported, Modality.THERMAL, device="cuda:7")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "openvino/int8"], "int8 is calibrated on real crops; give --sequences"),
        (["--engine", "compile"], "compile/fp32 cannot be exported; expected one of: torch, onnx"),
        (["--engine", "caffe"], "unknown engine 'caffe'"),
        (["--engine", "auto"], "'auto', which leaves the choice open; expected one of: torch/fp32"),
        (["--engine", "torch", "--device", "gpu"], "unknown device 'gpu'; expected one of: cpu, cuda"),
        (["--engine", "torch", "--device", "auto"], "device is 'auto'; an export is for one device, cpu or cuda"),
        (["--engine", "torch", "--sequences", "nowhere"], "no folder nowhere"),
        (["--engine", "torch", "--batches", "1,x"], "expected numbers such as 1,2,4"),
        (["--engine", "torch", "--batches", "0"], "a program is for 1 target or more"),
        (["--engine", "torch", "--model", "sdstrack_b256"], "holds weights of sdstrack_tiny_test, not of"),
        (["--engine", "torch", "--weights", "nowhere.safetensors"], "nowhere.safetensors cannot be read"),
    ],
)
def test_bad_options_are_refused_and_leave_nothing(tmp_path, call, tiny_weights, words, message: str) -> None:
    common = ["export", "--out", tmp_path / "made", "--model", TINY, "--weights", tiny_weights]
    output = " ".join(call(*common, *words).replace("│", " ").split())
    assert message in output
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tmp_path, call, tiny_weights) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    output = call("export", "--out", tmp_path, "--model", TINY, "--weights", tiny_weights, "--engine", "torch")
    assert "exists; give a new folder" in output
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_a_folder_without_an_export_is_refused(tmp_path) -> None:
    with pytest.raises(ExportError, match=r"has no export\.json"):
        build_tracker(TINY, tmp_path, Modality.THERMAL)
