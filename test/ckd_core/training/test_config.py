from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ckd_core.models.registry import build_model
from ckd_core.settings import SettingsError, read_settings
from ckd_core.training.config import TrainSettings
from ckd_core.training.optim import OptimError, build_optimizer, learning_rate_factor, select_parameters

CONFIGS = sorted((Path(__file__).parents[3] / "config" / "train").glob("*.yaml"))
# docs/trackers.md "SDSTrack: optimisation" and docs/trackers.md "CKD: configurations": epochs, global batch, first
# learning rate, file of the trainable list
ROWS = {
    "sdstrack_rgbt": (40, 64, 1e-4, "sdstrack_trainable"),
    "sdstrack_rgbd": (15, 64, 5e-5, None),
    "sdstrack_rgbe": (50, 64, 1e-4, "sdstrack_trainable"),
    "ckd_dropmae": (30, 20, 5e-5, "ckd_trainable"),
    "ckd_sot": (30, 20, 5e-5, "ckd_trainable"),
    "ckd_share": (30, 20, 5e-5, None),
    "ckd_maxce_trainhead": (10, 128, 5e-5, "ckd_trainable_mce_head"),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid_and_fits_its_network(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDSTRACK_MATERIAL", str(tmp_path))  # nothing is read from it here
    settings = read_settings(path, TrainSettings)
    with torch.device("meta"):
        network = build_model(settings.model.name, **settings.model.overrides)
    assert all(select_parameters(network, settings.optim.groups))


@pytest.mark.parametrize("name", ROWS)
def test_published_rows(name: str, golden_dir: Path) -> None:
    epochs, batch, lr, listed = ROWS[name]
    settings = read_settings(Path(__file__).parents[3] / "config" / "train" / f"{name}.yaml", TrainSettings)
    assert (settings.run.epochs, settings.run.batch_size, settings.optim.groups[0].lr) == (epochs, batch, lr)
    if listed is None:
        return
    stored = json.loads((golden_dir / f"{listed}.json").read_text())
    with torch.device("meta"):
        network = build_model(settings.model.name, **settings.model.overrides)
    optimizer, names = build_optimizer(network, settings.optim)
    trainable = [n for n, p in network.named_parameters() if p.requires_grad]
    assert sorted(trainable) == sorted(stored["trainable_names"])
    assert len(names) == len(stored["param_groups"])
    for group, own, expected in zip(optimizer.param_groups, names, stored["param_groups"], strict=True):
        assert group["lr"] == pytest.approx(expected["lr"])
        assert group["weight_decay"] == expected["weight_decay"]
        assert list(group["betas"]) == expected["betas"]
        assert group["eps"] == expected["eps"]
        assert len(own) == expected["n_tensors"]
        assert sum(p.numel() for p in group["params"]) == expected["n_params"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run.epoch=3", r"unknown key 'run.epoch'; expected one of .*epochs"),
        ("run.epochs=many", r"'run.epochs' is 'many' \(str\); expected an integer"),
        ("run.epochs=0", r"'run.epochs' is 0; expected 1 or more"),
        ("run.epochs=true", r"'run.epochs' is True \(bool\); expected an integer"),
        ("optim.groups.0.lr=7", r"'lr' is 7.0; expected 0.0 to 1.0|'optim.groups.0.lr' is 7.0; expected 0.0 to 1.0"),
        ("optim.precision=fp8", r"'optim.precision' is 'fp8' .*expected one of fp32, bf16, fp16"),
        (
            "objective.kind=magic",
            r"'objective.kind' is 'magic'; expected one of tracking, dense, sdstrack, ckd, factor",
        ),
        ("data.train.0.kind=lmdb", r"'data.train.0.kind' is 'lmdb'; expected one of sequences, synthetic"),
        ("run.samples_per_epoch=3", r"'samples_per_epoch' is 3; expected at least the batch_size"),
        ("run", r"'run' is not a change of .*; expected key.subkey=value"),
    ],
)
def test_what_does_not_fit_names_file_key_and_expectation(change: str, message: str) -> None:
    path = next(p for p in CONFIGS if p.stem == "sdstrack_rgbt")
    with pytest.raises(SettingsError, match=message) as caught:
        read_settings(path, TrainSettings, [change])
    assert "sdstrack_rgbt.yaml" in str(caught.value)


def test_missing_files_and_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the configuration .*nowhere.yaml: No such file"):
        read_settings(tmp_path / "nowhere.yaml", TrainSettings)
    (tmp_path / "a.yaml").write_text("model: {name: x}\n")
    with pytest.raises(SettingsError, match=r"a.yaml: key 'model.modalities' is missing; expected a list"):
        read_settings(tmp_path / "a.yaml", TrainSettings)
    (tmp_path / "b.yaml").write_text("model: [}\n")
    with pytest.raises(SettingsError, match=r"b.yaml is not valid YAML"):
        read_settings(tmp_path / "b.yaml", TrainSettings)


def test_changes_reach_into_lists() -> None:
    path = next(p for p in CONFIGS if p.stem == "sdstrack_rgbt")
    settings = read_settings(path, TrainSettings, ["optim.groups.1.lr=2e-3", "run.seed=5", "optim.ema_decay=null"])
    assert settings.optim.groups[1].lr == 2e-3
    assert settings.run.seed == 5
    assert settings.optim.ema_decay is None


def test_a_group_that_fits_nothing_is_a_mistake() -> None:
    path = next(p for p in CONFIGS if p.stem == "sdstrack_rgbt")
    settings = read_settings(path, TrainSettings, ["optim.groups.1.contains=[adaptr]"])
    with pytest.raises(OptimError, match="contains adaptr"):
        select_parameters(build_model("sdstrack_tiny_test"), settings.optim.groups)


def test_schedules() -> None:
    path = next(p for p in CONFIGS if p.stem == "sdstrack_rgbt")
    cosine = read_settings(path, TrainSettings, ["optim.schedule={kind: cosine, warmup_steps: 10, final: 0.1}"])
    factors = [learning_rate_factor(cosine.optim.schedule, s, 10, 110) for s in range(111)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10] == pytest.approx(1.0)
    assert factors[60] == pytest.approx(0.55)
    assert factors[110] == pytest.approx(0.1)
    drop = read_settings(path, TrainSettings, ["optim.schedule={kind: step, drop_epoch: 2, gamma: 0.5}"]).optim.schedule
    assert [learning_rate_factor(drop, s, 10, 110) for s in (0, 19, 20, 45)] == [1.0, 1.0, 0.5, 0.25]


def test_a_recipe_names_its_material_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Path(__file__).parents[3] / "config" / "train" / "default_sdstrack_s128.yaml"
    monkeypatch.setenv("SDSTRACK_MATERIAL", str(tmp_path))
    settings = read_settings(recipe, TrainSettings)
    assert settings.choice.sequences[0] == tmp_path / "sequences" / "rgbt_m3svd_0111_1716"
    monkeypatch.setenv("SDSTRACK_MATERIAL", str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match=r"SDSTRACK_MATERIAL is '.*gone'; expected an existing folder"):
        read_settings(recipe, TrainSettings)
    monkeypatch.delenv("SDSTRACK_MATERIAL")
    with pytest.raises(SettingsError, match=r"rgbt_folders.* but SDSTRACK_MATERIAL is not set") as failure:
        read_settings(recipe, TrainSettings)
    assert "default_sdstrack_s128.yaml" in str(failure.value)
