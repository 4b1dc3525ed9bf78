from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ckd_core.models.checkpoint import default_weights, metadata_of, save_model
from ckd_core.models.registry import build_model, model_config
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.engines import EngineError, EngineSpec
from ckd_core.tracking.engines.build import auto_engine, build_engine, choose_engine, resolve_engine
from ckd_core.tracking.engines.export import ExportMetadata, write_export
from ckd_core.tracking.engines.tuned import (
    Measured,
    TunedChoice,
    TuneKey,
    cache_folder,
    exports_folder,
    find_tuned,
    read_tuned,
)

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "sdstrack_s128"
OTHER_ENGINE = "torch/bf16"  # what no rule chooses where OpenVINO is


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDSTRACK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def choice() -> TunedChoice:
    key = TuneKey.here(MODEL, default_weights(MODEL), "cpu", 0)
    return TunedChoice(key, OTHER_ENGINE, {OTHER_ENGINE: Measured(4.25, 0.5, 0.999)}, {"onnx/fp32": "not installed"})


def rule() -> str:
    return auto_engine("cpu", model_config(MODEL))


def test_a_choice_is_used_by_auto_and_says_so(choice: TunedChoice, caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_engine(MODEL, None, "auto", "cpu").reason == "by rule, not tuned"
    path = choice.save()
    assert path.parent == cache_folder() / "tuned"
    assert read_tuned(path) == choice
    chosen = resolve_engine(MODEL, None, "auto", "cpu")
    assert chosen.engine == OTHER_ENGINE
    assert chosen.reason == f"tuned here on {choice.made[:10]}, 4.2 ms of the network per frame"
    assert resolve_engine(MODEL, None, "torch/fp32", "cpu").engine == "torch/fp32", "who names an engine gets it"
    assert resolve_engine("ckd_s128", None, "auto", "cpu").reason == "by rule, not tuned"
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processor": "Cray-1\x1b[2J"}, r"for other processor: Cray-1\\x1b\[2J, here"),
        ({"cores": 4096}, "for other number of cores: 4096, here"),
        ({"weights_sha256": "0" * 64}, "for other weights: 000000000000, here"),
        ({"versions": {"torch": "0.1"}}, "for another version of numpy: absent, here"),
        ({"threads": 3}, "for 3 threads, here 0"),
    ],
)
def test_a_choice_from_elsewhere_is_ignored_aloud(
    choice: TunedChoice, changes: dict[str, object], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    replace(choice, key=replace(choice.key, **changes)).save()  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        chosen = choose_engine(MODEL, default_weights(MODEL), "cpu", 0)
    assert chosen.engine == rule()
    assert chosen.reason.startswith("by rule; a tuned choice is ignored: ")
    assert len(caplog.records) == 1
    assert "\x1b" not in caplog.text
    assert re.search(message, caplog.text)
    assert "run sdstrack tune again" in caplog.text
    choice.save()
    assert choose_engine(MODEL, default_weights(MODEL), "cpu", 0).engine == OTHER_ENGINE, "the fitting one counts"


def test_a_choice_of_another_device_is_no_news(choice: TunedChoice) -> None:
    replace(choice, key=replace(choice.key, device="cuda")).save()
    assert find_tuned(choice.key) == (None, "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:40],
        lambda _: "[]",
        lambda _: "[" * 50_000,
        lambda text: text.replace(OTHER_ENGINE, "warp/9"),
        lambda text: text.replace('"engine": "torch/bf16"', '"engine": "openvino/int8"'),
        lambda text: text.replace("4.25", '"fast"'),
        lambda text: text.replace("sdstrack-tuned-1", "sdstrack-tuned-0"),
        lambda text: text + " " * 200_000,
    ],
)
def test_a_damaged_file_is_ignored_aloud(choice: TunedChoice, damage, caplog: pytest.LogCaptureFixture) -> None:
    path = choice.save()
    path.write_text(damage(path.read_text()))
    with pytest.raises(EngineError, match=path.name):
        read_tuned(path)
    with caplog.at_level(logging.WARNING):
        assert choose_engine(MODEL, default_weights(MODEL), "cpu", 0).engine == rule()
    assert path.name in caplog.text


def test_the_cache_may_be_anywhere_or_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SDSTRACK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "sdstrack"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "sdstrack"
    assert choose_engine(MODEL, default_weights(MODEL), "cpu", 0).reason == "by rule, not tuned"
    (tmp_path / "home").write_text("no folder")
    assert choose_engine(MODEL, default_weights(MODEL), "cpu", 0).reason == "by rule, not tuned"


def test_the_file_is_plain_json(choice: TunedChoice) -> None:
    values = json.loads(choice.save().read_text())
    assert values["measured"] == {OTHER_ENGINE: {"median_ms": 4.25, "spread_ms": 0.5, "agreement": 0.999}}
    assert values["key"]["versions"]["torch"]


def test_an_export_that_tuning_made_is_used_while_it_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """int8's; here one of torch/bf16, which is written in no time."""
    network = build_model("sdstrack_tiny_test", seed=3)
    weights = tmp_path / "tiny.safetensors"
    save_model(weights, network, metadata_of(network, ["thermal"], "random"))
    key = TuneKey.here("sdstrack_tiny_test", weights, "cpu", 0)
    about = ExportMetadata(
        OTHER_ENGINE, "cpu", EngineSpec.of(network.name, network.config), (1,), ("thermal",), "random",
        key.weights_sha256, Thresholds(), published_geometry=False,
    )  # fmt: skip
    folder = exports_folder() / "tiny-int8"
    write_export(folder, network, about)
    TunedChoice(key, OTHER_ENGINE, {OTHER_ENGINE: Measured(1.0, 0.1, 0.99)}, export=folder.name).save()
    built = build_engine("sdstrack_tiny_test", weights, device="cpu")
    assert built.engine.name == OTHER_ENGINE
    assert built.engine.chosen_by.startswith("tuned here on ")
    assert not built.published_geometry, "the export's own"
    named = resolve_engine("sdstrack_tiny_test", weights, "auto", "cpu")
    assert named.engine == auto_engine("cpu", model_config("sdstrack_tiny_test")), "numbers need an engine with a name"
    assert f"--weights {folder} alone" in named.reason
    assert not caplog.records
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with caplog.at_level(logging.WARNING):
        assert choose_engine("sdstrack_tiny_test", weights, "cpu", 0).export is None
    assert "was changed after it was written" in caplog.text
    shutil.rmtree(folder)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert choose_engine("sdstrack_tiny_test", weights, "cpu", 0).export is None
    assert "is no export" in caplog.text
