"""Recipes of the ablation: each is valid, and takes away what its name says and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from ckd_core.data.real.features import FeatureSource, cache_settings
from ckd_core.models.registry import model_config
from ckd_core.settings import read_settings
from ckd_core.training.config import TrainSettings
from tools import ablation

if TYPE_CHECKING:
    from pathlib import Path

LEVERS = {
    "full": set(),
    "second_seed": {"run.seed"},
    "plain_crops": {"model.overrides", "data.train"},
    "half_size": {"model.overrides", "data.train"},
    "no_real": {"data.train"},
    "no_imitation": {"objective.imitate"},
    "no_teacher": {"objective.imitate", "data.train"},
}


def settings_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TrainSettings:
    """A variant's recipe, as the verbs read it."""
    monkeypatch.setenv("SDSTRACK_MATERIAL", str(folder))
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(ablation.recipe_of(name, folder / "out")))
    return read_settings(path, TrainSettings)


def caches_of(settings: TrainSettings) -> list[tuple[Path, str]]:
    """Folder and settings of every cache."""
    network = model_config(settings.model.name, **settings.model.overrides)
    sources = [source for source in settings.data.train if isinstance(source, FeatureSource)]
    return [(source.cache, str(cache_settings(source, network))) for source in sources]


@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_a_variant_differs_from_the_full_training_by_its_lever_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, other = (ablation.recipe_of(one, tmp_path) for one in ("full", name))
    changed = {
        f"{part}.{key}"
        for part in ("model", "objective", "data", "optim", "run")
        for key in full[part].keys() | other[part].keys()
        if full[part].get(key) != other[part].get(key)
    }
    assert changed - {"run.out"} == LEVERS[name]
    settings = settings_of(name, tmp_path, monkeypatch)
    assert settings.run.samples_per_epoch == ablation.PAIRS[0]


def test_caches_are_shared_where_their_pairs_are_equal_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches: dict[Path, str] = {}
    for name in ablation.VARIANTS:
        for folder, wanted in caches_of(settings_of(name, tmp_path, monkeypatch)):
            assert caches.setdefault(folder, wanted) == wanted, f"{name} would cut {folder.name} again"
    assert len(caches) == 8
    assert len(set(caches.values())) == 8, "the same pairs are never cut twice"


def test_an_unknown_variant_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path), "--root", str(tmp_path), "--teacher", str(tmp_path), "--variants", "full,no_stem"]
    with pytest.raises(SystemExit):
        ablation.main(words)
    assert "unknown variants no_stem; expected some of full, second_seed" in capsys.readouterr().err


def test_a_step_that_fails_ends_the_ablation(tmp_path: Path) -> None:
    words = [str(tmp_path / "out"), "--root", str(tmp_path), "--teacher", str(tmp_path), "--variants", "full"]
    with pytest.raises(SystemExit, match=r"sdstrack label .*full\.yaml ended with status"):
        ablation.main(words)
