"""A user whose locale writes decimals with a comma, knows two letters i, and is not UTF-8."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from testkit.reliability.weights import write_tiny_weights
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from pathlib import Path

LOCALES = {"tr_TR": "ISO-8859-9", "de_DE": "ISO-8859-1"}
# As a library does that asks for the user's locale: numbers, too, are then read and written its way by the C library.
COMMAND = 'import locale; locale.setlocale(locale.LC_ALL, ""); from sdstrack_ros.cli import main; main()'


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the locales, of the C library's own sources."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef")
    for name, charset in LOCALES.items():
        made = subprocess.run(
            ["localedef", "-i", name, "-f", charset, folder / name], capture_output=True, text=True, check=False
        )
        if not (folder / name).exists():
            pytest.skip(f"localedef makes no {name}, its sources are Debian's package locales: {made.stderr[:200]}")
    return folder


def called(locales: Path, name: str, *words: Any) -> subprocess.CompletedProcess[bytes]:
    """Call a verb in one of the locales, or in C.UTF-8."""
    environment = {**os.environ, "LC_ALL": name, "LOCPATH": str(locales), "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    if name not in LOCALES:
        del environment["LOCPATH"]
    command = [sys.executable, "-c", COMMAND, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("name", LOCALES)
def test_results_are_the_same_in_every_locale(locales: Path, name: str, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scenes" / "TITIZ_fil")
    weights = write_tiny_weights(tmp_path / "weights.safetensors")
    files: dict[str, dict[str, bytes]] = {}
    for where in ("C.UTF-8", name):
        out = tmp_path / where
        ran = called(
            locales, where, "run", scene, "--model", TINY, "--weights", weights, "--engine", "torch/fp32", "--device",
            "cpu", "--threads", 1, "--out", out / "results",
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        scored = called(
            locales, where, "score", out / "results", "--benchmark", "folder", "--truth", tmp_path / "scenes",
            "--out", out / "score.json",
        )  # fmt: skip
        assert scored.returncode == 0, scored.stderr
        written = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix != ".mp4"}
        files[where] = {file: content for file, content in written.items() if not file.startswith(".")}
    timed = {"boxes.csv", "result.json"} & set(files[name])
    assert set(files[name]) == set(files["C.UTF-8"])
    assert len(files[name]) > len(timed)
    for file in set(files[name]) - timed:
        assert files[name][file] == files["C.UTF-8"][file], file


def test_a_sign_that_the_locale_lacks_is_no_error(locales: Path) -> None:
    asked = called(locales, "de_DE", "run", "a…b", "--model", "sdstrack_…")
    assert b"Traceback" not in asked.stderr
    asked = called(locales, "de_DE", "doctor")
    assert b"Traceback" not in asked.stderr, asked.stderr[-2000:]
    assert b"\\u2026" in asked.stdout or b"..." in asked.stdout
