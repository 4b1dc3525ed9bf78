from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import ckd_core
import ckd_core.commands
import sdstrack_ros.commands
from ckd_core.cli import build_app, run, verbs_of
from ckd_core.errors import TrackingError
from sdstrack_ros import cli
from testkit.small_scenes import TINY, write_scene

if TYPE_CHECKING:
    from pathlib import Path


def test_version() -> None:
    done = CliRunner().invoke(build_app(ckd_core.commands), ["--version"])
    assert done.output == f"sdstrack {ckd_core.__version__}\n"


def test_help_names_every_verb() -> None:
    app = build_app(ckd_core.commands, sdstrack_ros.commands)
    output = CliRunner().invoke(app, ["--help"], terminal_width=200).output
    for name in verbs_of(ckd_core.commands, sdstrack_ros.commands):
        assert name.rsplit(".", 1)[1].replace("_", "-") in output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['sdstrack', '--help']\n"
        "import sdstrack_ros.cli\n"
        "try:\n sdstrack_ros.cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'timm', 'matplotlib', 'rclpy', 'numpy', 'openvino'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    ("version", "good"), [("0.4.0", False), ("0.9.4", False), ("0.12.0", True), ("1.0.0rc1", True)]
)
def test_a_typer_that_is_too_old_for_the_verbs_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str, good: bool
) -> None:
    """apt's on Ubuntu 22.04 and 24.04: its own errors speak of types."""
    monkeypatch.setattr("typer.__version__", version)
    if good:
        build_app(ckd_core.commands)
        return
    with pytest.raises(SystemExit, match=f"error: typer {version} is installed .*; sdstrack needs 0.12 or later: pip"):
        build_app(ckd_core.commands)


def test_an_error_of_the_package_becomes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise TrackingError("box is 0 x 3 px; both sides must be positive")

    with pytest.raises(SystemExit) as ending:
        run(refuse)  # type: ignore[arg-type]
    assert ending.value.code == 1
    assert capsys.readouterr().err == "error: box is 0 x 3 px; both sides must be positive\n"


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("skimage.data", "pip install 'sdstrack_ros[train]'"),
        ("openvino", "pip install 'sdstrack_ros[engines]'"),
        ("rclpy", "pip install 'sdstrack_ros[ros]'"),
        ("vision_msgs.msg", "apt install ros-$ROS_DISTRO-vision-msgs"),
        ("rosbags", 'pip install rosbags (docs/robots.md, "Python packages")'),
        ("backports.zstd", 'pip install rosbags (docs/robots.md, "Python packages")'),
        ("jinja2", "install that one"),
    ],
)
def test_missing_package_becomes_one_line_with_advice(
    capsys: pytest.CaptureFixture[str], module: str, advice: str
) -> None:
    def import_it() -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    with pytest.raises(SystemExit) as ending:
        run(import_it)  # type: ignore[arg-type]
    assert ending.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"'{module}'" in lines[0]
    assert lines[0].endswith(advice)


def test_missing_module_of_our_own_is_not_taken_for_a_package(capsys: pytest.CaptureFixture[str]) -> None:
    def import_it() -> None:
        raise ModuleNotFoundError("No module named 'ckd_core.nowhere'", name="ckd_core.nowhere")

    with pytest.raises(ModuleNotFoundError):
        run(import_it)  # type: ignore[arg-type]


def run_main(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit status of the command line, run here as the console script runs it."""
    monkeypatch.setattr(sys, "argv", ["sdstrack", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("place", ["/proc/nothing/out", "/dev/null/out"])
def test_a_place_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    write_scene(tmp_path / "scene", frames=3)
    assert run_main(monkeypatch, "run", tmp_path / "scene", "--model", TINY, "--out", place, "--weights", "none") == 1
    assert run_main(monkeypatch, "export", "--out", place) == 1
    assert run_main(monkeypatch, "calibrate", "--out", f"{place}/x.safetensors") == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in errors] == ["error"] * 3, errors


def test_what_the_system_refuses_is_one_sentence_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "a\x1b[2J"))

    monkeypatch.setattr("ckd_core.evaluation.scoring.score_files.score_files", refuse)
    assert run_main(monkeypatch, "score", tmp_path, "-b", "lasher") == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/a\\x1b[2J: No space left on device\n"
