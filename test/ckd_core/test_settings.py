"""YAML files of plain values: what refers to other parts of itself is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.errors import TrackingError
from ckd_core.settings import SettingsError, load_yaml, parse_yaml, read_settings
from ckd_core.training.config import TrainSettings
from sdstrack_ros.parameters.checks import settings_from_yaml

ROOT = Path(__file__).parents[2]


def merge_bomb() -> str:
    """Half a kilobyte whose merge keys multiply by ten at each of eight levels."""
    lines = ["m0: &m0 {" + ", ".join(f"k{i}: 1" for i in range(10)) + "}"]
    lines += [f"m{i}: &m{i}\n  <<: [{','.join([f'*m{i - 1}'] * 10)}]" for i in range(1, 9)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [merge_bomb(), "a: &x 1", "a: *x", "<<: {b: 1}", "a: &x [1]\nb: *x", "a:\n  <<: [{b: 1}, {c: 2}]", "&x a: 1"],
)
def test_anchors_aliases_and_merge_keys_are_refused_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    begin = time.monotonic()
    with pytest.raises(SettingsError, match=r"anchors \(&name\), aliases \(\*name\) and merge keys \(<<\)"):
        load_yaml(path)
    assert time.monotonic() - begin < 1


def test_the_characters_inside_texts_are_no_references() -> None:
    assert parse_yaml("a: 'x & y'\nb: \"*\"\nc: '<<'\nd: R&D\n'<<': 1") == {
        "a": "x & y", "b": "*", "c": "<<", "d": "R&D", "<<": 1
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_of_the_package_is_read(path: Path) -> None:
    assert load_yaml(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=10,
)


@given(VALUES)
def test_values_without_references_come_back(value: object) -> None:
    import json

    assert parse_yaml(json.dumps(value)) == value


FORGED = "x\\nerror: forged\\x1b[2J" + "A" * 900


@pytest.mark.parametrize(
    "text",
    [
        f'"{FORGED}": 1', f'choice:\n  "{FORGED}": 1', f'objective: "{FORGED}"', f'sources:\n  - kind: "{FORGED}"',
        f'model: "{FORGED * 9}"', f'"{FORGED}"', f"!!python/{'x' * 5000} a", "? [1, 2]\n: 3", "a: [", f'&a "{FORGED}"',
    ],
)  # fmt: skip
def test_what_a_file_says_stays_short_and_printable_in_errors(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    for read in (lambda: read_settings(path, TrainSettings), lambda: settings_from_yaml(path)):
        with pytest.raises(TrackingError) as refusal:
            read()
        assert str(refusal.value).isprintable()
        assert len(str(refusal.value)) < 1000
