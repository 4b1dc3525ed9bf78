from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from ckd_core.frame import Modality
from ckd_core.models.checkpoint import metadata_of, save_model
from ckd_core.models.registry import build_model
from sdstrack_ros.parameters.table import Settings
from sdstrack_ros.tracking import warm_tracker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("max_targets", [1, 4])
def test_the_engine_has_seen_every_number_of_targets_before_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_targets: int
) -> None:
    model = build_model("sdstrack_tiny_test", seed=3)
    path = tmp_path / "tiny.safetensors"
    save_model(path, model, metadata_of(model, [Modality.DEPTH.value], "seeded random numbers"))
    sizes: list[int] = []
    warm_up = warm_tracker.warm_up

    def watched(tracker: Any, *rest: Any) -> None:
        track = tracker.engine.track

        def noted(templates: Any, crops: Any, weights: Any) -> Any:
            sizes.append(len(crops))
            return track(templates, crops, weights)

        monkeypatch.setattr(tracker.engine, "track", noted)
        warm_up(tracker, *rest)

    monkeypatch.setattr(warm_tracker, "warm_up", watched)
    settings = replace(
        Settings(),
        model="sdstrack_tiny_test",
        weights=str(path),
        device="cpu",
        engine="torch/fp32",
        max_targets=max_targets,
    )
    warm = warm_tracker.build_warm_tracker(settings)
    assert set(sizes) == set(range(1, max_targets + 1))
    assert sizes.count(1) >= 2, "the first run compiles, the second shows the speed"
    assert warm.tracker.multi.targets == ()


@pytest.mark.parametrize("watched", [True, False])
def test_the_parameters_switch_what_is_on_and_bound_what_is_kept(tmp_path: Path, watched: bool) -> None:
    model = build_model("sdstrack_tiny_test", seed=3)
    path = tmp_path / "tiny.safetensors"
    save_model(path, model, metadata_of(model, [Modality.DEPTH.value], "seeded random numbers"))
    settings = replace(
        Settings(), model="sdstrack_tiny_test", weights=str(path), device="cpu", engine="torch/fp32", threads=1,
        watch_distance=watched, watch_appearance=watched, fit_start=watched, memory_mb=64,
    )  # fmt: skip
    config = warm_tracker.build_warm_tracker(settings).tracker.config
    assert config.kept_mb == 16
    assert config.distance.enabled == watched
    assert config.fit_start is (None if watched else False)
    for look in (config.colours, config.features):
        assert look is None if watched else look is not None and not look.enabled, "None: as suits the network"


@pytest.mark.parametrize("name", ["missing", "template_refresh"])
def test_every_choice_of_a_parameter_is_one_of_the_trackers(tmp_path: Path, name: str) -> None:
    model = build_model("sdstrack_tiny_test", seed=3)
    path = tmp_path / "tiny.safetensors"
    save_model(path, model, metadata_of(model, [Modality.DEPTH.value], "seeded random numbers"))
    choices = {field.name: field.metadata["choices"] for field in fields(Settings)}[name]
    for choice in choices:
        changes = {name: choice}
        settings = replace(
            Settings(), model="sdstrack_tiny_test", weights=str(path), device="cpu", engine="torch/fp32", threads=1,
            **changes,
        )  # fmt: skip
        config = warm_tracker.build_warm_tracker(settings).tracker.config
        if choice == "auto":
            assert getattr(config, name) is None, "as suits the network"
        else:
            assert getattr(config, name).value == choice
