from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from sdstrack_ros.parameters.checks import change_settings, settings_from, settings_from_yaml
from sdstrack_ros.parameters.spec import Effect, ParameterError
from sdstrack_ros.parameters.table import TABLE, Settings


def test_every_choice_is_a_text_in_yaml() -> None:
    """`off` without quotes is a truth value there, and ROS refuses the type before anybody can explain it."""
    choices = [choice for row in TABLE.values() for choice in row.choices]
    assert len(choices) > 20
    assert [yaml.safe_load(choice) for choice in choices] == choices


def test_only_integers_for_doubles_are_converted() -> None:
    assert settings_from({"max_skew_s": 1}).max_skew_s == 1.0
    assert settings_from({"init_box": [1, 2, 3, 4]}).init_box == (1.0, 2.0, 3.0, 4.0)
    for name, value in {"threads": 1.5, "publish_3d": 1, "label": 5, "max_skew_s": True, "init_box": "1 2"}.items():
        with pytest.raises(ParameterError, match=f"'{name}' cannot be"):
            settings_from({name: value})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("modality", "radar", "depth, thermal, event"),
        ("max_skew_s", -0.1, "from 0 to 10"),
        ("max_skew_s", float("nan"), "from 0 to 10"),
        ("max_skew_s", float("inf"), "from 0 to 10"),
        ("init_box", [1.0, 2.0, 3.0], "4 numbers"),
        ("aux_homography", [0.0] * 9, "inverted"),
        ("aux_homography", [1e300] * 8 + [1.0], "from -1e.09 to 1e.09"),
        ("thermal_range", [-1e308, 1e308], "from -1e.09 to 1e.09"),
        ("init_box", [1.0, 2.0, -3.0, 4.0], "negative size"),
        ("min_depth_m", 50.0, "must be below max_depth_m"),
        ("max_skew", 0.1, "did you mean 'max_skew_s'"),
    ],
)
def test_a_refusal_states_what_would_be_right(name: str, value: object, expected: str) -> None:
    with pytest.raises(ParameterError, match=expected):
        settings_from({name: value})


def test_all_refusals_are_reported_at_once() -> None:
    with pytest.raises(ParameterError, match=r"modality.*threads"):
        settings_from({"modality": "radar", "threads": -1})


def test_a_parameter_that_needs_reconfigure_is_locked_while_configured() -> None:
    settings = Settings()
    with pytest.raises(ParameterError, match="'model', 'modality' needs reconfigure"):
        change_settings(settings, {"model": "ckd_b256", "modality": "thermal"}, configured=True)
    assert change_settings(settings, {"model": "ckd_b256"}, configured=False).model == "ckd_b256"
    assert change_settings(settings, {"model": settings.model}, configured=True) == settings
    assert change_settings(settings, {"max_skew_s": 0.5}, configured=True).max_skew_s == 0.5
    assert TABLE["max_skew_s"].effect is Effect.LIVE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/**: {ros__parameters: {max_skw_s: 1.0}}", "max_skw_s"),
        ("/**: {ros__parameters: {threads: many}}", "integer"),
        ("/**: {max_skew_s: 1.0}", "ros__parameters"),
        ("[1, 2", "file.yaml"),
        ("", "expected"),
    ],
)
def test_a_bad_file_is_refused_and_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=expected) as caught:
        settings_from_yaml(path)
    assert "file.yaml" in str(caught.value)


def test_parameters_that_a_file_does_not_name_keep_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("/**:\n  ros__parameters:\n    use_sim_time: true\n    threads: 2\n")
    assert settings_from_yaml(path) == dataclasses.replace(Settings(), threads=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", "A" * 3_000_000),
        ("label", "\x1b[2Jperson"),
        ("weights", "w" * 5000),
        ("device", "\x1b]0;owned\x07\n" * 1000),
        ("aux_homography", [0.5] * 500_000),
        ("aux_homography", "1" * 1_000_000),
        ("max_skew_s", "9" * 1_000_000),
    ],
)
def test_long_and_unprintable_values_are_refused_in_few_words(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' cannot be") as refusal:
        settings_from({name: value})
    assert len(str(refusal.value)) < 400
    assert str(refusal.value).isprintable()
