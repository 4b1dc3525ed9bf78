"""From settings to objects: what a run starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ckd_core.models.checkpoint import WeightsFileError, metadata_of, save_model
from ckd_core.models.ckd import CKDError
from ckd_core.models.ckd_small import CKDSmall
from ckd_core.models.registry import build_model
from ckd_core.settings import SettingsError, read_settings
from ckd_core.training.build import build_network
from ckd_core.training.config import TrainSettings

RECIPE = Path(__file__).parents[3] / "config" / "train" / "default_ckd_s128.yaml"


@pytest.fixture(autouse=True)
def material(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe's folder of training material, from which these tests read nothing."""
    monkeypatch.setenv("SDSTRACK_MATERIAL", str(tmp_path))


def shared_weights(path: Path, **overrides: object) -> Path:
    network = build_model("sdstrack_s128", seed=5, **overrides)
    save_model(path, network, metadata_of(network, ["thermal"], "test"))
    return path


def test_ckd_starts_as_the_shared_encoder_tracked(tmp_path: Path) -> None:
    """Before the first step every branch sees alike, and the fused head of two equal streams answers like one."""
    file = shared_weights(tmp_path / "shared.safetensors")
    network = build_network(read_settings(RECIPE, TrainSettings, [f"model.init.file={file}"])).eval()
    assert isinstance(network, CKDSmall)
    generator = torch.Generator().manual_seed(0)
    images = (torch.randn(2, 3, side, side, generator=generator) for side in (64, 128))
    template, search = (torch.cat((image, image), dim=1) for image in images)
    with torch.no_grad():
        output = network.forward_train(template, search, masks=torch.ones(2, 256, dtype=torch.bool))
    for maps, colour, aux in zip(output.fused, output.teacher_rgb, output.teacher_aux, strict=True):
        torch.testing.assert_close(maps, colour, rtol=1e-4, atol=1e-5)
        assert torch.equal(colour, aux)
    shared = build_model("sdstrack_s128", seed=5)
    assert torch.equal(network.teacher_tir.mix[0].weight, shared.encoder.mix[0].weight)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (["model.init.file=nowhere.safetensors"], WeightsFileError, "nowhere.safetensors cannot be read"),
        (["model.init={kind: shared_encoder}"], SettingsError, "expected exactly one of them"),
        (
            ["model.name=sdstrack_s128", "model.overrides={}", "objective={kind: dense}"],
            SettingsError,
            "shared_encoder fills a small CKD network; sdstrack_s128 is none",
        ),
        (
            ["model.overrides={mix_channels: 64, teachers: true}"],
            CKDError,
            r"encoder.mix.0.weight is \[128, .*expected",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_named(
    changes: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    file = shared_weights(tmp_path / "shared.safetensors")
    with pytest.raises(error, match=message):
        build_network(read_settings(RECIPE, TrainSettings, [f"model.init.file={file}", *changes]))


def test_weights_of_another_network_are_no_shared_encoder(tmp_path: Path) -> None:
    other = build_model("sdstrack_tiny_test")
    save_model(tmp_path / "other.safetensors", other, metadata_of(other, ["thermal"], "test"))
    changes = [f"model.init.file={tmp_path / 'other.safetensors'}"]
    with pytest.raises(CKDError, match=r"no stem\..* to start .*expected the weights of sdstrack_s128"):
        build_network(read_settings(RECIPE, TrainSettings, changes))
