"""Weight files: what is written comes back, and nothing else is ever loaded, not even by halves."""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from ckd_core.frame import Modality
from ckd_core.models.checkpoint import (
    WeightsFileError,
    default_weights,
    load_model,
    load_strictly,
    load_tensors,
    metadata_of,
    save_model,
    save_tensors,
)
from ckd_core.models.registry import build_model

if TYPE_CHECKING:
    from pathlib import Path

NAME = "sdstrack_tiny_test"


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model(NAME, seed=4, ce_keep=0.6)


@pytest.fixture
def weights(tmp_path: Path, model: Any) -> Path:
    path = tmp_path / "weights.safetensors"
    save_model(path, model, metadata_of(model, [Modality.THERMAL, "depth"], "a test"))
    return path


def test_what_is_saved_comes_back(weights: Path, model: Any) -> None:
    loaded, metadata = load_model(weights, model=NAME, modality="depth")
    assert not loaded.training
    assert loaded.config == model.config
    assert loaded.config.ce_keep == 0.6
    assert metadata == load_tensors(weights)[1]
    assert (metadata.model, metadata.modalities, metadata.source) == (NAME, ("thermal", "depth"), "a test")
    assert len(metadata.sha256) == 64
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]  # no temporary file stays


@pytest.mark.parametrize("overrides", [{"shared_student": True}, {"teachers": True}, {"ce_blocks": ()}])
def test_every_shape_of_ckd(tmp_path: Path, overrides: dict[str, Any]) -> None:
    model = build_model("ckd_tiny_test", **overrides)
    save_model(tmp_path / "ckd", model, metadata_of(model, ["thermal"], "test"))
    loaded, _ = load_model(tmp_path / "ckd")
    assert loaded.config == model.config
    assert (loaded.rgb_branch is loaded.tir_branch) == model.config.shared_student
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)


def test_compact_weights(tmp_path: Path) -> None:
    model = build_model(NAME).compact().eval()
    save_model(tmp_path / "small", model, metadata_of(model, ["event"], "test"))
    loaded, _ = load_model(tmp_path / "small")
    assert loaded.config.compact
    assert loaded.state_dict().keys() == model.state_dict().keys()


def test_half_precision_file_loads_as_float32(tmp_path: Path, model: Any) -> None:
    full, half = tmp_path / "full", tmp_path / "half"
    save_model(full, model, metadata_of(model, ["depth"], "test"))
    save_model(half, model, metadata_of(model, ["depth"], "test"), dtype=torch.float16)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    loaded, _ = load_model(half)
    for key, tensor in model.state_dict().items():
        restored = loaded.state_dict()[key]
        assert restored.dtype == tensor.dtype
        torch.testing.assert_close(restored, tensor, rtol=1e-3, atol=1e-6)


def test_other_model_or_modality(weights: Path) -> None:
    with pytest.raises(WeightsFileError, match="holds weights of sdstrack_tiny_test, not of ckd_b256"):
        load_model(weights, model="ckd_b256")
    with pytest.raises(WeightsFileError, match="holds weights for thermal, depth, not for event"):
        load_model(weights, modality=Modality.EVENT)


def test_names_and_missing_files(tmp_path: Path) -> None:
    assert default_weights("x").parts[-3:] == ("ckd_core", "weights", "x.safetensors")
    with pytest.raises(WeightsFileError, match="ckd_tiny_test has no weights inside the package"):
        load_model("ckd_tiny_test")
    with pytest.raises(WeightsFileError, match="cannot be read"):
        load_model(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsFileError, match="cannot be read"):
        load_tensors(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.01, 0.5, 0.99999])
def test_truncated(weights: Path, share: float) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsFileError, match="incomplete safetensors file"):
        load_model(weights)


def test_one_changed_bit(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 1
    weights.write_bytes(data)
    with pytest.raises(WeightsFileError, match="was changed: its SHA-256 is"):
        load_model(weights)


@pytest.mark.parametrize(
    ("field", "value"), [("modalities", "event"), ("model", "sdstrack_b256"), ("source", "elsewhere")]
)
def test_changed_metadata(weights: Path, field: str, value: str) -> None:
    rewrite_header(weights, {field: value})
    with pytest.raises(WeightsFileError, match="was changed"):
        load_model(weights)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "other", "its format is 'other'; it must be 'sdstrack-weights-1'"),
        ("modalities", "sonar", "'sonar' is not a valid Modality"),
        ("config", "{", "metadata are incomplete"),
        ("sha256", None, "metadata are incomplete: 'sha256'"),
    ],
)
def test_unusable_metadata(weights: Path, field: str, value: str | None, message: str) -> None:
    rewrite_header(weights, {field: value})
    for read in (load_model, load_tensors):
        with pytest.raises(WeightsFileError, match=message):
            read(weights)


def rewrite_header(path: Path, changes: dict[str, str | None]) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    pairs = {**header["__metadata__"], **changes}
    header["__metadata__"] = {key: value for key, value in pairs.items() if value is not None}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(weights: Path, value: float) -> None:
    tensors, metadata = load_tensors(weights)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1)
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[1] = value
    save_tensors(weights, tensors, metadata)
    with pytest.raises(WeightsFileError, match=f"holds numbers in {name} that are not finite"):
        load_model(weights)


def test_foreign_safetensors(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsFileError, match="has no metadata"):
        load_model(tmp_path / "plain.safetensors")


def test_weights_that_only_start_a_training(tmp_path: Path, model: Any) -> None:
    metadata = dataclasses.replace(metadata_of(model, [], "test"), model="ostrack_b256")
    save_tensors(tmp_path / "start", {"a": torch.zeros(2)}, metadata)
    assert list(load_tensors(tmp_path / "start")[0]) == ["a"]
    with pytest.raises(WeightsFileError, match="holds ostrack_b256, which is not a tracker"):
        load_model(tmp_path / "start")


def test_keys_that_do_not_fit_change_nothing(model: Any) -> None:
    network = build_model(NAME)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    good = dict(model.state_dict())
    fewer = {key: value for key, value in good.items() if key != "backbone.norm.bias"}
    wrong = {**good, "backbone.norm.bias": torch.zeros(7)}
    for tensors, message in (
        (fewer, "missing backbone.norm.bias, unexpected nothing"),
        ({**good, "more": torch.zeros(1)}, "missing nothing, unexpected more"),
        (wrong, r"backbone.norm.bias \[7\] instead of \[48\]"),
    ):
        with pytest.raises(WeightsFileError, match=message):
            load_strictly(network, tensors, "file")
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


def test_shared_student_refuses_two_different_ones() -> None:
    apart, shared = build_model("ckd_tiny_test"), build_model("ckd_tiny_test", shared_student=True)
    with pytest.raises(WeightsFileError, match=r"rgb_branch\..* and tir_branch\..* must be one tensor"):
        load_strictly(shared, apart.state_dict(), "file")


def test_failed_write_leaves_the_old_file(weights: Path, model: Any, monkeypatch: Any) -> None:
    before = weights.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WeightsFileError, match="No space left on device"):
        save_model(weights, model, metadata_of(model, ["depth"], "other"))
    assert weights.read_bytes() == before
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 10_000_000}, "asks for depth = 10000000"),
        ({"depth": 1000}, "asks for 1000 blocks, and it holds 1 tensors"),
        ({"depth": "x"}, "'config.depth' is 'x' .*expected an integer"),
        ({"depth": 10**400}, "asks for depth = 1000"),
        ({"width": True}, "'config.width' is True .*expected an integer"),
        ({"ce_blocks": [0] * 5000}, "asks for ce_blocks"),
        ({"search_size": 1e300}, "asks for search_size"),
        ({"surprise": 1}, "unknown key 'config.surprise'"),
    ],
)
def test_a_configuration_that_the_tensors_contradict_is_refused_unbuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, changes: dict[str, Any], message: str
) -> None:
    metadata = metadata_of(model, ["depth"], "a test")
    path = tmp_path / "deep.safetensors"
    config = {**metadata.config, **changes}
    save_tensors(path, {"token": torch.zeros(1)}, dataclasses.replace(metadata, config=config))
    monkeypatch.setattr("ckd_core.models.checkpoint.build_model", lambda *_, **__: pytest.fail("a network was built"))
    with pytest.raises(WeightsFileError, match=message) as refusal:
        load_model(path)
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("config", ["[]", "null", '"text"', "[" * 200_000, "1" * 5000])
def test_a_configuration_that_is_no_mapping_is_refused(weights: Path, config: str) -> None:
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["config"] = config
    changed = json.dumps(header).encode()
    weights.write_bytes(struct.pack("<Q", len(changed)) + changed + data[8 + length :])
    with pytest.raises(WeightsFileError, match="is not a weight file of this package") as refusal:
        load_model(weights)
    assert len(str(refusal.value)) < 1000


def test_a_file_of_another_length_than_its_header_says_is_not_read(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with weights.open("rb+") as stream:
        stream.truncate(40 << 30)  # sparse: 40 GB that no disk holds
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: pytest.fail("the file was read whole"))
    for load in (load_tensors, load_model):
        with pytest.raises(WeightsFileError, match="42949672960 bytes; its header says"):
            load(weights)
